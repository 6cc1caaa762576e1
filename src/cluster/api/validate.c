#include "cluster/api/validate.h"

#include "adapter/model_adapter.h"
#include "cluster/api/object.h"
#include "cluster/api/status.h"

#include <arpa/inet.h>
#include <openssl/evp.h>
#include <string.h>

#define SECRET_BYTES_MAX (1024 * 1024) /* as Kubernetes: MaxSecretSize, also of ConfigMaps */
#define ENDPOINTS_MAX 1000
#define CONTAINERS_MAX 64

/* ---- pods and templates ---- */

static void validate_int_range(const json_t *object, const char *member, const char *where, int64_t minimum, int64_t maximum,
                               json_t *causes) {
    const json_t *value = json_object_get(object, member);
    if (value == NULL || json_is_null(value)) {
        return;
    }
    cleanup_free char *field = xasprintf("%s.%s", where, member);
    if (!json_is_integer(value) || json_integer_value(value) < minimum || json_integer_value(value) > maximum) {
        cleanup_free char *text = json_text(value);
        cause_add(causes, "FieldValueInvalid", field, "Invalid value: %s: must be an integer between %lld and %lld", text,
                  (long long)minimum, (long long)maximum);
    }
}

static void validate_env(const json_t *container, const char *where, json_t *causes) {
    size_t i = 0;
    const json_t *variable = NULL;
    json_array_foreach(json_object_get(container, "env"), i, variable) {
        if (*json_string_at(variable, "name", "") == '\0') {
            cleanup_free char *field = xasprintf("%s.env[%zu].name", where, i);
            cause_required(causes, field);
        }
        const json_t *value = json_object_get(variable, "value");
        if (value != NULL && !json_is_string(value) && !json_is_null(value)) {
            cleanup_free char *field = xasprintf("%s.env[%zu].value", where, i);
            cause_add(causes, "FieldValueTypeInvalid", field,
                      "Invalid value: must be a string (put numbers and booleans in quotes)");
        }
    }
}

static void validate_string_list(const json_t *container, const char *member, const char *where, json_t *causes) {
    size_t i = 0;
    const json_t *item = NULL;
    json_array_foreach(json_object_get(container, member), i, item) {
        if (!json_is_string(item)) {
            cleanup_free char *field = xasprintf("%s.%s[%zu]", where, member, i);
            cause_add(causes, "FieldValueTypeInvalid", field,
                      "Invalid value: must be a string (put numbers and booleans in quotes)");
        }
    }
}

static void validate_container(const json_t *container, const char *where, json_t *causes) {
    const char *name = json_string_at(container, "name", "");
    cleanup_free char *name_field = xasprintf("%s.name", where);
    const char *why = validate_name(NAME_LABEL, name);
    if (*name == '\0') {
        cause_required(causes, name_field);
    } else if (why != NULL) {
        cause_invalid(causes, name_field, name, why);
    }
    if (*json_string_at(container, "image", "") == '\0') {
        cleanup_free char *field = xasprintf("%s.image", where);
        cause_required(causes, field);
    }
    validate_string_list(container, "command", where, causes);
    validate_string_list(container, "args", where, causes);
    validate_env(container, where, causes);
    size_t i = 0;
    const json_t *port = NULL;
    json_array_foreach(json_object_get(container, "ports"), i, port) {
        cleanup_free char *field = xasprintf("%s.ports[%zu]", where, i);
        if (json_object_get(port, "containerPort") == NULL) {
            cleanup_free char *missing = xasprintf("%s.containerPort", field);
            cause_required(causes, missing);
        }
        validate_int_range(port, "containerPort", field, 1, 65535, causes);
    }
}

