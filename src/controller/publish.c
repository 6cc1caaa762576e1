#include "controller/publish.h"

#include "adapter/names.h"
#include "controller/objects.h"
#include "kube/client.h"

#include <stdio.h>
#include <string.h>

#define SLICE_ENDPOINTS_MAX 100

static bool is_ipv6(const char *ip) {
    return strchr(ip, ':') != NULL;
}

bool publish_is_foreign(const json_t *adapter, const json_t *object) {
    return object != NULL && !kube_is_controlled_by(object, adapter);
}

/* ---- names on engines ---- */

const char *publish_tag(const struct plan_pod *pod) {
    return pod->hold->state == HOLD_LOADED ? pod->hold->tag : pod->published_tag;
}

static const char *annotation_of(const json_t *slice) {
    return json_string_value(json_object_get(json_at(slice, "metadata.annotations"), ANNOTATION_ENGINE_NAMES));
}

json_t *publish_names(const json_t *slice) {
    const char *text = annotation_of(slice);
    return text != NULL ? json_parse(text, strlen(text), NULL) : NULL;
}

void publish_tag_in(const json_t *names, const char *adapter, const char *pod, char ret_tag[ENGINE_TAG_BYTES]) {
    const char *name = json_string_value(json_object_get(names, pod));
    size_t len = 0;
    const char *tag = name != NULL ? engine_name_split(name, &len) : "";
    bool is_of_it = name != NULL && strlen(adapter) == len && strncmp(name, adapter, len) == 0;
    snprintf(ret_tag, ENGINE_TAG_BYTES, "%s", is_of_it ? tag : "");
}

/* ---- the digest ---- */

static uint64_t mix(uint64_t hash, const void *bytes, size_t len) {
    for (const unsigned char *at = bytes, *end = at + len; at < end; at++) { /* FNV-1a */
        hash = (hash ^ *at) * 1099511628211u;
    }
    return hash;
}

static uint64_t mix_text(uint64_t hash, const char *text) {
    return mix(hash, text, strlen(text) + 1);
}

uint64_t publish_digest(const struct plan_input *input, const bool *is_serving) {
    uint64_t hash = mix_text(14695981039346656037u, input->adapter->base_model);
    for (size_t i = 0; i < input->pod_count; i++) {
        const struct plan_pod *pod = &input->pods[i];
        if (is_serving[i]) {
            const char *const parts[] = {pod->uid, pod->name, pod->ip, pod->second_ip, pod->node, pod->zone};
            for (size_t k = 0; k < ARRAY_LEN(parts); k++) {
                hash = mix_text(hash, parts[k]);
            }
            hash = mix(hash, &pod->engine_port, sizeof(pod->engine_port));
            hash = mix_text(hash, publish_tag(pod));
        }
    }
    return hash != 0 ? hash : 1;
}

/* ---- the Service ---- */

static bool is_label_value(const char *text) {
    size_t len = strlen(text);
    return len > 0 && len <= 63 && strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") == len &&
           strchr("-_.", text[0]) == NULL && strchr("-_.", text[len - 1]) == NULL;
}

static json_t *metadata_of(const struct plan_input *input, const char *name, json_t *labels) {
    return json_pack("{s:s, s:s, s:o, s:[o]}", "name", name, "namespace", input->adapter->namespace, "labels", labels,
                     "ownerReferences", kube_owner_reference(input->object));
}

/* One port for all: the one that it has while some pod still serves on it, else of the first pod that serves, else of the first
 * that matches. */
