/* The Service and the EndpointSlices of an adapter, as AIBrix writes them (v0.7), and the patches that bring existing ones there.
 *
 * One slice per address family, port and 100 endpoints. The first bears the adapter's name; further ones are named with a dot
 * ("sql.2"), which no other adapter's can be. An endpoint stays in the slice where it is. Pure. */
#ifndef DAVIT_CONTROLLER_PUBLISH_H
#define DAVIT_CONTROLLER_PUBLISH_H

#include "controller/plan.h"

/* Of all that Service and slices are to say; never 0. */
uint64_t publish_digest(const struct plan_input *input, const bool *is_serving);
/* An object to create, a merge patch of `service`, or NULL when nothing is to do or it is somebody else's. */
json_t *publish_service(const struct plan_input *input, const bool *is_serving, const json_t *service);
/* Appends to plan->slices what is to be written; `slices` as in struct plan_objects. */
void publish_slices(const struct plan_input *input, const bool *is_serving, const json_t *const *slices, struct plan *plan);
/* "sql", "sql.2", ... for index 0, 1, ...; of the caller's. */
char *publish_slice_name(const char *adapter, size_t index);
/* The adapter's name and the index of a slice's name, or NULL. Of the caller's. */
char *publish_parse_slice_name(const char *slice, size_t *ret_index);

bool publish_is_foreign(const json_t *adapter, const json_t *object); /* `object` may be NULL */
/* Whether the pod is among the slice's endpoints. */
bool publish_has_pod(const json_t *slice, const char *uid, const char *ip);

#endif
