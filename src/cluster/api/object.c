#include "cluster/api/object.h"

#include "base/clock.h"

#include <openssl/rand.h>
#include <string.h>

const json_t *object_meta(const json_t *object) {
    const json_t *meta = json_object_get(object, "metadata");
    return json_is_object(meta) ? meta : NULL;
}

static const char *meta_string(const json_t *object, const char *member) {
    const char *text = json_string_value(json_object_get(object_meta(object), member));
    return text != NULL ? text : "";
}

const char *object_name(const json_t *object) {
    return meta_string(object, "name");
}

const char *object_namespace(const json_t *object) {
    return meta_string(object, "namespace");
}

const char *object_uid(const json_t *object) {
    return meta_string(object, "uid");
}

const char *object_revision_text(const json_t *object) {
    return meta_string(object, "resourceVersion");
}

bool object_is_deleting(const json_t *object) {
    return *meta_string(object, "deletionTimestamp") != '\0';
}

bool object_has_finalizers(const json_t *object) {
    return json_array_size(json_object_get(object_meta(object), "finalizers")) > 0;
}

bool object_has_finalizer(const json_t *object, const char *finalizer) {
    size_t i = 0;
    const json_t *item = NULL;
    json_array_foreach(json_object_get(object_meta(object), "finalizers"), i, item) {
        if (json_is_string(item) && strcmp(json_string_value(item), finalizer) == 0) {
            return true;
        }
    }
    return false;
}

int64_t object_created_ms(const json_t *object) {
    int64_t wall_ms = 0;
    return clock_parse_rfc3339(meta_string(object, "creationTimestamp"), &wall_ms) == 0 ? wall_ms : 0;
}

char *object_key(const char *namespace, const char *name) {
    return namespace == NULL || *namespace == '\0' ? xstrdup(name) : xasprintf("%s/%s", namespace, name);
}

json_t *object_touch(const json_t *object) {
    json_t *touched = json_copy((json_t *)object);
    const json_t *meta = object_meta(object);
    json_object_set_new(touched, "metadata", meta != NULL ? json_copy((json_t *)meta) : json_object());
    return touched;
}

json_t *object_meta_mutable(json_t *object) {
    json_t *meta = json_object_get(object, "metadata");
    if (!json_is_object(meta)) {
        meta = json_object();
        json_object_set_new(object, "metadata", meta);
    }
    return meta;
}

void object_set_meta_string(json_t *object, const char *member, const char *value) {
    json_object_set_new(object_meta_mutable(object), member, json_string(value));
}

void object_set_revision(json_t *object, int64_t revision) {
    json_object_set_new(object_meta_mutable(object), "resourceVersion", json_sprintf("%lld", (long long)revision));
}

void object_remove_finalizer(json_t *touched, const char *finalizer) {
    json_t *meta = object_meta_mutable(touched);
    json_t *kept = json_array();
    size_t i = 0;
    json_t *item = NULL;
    json_array_foreach(json_object_get(meta, "finalizers"), i, item) {
        if (!json_is_string(item) || strcmp(json_string_value(item), finalizer) != 0) {
            json_array_append(kept, item);
        }
    }
    if (json_array_size(kept) == 0) {
        json_object_del(meta, "finalizers");
        json_decref(kept);
    } else {
        json_object_set_new(meta, "finalizers", kept);
    }
}

void object_add_finalizer(json_t *touched, const char *finalizer) {
    if (object_has_finalizer(touched, finalizer)) {
        return;
    }
    json_t *meta = object_meta_mutable(touched);
    json_t *old = json_object_get(meta, "finalizers");
    json_t *all = json_is_array(old) ? json_copy(old) : json_array();
    json_array_append_new(all, json_string(finalizer));
    json_object_set_new(meta, "finalizers", all);
}

json_t *object_partial(const json_t *object) {
    json_t *meta = json_object_get(object, "metadata");
    return json_pack("{s:s, s:s, s:o}", "kind", "PartialObjectMetadata", "apiVersion", "meta.k8s.io/v1", "metadata",
                     meta != NULL ? json_incref(meta) : json_object());
}

static void random_bytes(unsigned char *out, int len) {
    if (RAND_bytes(out, len) != 1) {
        abort(); /* without randomness uids would collide: no state is better than a wrong one */
    }
}

void object_new_uid(char ret_uid[OBJECT_UID_BYTES]) {
    unsigned char b[16];
    random_bytes(b, sizeof(b));
    b[6] = (unsigned char)((b[6] & 0x0f) | 0x40); /* version 4, RFC 9562 */
    b[8] = (unsigned char)((b[8] & 0x3f) | 0x80);
    (void)snprintf(ret_uid, OBJECT_UID_BYTES, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0], b[1],
                   b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]);
}

void object_new_suffix(char ret_suffix[6]) {
    static const char alphabet[] = "bcdfghjklmnpqrstvwxz2456789"; /* k8s.io/apimachinery/pkg/util/rand: no vowels, no lookalikes */
    unsigned char bytes[5];
    random_bytes(bytes, sizeof(bytes));
    for (int i = 0; i < 5; i++) {
        ret_suffix[i] = alphabet[bytes[i] % (sizeof(alphabet) - 1)];
    }
    ret_suffix[5] = '\0';
}

void object_now(char ret_time[32]) {
    clock_format_rfc3339(clock_wall_ms(), ret_time);
}

void json_default(json_t *object, const char *member, json_t *value) {
    const json_t *old = json_object_get(object, member);
    if (old != NULL && !json_is_null(old)) {
        json_decref(value);
        return;
    }
    json_object_set_new(object, member, value);
}

json_t *json_default_object(json_t *object, const char *member) {
    json_t *value = json_object_get(object, member);
    if (value == NULL || json_is_null(value)) {
        value = json_object();
        json_object_set_new(object, member, value);
    }
    return json_is_object(value) ? value : NULL;
}
