/* What clients ask before they ask for objects: versions, groups, resources, OpenAPI. Constant documents, made once from the
 * resource table, each with an ETag. */
#ifndef DAVIT_CLUSTER_API_DISCOVERY_H
#define DAVIT_CLUSTER_API_DISCOVERY_H

#include "io/http_server.h"

#include <stdbool.h>

struct discovery;

struct discovery *discovery_new(void);
void discovery_free(struct discovery *discovery);
/* Answers the request when its path is one of the documents; false: it is somebody else's. */
bool discovery_serve(const struct discovery *discovery, struct http_request *request);

#endif
