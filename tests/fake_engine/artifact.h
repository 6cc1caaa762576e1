/* What the sidecar does before it asks the engine: an artifact is fetched, or not, in the words of aibrix_runtime 0.8. */
#ifndef DAVIT_TESTS_FAKE_ENGINE_ARTIFACT_H
#define DAVIT_TESTS_FAKE_ENGINE_ARTIFACT_H

#include "engine.h"

/* Where what was asked for lies for the engine; NULL when it cannot be had, with the cause in *ret_message. Both are the caller's.
 */
char *artifact_fetch(const struct engine *engine, const struct asked *asked, char **ret_message);

#endif
