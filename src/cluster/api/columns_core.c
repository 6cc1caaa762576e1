#include "base/buffer.h"
#include "cluster/api/columns.h"
#include "cluster/api/object.h"

#include <string.h>

#define NAME_COLUMN                                                                                                                \
    { "Name", "string", "name", 0, "Name must be unique within a namespace." }
#define AGE_COLUMN                                                                                                                 \
    { "Age", "string", "", 0, "Time since creation." }

static void cell_age(json_t *cells, const json_t *object, int64_t now_ms) {
    json_array_append_new(cells, columns_age(object, now_ms));
}

/* "a,b" of the strings found at `path` of each item of a list. */
static json_t *join(const json_t *list, const char *path, size_t limit, const char *when_empty) {
    cleanup_buffer struct buffer text = BUFFER_INIT;
    size_t i = 0;
    const json_t *item = NULL;
    size_t shown = 0;
    json_array_foreach(list, i, item) {
        const char *value = path != NULL ? json_string_at(item, path, "") : json_string_value(item);
        if (value == NULL || *value == '\0') {
            continue;
        }
        if (shown++ < limit) {
            buffer_printf(&text, "%s%s", shown > 1 ? "," : "", value);
        }
    }
    if (shown > limit) {
        buffer_printf(&text, " + %zu more...", shown - limit);
    }
    return json_string(text.len > 0 ? text.data : when_empty);
}

const struct column columns_named[] = {NAME_COLUMN, {"Created At", "date", "", 0, "Time of creation."}, {0}};

void cells_named(const json_t *object, int64_t now_ms, json_t *cells) {
    (void)now_ms;
    cell_text(cells, object_name(object));
    cell_text(cells, json_string_at(object, "metadata.creationTimestamp", ""));
}

/* ---- services and slices ---- */

const struct column columns_service[] = {
    NAME_COLUMN,
    {"Type", "string", "", 0, "How the service is exposed."},
    {"Cluster-IP", "string", "", 0, "Address inside the cluster, or None."},
    {"External-IP", "string", "", 0, "Addresses outside the cluster."},
    {"Port(s)", "string", "", 0, "Ports of the service."},
    AGE_COLUMN,
    {"Selector", "string", "", 1, "Labels of the pods behind the service."},
    {0},
};

void cells_service(const json_t *object, int64_t now_ms, json_t *cells) {
    cell_text(cells, object_name(object));
    cell_text(cells, json_string_at(object, "spec.type", "ClusterIP"));
    cell_text_or(cells, json_string_at(object, "spec.clusterIP", ""), "<none>");
    const json_t *ingress = json_at(object, "status.loadBalancer.ingress");
    bool has_ingress = json_array_size(ingress) > 0;
    json_array_append_new(
        cells, join(has_ingress ? ingress : json_at(object, "spec.externalIPs"), has_ingress ? "ip" : NULL, 8, "<none>"));
    cleanup_buffer struct buffer ports = BUFFER_INIT;
    size_t i = 0;
    const json_t *port = NULL;
    json_array_foreach(json_at(object, "spec.ports"), i, port) {
        int64_t node_port = json_int_at(port, "nodePort", 0);
        buffer_printf(&ports, "%s%lld", i > 0 ? "," : "", (long long)json_int_at(port, "port", 0));
        if (node_port > 0) {
            buffer_printf(&ports, ":%lld", (long long)node_port);
        }
        buffer_printf(&ports, "/%s", json_string_at(port, "protocol", "TCP"));
    }
    cell_text_or(cells, buffer_text(&ports), "<none>");
    cell_age(cells, object, now_ms);
    json_array_append_new(cells, columns_labels(json_at(object, "spec.selector")));
}

const struct column columns_endpoint_slice[] = {
    NAME_COLUMN,
    {"AddressType", "string", "", 0, "IPv4, IPv6 or FQDN."},
    {"Ports", "string", "", 0, "Ports of the endpoints."},
    {"Endpoints", "string", "", 0, "Addresses of the endpoints."},
    AGE_COLUMN,
    {0},
};