static int service_port(const struct plan_input *input, const bool *is_serving, int present) {
    int of_serving = 0, of_matching = 0;
    for (size_t i = 0; i < input->pod_count; i++) {
        int port = input->pods[i].engine_port;
        if (is_serving[i] && port == present) {
            return present;
        }
        of_serving = of_serving == 0 && is_serving[i] ? port : of_serving;
        of_matching = of_matching == 0 && input->pods[i].matches ? port : of_matching;
    }
    if (of_serving != 0) {
        return of_serving;
    }
    return present != 0 ? present : of_matching != 0 ? of_matching : ENGINE_PORT;
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

json_t *publish_service(const struct plan_input *input, const bool *is_serving, const json_t *service) {
    int present = (int)json_int_at(json_array_get(json_at(service, "spec.ports"), 0), "port", 0);
    int port = service_port(input, is_serving, present);
    if (service == NULL) {
        return json_pack("{s:s, s:s, s:o, s:{s:s, s:b, s:o}}", "apiVersion", "v1", "kind", "Service", "metadata",
                         metadata_of(input, input->adapter->name, service_labels(input)), "spec", "clusterIP", "None",
                         "publishNotReadyAddresses", 1, "ports", service_ports(port));
    }
    if (publish_is_foreign(input->object, service)) {
        return NULL;
    }
    cleanup_json json_t *labels = service_labels(input);
    json_t *patch = json_object();
    if (!objects_covers(json_at(service, "metadata.labels"), labels)) {
        json_object_set_new(patch, "metadata", json_pack("{s:O}", "labels", labels));
    }
    if (present != port) {
        json_object_set_new(patch, "spec", json_pack("{s:o}", "ports", service_ports(port)));
    }
    return json_object_size(patch) > 0 ? patch : (json_decref(patch), NULL);
}

/* ---- which endpoint goes into which slice ---- */

struct endpoint {
    const struct plan_pod *pod;
    const char *ip;
    int slot; /* -1 = not given yet */
};

struct slot {
    const json_t *found; /* NULL = to be made when something is put into it */
    bool is_ours;
    bool has_family, is_ipv6; /* cannot be changed once it is */
    int port;
    size_t count;
};

struct layout {
    struct endpoint *endpoints;
    size_t count;
    struct slot slots[PLAN_SLICES_MAX];
};

static void read_slots(const struct plan_input *input, const json_t *const *slices, struct layout *layout) {
    for (size_t i = 0; i < PLAN_SLICES_MAX; i++) {
        const json_t *slice = slices[i];
        layout->slots[i] = (struct slot){.found = slice,
                                         .is_ours = !publish_is_foreign(input->object, slice),
                                         .has_family = slice != NULL,
                                         .is_ipv6 = strcmp(json_string_at(slice, "addressType", ""), "IPv6") == 0,
                                         .port = (int)json_int_at(json_array_get(json_at(slice, "ports"), 0), "port", 0)};
    }
}

static void list_endpoints(const struct plan_input *input, const bool *is_serving, struct layout *layout) {
    layout->endpoints = xcalloc(2 * input->pod_count + 1, sizeof(*layout->endpoints));
    for (size_t i = 0; i < input->pod_count; i++) {
        const char *ips[] = {input->pods[i].ip, input->pods[i].second_ip};
        for (size_t k = 0; is_serving[i] && k < ARRAY_LEN(ips); k++) {
            if (ips[k] != NULL && ips[k][0] != '\0') {
                layout->endpoints[layout->count++] = (struct endpoint){.pod = &input->pods[i], .ip = ips[k], .slot = -1};
            }
        }
    }
}

static bool takes(const struct slot *slot, const struct endpoint *endpoint) {
    return slot->is_ours && slot->has_family && slot->is_ipv6 == is_ipv6(endpoint->ip) &&
           slot->port == endpoint->pod->engine_port && slot->count < SLICE_ENDPOINTS_MAX;
}

static bool has_endpoint(const json_t *slice, const struct endpoint *endpoint) {
    const json_t *endpoints = json_at(slice, "endpoints");
    for (size_t i = 0; i < json_array_size(endpoints); i++) {
        const json_t *item = json_array_get(endpoints, i);
        const char *ip = json_string_value(json_array_get(json_at(item, "addresses"), 0));
        if (ip != NULL && strcmp(ip, endpoint->ip) == 0 &&
            strcmp(json_string_at(item, "targetRef.uid", endpoint->pod->uid), endpoint->pod->uid) == 0) {
            return true;
        }
    }
    return false;
}

static void put(struct layout *layout, struct endpoint *endpoint, size_t slot) {
    endpoint->slot = (int)slot;
    layout->slots[slot].count++;
}

/* A slice that is there already, else an empty one, else a new one. */
static void find_room(struct layout *layout, struct endpoint *endpoint) {
    for (size_t i = 0; i < PLAN_SLICES_MAX; i++) {
        if (takes(&layout->slots[i], endpoint)) {
            put(layout, endpoint, i);
            return;
        }
    }
    for (size_t i = 0; i < PLAN_SLICES_MAX; i++) {
        struct slot *slot = &layout->slots[i];
        bool is_free = slot->is_ours && slot->count == 0 && (!slot->has_family || slot->is_ipv6 == is_ipv6(endpoint->ip));
        if (is_free) {
            *slot = (struct slot){.found = slot->found,
                                  .is_ours = true,
                                  .has_family = true,
                                  .is_ipv6 = is_ipv6(endpoint->ip),
                                  .port = endpoint->pod->engine_port};
            put(layout, endpoint, i);
            return;
        }
    }
}

static void lay_out(struct layout *layout) {
    for (size_t e = 0; e < layout->count; e++) {
        struct endpoint *endpoint = &layout->endpoints[e];
        for (size_t i = 0; i < PLAN_SLICES_MAX && endpoint->slot < 0; i++) {
            if (takes(&layout->slots[i], endpoint) && has_endpoint(layout->slots[i].found, endpoint)) {
                put(layout, endpoint, i);
            }
        }
    }
    for (size_t e = 0; e < layout->count; e++) {
        if (layout->endpoints[e].slot < 0) {
            find_room(layout, &layout->endpoints[e]);
        }
    }
}

/* ---- the slices ---- */

static json_t *render_endpoint(const struct plan_input *input, const struct endpoint *endpoint) {
    const struct plan_pod *pod = endpoint->pod;
    json_t *object = json_pack("{s:[s], s:{s:b, s:b, s:b}, s:{s:s, s:s, s:s, s:s}}", "addresses", endpoint->ip, "conditions",
                               "ready", 1, "serving", 1, "terminating", 0, "targetRef", "kind", "Pod", "namespace",
                               input->adapter->namespace, "name", pod->name, "uid", pod->uid);
    if (pod->node[0] != '\0') {
        json_object_set_new(object, "nodeName", json_string(pod->node));
    }
    if (pod->zone[0] != '\0') {
        json_object_set_new(object, "zone", json_string(pod->zone));
    }
    return object;
}

static json_t *render_endpoints(const struct plan_input *input, const struct layout *layout, size_t slot) {
    json_t *endpoints = json_array();
    for (size_t e = 0; e < layout->count; e++) {
        if (layout->endpoints[e].slot == (int)slot) {
            json_array_append_new(endpoints, render_endpoint(input, &layout->endpoints[e]));
        }
    }
    return endpoints;
}

/* The annotation, as a JSON string; null when the engines of all endpoints have it under its own name. */
static json_t *render_names(const struct plan_input *input, const struct layout *layout, size_t slot) {
    cleanup_json json_t *names = json_object();
    for (size_t e = 0; e < layout->count; e++) {
        const struct plan_pod *pod = layout->endpoints[e].pod;
        if (layout->endpoints[e].slot == (int)slot && publish_tag(pod)[0] != '\0') {
            cleanup_free char *name = engine_name_of(input->adapter->name, publish_tag(pod));
            json_object_set_new(names, pod->name, json_string(name));
        }
    }
    cleanup_free char *text = json_object_size(names) > 0 ? json_text(names) : NULL;
    return text != NULL ? json_string(text) : json_null();
}

/* What is to be in a slice. */
struct slice_parts {
    json_t *labels, *names, *endpoints, *ports;
};

static json_t *new_slice(const struct plan_input *input, const struct slot *slot, const char *name,
                         const struct slice_parts *parts) {
    json_t *metadata = metadata_of(input, name, json_incref(parts->labels));
    if (json_is_string(parts->names)) {
        json_object_set_new(metadata, "annotations", json_pack("{s:O}", ANNOTATION_ENGINE_NAMES, parts->names));
    }
    return json_pack("{s:s, s:s, s:o, s:s, s:O, s:O}", "apiVersion", "discovery.k8s.io/v1", "kind", "EndpointSlice", "metadata",
                     metadata, "addressType", slot->is_ipv6 ? "IPv6" : "IPv4", "endpoints", parts->endpoints, "ports",
                     parts->ports);
}

static bool has_names(const struct slot *slot, const json_t *names) {
    const char *found = annotation_of(slot->found), *wanted = json_string_value(names);
    return found == NULL || wanted == NULL ? found == wanted : strcmp(found, wanted) == 0;
}

static json_t *patch_of(const struct slot *slot, const struct slice_parts *parts) {
    json_t *patch = json_object(), *metadata = json_object();
    if (!objects_covers(json_at(slot->found, "metadata.labels"), parts->labels)) {
        json_object_set(metadata, "labels", parts->labels);
    }
    if (!has_names(slot, parts->names)) {
        json_object_set_new(metadata, "annotations", json_pack("{s:O}", ANNOTATION_ENGINE_NAMES, parts->names));
    }
    if (json_object_size(metadata) > 0) {
        json_object_set(patch, "metadata", metadata);
    }
    json_decref(metadata);
    if (!objects_covers(json_at(slot->found, "endpoints"), parts->endpoints)) {
        json_object_set(patch, "endpoints", parts->endpoints);
    }
    if (slot->count > 0 && !objects_covers(json_at(slot->found, "ports"), parts->ports)) {
        json_object_set(patch, "ports", parts->ports);
    }
    return json_object_size(patch) > 0 ? patch : (json_decref(patch), NULL);
}

void publish_slices(const struct plan_input *input, const bool *is_serving, const json_t *const *slices, struct plan *plan) {
    struct layout layout = {0};
    read_slots(input, slices, &layout);
    list_endpoints(input, is_serving, &layout);
    lay_out(&layout);
    cleanup_json json_t *labels = json_pack("{s:s, s:s}", LABEL_SERVICE_NAME, input->adapter->name, LABEL_MANAGED_BY, MANAGED_BY);
    for (size_t i = 0; i < PLAN_SLICES_MAX; i++) {
        const struct slot *slot = &layout.slots[i];
        if (!slot->is_ours || (slot->found == NULL && slot->count == 0)) {
            continue;
        }
        cleanup_json json_t *names = render_names(input, &layout, i);
        cleanup_json json_t *endpoints = render_endpoints(input, &layout, i);
        cleanup_json json_t *ports = json_pack("[{s:s, s:s, s:i}]", "name", "http", "protocol", "TCP", "port", slot->port);
        cleanup_free char *name = publish_slice_name(input->adapter->name, i);
        const struct slice_parts parts = {labels, names, endpoints, ports};
        json_t *body = slot->found == NULL ? new_slice(input, slot, name, &parts) : patch_of(slot, &parts);
        if (body != NULL) {
            plan->slices[plan->slice_count++] =
                (struct plan_slice){.name = take_pointer(name), .body = body, .is_create = slot->found == NULL};
        }
    }
    free(layout.endpoints);
}

char *publish_slice_name(const char *adapter, size_t index) {
    return index == 0 ? xstrdup(adapter) : xasprintf("%s.%zu", adapter, index + 1);
}

char *publish_parse_slice_name(const char *slice, size_t *ret_index) {
    const char *dot = strchr(slice, '.');
    unsigned number = 0;
    int used = 0;
    if (dot == NULL) {
        *ret_index = 0;
        return xstrdup(slice);
    }
    if (sscanf(dot, ".%3u%n", &number, &used) != 1 || dot[used] != '\0' || number < 2 || number > PLAN_SLICES_MAX ||
        dot[1] == '0') {
        return NULL;
    }
    *ret_index = number - 1;
    return xstrndup(slice, (size_t)(dot - slice));
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
