/* The verbs on resources. See api.h for what they return. */
#ifndef DAVIT_CLUSTER_API_VERBS_H
#define DAVIT_CLUSTER_API_VERBS_H

#include "cluster/api/api.h"

json_t *verb_get(struct call *call) DAVIT_MUST_USE;  /* also of subresources status and scale */
json_t *verb_list(struct call *call) DAVIT_MUST_USE; /* also watch=true */
json_t *verb_create(struct call *call) DAVIT_MUST_USE;
json_t *verb_update(struct call *call) DAVIT_MUST_USE; /* PUT of the object, status or scale */
json_t *verb_patch(struct call *call) DAVIT_MUST_USE;
json_t *verb_delete(struct call *call) DAVIT_MUST_USE;
json_t *verb_delete_collection(struct call *call) DAVIT_MUST_USE;

/* labelSelector and fieldSelector of the query; both released by the caller in either case. */
json_t *call_selectors(const struct call *call, struct selector **ret_labels, struct field_selector *ret_fields) DAVIT_MUST_USE;

#endif
