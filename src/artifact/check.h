/* Whether a folder holds an adapter that an engine could load: adapter_config.json and the header of adapter_model.safetensors.
 * What is well-formed but a matter of what the engine supports (DoRA and the like) is left to the engine. */
#ifndef DAVIT_ARTIFACT_CHECK_H
#define DAVIT_ARTIFACT_CHECK_H

#include "base/error.h"

#include <stdbool.h>

struct artifact_check_args {
    int max_rank;           /* the engine's limit; 0 = none known */
    bool is_pickle_allowed; /* adapter_model.bin will do; nobody looks into it */
    bool follows_links;     /* a person's folder; in a cache there are none */
};

/* `folder` is an open one, `label` what messages call it. ERROR_NOT_FOUND (a file that must be there), ERROR_UNSUPPORTED (pickle),
 * ERROR_INVALID; the message says what to do about it. */
int artifact_check_folder(int folder, const char *label, const struct artifact_check_args *args, struct error *err) DAVIT_MUST_USE;

#endif
