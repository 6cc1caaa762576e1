/* From what a client sent to what is stored: metadata that the server owns, separation of spec and status, defaulting, validation,
 * generation. Pure but for uids and the clock. Each returns NULL, or the Status that refuses. */
#ifndef DAVIT_CLUSTER_API_STRATEGY_H
#define DAVIT_CLUSTER_API_STRATEGY_H

#include "cluster/api/resources.h"

enum field_validation { FIELDS_WARN, FIELDS_STRICT, FIELDS_IGNORE };

/* "Strict", "Warn", "Ignore", NULL; an unknown word is a Status 400. */
json_t *field_validation_parse(const char *text, enum field_validation *ret) DAVIT_MUST_USE;

#define OBJECT_LEVELS_MAX 100
#define OBJECT_BYTES_MAX (1536 * 1024)

struct strategy_input {
    const struct resource *resource;
    enum field_validation field_validation;
    json_t *warnings;      /* array; what Warn found is appended */
    const char *namespace; /* of the path, NULL when cluster-scoped */
    const char *name;      /* of the path, NULL on create */
};

/* Completes a decoded body in place so that it can be stored. */
json_t *strategy_create(const struct strategy_input *input, json_t *object) DAVIT_MUST_USE;
/* `object` (changed in place): the whole new object, as PUT or as patched. *ret_object: what to store, a new value whose metadata
 * is its own; equal to old_object when nothing changes. is_status: only status is taken. */
json_t *strategy_update(const struct strategy_input *input, const json_t *old_object, json_t *object, bool is_status,
                        json_t **ret_object) DAVIT_MUST_USE;

/* autoscaling/v1 Scale of a workload; a new value. */
json_t *strategy_scale_of(const json_t *object);
/* A deep copy of the workload with the replicas of a Scale; Status when it has none or a bad number. */
json_t *strategy_with_scale(const struct resource *resource, const json_t *object, const json_t *scale,
                            json_t **ret_object) DAVIT_MUST_USE;

#endif