static void validate_containers(const json_t *spec, const char *member, const char *where, bool is_required, json_t *causes) {
    const json_t *containers = json_object_get(spec, member);
    cleanup_free char *field = xasprintf("%s.%s", where, member);
    if (json_array_size(containers) == 0) {
        if (is_required) {
            cause_required(causes, field);
        }
        return;
    }
    if (json_array_size(containers) > CONTAINERS_MAX) {
        cause_add(causes, "FieldValueTooMany", field, "Too many: must have at most %d items", CONTAINERS_MAX);
        return;
    }
    cleanup_json json_t *names = json_object();
    size_t i = 0;
    const json_t *container = NULL;
    json_array_foreach(containers, i, container) {
        cleanup_free char *one = xasprintf("%s[%zu]", field, i);
        validate_container(container, one, causes);
        const char *name = json_string_at(container, "name", "");
        if (json_object_get(names, name) != NULL) {
            cleanup_free char *duplicate = xasprintf("%s.name", one);
            cause_add(causes, "FieldValueDuplicate", duplicate, "Duplicate value: \"%s\"", name);
        }
        json_object_set_new(names, name, json_true());
    }
}

static void validate_pod_spec(const json_t *spec, const char *where, json_t *causes) {
    if (!json_is_object(spec)) {
        cause_required(causes, where);
        return;
    }
    validate_containers(spec, "containers", where, true, causes);
    validate_containers(spec, "initContainers", where, false, causes);
    validate_int_range(spec, "terminationGracePeriodSeconds", where, 0, INT32_MAX, causes);
}

void validate_pod(const json_t *object, const json_t *old_object, json_t *causes) {
    (void)old_object;
    validate_pod_spec(json_object_get(object, "spec"), "spec", causes);
}

void validate_workload(const json_t *object, const json_t *old_object, json_t *causes) {
    const json_t *spec = json_object_get(object, "spec");
    if (!json_is_object(spec)) {
        cause_required(causes, "spec");
        return;
    }
    validate_int_range(spec, "replicas", "spec", 0, INT32_MAX, causes);
    const json_t *selector = json_object_get(spec, "selector");
    struct error err = {0};
    struct selector *parsed = NULL;
    if (!json_is_object(selector)) {
        cause_required(causes, "spec.selector");
    } else if (selector_parse_object(selector, &parsed, &err) < 0) {
        cause_add(causes, "FieldValueInvalid", "spec.selector", "Invalid value: %s", err.message);
    } else if (selector_is_empty(parsed)) {
        cause_add(causes, "FieldValueInvalid", "spec.selector", "Invalid value: empty selector is invalid for deployment");
    } else if (!selector_matches(parsed, json_at(spec, "template.metadata.labels"))) {
        cleanup_free char *labels = json_text(json_at(spec, "template.metadata.labels"));
        cause_add(causes, "FieldValueInvalid", "spec.template.metadata.labels",
                  "Invalid value: %s: `selector` does not match template `labels`", labels);
    }
    selector_free(parsed);
    if (old_object != NULL && !json_equal(json_at(old_object, "spec.selector"), selector)) {
        cleanup_free char *text = json_text(selector);
        cause_add(causes, "FieldValueInvalid", "spec.selector", "Invalid value: %s: field is immutable", text);
    }
    validate_pod_spec(json_at(spec, "template.spec"), "spec.template.spec", causes);
}

/* ---- services and slices ---- */

static void validate_ports(const json_t *ports, const char *where, const char *member, json_t *causes) {
    size_t i = 0;
    const json_t *port = NULL;
    json_array_foreach(ports, i, port) {
        cleanup_free char *field = xasprintf("%s[%zu]", where, i);
        validate_int_range(port, member, field, 1, 65535, causes);
        const char *name = json_string_at(port, "name", "");
        if (*name == '\0' && json_array_size(ports) > 1) {
            cleanup_free char *missing = xasprintf("%s.name", field);
            cause_required(causes, missing);
        }
    }
}

