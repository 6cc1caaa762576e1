/* Whether a folder holds an adapter that an engine could load: adapter_config.json and the header of adapter_model.safetensors.
 * Reads files, so it runs on the check thread. */
#ifndef DAVIT_RUNTIME_ARTIFACT_CHECK_H
#define DAVIT_RUNTIME_ARTIFACT_CHECK_H

#include "base/error.h"

/* 1: there is an adapter and it is well-formed. 0: this process cannot see the folder (it may exist in the engine's container
 * only), so nothing is known. -1: ERROR_NOT_FOUND (no adapter_config.json or no weights there) or ERROR_INVALID. What is
 * well-formed but a matter of what the engine supports (DoRA, a rank) is left to the engine. */
int artifact_check(const char *folder, struct error *err) DAVIT_MUST_USE;

#endif
