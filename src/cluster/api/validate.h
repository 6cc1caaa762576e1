/* What makes the API server refuse an object, one function a kind (the `validate` of its row), and the rules of metadata. Pure.
 * They append causes (status.h). `old_object` is NULL on create. */
#ifndef DAVIT_CLUSTER_API_VALIDATE_H
#define DAVIT_CLUSTER_API_VALIDATE_H

#include "base/json.h"
#include "cluster/api/resources.h"

/* NULL when the name is fine, else the reason as the API server words it. Static. */
const char *validate_name(enum name_rule rule, const char *name);
/* NULL when key and value are a valid label, else the reason. Static. */
const char *validate_label(const char *key, const char *value);
/* Name, namespace, labels, annotations, finalizers, owner references. */
void validate_meta(const struct resource *resource, const json_t *object, const json_t *old_object, json_t *causes);

void validate_pod(const json_t *object, const json_t *old_object, json_t *causes);
void validate_workload(const json_t *object, const json_t *old_object, json_t *causes); /* deployments, replica sets */
void validate_service(const json_t *object, const json_t *old_object, json_t *causes);
void validate_endpoint_slice(const json_t *object, const json_t *old_object,
                             json_t *causes); /* 127/8 is allowed: our pods live there */
void validate_secret(const json_t *object, const json_t *old_object, json_t *causes);
void validate_config_map(const json_t *object, const json_t *old_object, json_t *causes);
void validate_event(const json_t *object, const json_t *old_object, json_t *causes);
void validate_lease(const json_t *object, const json_t *old_object, json_t *causes);
void validate_model_adapter(const json_t *object, const json_t *old_object, json_t *causes);
void validate_custom_resource_definition(const json_t *object, const json_t *old_object,
                                         json_t *causes); /* only the ModelAdapter's */

#endif
