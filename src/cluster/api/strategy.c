#include "cluster/api/strategy.h"

#include "adapter/model_adapter.h"
#include "cluster/api/kind_schema.h"
#include "cluster/api/object.h"
#include "cluster/api/status.h"
#include "cluster/api/validate.h"

#include <string.h>

#define UNKNOWN_FIELDS_MAX 10 /* told of one object */
#define PATH_BYTES_MAX 256

json_t *field_validation_parse(const char *text, enum field_validation *ret) {
    *ret = FIELDS_WARN;
    if (text == NULL || *text == '\0' || strcmp(text, "Warn") == 0) {
        return NULL;
    }
    if (strcmp(text, "Strict") == 0) {
        *ret = FIELDS_STRICT;
    } else if (strcmp(text, "Ignore") == 0) {
        *ret = FIELDS_IGNORE;
    } else {
        return status_error(400, "BadRequest",
                            "fieldValidation: Unsupported value: \"%s\": supported values: \"Ignore\", \"Strict\", \"Warn\"", text);
    }
    return NULL;
}

/* Typed decoding drops nulls; so do we, in objects at any depth. */
static void strip_nulls(json_t *value) {
    if (json_is_array(value)) {
        size_t i = 0;
        json_t *item = NULL;
        json_array_foreach(value, i, item) {
            strip_nulls(item);
        }
        return;
    }
    const char *member = NULL;
    void *next = NULL;
    json_t *item = NULL;
    json_object_foreach_safe(value, next, member, item) {
        if (json_is_null(item)) {
            json_object_del(value, member);
        } else {
            strip_nulls(item);
        }
    }
}

static json_t *check_type(const struct strategy_input *input, json_t *object) {
    if (!json_is_object(object)) {
        return status_error(400, "BadRequest", "the body of the request must be a JSON object");
    }
    const json_t *meta = json_object_get(object, "metadata");
    if (meta != NULL && !json_is_object(meta) && !json_is_null(meta)) {
        return status_error(400, "BadRequest", "metadata must be an object");
    }
    cleanup_free char *api_version = resource_api_version(input->resource);
    const char *have_version = json_string_at(object, "apiVersion", api_version);
    const char *have_kind = json_string_at(object, "kind", input->resource->kind);
    if (strcmp(have_version, api_version) != 0 || strcmp(have_kind, input->resource->kind) != 0) {
        return status_error(400, "BadRequest", "%s %s in version \"%s\" cannot be handled as a %s of %s", have_kind,
                            object_name(object), have_version, input->resource->kind, api_version);
    }
    json_object_set_new(object, "apiVersion", json_string(api_version));
    json_object_set_new(object, "kind", json_string(input->resource->kind));
    return NULL;
}

static json_t *check_namespace(const struct strategy_input *input, json_t *object) {
    json_t *meta = object_meta_mutable(object);
    const char *namespace = object_namespace(object);
    if (input->namespace == NULL) {
        json_object_del(meta, "namespace");
        return NULL;
    }
    if (*namespace != '\0' && strcmp(namespace, input->namespace) != 0) {
        return status_error(400, "BadRequest",
                            "the namespace of the provided object does not match the namespace sent on the request: \"%s\", \"%s\"",
                            namespace, input->namespace);
    }
    json_object_set_new(meta, "namespace", json_string(input->namespace));
    return NULL;
}

/* Appends the paths of the unknown fields, at most UNKNOWN_FIELDS_MAX, and drops them all. Returns how many there were. */
static size_t prune_unknown(const struct resource *resource, json_t *object, json_t *paths) {
    const struct kind_schema *type = kind_schema_find(resource->kind);
    if (!resource->is_custom) {
        return type != NULL ? kind_schema_prune(type, object, paths, UNKNOWN_FIELDS_MAX) : 0;
    }
    model_adapter_unknown_fields(object, paths);
    model_adapter_prune(object);
    return json_array_size(paths);
}

/* A client chooses how long the names of its members are. */
static char *shortened(const char *path) {
    size_t len = strlen(path);
    if (len <= PATH_BYTES_MAX) {
        return xstrdup(path);
    }
    len = PATH_BYTES_MAX;
    while (len > 0 && ((unsigned char)path[len] & 0xc0) == 0x80) {
        len--; /* not within a character */
    }
    return xasprintf("%.*s...", (int)len, path);
}

