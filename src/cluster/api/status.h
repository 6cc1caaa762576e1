/* metav1.Status objects: every error of the API is one (and the success of some deletes).
 *
 * Functions of this folder that can refuse a request return NULL when all is well, else a new Status that is the answer. */
#ifndef DAVIT_CLUSTER_API_STATUS_H
#define DAVIT_CLUSTER_API_STATUS_H

#include "base/json.h"

struct resource;

/* reason: "NotFound", "Conflict", ... */
json_t *status_error(int code, const char *reason, const char *format, ...) DAVIT_PRINTF(3, 4);
/* With details {name, group, kind}; kind is the plural, as in NotFound, AlreadyExists and Conflict. */
json_t *status_error_on(const struct resource *resource, const char *name, int code, const char *reason, const char *format, ...)
    DAVIT_PRINTF(5, 6);
json_t *status_not_found(const struct resource *resource, const char *name);
json_t *status_exists(const struct resource *resource, const char *name);
json_t *status_conflict(const struct resource *resource, const char *name, const char *why);
/* 422 Invalid. `causes` (taken): array of {"reason","message","field"}; messages such as `Invalid value: "X": must be ...`. */
json_t *status_invalid(const struct resource *resource, const char *name, json_t *causes);
json_t *status_success(const struct resource *resource, const char *name, const char *uid);
json_t *status_expired(const char *message);

int status_code(const json_t *status);

/* Appends one cause. reason: "FieldValueRequired", "FieldValueInvalid", "FieldValueForbidden", "FieldValueNotSupported". */
void cause_add(json_t *causes, const char *reason, const char *field, const char *format, ...) DAVIT_PRINTF(4, 5);
/* `Required value` */
void cause_required(json_t *causes, const char *field);
/* `Invalid value: "<value>": <why>` */
void cause_invalid(json_t *causes, const char *field, const char *value, const char *why);

#endif
