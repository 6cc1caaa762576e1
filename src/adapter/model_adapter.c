#include "adapter/model_adapter.h"

#include "adapter/artifact_url.h"
#include "adapter/names.h"
#include "base/hash.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* ---- as a struct ---- */

static int read_selector(const json_t *object, struct model_adapter *adapter, struct error *err) {
    const json_t *selector = json_at(object, "spec.podSelector");
    if (selector == NULL || json_is_null(selector)) {
        return error_set(err, ERROR_INVALID, "spec.podSelector is missing");
    }
    if (selector_parse_object(selector, &adapter->selector, err) < 0) {
        return error_wrap(err, "spec.podSelector");
    }
    if (selector_is_empty(adapter->selector)) {
        return error_set(err, ERROR_INVALID, "spec.podSelector is empty: it would match every pod of the namespace");
    }
    return 0;
}

/* 3, or "25%". Anything else leaves the default: the rules refuse it. */
static void read_max_unavailable(const json_t *value, struct model_adapter *adapter) {
    const char *text = json_string_value(value);
    char *end = NULL;
    if (json_is_integer(value) && json_integer_value(value) >= 1) {
        adapter->max_unavailable = json_integer_value(value) < INT_MAX ? (int)json_integer_value(value) : INT_MAX;
    } else if (text != NULL) {
        long percent = strtol(text, &end, 10);
        if (strcmp(end, "%") == 0 && percent >= 1 && percent <= 100) {
            adapter->max_unavailable_percent = (int)percent;
        }
    }
}

int model_adapter_read(const json_t *object, struct model_adapter *ret_adapter, struct error *err) {
    const json_t *metadata = json_at(object, "metadata");
    const json_t *spec = json_at(object, "spec");
    const json_t *replicas = json_at(spec, "replicas");
    const json_t *config = json_at(spec, "additionalConfig");
    const char *digest = json_string_at(spec, "digest", "");
    const char *key_secret = json_string_at(spec, "apiKeySecretRef.name", "");
    int64_t drain_seconds = json_int_at(spec, "drainSeconds", -1);
    *ret_adapter = (struct model_adapter){
        .name = json_string_at(metadata, "name", ""),
        .namespace = json_string_at(metadata, "namespace", ""),
        .uid = json_string_at(metadata, "uid", ""),
        .generation = json_int_at(metadata, "generation", 0),
        .is_deleting = json_string_at(metadata, "deletionTimestamp", NULL) != NULL,
        .base_model = json_string_at(spec, "baseModel", ""),
        .artifact_url = json_string_at(spec, "artifactURL", ""),
        .replicas = json_is_integer(replicas) ? (int)json_integer_value(replicas) : REPLICAS_ALL,
        .secret_name = json_string_at(spec, "credentialsSecretRef.name", ""),
        .additional_config = json_is_object(config) ? config : NULL,
        .api_key = json_string_value(json_object_get(config, ADDITIONAL_CONFIG_API_KEY)),
        .api_key_secret_name = key_secret,
        .api_key_secret_key = *key_secret != '\0' ? json_string_at(spec, "apiKeySecretRef.key", API_KEY_SECRET_KEY) : "",
        .source_revision = json_string_at(spec, "revision", ""),
        .digest = strncmp(digest, DIGEST_PREFIX, strlen(DIGEST_PREFIX)) == 0 ? digest + strlen(DIGEST_PREFIX) : digest,
        .placement_policy = json_string_at(spec, "placement.policy", ""),
        .topology_key = json_string_at(spec, "placement.topologyKey", ""),
        .scheduler_name = json_string_at(spec, "schedulerName", ""),
        .max_unavailable = 1,
        .drain_ms = drain_seconds >= 0 ? drain_seconds * 1000 : -1,
    };
    read_max_unavailable(json_at(spec, "rollout.maxUnavailable"), ret_adapter);
    if (json_is_integer(replicas) && (json_integer_value(replicas) < 0 || json_integer_value(replicas) > INT_MAX)) {
        return error_set(err, ERROR_INVALID, "spec.replicas is %lld: expected 0 or more", (long long)json_integer_value(replicas));
    }
    if (ret_adapter->artifact_url[0] == '\0') {
        return error_set(err, ERROR_INVALID, "spec.artifactURL is missing");
    }
    if (artifact_scheme_of(ret_adapter->artifact_url) == ARTIFACT_UNKNOWN) {
        return error_set(err, ERROR_INVALID, "spec.artifactURL: expected one of %s", artifact_schemes_text());
    }
    return read_selector(object, ret_adapter, err);
}