void cells_endpoint_slice(const json_t *object, int64_t now_ms, json_t *cells) {
    cell_text(cells, object_name(object));
    cell_text(cells, json_string_at(object, "addressType", ""));
    cleanup_buffer struct buffer ports = BUFFER_INIT;
    size_t i = 0;
    const json_t *item = NULL;
    json_array_foreach(json_object_get(object, "ports"), i, item) {
        buffer_printf(&ports, "%s%lld", i > 0 ? "," : "", (long long)json_int_at(item, "port", 0));
    }
    cell_text_or(cells, buffer_text(&ports), "<unset>");
    cleanup_json json_t *addresses = json_array();
    json_array_foreach(json_object_get(object, "endpoints"), i, item) {
        json_array_append(addresses, json_array_get(json_object_get(item, "addresses"), 0));
    }
    json_array_append_new(cells, join(addresses, NULL, 3, "<unset>"));
    cell_age(cells, object, now_ms);
}

/* ---- events ---- */

const struct column columns_event[] = {
    {"Last Seen", "string", "", 0, "Time since the event was last seen."},
    {"Type", "string", "", 0, "Normal or Warning."},
    {"Reason", "string", "", 0, "Why the event happened."},
    {"Object", "string", "", 0, "The object it is about."},
    {"Subobject", "string", "", 1, "Part of the object."},
    {"Source", "string", "", 1, "Who reported it."},
    {"Message", "string", "", 0, "What happened."},
    {"First Seen", "string", "", 1, "Time since the event was first seen."},
    {"Count", "string", "", 1, "How often it was seen."},
    {"Name", "string", "name", 1, "Name of the event."},
    {0},
};

void cells_event(const json_t *object, int64_t now_ms, json_t *cells) {
    const char *created = json_string_at(object, "metadata.creationTimestamp", NULL);
    const char *event_time = json_string_at(object, "eventTime", created);
    const char *first = json_string_at(object, "firstTimestamp", event_time);
    const char *last = json_string_at(object, "series.lastObservedTime", json_string_at(object, "lastTimestamp", first));
    json_array_append_new(cells, columns_since(last, now_ms));
    cell_text(cells, json_string_at(object, "type", "Normal"));
    cell_text(cells, json_string_at(object, "reason", ""));
    cleanup_free char *kind = xstrdup(json_string_at(object, "involvedObject.kind", ""));
    for (char *c = kind; *c != '\0'; c++) {
        *c = (char)(*c >= 'A' && *c <= 'Z' ? *c + 'a' - 'A' : *c);
    }
    json_array_append_new(cells, json_sprintf("%s/%s", kind, json_string_at(object, "involvedObject.name", "")));
    cell_text(cells, json_string_at(object, "involvedObject.fieldPath", ""));
    const char *component = json_string_at(object, "reportingComponent", "");
    const char *source = json_string_at(object, "source.component", component);
    const char *host = json_string_at(object, "source.host", "");
    json_array_append_new(cells, *host != '\0' ? json_sprintf("%s, %s", source, host) : json_string(source));
    cell_text(cells, json_string_at(object, "message", ""));
    json_array_append_new(cells, columns_since(first, now_ms));
    cell_int(cells, json_int_at(object, "series.count", json_int_at(object, "count", 1)));
    cell_text(cells, object_name(object));
}

/* ---- what holds data ---- */

const struct column columns_namespace[] = {NAME_COLUMN, {"Status", "string", "", 0, "Active or Terminating."}, AGE_COLUMN, {0}};

void cells_namespace(const json_t *object, int64_t now_ms, json_t *cells) {
    cell_text(cells, object_name(object));
    cell_text(cells, json_string_at(object, "status.phase", "Active"));
    cell_age(cells, object, now_ms);
}

const struct column columns_secret[] = {
    NAME_COLUMN, {"Type", "string", "", 0, "Type of the secret."}, {"Data", "string", "", 0, "Number of entries."}, AGE_COLUMN, {0},
};

void cells_secret(const json_t *object, int64_t now_ms, json_t *cells) {
    cell_text(cells, object_name(object));
    cell_text(cells, json_string_at(object, "type", "Opaque"));
    cell_int(cells, (int64_t)json_object_size(json_object_get(object, "data")));
    cell_age(cells, object, now_ms);
}

