/* Patches: merge (RFC 7386, by base/json.h), JSON Patch (RFC 6902) and Kubernetes' strategic merge. Pure; the inputs are borrowed
 * and not changed. */
#ifndef DAVIT_CLUSTER_API_PATCH_H
#define DAVIT_CLUSTER_API_PATCH_H

#include "base/error.h"
#include "base/json.h"

#define JSON_PATCH_OPERATIONS_MAX 10000 /* as the API server */
#define JSON_PATCH_COPIED_BYTES_MAX (3 * 1024 * 1024)
#define MERGED_LIST_ITEMS_MAX 1000 /* of a list that is merged by key, which takes the square of it */

enum patch_type { PATCH_MERGE, PATCH_JSON, PATCH_STRATEGIC };

/* The patched document in *ret_result, a new value that may be changed. ERROR_INVALID: the patch itself is wrong; ERROR_CONFLICT: a
 * JSON Patch "test" failed or a path does not exist. `kind` ("Service") decides about lists that go by different keys in different
 * kinds. */
int patch_apply(enum patch_type type, const char *kind, const json_t *target, const json_t *patch, json_t **ret_result,
                struct error *err) DAVIT_MUST_USE;

int patch_json(const json_t *target, const json_t *operations, json_t **ret_result, struct error *err) DAVIT_MUST_USE;
/* Lists named in the table of strategic_merge.c are merged by their key, others replaced. Directives: $patch (replace, delete,
 * merge), $retainKeys, $setElementOrder/<list>, $deleteFromPrimitiveList/<list>. */
int patch_strategic(const char *kind, const json_t *target, const json_t *patch, json_t **ret_result,
                    struct error *err) DAVIT_MUST_USE;

#endif
