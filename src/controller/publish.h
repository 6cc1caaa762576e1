/* The Service and the EndpointSlice of an adapter, as AIBrix writes them (v0.7), and the patches that bring
 * existing ones there. Pure. */
#ifndef DAVIT_CONTROLLER_PUBLISH_H
#define DAVIT_CONTROLLER_PUBLISH_H

#include "controller/plan.h"

/* An object to create, a merge patch of `input->service`, or NULL when nothing is to do or it is somebody else's. */
json_t *publish_service(const struct plan_input *input, const bool *is_serving);
json_t *publish_slice(const struct plan_input *input, const bool *is_serving);
bool publish_is_foreign(const struct plan_input *input, const json_t *object);
/* Whether the pod is among the slice's endpoints. */
bool publish_has_pod(const json_t *slice, const char *uid, const char *ip);

#endif
