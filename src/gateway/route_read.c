#include "gateway/route_read.h"

#include "adapter/names.h"
#include "base/clock.h"
#include "kube/client.h"

#include <arpa/inet.h>
#include <string.h>

/* Labels hold dots and slashes, so they are no paths. */
static const char *label(const json_t *object, const char *key) {
    const char *value = json_string_value(json_object_get(json_at(object, "metadata.labels"), key));
    return value != NULL ? value : "";
}

/* In its one canonical form, so that equal addresses are equal texts; "" when it is none. */
static char *numeric_address(const char *text) {
    unsigned char bytes[sizeof(struct in6_addr)];
    char canonical[INET6_ADDRSTRLEN] = "";
    int family = text != NULL && strchr(text, ':') != NULL ? AF_INET6 : AF_INET;
    if (text != NULL && inet_pton(family, text, bytes) == 1) {
        (void)inet_ntop(family, bytes, canonical, sizeof(canonical));
    }
    return xstrdup(canonical);
}

static int64_t created_s(const json_t *object) {
    int64_t wall_ms = 0;
    if (clock_parse_rfc3339(json_string_at(object, "metadata.creationTimestamp", ""), &wall_ms) < 0) {
        return 0;
    }
    return wall_ms / 1000;
}

static bool is_ready(const json_t *pod) {
    const json_t *conditions = json_at(pod, "status.conditions");
    for (size_t i = 0; i < json_array_size(conditions); i++) {
        const json_t *condition = json_array_get(conditions, i);
        if (strcmp(json_string_at(condition, "type", ""), "Ready") == 0) {
            return strcmp(json_string_at(condition, "status", ""), "True") == 0;
        }
    }
    return false;
}

static void read_ips(const json_t *pod, char *ret_ips[ROUTE_POD_IPS_MAX]) {
    const json_t *all = json_at(pod, "status.podIPs");
    ret_ips[0] = numeric_address(json_string_at(pod, "status.podIP", ""));
    ret_ips[1] = xstrdup("");
    for (size_t i = 0; i < json_array_size(all) && ret_ips[0][0] != '\0' && ret_ips[1][0] == '\0'; i++) {
        char *ip = numeric_address(json_string_at(json_array_get(all, i), "ip", ""));
        if (strcmp(ip, ret_ips[0]) != 0) {
            free(ret_ips[1]);
            ret_ips[1] = ip;
        } else {
            free(ip);
        }
    }
}

void route_pod_read(const json_t *pod, struct route_pod *ret_facts) {
    long port = strtol(label(pod, LABEL_MODEL_PORT), NULL, 10);
    *ret_facts = (struct route_pod){
        .model = xstrdup(label(pod, LABEL_MODEL_NAME)),
        .port = port > 0 && port < 65536 ? (int)port : ENGINE_PORT,
        .is_sglang = strcmp(label(pod, LABEL_MODEL_ENGINE), "sglang") == 0,
        .created_s = created_s(pod),
    };
    read_ips(pod, ret_facts->ips);
    if (ret_facts->ips[0][0] != '\0' && is_ready(pod)) {
        ret_facts->state = kube_is_deleting(pod) ? ROUTE_STATE_ENDING : ROUTE_STATE_READY;
    }
}

bool route_pod_has_ip(const struct route_pod *facts, const char *ip) {
    return strcmp(facts->ips[0], ip) == 0 || (facts->ips[1][0] != '\0' && strcmp(facts->ips[1], ip) == 0);
}

void route_pod_release(struct route_pod *facts) {
    free(facts->ips[0]);
    free(facts->ips[1]);
    free(facts->model);
    *facts = (struct route_pod){0};
}

bool route_pod_equal(const struct route_pod *a, const struct route_pod *b) {
    return a->port == b->port && a->state == b->state && a->is_sglang == b->is_sglang && a->created_s == b->created_s &&
           strcmp(a->ips[0], b->ips[0]) == 0 && strcmp(a->ips[1], b->ips[1]) == 0 && strcmp(a->model, b->model) == 0;
}

/* Signed URLs carry secrets in the query, others in the user info. */
static char *public_url(const char *url) {
    size_t len = strcspn(url, "?#");
    const char *authority = strstr(url, "://");
    if (authority == NULL || authority + 3 > url + len) {
        return xstrndup(url, len);
    }
    authority += 3;
    size_t authority_len = strcspn(authority, "/?#");
    const char *at = memrchr(authority, '@', authority_len);
    const char *rest = at != NULL ? at + 1 : authority;
    return xasprintf("%.*s%.*s", (int)(authority - url), url, (int)(url + len - rest), rest);
}

void route_adapter_read(const json_t *adapter, struct route_adapter *ret_facts) {
    *ret_facts = (struct route_adapter){
        .uid = xstrdup(kube_uid(adapter)),
        .root = public_url(json_string_at(adapter, "spec.artifactURL", "")),
        .base = xstrdup(json_string_at(adapter, "spec.baseModel", "")),
        .created_s = created_s(adapter),
    };
}

void route_adapter_release(struct route_adapter *facts) {
    free(facts->uid);
    free(facts->root);
    free(facts->base);
    *facts = (struct route_adapter){0};
}

