/* What the controller's caches keep of the API's objects: what it reads often as JSON, the rest packed, which takes a fraction
 * of the memory. Pure. */
#ifndef DAVIT_CONTROLLER_OBJECTS_H
#define DAVIT_CONTROLLER_OBJECTS_H

#include "base/json.h"

/* A ModelAdapter: without managedFields and all annotations but the one that routes need, its status packed, and what
 * objects_read_seen reads of it. A new object. */
json_t *objects_reduce_adapter(const json_t *object);
/* Of a ModelAdapter's status; "", false and 0 where there is nothing. */
struct objects_seen {
    const char *phase, *ready_status, *ready_reason; /* borrowed from the object */
    bool is_fully_loaded;
    int64_t observed_generation;
};
void objects_read_seen(const json_t *reduced, struct objects_seen *ret_seen);
/* A Service or EndpointSlice: a record (kube_record) with all of it packed. */
json_t *objects_reduce_packed(const json_t *object);
/* An HTTPRoute or ReferenceGrant: name, namespace, uid, resourceVersion, labels, deletionTimestamp; all of it but its status
 * packed; of that, what objects_route_refusal says. A new object. */
json_t *objects_reduce_route(const json_t *object);
/* A Node: its labels. A new object. */
json_t *objects_reduce_node(const json_t *object);

/* What was packed: the whole of a Service, EndpointSlice, HTTPRoute or ReferenceGrant, the status of a ModelAdapter. A new object;
 * NULL when there is none. */
json_t *objects_unpack(const json_t *reduced);
/* Whether the controller of a packed object is the owner with that uid. */
bool objects_is_controlled_by(const json_t *reduced, const char *uid);
/* In which condition and why a gateway does not take a packed HTTPRoute as it is (Accepted or ResolvedRefs is False for the route
 * as it is now); borrowed, NULL = it does, or has not said. */
const char *objects_route_refusal(const json_t *reduced);
/* The first port of a packed Service; 0 = none. */
int objects_port(const json_t *reduced);

/* Whether what the API holds has all that `wanted` has; it may add defaults of its own to objects, and nothing to lists. */
bool objects_covers(const json_t *found, const json_t *wanted);

#endif
