#include "controller/publish.h"

#include "adapter/names.h"
#include "kube/client.h"

#include <string.h>

#define ENDPOINTS_MAX 1000 /* of a slice, by the API */

static bool is_ipv6(const char *ip) {
    return strchr(ip, ':') != NULL;
}

static bool is_label_value(const char *text) {
    size_t len = strlen(text);
    return len > 0 && len <= 63 && strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") == len &&
           strchr("-_.", text[0]) == NULL && strchr("-_.", text[len - 1]) == NULL;
}

/* One port for all: of the first pod that serves, else of the first that matches. */
static int serving_port(const struct plan_input *input, const bool *is_serving) {
    int port = 0;
    for (size_t i = 0; i < input->pod_count; i++) {
        if (is_serving[i]) {
            return input->pods[i].engine_port;
        }
        if (port == 0 && input->pods[i].matches) {
            port = input->pods[i].engine_port;
        }
    }
    return port != 0 ? port : ENGINE_PORT;
}

bool publish_is_foreign(const struct plan_input *input, const json_t *object) {
    return object != NULL && !kube_is_controlled_by(object, input->object);
}

static json_t *metadata_of(const struct plan_input *input, json_t *labels) {
    return json_pack("{s:s, s:s, s:o, s:[o]}", "name", input->adapter->name, "namespace", input->adapter->namespace, "labels",
                     labels, "ownerReferences", kube_owner_reference(input->object));
}

static json_t *service_labels(const struct plan_input *input) {
    json_t *labels = json_pack("{s:s}", LABEL_ADAPTER_NAME, input->adapter->name);
    if (is_label_value(input->adapter->base_model)) { /* "org/model" cannot be a label's value */
        json_object_set_new(labels, LABEL_MODEL_NAME, json_string(input->adapter->base_model));
    }
    return labels;
}

static json_t *service_ports(int port) {
    return json_pack("[{s:s, s:s, s:i, s:i}]", "name", "http", "protocol", "TCP", "port", port, "targetPort", port);
}

json_t *publish_service(const struct plan_input *input, const bool *is_serving) {
    int port = serving_port(input, is_serving);
    if (input->service == NULL) {
        return json_pack("{s:s, s:s, s:o, s:{s:s, s:b, s:o}}", "apiVersion", "v1", "kind", "Service", "metadata",
                         metadata_of(input, service_labels(input)), "spec", "clusterIP", "None", "publishNotReadyAddresses", 1,
                         "ports", service_ports(port));
    }
    if (publish_is_foreign(input, input->service)) {
        return NULL;
    }
    cleanup_json json_t *labels = service_labels(input);
    json_t *patch = json_object();
    const char *key = NULL;
    json_t *value = NULL;
    json_object_foreach(labels, key, value) {
        if (!json_equal(json_object_get(json_at(input->service, "metadata.labels"), key), value)) {
            json_object_update_new(patch, json_pack("{s:{s:O}}", "metadata", "labels", labels));
        }
    }
    if (json_int_at(json_array_get(json_at(input->service, "spec.ports"), 0), "port", 0) != port) {
        json_object_set_new(patch, "spec", json_pack("{s:o}", "ports", service_ports(port)));
    }
    return json_object_size(patch) > 0 ? patch : (json_decref(patch), NULL);
}

static json_t *endpoint_of(const struct plan_input *input, const struct plan_pod *pod) {
    json_t *endpoint = json_pack("{s:[s], s:{s:b, s:b, s:b}, s:{s:s, s:s, s:s, s:s}}", "addresses", pod->ip, "conditions", "ready",
                                 1, "serving", 1, "terminating", 0, "targetRef", "kind", "Pod", "namespace",
                                 input->adapter->namespace, "name", pod->name, "uid", pod->uid);
    if (pod->node[0] != '\0') {
        json_object_set_new(endpoint, "nodeName", json_string(pod->node));
    }
    return endpoint;
}

