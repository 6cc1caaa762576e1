#include "controller/objects.h"

#include "adapter/names.h"
#include "controller/packed.h"
#include "kube/client.h"

#include <string.h>

#define PACKED "packed"
#define REFUSAL "refusal"
#define SEEN "seen"
#define SEEN_TEXTS 3

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

static void append_packed(struct buffer *out, const json_t *value) {
    cleanup_buffer struct buffer text = BUFFER_INIT;
    json_append(&text, value);
    packed_append(out, text.data, text.len);
}

static json_t *pack(const json_t *value) {
    cleanup_buffer struct buffer bytes = BUFFER_INIT;
    append_packed(&bytes, value);
    return json_stringn_nocheck(bytes.data, bytes.len);
}

static json_t *unpack(const char *bytes, size_t packed_len) {
    size_t len = 0;
    cleanup_free char *text = bytes != NULL ? packed_read(bytes, packed_len, &len) : NULL;
    return text != NULL ? json_loadb(text, len, JSON_ALLOW_NUL, NULL) : NULL;
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

/* One string, of which an object would be ten times as large: generation, is_full, and the texts with a NUL behind each. */
static json_t *note_seen(const char *const *texts, bool is_full, int64_t generation) {
    cleanup_buffer struct buffer bytes = BUFFER_INIT;
    buffer_append(&bytes, &generation, sizeof(generation));
    buffer_append_char(&bytes, is_full ? 1 : 0);
    for (size_t i = 0; i < SEEN_TEXTS; i++) {
        buffer_append(&bytes, texts[i], strlen(texts[i]) + 1);
    }
    return json_stringn_nocheck(bytes.data, bytes.len);
}

void objects_read_seen(const json_t *reduced, struct objects_seen *ret_seen) {
    const char *at = json_string_value(json_object_get(reduced, SEEN));
    *ret_seen = (struct objects_seen){.phase = "", .ready_status = "", .ready_reason = ""};
    if (at != NULL) {
        memcpy(&ret_seen->observed_generation, at, sizeof(ret_seen->observed_generation));
        at += sizeof(ret_seen->observed_generation);
        ret_seen->is_fully_loaded = *at++ != 0;
        ret_seen->phase = at;
        ret_seen->ready_status = ret_seen->phase + strlen(ret_seen->phase) + 1;
        ret_seen->ready_reason = ret_seen->ready_status + strlen(ret_seen->ready_status) + 1;
    }
}

json_t *objects_reduce_adapter(const json_t *object) {
    static const char *const members[] = {"apiVersion", "kind", "spec", NULL};
    static const char *const metadata[] = {"name",       "namespace",         "uid", "resourceVersion", "generation",
                                           "finalizers", "deletionTimestamp", NULL};
    json_t *reduced = pick(object, members);
    json_t *kept = pick(json_object_get(object, "metadata"), metadata);
    keep_annotation(object, ANNOTATION_CUSTOM_PATHS, kept);
    json_object_set_new(reduced, "metadata", kept);
    const json_t *status = json_object_get(object, "status");
    if (status != NULL) {
        const json_t *ready = condition_in(status, "Ready");
        bool is_full = strcmp(json_string_at(condition_in(status, "FullyLoaded"), "status", ""), "True") == 0;
        const char *texts[SEEN_TEXTS] = {json_string_at(status, "phase", ""), json_string_at(ready, "status", ""),
                                         json_string_at(ready, "reason", "")};
        json_object_set_new(reduced, SEEN, note_seen(texts, is_full, json_int_at(status, "observedGeneration", 0)));
        json_object_set_new(reduced, PACKED, pack(status));
    }
    return reduced;
}

json_t *objects_reduce_packed(const json_t *object) {
    static const char *const whole[] = {"name", "namespace", "uid", "resourceVersion", "labels", "ownerReferences", NULL};
    cleanup_json json_t *lean = json_copy((json_t *)object);
    json_t *kept = pick(json_object_get(object, "metadata"), whole);
    keep_annotation(object, ANNOTATION_ENGINE_NAMES, kept);
    json_object_set_new(lean, "metadata", kept);
    int port = (int)json_int_at(json_array_get(json_at(object, "spec.ports"), 0), "port", 0);
    const char *owner = kube_controller_uid(object);
    cleanup_buffer struct buffer rest = BUFFER_INIT;
    buffer_append(&rest, &port, sizeof(port));
    buffer_append(&rest, owner, strlen(owner) + 1);
    append_packed(&rest, lean);
    return kube_record(object, rest.data, rest.len);
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

/* The first port of a Service, the uid of the controller, and all of it packed. */
struct rest {
    int port;
    const char *owner; /* NULL: it is no record */
    const char *packed;
    size_t packed_len;
};

static struct rest read_record(const json_t *record) {
    struct rest rest = {0};
    size_t len = 0;
    const char *bytes = kube_record_rest(record, &len);
    if (bytes != NULL) {
        memcpy(&rest.port, bytes, sizeof(rest.port));
        rest.owner = bytes + sizeof(rest.port);
        rest.packed = rest.owner + strlen(rest.owner) + 1;
        rest.packed_len = len - (size_t)(rest.packed - bytes);
    }
    return rest;
}

json_t *objects_unpack(const json_t *reduced) {
    const json_t *packed = json_object_get(reduced, PACKED);
    struct rest rest = read_record(reduced);
    return packed != NULL ? unpack(json_string_value(packed), json_string_length(packed)) : unpack(rest.packed, rest.packed_len);
}

bool objects_is_controlled_by(const json_t *reduced, const char *uid) {
    struct rest rest = read_record(reduced);
    return rest.owner != NULL && strcmp(rest.owner, uid) == 0;
}

const char *objects_route_refusal(const json_t *reduced) {
    return json_string_at(reduced, REFUSAL, NULL);
}

int objects_port(const json_t *reduced) {
    return read_record(reduced).port;
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
