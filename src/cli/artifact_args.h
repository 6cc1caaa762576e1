/* The options of commands that fetch artifacts, as rows of their tables. */
#ifndef DAVIT_CLI_ARTIFACT_ARGS_H
#define DAVIT_CLI_ARTIFACT_ARGS_H

#include "artifact/artifact.h"
#include "base/options.h"

/* --cache, else $DAVIT_CACHE, else $XDG_CACHE_HOME/davit, else ~/.cache/davit. The caller frees it; NULL with *err when there is no
 * home. */
char *artifact_cache_path(const char *given, struct error *err);
/* "20G" (powers of 1000; "Gi" and so on of 1024). */
int artifact_parse_bytes(const char *text, uint64_t *ret_bytes, struct error *err) DAVIT_MUST_USE;
/* "12.3 MB" */
void artifact_format_bytes(uint64_t bytes, char *out, size_t len);

#endif
