/* The name under which an engine has an adapter. Pure.
 *
 * It is the adapter's own, or, on an engine that keys what it computed by names, one for each revision: "sql_0123abcd", a tag after
 * an underscore. No object of Kubernetes has an underscore in its name, so no ModelAdapter is called so on any API server. vLLM and
 * SGLang take any text; sidecars and file systems take this one: 72 bytes at most, of a-z, 0-9, '-' and '_' (aibrix_runtime:
 * [A-Za-z0-9_-]{1,100}). */
#ifndef DAVIT_ADAPTER_ENGINE_NAME_H
#define DAVIT_ADAPTER_ENGINE_NAME_H

#include "base/alloc.h"

#include <stdbool.h>
#include <stddef.h>

#define ENGINE_TAG_BYTES 9   /* 8 hexadecimal digits; "" stands for the adapter's own name */
#define ENGINE_NAME_BYTES 73 /* of a name with a tag: 63 bytes of a Service's name, the underscore, the tag */

/* Of a revision: digits that depend on all that it depends on. */
void engine_tag_of(const char *revision, char ret_tag[ENGINE_TAG_BYTES]);
/* The caller frees it. */
char *engine_name_of(const char *adapter, const char *tag);
/* "plain" (the adapter's own name everywhere) or "versioned" (tags where they are of use); -1 for anything else. */
int engine_names_parse(const char *word, bool *ret_has_tags);
/* The tag of a name, borrowed, and how many bytes before it are the adapter's name; "" and all of them when it has none. */
const char *engine_name_split(const char *name, size_t *ret_adapter_len);

#endif