/* Unknown fields: refused, warned about, or dropped silently; dropped in any case. */
static json_t *check_fields(const struct strategy_input *input, json_t *object) {
    cleanup_json json_t *paths = json_array();
    size_t count = prune_unknown(input->resource, object, paths);
    if (count == 0 || input->field_validation == FIELDS_IGNORE) {
        return NULL;
    }
    cleanup_buffer struct buffer unknown = BUFFER_INIT;
    for (size_t i = 0; i < json_array_size(paths) && i < UNKNOWN_FIELDS_MAX; i++) {
        cleanup_free char *path = shortened(json_string_value(json_array_get(paths, i)));
        buffer_printf(&unknown, "%sunknown field \"%s\"", i > 0 ? ", " : "", path);
        if (input->field_validation == FIELDS_WARN) {
            json_array_append_new(input->warnings, json_sprintf("unknown field \"%s\"", path));
        }
    }
    if (input->field_validation == FIELDS_WARN) {
        return NULL;
    }
    if (count > UNKNOWN_FIELDS_MAX) {
        buffer_printf(&unknown, ", and %zu more", count - UNKNOWN_FIELDS_MAX);
    }
    return status_error(400, "BadRequest", "%s in version \"%s\" cannot be handled as a %s: strict decoding error: %s",
                        input->resource->kind, input->resource->version, input->resource->kind, buffer_text(&unknown));
}

static json_t *default_and_validate(const struct resource *resource, json_t *object, const json_t *old_object) {
    if (resource->set_defaults != NULL) {
        resource->set_defaults(object, old_object);
    }
    cleanup_json json_t *causes = json_array();
    validate_meta(resource, object, old_object, causes);
    if (resource->validate != NULL) {
        resource->validate(object, old_object, causes);
    }
    return json_array_size(causes) > 0 ? status_invalid(resource, object_name(object), json_incref(causes)) : NULL;
}

static void remove_server_members(json_t *meta) {
    static const char *const members[] = {
        "managedFields",  "selfLink", "uid", "creationTimestamp", "generation", "deletionTimestamp", "deletionGracePeriodSeconds",
        "resourceVersion"};
    for (size_t i = 0; i < ARRAY_LEN(members); i++) {
        json_object_del(meta, members[i]);
    }
}

/* The length of a value's compact text, exact but for escapes in strings and for real numbers; SIZE_MAX when it is nested deeper
 * than `levels`. */
static size_t measure(const json_t *value, int levels) {
    const char *key = NULL;
    json_t *member = NULL;
    size_t i = 0;
    if (!json_is_object(value) && !json_is_array(value)) {
        return json_is_string(value) ? json_string_length(value) + 2 : 5;
    }
    if (levels == 0) {
        return SIZE_MAX;
    }
    size_t total = 2;
    json_object_foreach((json_t *)value, key, member) {
        size_t one = measure(member, levels - 1);
        if (one == SIZE_MAX) {
            return one;
        }
        total += strlen(key) + 4 + one;
    }
    json_array_foreach(value, i, member) {
        size_t one = measure(member, levels - 1);
        if (one == SIZE_MAX) {
            return one;
        }
        total += one + 1;
    }
    return total;
}

/* What is stored must be readable again, alone and inside a list; etcd's limit of size is what clients know. Only what may be over
 * it (an escape takes at most six bytes for one) is made text to see. */
static json_t *check_bounds(const json_t *object) {
    size_t bytes = measure(object, OBJECT_LEVELS_MAX);
    if (bytes == SIZE_MAX) {
        return status_error(400, "BadRequest", "the object is nested deeper than %d levels", OBJECT_LEVELS_MAX);
    }
    if (bytes > OBJECT_BYTES_MAX / 6 && json_dumpb(object, NULL, 0, JSON_COMPACT) > OBJECT_BYTES_MAX) {
        return status_error(413, "RequestEntityTooLarge", "Request entity too large: limit is %d", OBJECT_BYTES_MAX);
    }
    return NULL;
}

