/* The HTTPRoute of an adapter and the ReferenceGrant of a namespace, as AIBrix writes them (v0.7), and the patches that bring
 * existing ones there. Pure.
 *
 * All routes are in the gateway's namespace, where an adapter of another one cannot own them by reference: labels name the adapter,
 * an annotation has its uid. In the gateway's own namespace there is the owner reference besides. The first adapter of a name has
 * the route of that name; that of another namespace, or anybody else's, is left alone. */
#ifndef DAVIT_CONTROLLER_ROUTE_OBJECTS_H
#define DAVIT_CONTROLLER_ROUTE_OBJECTS_H

#include "base/json.h"

#define ROUTE_MATCHES_MAX 64 /* of a rule: Gateway API v1 takes no more */

struct route_options {
    const char *gateway_namespace, *gateway_name;
    int64_t timeout_ms; /* of a request */
};

char *route_name(const char *adapter);                                                       /* "sql-router"; of the caller's */
char *route_grant_name(const struct route_options *options, const char *adapters_namespace); /* of the caller's */

/* `adapter`: the ModelAdapter, `port`: its Service's. New objects. */
json_t *route_render(const struct route_options *options, const json_t *adapter, int port);
json_t *route_grant_render(const struct route_options *options, const char *adapters_namespace);
/* Merge patch of what is there and ours; NULL = nothing to do. With the version: of two writers one is refused. */
json_t *route_patch(const json_t *wanted, const json_t *found);
/* "namespace/name" of the adapter that the route is of, also when that is gone; NULL = somebody else's. `route`: as the API or the
 * cache has it. Of the caller's. */
char *route_adapter_key(const json_t *route);
bool route_grant_is_ours(const json_t *grant);
/* Whether it lets the gateway's routes reach the Services of its namespace, whoever wrote it. */
bool route_grant_allows(const struct route_options *options, const json_t *grant);

#endif
