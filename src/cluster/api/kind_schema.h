/* The fields that each built-in kind has: what is not among them is reported and dropped, as typed decoding does. Pure.
 *
 * Only names are known here, not types. The custom resource has its own rules in adapter/model_adapter.h. */
#ifndef DAVIT_CLUSTER_API_KIND_SCHEMA_H
#define DAVIT_CLUSTER_API_KIND_SCHEMA_H

#include "base/json.h"

struct kind_schema {
    const char *name;
    /* "replicas selector:LabelSelector template:PodTemplateSpec": behind a colon the type of the member, or of its items if it is a
     * list. Without one nothing is known of what lies below. */
    const char *fields;
};

const struct kind_schema *kind_schema_find(const char *name); /* NULL when there is none; a kind is a type of that name */
/* Drops the members of `object` that its type does not have. Appends their paths ("spec.containers[0].imagee"), at most `max`, to
 * `paths`. Returns how many there were. */
size_t kind_schema_prune(const struct kind_schema *type, json_t *object, json_t *paths, size_t max);

#endif