static json_t *endpoints_of(const struct plan_input *input, const bool *is_serving, const char **ret_family) {
    json_t *endpoints = json_array();
    *ret_family = json_string_at(input->slice, "addressType", NULL); /* cannot be changed once it is */
    for (size_t i = 0; i < input->pod_count && json_array_size(endpoints) < ENDPOINTS_MAX; i++) {
        if (!is_serving[i]) {
            continue;
        }
        const char *family = is_ipv6(input->pods[i].ip) ? "IPv6" : "IPv4";
        *ret_family = *ret_family != NULL ? *ret_family : family;
        if (strcmp(family, *ret_family) == 0) {
            json_array_append_new(endpoints, endpoint_of(input, &input->pods[i]));
        }
    }
    *ret_family = *ret_family != NULL ? *ret_family : "IPv4";
    return endpoints;
}

static json_t *slice_ports(int port) {
    return json_pack("[{s:s, s:s, s:i}]", "name", "http", "protocol", "TCP", "port", port);
}

/* Whether what the API holds has all that `wanted` has; it may add defaults of its own. */
static bool covers(const json_t *found, const json_t *wanted) {
    if (json_is_array(wanted)) {
        bool is_covered = json_array_size(found) == json_array_size(wanted);
        for (size_t i = 0; is_covered && i < json_array_size(wanted); i++) {
            is_covered = covers(json_array_get(found, i), json_array_get(wanted, i));
        }
        return is_covered;
    }
    if (json_is_object(wanted)) {
        const char *key = NULL;
        json_t *value = NULL;
        json_object_foreach((json_t *)wanted, key, value) {
            if (!covers(json_object_get(found, key), value)) {
                return false;
            }
        }
        return json_is_object(found);
    }
    return json_equal((json_t *)found, (json_t *)wanted) == 1;
}

json_t *publish_slice(const struct plan_input *input, const bool *is_serving) {
    const char *family = NULL;
    json_t *labels = json_pack("{s:s, s:s}", LABEL_SERVICE_NAME, input->adapter->name, LABEL_MANAGED_BY, MANAGED_BY);
    cleanup_json json_t *endpoints = endpoints_of(input, is_serving, &family);
    cleanup_json json_t *ports = slice_ports(serving_port(input, is_serving));
    if (input->slice == NULL) {
        if (json_array_size(endpoints) == 0) {
            json_decref(labels);
            return NULL;
        }
        return json_pack("{s:s, s:s, s:o, s:s, s:O, s:O}", "apiVersion", "discovery.k8s.io/v1", "kind", "EndpointSlice", "metadata",
                         metadata_of(input, labels), "addressType", family, "endpoints", endpoints, "ports", ports);
    }
    json_t *patch = json_object();
    if (!covers(json_at(input->slice, "metadata.labels"), labels)) {
        json_object_set_new(patch, "metadata", json_pack("{s:O}", "labels", labels));
    }
    json_decref(labels);
    if (!covers(json_at(input->slice, "endpoints"), endpoints)) {
        json_object_set(patch, "endpoints", endpoints);
    }
    if (json_array_size(endpoints) > 0 && !covers(json_at(input->slice, "ports"), ports)) {
        json_object_set(patch, "ports", ports);
    }
    if (json_object_size(patch) == 0 || publish_is_foreign(input, input->slice)) {
        json_decref(patch);
        return NULL;
    }
    return patch;
}

bool publish_has_pod(const json_t *slice, const char *uid, const char *ip) {
    const json_t *endpoints = json_at(slice, "endpoints");
    for (size_t i = 0; i < json_array_size(endpoints); i++) {
        const json_t *endpoint = json_array_get(endpoints, i);
        const char *target = json_string_at(endpoint, "targetRef.uid", NULL);
        const char *address = json_string_value(json_array_get(json_at(endpoint, "addresses"), 0));
        if (target != NULL ? strcmp(target, uid) == 0 : address != NULL && strcmp(address, ip) == 0) {
            return true;
        }
    }
    return false;
}