bool route_adapter_equal(const struct route_adapter *a, const struct route_adapter *b) {
    return a->created_s == b->created_s && strcmp(a->uid, b->uid) == 0 && strcmp(a->root, b->root) == 0 &&
           strcmp(a->base, b->base) == 0;
}

static const char *owner_uid(const json_t *slice) {
    const json_t *owners = json_at(slice, "metadata.ownerReferences");
    for (size_t i = 0; i < json_array_size(owners); i++) {
        const json_t *owner = json_array_get(owners, i);
        if (strcmp(json_string_at(owner, "kind", ""), MODEL_ADAPTER_KIND) == 0) {
            return json_string_at(owner, "uid", "");
        }
    }
    return "";
}

static int slice_port(const json_t *slice) {
    const json_t *ports = json_at(slice, "ports");
    int64_t found = 0;
    for (size_t i = 0; i < json_array_size(ports); i++) {
        const json_t *port = json_array_get(ports, i);
        bool is_http = strcmp(json_string_at(port, "name", ""), "http") == 0;
        if (i == 0 || is_http) {
            found = json_int_at(port, "port", 0);
        }
        if (is_http) {
            break;
        }
    }
    return found > 0 && found < 65536 ? (int)found : 0;
}

/* What is left out has the meaning that the API gives it: ready, serving as ready, not terminating. */
static enum route_state endpoint_state(const json_t *endpoint) {
    bool is_ready = json_bool_at(endpoint, "conditions.ready", true);
    if (is_ready) {
        return ROUTE_STATE_READY;
    }
    bool is_ending = json_bool_at(endpoint, "conditions.serving", false) && json_bool_at(endpoint, "conditions.terminating", false);
    return is_ending ? ROUTE_STATE_ENDING : ROUTE_STATE_OUT;
}

/* NULL when there are none, or what is there is no JSON. */
static json_t *read_engine_names(const json_t *slice) {
    const char *text = json_string_value(json_object_get(json_at(slice, "metadata.annotations"), ANNOTATION_ENGINE_NAMES));
    return text != NULL ? json_parse(text, strlen(text), NULL) : NULL;
}

static const char *engine_name_of(const json_t *engine_names, const char *pod) {
    const char *name = json_string_value(json_object_get(engine_names, pod));
    return name != NULL && strlen(name) <= ROUTE_ENGINE_NAME_BYTES_MAX ? name : "";
}

void route_slice_read(const json_t *slice, struct route_slice *ret_facts) {
    const json_t *endpoints = json_at(slice, "endpoints");
    cleanup_json json_t *engine_names = read_engine_names(slice);
    size_t room = json_array_size(endpoints);
    room = room < ROUTE_SLICE_ENDPOINTS_MAX ? room : ROUTE_SLICE_ENDPOINTS_MAX;
    struct route_slice facts = {
        .service = xstrdup(label(slice, LABEL_SERVICE_NAME)),
        .owner_uid = xstrdup(owner_uid(slice)),
        .port = slice_port(slice),
        .endpoints = xcalloc(room + 1, sizeof(*facts.endpoints)),
    };
    for (size_t i = 0; i < room; i++) {
        const json_t *endpoint = json_array_get(endpoints, i);
        char *ip = numeric_address(json_string_value(json_array_get(json_object_get(endpoint, "addresses"), 0)));
        enum route_state state = endpoint_state(endpoint);
        if (ip[0] == '\0' || state == ROUTE_STATE_OUT) {
            free(ip);
            continue;
        }
        bool is_pod = strcmp(json_string_at(endpoint, "targetRef.kind", ""), "Pod") == 0;
        const char *pod = is_pod ? json_string_at(endpoint, "targetRef.name", "") : "";
        facts.endpoints[facts.count++] = (struct slice_endpoint){
            .ip = ip,
            .state = state,
            .pod = xstrdup(pod),
            .engine_name = xstrdup(engine_name_of(engine_names, pod)),
        };
    }
    *ret_facts = facts;
}

void route_slice_release(struct route_slice *facts) {
    for (size_t i = 0; i < facts->count; i++) {
        free(facts->endpoints[i].ip);
        free(facts->endpoints[i].pod);
        free(facts->endpoints[i].engine_name);
    }
    free(facts->endpoints);
    free(facts->service);
    free(facts->owner_uid);
    *facts = (struct route_slice){0};
}

bool route_slice_equal(const struct route_slice *a, const struct route_slice *b) {
    if (a->port != b->port || a->count != b->count || strcmp(a->service, b->service) != 0 ||
        strcmp(a->owner_uid, b->owner_uid) != 0) {
        return false;
    }
    for (size_t i = 0; i < a->count; i++) {
        const struct slice_endpoint *x = &a->endpoints[i];
        const struct slice_endpoint *y = &b->endpoints[i];
        if (x->state != y->state || strcmp(x->ip, y->ip) != 0 || strcmp(x->pod, y->pod) != 0 ||
            strcmp(x->engine_name, y->engine_name) != 0) {
            return false;
        }
    }
    return true;
}