void model_adapter_release(struct model_adapter *adapter) {
    selector_free(adapter->selector);
    adapter->selector = NULL;
}

/* Each part with its name and a NUL, so that no two of them can be taken for one another. The URL alone is hashed as it is. */
static void hash_part(struct buffer *text, const char *name, const char *value) {
    if (value[0] != '\0') {
        buffer_printf(text, "%c%s=%s", '\0', name, value);
    }
}

void model_adapter_revision(const struct model_adapter *adapter, char ret_revision[17]) {
    char hex[HASH_HEX_BYTES];
    cleanup_buffer struct buffer text = BUFFER_INIT;
    buffer_printf(&text, "%s", adapter->artifact_url);
    hash_part(&text, "revision", adapter->source_revision);
    hash_part(&text, "digest", adapter->digest);
    struct hash hash = hash_bytes(text.data, text.len);
    hash_hex(&hash, hex);
    memcpy(ret_revision, hex, 16);
    ret_revision[16] = '\0';
}

/* ---- the schema ---- */

enum field_type { FIELD_STRING, FIELD_INT32, FIELD_INT64, FIELD_OBJECT, FIELD_STRING_MAP, FIELD_ARRAY, FIELD_STRINGS, FIELD_ANY };

struct field {
    const char *name; /* NULL ends a list */
    enum field_type type;
    const struct field *children; /* of an object, or of an array's items */
};

static const struct field expression_fields[] = {
    {"key", FIELD_STRING, NULL}, {"operator", FIELD_STRING, NULL}, {"values", FIELD_STRINGS, NULL}, {0}};
static const struct field selector_fields[] = {
    {"matchLabels", FIELD_STRING_MAP, NULL}, {"matchExpressions", FIELD_ARRAY, expression_fields}, {0}};
static const struct field secret_fields[] = {{"name", FIELD_STRING, NULL}, {0}};
static const struct field key_secret_fields[] = {{"name", FIELD_STRING, NULL}, {"key", FIELD_STRING, NULL}, {0}};
static const struct field placement_fields[] = {{"policy", FIELD_STRING, NULL}, {"topologyKey", FIELD_STRING, NULL}, {0}};
static const struct field rollout_fields[] = {{"maxUnavailable", FIELD_ANY, NULL}, {0}};
static const struct field spec_fields[] = {
    {"baseModel", FIELD_STRING, NULL},
    {"podSelector", FIELD_OBJECT, selector_fields},
    {"schedulerName", FIELD_STRING, NULL},
    {"artifactURL", FIELD_STRING, NULL},
    {"credentialsSecretRef", FIELD_OBJECT, secret_fields},
    {"replicas", FIELD_INT32, NULL},
    {"additionalConfig", FIELD_STRING_MAP, NULL},
    {"apiKeySecretRef", FIELD_OBJECT, key_secret_fields},
    {"revision", FIELD_STRING, NULL},
    {"digest", FIELD_STRING, NULL},
    {"placement", FIELD_OBJECT, placement_fields},
    {"rollout", FIELD_OBJECT, rollout_fields},
    {"drainSeconds", FIELD_INT32, NULL},
    {0},
};
static const struct field condition_fields[] = {
    {"type", FIELD_STRING, NULL},
    {"status", FIELD_STRING, NULL},
    {"reason", FIELD_STRING, NULL},
    {"message", FIELD_STRING, NULL},
    {"lastTransitionTime", FIELD_STRING, NULL},
    {"observedGeneration", FIELD_INT64, NULL},
    {0},
};
static const struct field load_fields[] = {
    {"pod", FIELD_STRING, NULL},      {"state", FIELD_STRING, NULL},
    {"revision", FIELD_STRING, NULL}, {"loadMillis", FIELD_INT64, NULL},
    {"reason", FIELD_STRING, NULL},   {"message", FIELD_STRING, NULL},
    {"since", FIELD_STRING, NULL},    {0},
};
static const struct field status_fields[] = {
    {"revision", FIELD_STRING, NULL},
    {"phase", FIELD_STRING, NULL},
    {"observedGeneration", FIELD_INT64, NULL},
    {"candidates", FIELD_INT32, NULL},
    {"readyReplicas", FIELD_INT32, NULL},
    {"desiredReplicas", FIELD_INT32, NULL},
    {"conditions", FIELD_ARRAY, condition_fields},
    {"instances", FIELD_STRINGS, NULL},
    {"loads", FIELD_ARRAY, load_fields},
    {0},
};
static const struct field object_fields[] = {
    {"apiVersion", FIELD_STRING, NULL},      {"kind", FIELD_STRING, NULL},
    {"metadata", FIELD_ANY, NULL},           {"spec", FIELD_OBJECT, spec_fields},
    {"status", FIELD_OBJECT, status_fields}, {0},
};

