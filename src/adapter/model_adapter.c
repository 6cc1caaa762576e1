#include "adapter/model_adapter.h"

#include "adapter/model_adapter_rules.h"
#include "adapter/names.h"
#include "base/hash.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* What the rules say of an object that may have been stored without them. */
static int check_stored(const json_t *object, struct error *err) {
    cleanup_json json_t *part =
        json_pack("{s:O*, s:O*}", "metadata", json_object_get(object, "metadata"), "spec", json_object_get(object, "spec"));
    cleanup_json json_t *causes = json_array();
    if (model_adapter_validate(part, NULL, causes) == 0) {
        return 0;
    }
    const json_t *cause = json_array_get(causes, 0);
    return error_set(err, ERROR_INVALID, "%s: %s", json_string_at(cause, "field", ""), json_string_at(cause, "message", ""));
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
        .drain_ms = drain_seconds < 0           ? -1
                    : drain_seconds < INT32_MAX ? drain_seconds * 1000
                                                : INT32_MAX,
    };
    read_max_unavailable(json_at(spec, "rollout.maxUnavailable"), ret_adapter);
    if (check_stored(object, err) < 0) {
        return -1;
    }
    if (selector_parse_object(json_at(spec, "podSelector"), &ret_adapter->selector, err) < 0) {
        return error_wrap(err, "spec.podSelector");
    }
    return 0;
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

static void print_hash(const struct buffer *text, size_t digits, char *out) {
    char hex[HASH_HEX_BYTES];
    struct hash hash = hash_bytes(text->data, text->len);
    hash_hex(&hash, hex);
    memcpy(out, hex, digits);
    out[digits] = '\0';
}

void model_adapter_revision(const struct model_adapter *adapter, char ret_revision[MODEL_ADAPTER_REVISION_BYTES]) {
    cleanup_buffer struct buffer text = BUFFER_INIT;
    buffer_printf(&text, "%s", adapter->artifact_url);
    print_hash(&text, MODEL_ADAPTER_REVISION_URL_LEN, ret_revision);
    hash_part(&text, "revision", adapter->source_revision);
    hash_part(&text, "digest", adapter->digest);
    print_hash(&text, MODEL_ADAPTER_REVISION_BYTES - 1 - MODEL_ADAPTER_REVISION_URL_LEN,
               ret_revision + MODEL_ADAPTER_REVISION_URL_LEN);
}

/* ---- by the rows ---- */

void model_adapter_unknown_fields(const json_t *object, json_t *paths) {
    schema_unknown_fields(&model_adapter_schema, object, paths);
}

void model_adapter_prune(json_t *object) {
    schema_prune(&model_adapter_schema, object);
}

void model_adapter_default(json_t *object) {
    schema_default(&model_adapter_schema, object);
}

int model_adapter_validate(const json_t *object, const json_t *old_object, json_t *causes) {
    return schema_validate(&model_adapter_schema, object, old_object, causes);
}
