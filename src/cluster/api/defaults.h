/* What the API server fills in before an object is checked and stored, one function a kind (the `set_defaults` of its row). Pure.
 * They leave what has the wrong type alone: validation speaks about it. `old_object` is NULL on create. */
#ifndef DAVIT_CLUSTER_API_DEFAULTS_H
#define DAVIT_CLUSTER_API_DEFAULTS_H

#include "base/json.h"

void defaults_pod(json_t *object, const json_t *old_object);
void defaults_deployment(json_t *object, const json_t *old_object);
void defaults_replica_set(json_t *object, const json_t *old_object);
void defaults_service(json_t *object, const json_t *old_object);
void defaults_secret(json_t *object, const json_t *old_object); /* stringData becomes data */
void defaults_namespace(json_t *object, const json_t *old_object);
void defaults_endpoint_slice(json_t *object, const json_t *old_object);
void defaults_model_adapter(json_t *object, const json_t *old_object);
void defaults_custom_resource_definition(json_t *object, const json_t *old_object); /* Established at once */

#endif