static const struct field *find_field(const struct field *fields, const char *name) {
    for (const struct field *field = fields; field->name != NULL; field++) {
        if (strcmp(field->name, name) == 0) {
            return field;
        }
    }
    return NULL;
}

static void unknown_in(const json_t *object, const struct field *fields, const char *path, json_t *paths);

static void unknown_below(const json_t *value, const struct field *field, const char *path, json_t *paths) {
    if (field->type == FIELD_OBJECT) {
        unknown_in(value, field->children, path, paths);
    } else if (field->type == FIELD_ARRAY) {
        for (size_t i = 0; i < json_array_size(value); i++) {
            cleanup_free char *item = xasprintf("%s[%zu]", path, i);
            unknown_in(json_array_get(value, i), field->children, item, paths);
        }
    }
}

static void unknown_in(const json_t *object, const struct field *fields, const char *path, json_t *paths) {
    const char *key = NULL;
    json_t *value = NULL;
    json_object_foreach((json_t *)object, key, value) {
        const struct field *field = find_field(fields, key);
        cleanup_free char *below = path[0] != '\0' ? xasprintf("%s.%s", path, key) : xstrdup(key);
        if (field == NULL) {
            json_array_append_new(paths, json_string(below));
        } else {
            unknown_below(value, field, below, paths);
        }
    }
}

void model_adapter_unknown_fields(const json_t *object, json_t *paths) {
    unknown_in(object, object_fields, "", paths);
}

static void prune(json_t *object, const struct field *fields) {
    const char *key = NULL;
    json_t *value = NULL;
    void *next = NULL;
    json_object_foreach_safe(object, next, key, value) {
        const struct field *field = find_field(fields, key);
        if (field == NULL) {
            json_object_del(object, key);
        } else if (field->type == FIELD_OBJECT) {
            prune(value, field->children);
        } else if (field->type == FIELD_ARRAY) {
            for (size_t i = 0; i < json_array_size(value); i++) {
                prune(json_array_get(value, i), field->children);
            }
        }
    }
}

void model_adapter_prune(json_t *object) {
    prune(object, object_fields);
}

/* ---- validation ---- */

static void add_cause(json_t *causes, const char *reason, const char *field, const char *format, ...) DAVIT_PRINTF(4, 5);
static void add_cause(json_t *causes, const char *reason, const char *field, const char *format, ...) {
    char message[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof(message), format, arguments);
    va_end(arguments);
    struct buffer text = BUFFER_INIT;
    json_append_string(&text, message, strlen(message)); /* a cut message may end within a character */
    json_t *safe = json_loadb(text.data, text.len, JSON_DECODE_ANY, NULL);
    buffer_release(&text);
    json_array_append_new(causes, json_pack("{s:s, s:o, s:s}", "reason", reason, "message", safe, "field", field));
}

