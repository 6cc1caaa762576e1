/* The Service and the EndpointSlices of an adapter, as AIBrix writes them (v0.7), and the patches that bring existing ones there.
 *
 * One slice per address family, port and 100 endpoints. The first bears the adapter's name; further ones are named with a dot
 * ("sql.2"), which no other adapter's can be. An endpoint stays in the slice where it is. What engines call the adapter, where that
 * is not its own name, stands in an annotation (adapter/names.h) of the slice that has the endpoint. Pure. */
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

/* The tag of the name under which a pod that serves has the adapter: as long as it was not asked, the one that is published. */
const char *publish_tag(const struct plan_pod *pod);
/* The tag that a slice's annotation says of a pod; "" = the adapter's own name, or none of its. `names` = publish_names of it. */
json_t *publish_names(const json_t *slice); /* NULL = there are none; the caller's */
void publish_tag_in(const json_t *names, const char *adapter, const char *pod, char ret_tag[ENGINE_TAG_BYTES]);

bool publish_is_foreign(const json_t *adapter, const json_t *object); /* `object` may be NULL */
/* Whether the pod is among the slice's endpoints. */
bool publish_has_pod(const json_t *slice, const char *uid, const char *ip);

#endif
