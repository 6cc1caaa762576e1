/* `kubectl apply`, on paper. */
#include "adapter/model_adapter.h"
#include "controller/preview.h"

#include <string.h>

#define LAST_APPLIED "kubectl.kubernetes.io/last-applied-configuration"

/* Takes out of `object` what `before` has and `now` has not. */
static void remove_dropped(json_t *object, const json_t *before, const json_t *now) {
    const char *key = NULL;
    json_t *value = NULL;
    json_object_foreach((json_t *)before, key, value) {
        json_t *kept = json_object_get(now, key);
        if (kept == NULL) {
            json_object_del(object, key);
        } else if (json_is_object(value) && json_is_object(kept)) {
            remove_dropped(json_object_get(object, key), value, kept);
        }
    }
}

/* A member of `now` that is an object, or an empty one: what a file leaves out altogether it says nothing of. */
static json_t *member_of(const json_t *now, const char *path) {
    json_t *value = json_at(now, path);
    return json_is_object(value) ? json_incref(value) : json_object();
}

static void apply_member(json_t *object, const json_t *before, const json_t *file, const char *parent, const char *name) {
    cleanup_free char *path = xasprintf("%s%s%s", parent, parent[0] != '\0' ? "." : "", name);
    json_t *holder = parent[0] != '\0' ? json_object_get(object, parent) : object;
    cleanup_json json_t *now = member_of(file, path);
    cleanup_json json_t *then = member_of(before, path);
    if (json_object_size(now) + json_object_size(then) == 0) {
        return;
    }
    json_t *value = json_object_get(holder, name) != NULL ? json_deep_copy(json_object_get(holder, name)) : json_object();
    remove_dropped(value, then, now);
    json_object_set_new(holder, name, json_merge_patch(value, now));
}

static json_t *create(const json_t *file) {
    json_t *object = json_deep_copy(file);
    json_t *metadata = json_object_get(object, "metadata");
    json_object_del(object, "status");
    json_object_set_new(metadata, "uid", json_string("(new)"));
    json_object_set_new(metadata, "generation", json_integer(1));
    json_object_set_new(metadata, "resourceVersion", json_string("0"));
    model_adapter_default(object);
    return object;
}

json_t *preview_object(const json_t *file, const json_t *existing) {
    if (existing == NULL) {
        return create(file);
    }
    const char *text = json_string_value(json_object_get(json_at(existing, "metadata.annotations"), LAST_APPLIED));
    cleanup_json json_t *before = text != NULL ? json_parse(text, strlen(text), NULL) : NULL;
    json_t *object = json_deep_copy(existing);
    apply_member(object, before, file, "metadata", "labels");
    apply_member(object, before, file, "metadata", "annotations");
    apply_member(object, before, file, "", "spec");
    cleanup_json json_t *read = json_deep_copy(existing); /* a default that is filled in is no change */
    model_adapter_default(read);
    model_adapter_default(object);
    if (!json_equal(json_object_get(object, "spec"), json_object_get(read, "spec"))) {
        int64_t generation = json_int_at(existing, "metadata.generation", 0);
        json_object_set_new(json_object_get(object, "metadata"), "generation", json_integer(generation + 1));
    }
    return object;
}