static const char *type_name(enum field_type type) {
    switch (type) {
    case FIELD_STRING:
        return "string";
    case FIELD_INT32:
    case FIELD_INT64:
        return "integer";
    case FIELD_OBJECT:
    case FIELD_STRING_MAP:
        return "object";
    case FIELD_ARRAY:
    case FIELD_STRINGS:
        return "array";
    default:
        return "value";
    }
}

static bool has_type(const json_t *value, enum field_type type) {
    switch (type) {
    case FIELD_STRING:
        return json_is_string(value);
    case FIELD_INT32:
        return json_is_integer(value) && json_integer_value(value) >= INT32_MIN && json_integer_value(value) <= INT32_MAX;
    case FIELD_INT64:
        return json_is_integer(value);
    case FIELD_OBJECT:
    case FIELD_STRING_MAP:
        return json_is_object(value);
    case FIELD_ARRAY:
    case FIELD_STRINGS:
        return json_is_array(value);
    default:
        return true;
    }
}

static const char *found_type(const json_t *value) {
    static const char *const names[] = {"object", "array", "string", "integer", "number", "boolean", "boolean", "null"};
    return names[json_typeof(value)];
}

static void wrong_type(json_t *causes, const char *path, const json_t *value, enum field_type wanted) {
    add_cause(causes, "FieldValueTypeInvalid", path, "Invalid value: \"%s\": %s in body must be of type %s: \"%s\"",
              found_type(value), path, type_name(wanted), found_type(value));
}

static void check_types(const json_t *object, const struct field *fields, const char *path, json_t *causes);

static void check_strings(const json_t *value, const char *path, json_t *causes) {
    const char *key = NULL;
    json_t *item = NULL;
    json_object_foreach((json_t *)value, key, item) {
        if (!json_is_string(item)) {
            cleanup_free char *below = xasprintf("%s.%s", path, key);
            wrong_type(causes, below, item, FIELD_STRING);
        }
    }
    for (size_t i = 0; i < json_array_size(value); i++) {
        if (!json_is_string(json_array_get(value, i))) {
            cleanup_free char *below = xasprintf("%s[%zu]", path, i);
            wrong_type(causes, below, json_array_get(value, i), FIELD_STRING);
        }
    }
}

static void check_type(const json_t *value, const struct field *field, const char *path, json_t *causes) {
    if (!has_type(value, field->type)) {
        wrong_type(causes, path, value, field->type);
        return;
    }
    switch (field->type) {
    case FIELD_OBJECT:
        check_types(value, field->children, path, causes);
        break;
    case FIELD_ARRAY:
        for (size_t i = 0; i < json_array_size(value); i++) {
            const json_t *item = json_array_get(value, i);
            cleanup_free char *below = xasprintf("%s[%zu]", path, i);
            if (json_is_object(item)) {
                check_types(item, field->children, below, causes);
            } else {
                wrong_type(causes, below, item, FIELD_OBJECT);
            }
        }
        break;
    case FIELD_STRING_MAP:
    case FIELD_STRINGS:
        check_strings(value, path, causes);
        break;
    default:
        break;
    }
}

static void check_types(const json_t *object, const struct field *fields, const char *path, json_t *causes) {
    for (const struct field *field = fields; field->name != NULL; field++) {
        const json_t *value = json_object_get(object, field->name);
        if (value != NULL) {
            cleanup_free char *below = path[0] != '\0' ? xasprintf("%s.%s", path, field->name) : xstrdup(field->name);
            check_type(value, field, below, causes);
        }
    }
}

static bool has_control_character(const char *text) {
    for (; *text != '\0'; text++) {
        if ((unsigned char)*text <= 0x20 || *text == 0x7f) {
            return true;
        }
    }
    return false;
}

#define URL_BYTES_MAX 2048

