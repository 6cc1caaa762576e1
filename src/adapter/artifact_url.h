/* What an artifact's URL means to an engine that is given it directly. Schemes and revisions are in model_adapter.h. Pure. */
#ifndef DAVIT_ADAPTER_ARTIFACT_URL_H
#define DAVIT_ADAPTER_ARTIFACT_URL_H

#include "adapter/model_adapter.h"

/* "/x" of "/x" and "file:///x", borrowed; NULL for every other scheme. */
const char *artifact_local_path(const char *url);
/* What an engine without a sidecar is given as lora_path, borrowed from `url`: a path as it is, "org/repo" of
 * huggingface://org/repo. ERROR_UNSUPPORTED for what engines cannot fetch themselves. */
int artifact_engine_path(const char *url, const char **ret_path, struct error *err) DAVIT_MUST_USE;

#endif
