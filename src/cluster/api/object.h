/* Kubernetes objects as JSON: reading and changing metadata, names and keys. Pure, but for the random numbers of uids and suffixes.
 *
 * Objects that the state holds are immutable. A changed one is a new value: object_copy() for deep changes, object_touch() for
 * changes of metadata only. Borrowed strings live as long as their object and are never NULL. */
#ifndef DAVIT_CLUSTER_API_OBJECT_H
#define DAVIT_CLUSTER_API_OBJECT_H

#include "base/json.h"

#define OBJECT_UID_BYTES 37

const json_t *object_meta(const json_t *object); /* borrowed, NULL when there is none */
const char *object_name(const json_t *object);
const char *object_namespace(const json_t *object);
const char *object_uid(const json_t *object);
const char *object_revision_text(const json_t *object); /* metadata.resourceVersion, "" when none */
bool object_is_deleting(const json_t *object);
bool object_has_finalizers(const json_t *object);
bool object_has_finalizer(const json_t *object, const char *finalizer);
int64_t object_created_ms(const json_t *object); /* 0 when it cannot be read */

/* "namespace/name", or "name" when namespace is "" or NULL; of the caller's. */
char *object_key(const char *namespace, const char *name);

/* A new top level and a new metadata (one level deep; everything below is shared), so that these two may be changed. */
json_t *object_touch(const json_t *object);
/* The metadata of an object that may be changed, made when missing. Borrowed. */
json_t *object_meta_mutable(json_t *object);
void object_set_meta_string(json_t *object, const char *member, const char *value);
void object_set_revision(json_t *object, int64_t revision);
void object_remove_finalizer(json_t *touched, const char *finalizer);
void object_add_finalizer(json_t *touched, const char *finalizer);

/* {"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":...}; shares metadata. */
json_t *object_partial(const json_t *object);

void object_new_uid(char ret_uid[OBJECT_UID_BYTES]);
/* Five characters as the API server appends to generateName. */
void object_new_suffix(char ret_suffix[6]);
void object_now(char ret_time[32]); /* the wall clock as metav1.Time */

/* Sets member = value (taken) unless the object has that member with a value other than null. */
void json_default(json_t *object, const char *member, json_t *value);
/* The object at member, made when missing or null; NULL when it is something else. Borrowed. */
json_t *json_default_object(json_t *object, const char *member);

#endif