static void check_artifact_url(const json_t *value, json_t *causes) {
    const char *field = "spec.artifactURL";
    const char *url = json_string_value(value);
    if (value == NULL || (url != NULL && url[0] == '\0')) {
        add_cause(causes, "FieldValueRequired", field, "Required value");
    } else if (url == NULL) {
        return; /* of another type: said already */
    } else if (json_string_length(value) > URL_BYTES_MAX) {
        add_cause(causes, "FieldValueTooLong", field, "Too long: may not be more than %d bytes", URL_BYTES_MAX);
    } else if (has_control_character(url) || strlen(url) != json_string_length(value)) {
        add_cause(causes, "FieldValueInvalid", field, "Invalid value: white space and control characters are not allowed");
    } else if (artifact_scheme_of(url) == ARTIFACT_UNKNOWN) {
        add_cause(causes, "FieldValueInvalid", field, "Invalid value: \"%.200s\": unsupported schema: expected %s", url,
                  artifact_schemes_text());
    } else if (artifact_local_path(url) == NULL && strstr(url, "://")[3] == '\0') {
        add_cause(causes, "FieldValueInvalid", field, "Invalid value: \"%s\": nothing follows the scheme", url);
    }
}

static void check_selector(const json_t *value, json_t *causes) {
    const char *field = "spec.podSelector";
    struct selector *selector = NULL;
    struct error err = {0};
    if (value == NULL) {
        add_cause(causes, "FieldValueRequired", field, "Required value");
    } else if (!json_is_object(value)) {
        return;
    } else if (selector_parse_object(value, &selector, &err) < 0) {
        add_cause(causes, "FieldValueInvalid", field, "Invalid value: %s", err.message);
    } else if (selector_is_empty(selector)) {
        add_cause(causes, "FieldValueInvalid", field, "Invalid value: an empty selector would match every pod of the namespace");
    }
    selector_free(selector);
}

static void check_replicas(const json_t *value, json_t *causes) {
    if (json_is_integer(value) && json_integer_value(value) < 0) {
        add_cause(causes, "FieldValueInvalid", "spec.replicas", "Invalid value: %lld: must be greater than or equal to 0",
                  (long long)json_integer_value(value));
    }
}

/* RFC 1035 label, since the adapter's Service bears the same name. */
static void check_name(const json_t *object, json_t *causes) {
    const char *name = json_string_at(object, "metadata.name", "");
    size_t len = strlen(name);
    bool is_label = len > 0 && len <= 63 && name[0] >= 'a' && name[0] <= 'z' && name[len - 1] != '-' &&
                    strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-") == len;
    if (!is_label && !(len == 0 && json_string_at(object, "metadata.generateName", NULL) != NULL)) {
        add_cause(causes, "FieldValueInvalid", "metadata.name",
                  "Invalid value: \"%.100s\": the name becomes a Service's, so at most 63 of a-z, 0-9 and '-', beginning with a "
                  "letter and not ending in '-'",
                  name);
    }
}

int model_adapter_validate(const json_t *object, const json_t *old_object, json_t *causes) {
    static const struct {
        const char *path;
        void (*check)(const json_t *value, json_t *causes);
    } rules[] = {{"spec.artifactURL", check_artifact_url}, {"spec.podSelector", check_selector}, {"spec.replicas", check_replicas}};
    size_t before = json_array_size(causes);
    check_types(object, object_fields, "", causes);
    if (old_object == NULL) {
        check_name(object, causes);
    }
    if (json_at(object, "spec") == NULL && json_at(old_object, "spec") == NULL) {
        if (old_object == NULL) {
            add_cause(causes, "FieldValueRequired", "spec", "Required value");
        }
        return (int)(json_array_size(causes) - before);
    }
    for (size_t i = 0; i < ARRAY_LEN(rules); i++) {
        const json_t *value = json_at(object, rules[i].path);
        /* What was stored before a rule existed can still be labelled, finalized and deleted (Kubernetes: CEL ratcheting). */
        bool is_unchanged = old_object != NULL && (value == json_at(old_object, rules[i].path) ||
                                                   json_equal((json_t *)value, json_at(old_object, rules[i].path)));
        if (!is_unchanged) {
            rules[i].check(value, causes);
        }
    }
    return (int)(json_array_size(causes) - before);
}