json_t *strategy_create(const struct strategy_input *input, json_t *object) {
    json_t *status = check_bounds(object);
    status = status != NULL ? status : check_type(input, object);
    status = status != NULL ? status : check_namespace(input, object);
    status = status != NULL ? status : check_fields(input, object);
    if (status != NULL) {
        return status;
    }
    if (*object_revision_text(object) != '\0') {
        return status_error(400, "BadRequest", "resourceVersion should not be set on objects to be created");
    }
    strip_nulls(object);
    json_t *meta = object_meta_mutable(object);
    remove_server_members(meta);
    const char *prefix = json_string_at(object, "metadata.generateName", "");
    if (*object_name(object) == '\0' && *prefix != '\0') {
        char suffix[6];
        object_new_suffix(suffix);
        json_object_set_new(meta, "name", json_sprintf("%.*s%s", 58, prefix, suffix));
    }
    if (input->resource->has_status && !input->resource->keeps_status_on_create) {
        json_object_del(object, "status");
    }
    status = default_and_validate(input->resource, object, NULL);
    if (status != NULL) {
        return status;
    }
    char text[OBJECT_UID_BYTES];
    object_new_uid(text);
    json_object_set_new(meta, "uid", json_string(text));
    object_now(text);
    json_object_set_new(meta, "creationTimestamp", json_string(text));
    if (input->resource->has_generation) {
        json_object_set_new(meta, "generation", json_integer(1));
    }
    return NULL;
}

/* ---- update ---- */

static void copy_member(json_t *to, const json_t *from, const char *member) {
    json_t *value = json_object_get(from, member);
    if (value != NULL) {
        json_object_set(to, member, value);
    } else {
        json_object_del(to, member);
    }
}

/* Members that did not change are those of the old object: the history holds them once. Whether everything but metadata and status
 * is the same. */
static bool share_what_is_same(json_t *object, const json_t *old_object) {
    const char *member = NULL;
    void *next = NULL;
    json_t *value = NULL;
    bool is_same = true;
    json_object_foreach_safe(object, next, member, value) {
        json_t *old_value = json_object_get(old_object, member);
        bool is_of_spec = strcmp(member, "metadata") != 0 && strcmp(member, "status") != 0;
        if (old_value != NULL && strcmp(member, "metadata") != 0 && json_equal(value, old_value)) {
            json_object_set(object, member, old_value);
        } else if (is_of_spec) {
            is_same = false;
        }
    }
    json_object_foreach((json_t *)old_object, member, value) {
        bool is_of_spec = strcmp(member, "metadata") != 0 && strcmp(member, "status") != 0;
        is_same = is_same && (!is_of_spec || json_object_get(object, member) != NULL);
    }
    return is_same;
}

static json_t *check_identity(const struct strategy_input *input, const json_t *old_object, const json_t *object) {
    if (strcmp(object_name(object), input->name) != 0) {
        return status_error(400, "BadRequest", "the name of the object (%s) does not match the name on the URL (%s)",
                            object_name(object), input->name);
    }
    const char *uid = object_uid(object);
    if (*uid != '\0' && strcmp(uid, object_uid(old_object)) != 0) {
        cleanup_free char *why =
            xasprintf("Precondition failed: UID in precondition: %s, UID in object meta: %s", uid, object_uid(old_object));
        return status_conflict(input->resource, input->name, why);
    }
    const char *revision = object_revision_text(object);
    if (*revision != '\0' && strcmp(revision, object_revision_text(old_object)) != 0) {
        return status_conflict(input->resource, input->name,
                               "the object has been modified; please apply your changes to the latest version and try again");
    }
    return NULL;
}

static void keep_server_members(json_t *meta, const json_t *old_meta) {
    static const char *const members[] = {
        "uid",         "creationTimestamp", "generation", "deletionTimestamp", "deletionGracePeriodSeconds", "resourceVersion",
        "generateName"};
    json_object_del(meta, "managedFields");
    json_object_del(meta, "selfLink");
    for (size_t i = 0; i < ARRAY_LEN(members); i++) {
        copy_member(meta, old_meta, members[i]);
    }
}

