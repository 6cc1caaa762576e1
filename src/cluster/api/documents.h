/* The documents of discovery as JSON, from the resource table. Pure; each returns a new value. */
#ifndef DAVIT_CLUSTER_API_DOCUMENTS_H
#define DAVIT_CLUSTER_API_DOCUMENTS_H

#include "base/json.h"

struct group_version {
    const char *group; /* "" = core */
    const char *version;
};
/* The group versions of the table, in its order; returns their number, at most max. */
size_t documents_group_versions(struct group_version *out, size_t max);

json_t *document_version(void);
json_t *document_api_versions(void);                                      /* /api */
json_t *document_api_group_list(void);                                    /* /apis */
json_t *document_api_group(const struct group_version *gv);               /* /apis/G */
json_t *document_api_resource_list(const struct group_version *gv);       /* /api/v1, /apis/G/V */
json_t *document_aggregated(bool is_core, const char *discovery_version); /* "v2" or "v2beta1" */
json_t *document_openapi(const struct group_version *gv);                 /* /openapi/v3/... of one group version */
/* "api/v1" or "apis/G/V"; of the caller's. */
char *document_openapi_path(const struct group_version *gv);
/* The OpenAPI schema of ModelAdapter, for `kubectl explain` (schema_model_adapter.c). */
json_t *schema_model_adapter(void);

#endif