void validate_service(const json_t *object, const json_t *old_object, json_t *causes) {
    (void)old_object;
    const json_t *spec = json_object_get(object, "spec");
    const json_t *ports = json_object_get(spec, "ports");
    const char *type = json_string_at(spec, "type", "");
    static const char *const types[] = {"ClusterIP", "NodePort", "LoadBalancer", "ExternalName"};
    bool is_known = false;
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        is_known = is_known || strcmp(type, types[i]) == 0;
    }
    if (!is_known) {
        cause_add(causes, "FieldValueNotSupported", "spec.type",
                  "Unsupported value: \"%s\": supported values: \"ClusterIP\", \"ExternalName\", \"LoadBalancer\", \"NodePort\"",
                  type);
    }
    bool is_headless = strcmp(json_string_at(spec, "clusterIP", ""), "None") == 0;
    if (json_array_size(ports) == 0 && !is_headless && strcmp(type, "ExternalName") != 0) {
        cause_required(causes, "spec.ports");
    }
    size_t i = 0;
    const json_t *port = NULL;
    json_array_foreach(ports, i, port) {
        if (json_object_get(port, "port") == NULL) {
            cleanup_free char *field = xasprintf("spec.ports[%zu].port", i);
            cause_required(causes, field);
        }
    }
    validate_ports(ports, "spec.ports", "port", causes);
}

static void validate_address(const char *type, const char *address, const char *field, json_t *causes) {
    unsigned char bytes[16];
    bool is_ok = strcmp(type, "IPv4") == 0   ? inet_pton(AF_INET, address, bytes) == 1
                 : strcmp(type, "IPv6") == 0 ? inet_pton(AF_INET6, address, bytes) == 1
                                             : validate_name(NAME_SUBDOMAIN, address) == NULL;
    if (!is_ok) {
        cause_add(causes, "FieldValueInvalid", field, "Invalid value: \"%s\": must be a valid %s address", address, type);
    }
}

void validate_endpoint_slice(const json_t *object, const json_t *old_object, json_t *causes) {
    const char *type = json_string_at(object, "addressType", "");
    if (strcmp(type, "IPv4") != 0 && strcmp(type, "IPv6") != 0 && strcmp(type, "FQDN") != 0) {
        cause_add(causes, *type == '\0' ? "FieldValueRequired" : "FieldValueNotSupported", "addressType",
                  "%s: \"%s\": supported values: \"FQDN\", \"IPv4\", \"IPv6\"",
                  *type == '\0' ? "Required value" : "Unsupported value", type);
        return;
    }
    if (old_object != NULL && strcmp(json_string_at(old_object, "addressType", ""), type) != 0) {
        cause_invalid(causes, "addressType", type, "field is immutable");
    }
    const json_t *endpoints = json_object_get(object, "endpoints");
    if (json_array_size(endpoints) > ENDPOINTS_MAX) {
        cause_add(causes, "FieldValueTooMany", "endpoints", "Too many: %zu: must have at most %d items", json_array_size(endpoints),
                  ENDPOINTS_MAX);
        return;
    }
    size_t i = 0;
    const json_t *endpoint = NULL;
    json_array_foreach(endpoints, i, endpoint) {
        cleanup_free char *field = xasprintf("endpoints[%zu].addresses", i);
        const json_t *addresses = json_object_get(endpoint, "addresses");
        if (json_array_size(addresses) == 0) {
            cause_required(causes, field);
        }
        size_t a = 0;
        const json_t *address = NULL;
        json_array_foreach(addresses, a, address) {
            cleanup_free char *one = xasprintf("%s[%zu]", field, a);
            validate_address(type, json_is_string(address) ? json_string_value(address) : "", one, causes);
        }
    }
    validate_ports(json_object_get(object, "ports"), "ports", "port", causes);
}

/* ---- data ---- */

static bool is_base64(const char *text, size_t len) {
    if (len % 4 != 0) {
        return false;
    }
    cleanup_free unsigned char *decoded = xmalloc(len / 4 * 3 + 4);
    return len == 0 || EVP_DecodeBlock(decoded, (const unsigned char *)text, (int)len) >= 0;
}