static json_t *update_status(const struct strategy_input *input, const json_t *old_object, const json_t *object,
                             json_t **ret_object) {
    const json_t *new_status = json_object_get(object, "status");
    if (new_status != NULL && !json_is_object(new_status)) {
        cleanup_json json_t *causes = json_array();
        cause_add(causes, "FieldValueTypeInvalid", "status", "Invalid value: must be an object");
        return status_invalid(input->resource, input->name, json_incref(causes));
    }
    *ret_object = object_touch(old_object);
    copy_member(*ret_object, object, "status");
    return NULL;
}

json_t *strategy_update(const struct strategy_input *input, const json_t *old_object, json_t *object, bool is_status,
                        json_t **ret_object) {
    json_t *status = check_bounds(object);
    status = status != NULL ? status : check_type(input, object);
    status = status != NULL ? status : check_namespace(input, object);
    status = status != NULL ? status : check_identity(input, old_object, object);
    status = status != NULL ? status : check_fields(input, object);
    if (status != NULL) {
        return status;
    }
    strip_nulls(object);
    if (is_status) {
        return update_status(input, old_object, object, ret_object);
    }
    json_t *meta = object_meta_mutable(object);
    keep_server_members(meta, object_meta(old_object));
    if (input->resource->has_status) {
        copy_member(object, old_object, "status");
    }
    status = default_and_validate(input->resource, object, old_object);
    if (status != NULL) {
        return status;
    }
    bool is_same_spec = share_what_is_same(object, old_object);
    if (input->resource->has_generation && !is_same_spec) {
        json_object_set_new(meta, "generation", json_integer(json_int_at(old_object, "metadata.generation", 0) + 1));
    }
    *ret_object = json_incref(object);
    return NULL;
}

/* ---- scale ---- */

/* "a=b,c in (d)" is what autoscalers read; ours has matchLabels only in practice. */
static char *selector_string(const json_t *selector) {
    struct buffer text = BUFFER_INIT;
    const char *key = NULL;
    json_t *value = NULL;
    json_object_foreach(json_object_get(selector, "matchLabels"), key, value) {
        buffer_printf(&text, "%s%s=%s", text.len > 0 ? "," : "", key, json_is_string(value) ? json_string_value(value) : "");
    }
    return buffer_take(&text);
}

json_t *strategy_scale_of(const json_t *object) {
    cleanup_free char *selector = selector_string(json_at(object, "spec.selector"));
    json_t *spec = json_object();
    int64_t replicas = json_int_at(object, "spec.replicas", 0);
    if (replicas > 0) {
        json_object_set_new(spec, "replicas", json_integer(replicas));
    }
    return json_pack("{s:s, s:s, s:{s:s, s:s, s:s, s:s, s:s}, s:o, s:{s:I, s:s}}", "kind", "Scale", "apiVersion", "autoscaling/v1",
                     "metadata", "name", object_name(object), "namespace", object_namespace(object), "uid", object_uid(object),
                     "resourceVersion", object_revision_text(object), "creationTimestamp",
                     json_string_at(object, "metadata.creationTimestamp", ""), "spec", spec, "status", "replicas",
                     (json_int_t)json_int_at(object, "status.replicas", 0), "selector", selector);
}

json_t *strategy_with_scale(const struct resource *resource, const json_t *object, const json_t *scale, json_t **ret_object) {
    const json_t *replicas = json_at(scale, "spec.replicas");
    if ((replicas != NULL && !json_is_integer(replicas)) || json_integer_value(replicas) < 0 ||
        json_integer_value(replicas) > INT32_MAX) {
        cleanup_json json_t *causes = json_array();
        cause_add(causes, "FieldValueInvalid", "spec.replicas", "Invalid value: must be an integer greater than or equal to 0");
        return status_invalid(resource, object_name(object), json_incref(causes));
    }
    const char *revision = object_revision_text(scale);
    *ret_object = json_deep_copy(object);
    json_object_set_new(json_default_object(*ret_object, "spec"), "replicas", json_integer(json_integer_value(replicas)));
    if (*revision != '\0') {
        object_set_meta_string(*ret_object, "resourceVersion", revision); /* a stale one is a conflict */
    }
    return NULL;
}
