/* What an object's text says of who and which version it is, without parsing the text: most of what an API tells its clients they
 * have just written themselves. Pure.
 *
 * A glance reads as far as the end of metadata and does not judge the rest: whoever needs more parses. */
#ifndef DAVIT_KUBE_GLANCE_H
#define DAVIT_KUBE_GLANCE_H

#include "base/json.h"
#include "base/json_cursor.h"

/* Spans of the text; those without text were not there, or are written with escapes. */
struct kube_glance {
    struct json_span type; /* of a watch event */
    struct json_span namespace, name, uid, resource_version;
    struct json_span managed_fields; /* the whole member and one comma: the text without it says the same without it */
};

/* `text` is an object. false: it has no metadata, or is no JSON as far as it was read. */
bool kube_glance_object(const char *text, size_t len, struct kube_glance *ret_glance);
/* `text` is a watch event, {"type", "object"}, in this order. */
bool kube_glance_event(const char *text, size_t len, struct kube_glance *ret_glance);
/* {"metadata": {"namespace", "name", "uid", "resourceVersion"}} as far as they were seen; a new reference. */
json_t *kube_glance_identity(const struct kube_glance *glance);
/* Parses all of the text but metadata.managedFields, half of many objects, which is of no use here. */
json_t *kube_glance_parse(const struct kube_glance *glance, const char *text, size_t len, struct error *err) DAVIT_MUST_USE;

#endif