const struct column columns_config_map[] = {NAME_COLUMN, {"Data", "string", "", 0, "Number of entries."}, AGE_COLUMN, {0}};

void cells_config_map(const json_t *object, int64_t now_ms, json_t *cells) {
    cell_text(cells, object_name(object));
    cell_int(cells, (int64_t)(json_object_size(json_object_get(object, "data")) +
                              json_object_size(json_object_get(object, "binaryData"))));
    cell_age(cells, object, now_ms);
}

const struct column columns_lease[] = {NAME_COLUMN, {"Holder", "string", "", 0, "Who holds the lease."}, AGE_COLUMN, {0}};

void cells_lease(const json_t *object, int64_t now_ms, json_t *cells) {
    cell_text(cells, object_name(object));
    cell_text(cells, json_string_at(object, "spec.holderIdentity", ""));
    cell_age(cells, object, now_ms);
}

/* ---- nodes ---- */

const struct column columns_node[] = {
    NAME_COLUMN,
    {"Status", "string", "", 0, "Ready or not."},
    {"Roles", "string", "", 0, "Roles of the node."},
    AGE_COLUMN,
    {"Version", "string", "", 0, "Version of the kubelet."},
    {"Internal-IP", "string", "", 1, "Address inside the cluster."},
    {"External-IP", "string", "", 1, "Address outside the cluster."},
    {"OS-Image", "string", "", 1, "Operating system."},
    {"Kernel-Version", "string", "", 1, "Kernel."},
    {"Container-Runtime", "string", "", 1, "What runs containers."},
    {0},
};

static const char *node_address(const json_t *node, const char *type) {
    size_t i = 0;
    const json_t *address = NULL;
    json_array_foreach(json_at(node, "status.addresses"), i, address) {
        if (strcmp(json_string_at(address, "type", ""), type) == 0) {
            return json_string_at(address, "address", "");
        }
    }
    return "";
}

static json_t *node_status(const json_t *node) {
    const char *ready = "Unknown";
    size_t i = 0;
    const json_t *condition = NULL;
    json_array_foreach(json_at(node, "status.conditions"), i, condition) {
        if (strcmp(json_string_at(condition, "type", ""), "Ready") == 0) {
            ready = strcmp(json_string_at(condition, "status", ""), "True") == 0 ? "Ready" : "NotReady";
        }
    }
    return json_sprintf("%s%s", ready, json_bool_at(node, "spec.unschedulable", false) ? ",SchedulingDisabled" : "");
}

static json_t *node_roles(const json_t *node) {
    static const char prefix[] = "node-role.kubernetes.io/";
    cleanup_buffer struct buffer roles = BUFFER_INIT;
    const char *key = NULL;
    json_t *value = NULL;
    json_object_foreach(json_at(node, "metadata.labels"), key, value) {
        if (strncmp(key, prefix, sizeof(prefix) - 1) == 0) {
            buffer_printf(&roles, "%s%s", roles.len > 0 ? "," : "", key + sizeof(prefix) - 1);
        }
    }
    return json_string(roles.len > 0 ? roles.data : "<none>");
}

void cells_node(const json_t *object, int64_t now_ms, json_t *cells) {
    cell_text(cells, object_name(object));
    json_array_append_new(cells, node_status(object));
    json_array_append_new(cells, node_roles(object));
    cell_age(cells, object, now_ms);
    cell_text(cells, json_string_at(object, "status.nodeInfo.kubeletVersion", ""));
    cell_text_or(cells, node_address(object, "InternalIP"), "<none>");
    cell_text_or(cells, node_address(object, "ExternalIP"), "<none>");
    cell_text_or(cells, json_string_at(object, "status.nodeInfo.osImage", ""), "<unknown>");
    cell_text_or(cells, json_string_at(object, "status.nodeInfo.kernelVersion", ""), "<unknown>");
    cell_text_or(cells, json_string_at(object, "status.nodeInfo.containerRuntimeVersion", ""), "<unknown>");
}
