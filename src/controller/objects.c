#include "controller/objects.h"

#include "adapter/names.h"
#include "kube/client.h"

#include <string.h>

#define PACKED "packed"
#define OWNER "owner" /* uid of the controller */
#define PORT "port"   /* of a Service */
#define REFUSAL "refusal"

static json_t *pick(const json_t *from, const char *const *names) {
    json_t *to = json_object();
    for (size_t i = 0; names[i] != NULL; i++) {
        json_t *value = json_object_get(from, names[i]);
        if (value != NULL) {
            json_object_set(to, names[i], value);
        }
    }
    return to;
}

static json_t *pack(const json_t *value) {
    cleanup_free char *text = json_text(value);
    return json_string(text);
}

static json_t *unpack(const json_t *text) {
    return json_is_string(text) ? json_loadb(json_string_value(text), json_string_length(text), JSON_ALLOW_NUL, NULL) : NULL;
}

static const json_t *condition_in(const json_t *status, const char *type) {
    const json_t *conditions = json_object_get(status, "conditions");
    for (size_t i = 0; i < json_array_size(conditions); i++) {
        if (strcmp(json_string_at(json_array_get(conditions, i), "type", ""), type) == 0) {
            return json_array_get(conditions, i);
        }
    }
    return NULL;
}

/* Of the annotations the one that is read, if it is there. */
static void keep_annotation(const json_t *object, const char *name, json_t *metadata) {
    const char *const names[] = {name, NULL};
    const json_t *annotations = json_at(object, "metadata.annotations");
    if (json_object_get(annotations, name) != NULL) {
        json_object_set_new(metadata, "annotations", pick(annotations, names));
    }
}

json_t *objects_reduce_adapter(const json_t *object) {
    static const char *const members[] = {"apiVersion", "kind", "spec", NULL};
    static const char *const metadata[] = {
        "name", "namespace", "uid", "resourceVersion", "generation", "finalizers", "deletionTimestamp", "labels", NULL};
    json_t *reduced = pick(object, members);
    json_t *kept = pick(json_object_get(object, "metadata"), metadata);
    keep_annotation(object, ANNOTATION_CUSTOM_PATHS, kept);
    json_object_set_new(reduced, "metadata", kept);
    const json_t *status = json_object_get(object, "status");
    if (status != NULL) {
        const json_t *ready = condition_in(status, "Ready");
        bool is_full = strcmp(json_string_at(condition_in(status, "FullyLoaded"), "status", ""), "True") == 0;
        json_object_set_new(reduced, "seen",
                            json_pack("{s:s, s:b, s:s, s:s, s:I}", "phase", json_string_at(status, "phase", ""), "isFullyLoaded",
                                      is_full, "readyStatus", json_string_at(ready, "status", ""), "readyReason",
                                      json_string_at(ready, "reason", ""), "observedGeneration",
                                      (json_int_t)json_int_at(status, "observedGeneration", 0)));
        json_object_set_new(reduced, PACKED, pack(status));
    }
    return reduced;
}

json_t *objects_reduce_packed(const json_t *object) {
    static const char *const metadata[] = {"name", "namespace", "uid", "resourceVersion", NULL};
    static const char *const whole[] = {"name", "namespace", "uid", "resourceVersion", "labels", "ownerReferences", NULL};
    json_t *lean = json_copy((json_t *)object), *kept = pick(json_object_get(object, "metadata"), whole);
    keep_annotation(object, ANNOTATION_ENGINE_NAMES, kept);
    json_object_set_new(lean, "metadata", kept);
    json_t *reduced = json_pack("{s:o, s:o, s:s}", "metadata", pick(json_object_get(object, "metadata"), metadata), PACKED,
                                pack(lean), OWNER, kube_controller_uid(object));
    json_decref(lean);
    int port = (int)json_int_at(json_array_get(json_at(object, "spec.ports"), 0), "port", 0);
    if (port != 0) {
        json_object_set_new(reduced, PORT, json_integer(port));
    }
    return reduced;
}

/* Gateway API, RouteParentStatus. A condition of an older specification says nothing of this one. */
static json_t *refusal_of(const json_t *object) {
    static const char *const types[] = {"Accepted", "ResolvedRefs"};
    const json_t *parents = json_at(object, "status.parents");
    int64_t generation = json_int_at(object, "metadata.generation", 0);
    for (size_t i = 0; i < json_array_size(parents); i++) {
        const json_t *parent = json_array_get(parents, i);
        for (size_t k = 0; k < ARRAY_LEN(types); k++) {
            const json_t *condition = condition_in(parent, types[k]);
            if (strcmp(json_string_at(condition, "status", ""), "False") == 0 &&
                json_int_at(condition, "observedGeneration", generation) == generation) {
                cleanup_free char *text =
                    xasprintf("Gateway %s says %s=False, %s: %s", json_string_at(parent, "parentRef.name", ""), types[k],
                              json_string_at(condition, "reason", ""), json_string_at(condition, "message", ""));
                return json_string(text);
            }
        }
    }
    return NULL;
}

json_t *objects_reduce_route(const json_t *object) {
    static const char *const metadata[] = {"name", "namespace", "uid", "resourceVersion", "labels", "deletionTimestamp", NULL};
    static const char *const whole[] = {"name",        "namespace",       "uid", "resourceVersion", "labels",
                                        "annotations", "ownerReferences", NULL};
    static const char *const members[] = {"apiVersion", "kind", "spec", NULL};
    cleanup_json json_t *lean = pick(object, members);
    json_object_set_new(lean, "metadata", pick(json_object_get(object, "metadata"), whole));
    return json_pack("{s:o, s:o, s:o*}", "metadata", pick(json_object_get(object, "metadata"), metadata), PACKED, pack(lean),
                     REFUSAL, refusal_of(object));
}

json_t *objects_reduce_node(const json_t *object) {
    static const char *const metadata[] = {"name", "uid", "resourceVersion", "labels", NULL};
    return json_pack("{s:o}", "metadata", pick(json_object_get(object, "metadata"), metadata));
}

json_t *objects_unpack(const json_t *reduced) {
    return unpack(json_object_get(reduced, PACKED));
}

bool objects_is_controlled_by(const json_t *reduced, const char *uid) {
    return strcmp(json_string_at(reduced, OWNER, ""), uid) == 0;
}

const char *objects_route_refusal(const json_t *reduced) {
    return json_string_at(reduced, REFUSAL, NULL);
}

int objects_port(const json_t *reduced) {
    return (int)json_int_at(reduced, PORT, 0);
}

bool objects_covers(const json_t *found, const json_t *wanted) {
    if (json_is_array(wanted)) {
        bool is_covered = json_array_size(found) == json_array_size(wanted);
        for (size_t i = 0; is_covered && i < json_array_size(wanted); i++) {
            is_covered = objects_covers(json_array_get(found, i), json_array_get(wanted, i));
        }
        return is_covered;
    }
    if (json_is_object(wanted)) {
        const char *key = NULL;
        json_t *value = NULL;
        json_object_foreach((json_t *)wanted, key, value) {
            if (!objects_covers(json_object_get(found, key), value)) {
                return false;
            }
        }
        return json_is_object(found);
    }
    return json_equal((json_t *)found, (json_t *)wanted) == 1;
}
