/* What an artifact's URL means to an engine that is given it directly. Schemes and revisions are in model_adapter.h. Pure. */
#ifndef DAVIT_ADAPTER_ARTIFACT_URL_H
#define DAVIT_ADAPTER_ARTIFACT_URL_H

#include "adapter/model_adapter.h"

/* "/x" of "/x" and "file:///x", borrowed; NULL for every other scheme. */
const char *artifact_local_path(const char *url);
/* What may be shown of a URL, of the caller's: of http(s):// neither user info nor query, which may be secret; a digest stands for
 * the query, so that two of them can be told apart. */
char *artifact_shown_url(const char *url);
/* What an engine without a sidecar is given as lora_path, of the caller's. A path as it is; of URLs:
 *
 *   any engine     huggingface://org/repo as "org/repo", a whole model as it is now
 *   Davit's own    all, as they are; a revision is put into a Hub's: hf://org/repo@v1/folder
 *
 * `revision` is what pins the source beside the URL, "" = nothing; of a path it is only a word. ERROR_UNSUPPORTED for what the
 * engine cannot fetch, or not of that revision. */
int artifact_engine_path(const char *url, const char *revision, bool is_davit, char **ret_path, struct error *err) DAVIT_MUST_USE;

#endif