static void validate_data(const json_t *object, const char *member, bool is_encoded, json_t *causes) {
    const json_t *data = json_object_get(object, member);
    if (data == NULL || json_is_null(data)) {
        return;
    }
    if (!json_is_object(data)) {
        cause_add(causes, "FieldValueTypeInvalid", member, "Invalid value: must be an object of strings");
        return;
    }
    size_t total = 0;
    const char *key = NULL;
    json_t *value = NULL;
    json_object_foreach((json_t *)data, key, value) {
        cleanup_free char *field = xasprintf("%s[%s]", member, key);
        if (*key == '\0' || strlen(key) > 253 ||
            strspn(key, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._") != strlen(key)) {
            cause_invalid(causes, field, key, "a valid config key must consist of alphanumeric characters, '-', '_' or '.'");
        }
        if (!json_is_string(value)) {
            cause_add(causes, "FieldValueTypeInvalid", field, "Invalid value: must be a string");
        } else if (is_encoded && !is_base64(json_string_value(value), json_string_length(value))) {
            cause_add(causes, "FieldValueInvalid", field, "Invalid value: must be base64 (use stringData for plain text)");
        }
        total += json_string_length(value);
    }
    if (total > (is_encoded ? SECRET_BYTES_MAX * 4 / 3 : SECRET_BYTES_MAX)) {
        cause_add(causes, "FieldValueTooLong", member, "Too long: may not be more than %d bytes", SECRET_BYTES_MAX);
    }
}

static void validate_immutable(const json_t *object, const json_t *old_object, json_t *causes) {
    static const char *const members[] = {"data", "binaryData"};
    if (!json_bool_at(old_object, "immutable", false)) {
        return;
    }
    for (size_t i = 0; i < ARRAY_LEN(members); i++) {
        const json_t *before = json_object_get(old_object, members[i]);
        const json_t *after = json_object_get(object, members[i]);
        if (before != after && !json_equal(before, after)) {
            cause_add(causes, "FieldValueForbidden", members[i], "Forbidden: field is immutable when `immutable` is set");
        }
    }
    if (!json_bool_at(object, "immutable", false)) {
        cause_add(causes, "FieldValueForbidden", "immutable", "Forbidden: field is immutable when `immutable` is set");
    }
}

void validate_secret(const json_t *object, const json_t *old_object, json_t *causes) {
    validate_data(object, "data", true, causes);
    validate_immutable(object, old_object, causes);
    if (json_object_get(object, "stringData") != NULL) {
        cause_add(causes, "FieldValueTypeInvalid", "stringData", "Invalid value: must be an object of strings");
    }
    const char *type = json_string_at(object, "type", "");
    if (old_object != NULL && strcmp(type, json_string_at(old_object, "type", "")) != 0) {
        cause_invalid(causes, "type", type, "field is immutable");
    }
}

void validate_config_map(const json_t *object, const json_t *old_object, json_t *causes) {
    validate_data(object, "data", false, causes);
    validate_data(object, "binaryData", true, causes);
    validate_immutable(object, old_object, causes);
}

void validate_event(const json_t *object, const json_t *old_object, json_t *causes) {
    (void)old_object;
    if (!json_is_object(json_object_get(object, "involvedObject"))) {
        cause_required(causes, "involvedObject");
    }
}

void validate_lease(const json_t *object, const json_t *old_object, json_t *causes) {
    (void)old_object;
    validate_int_range(json_object_get(object, "spec"), "leaseDurationSeconds", "spec", 1, INT32_MAX, causes);
    validate_int_range(json_object_get(object, "spec"), "leaseTransitions", "spec", 0, INT32_MAX, causes);
}

void validate_model_adapter(const json_t *object, const json_t *old_object, json_t *causes) {
    (void)!model_adapter_validate(object, old_object, causes);
}

void validate_custom_resource_definition(const json_t *object, const json_t *old_object, json_t *causes) {
    (void)old_object;
    const char *name = object_name(object);
    if (strcmp(name, "modeladapters.model.aibrix.ai") != 0) {
        cause_add(causes, "FieldValueNotSupported", "metadata.name",
                  "Unsupported value: \"%s\": davit apiserver serves one custom resource, modeladapters.model.aibrix.ai", name);
    }
}
