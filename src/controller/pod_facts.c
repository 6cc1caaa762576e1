#include "controller/pod_facts.h"

#include "adapter/names.h"

#include <string.h>

static const char *const container_lists[] = {"spec.containers", "spec.initContainers"};

static bool is_condition_true(const json_t *pod, const char *type) {
    const json_t *conditions = json_at(pod, "status.conditions");
    for (size_t i = 0; i < json_array_size(conditions); i++) {
        const json_t *condition = json_array_get(conditions, i);
        if (strcmp(json_string_at(condition, "type", ""), type) == 0) {
            return strcmp(json_string_at(condition, "status", ""), "True") == 0;
        }
    }
    return false;
}

static bool is_sidecar(const json_t *container) {
    return strcmp(json_string_at(container, "name", ""), SIDECAR_CONTAINER) == 0;
}

/* A sidecar proper is an init container that is restarted always (Kubernetes KEP-753). */
static const json_t *find_sidecar(const json_t *pod) {
    for (size_t k = 0; k < ARRAY_LEN(container_lists); k++) {
        const json_t *containers = json_at(pod, container_lists[k]);
        for (size_t i = 0; i < json_array_size(containers); i++) {
            const json_t *container = json_array_get(containers, i);
            bool is_running = k == 0 || strcmp(json_string_at(container, "restartPolicy", ""), "Always") == 0;
            if (is_sidecar(container) && is_running) {
                return container;
            }
        }
    }
    return NULL;
}

/* ---- ports ---- */

static bool is_port(int64_t port) {
    return port > 0 && port < 65536;
}

/* Of the port that bears a name; 0 when none does. */
static int port_named(const json_t *pod, const char *name) {
    const json_t *containers = json_at(pod, "spec.containers");
    for (size_t i = 0; i < json_array_size(containers); i++) {
        const json_t *ports = json_at(json_array_get(containers, i), "ports");
        for (size_t k = 0; k < json_array_size(ports); k++) {
            const json_t *port = json_array_get(ports, k);
            int64_t number = json_int_at(port, "containerPort", 0);
            if (strcmp(json_string_at(port, "name", ""), name) == 0 && is_port(number)) {
                return (int)number;
            }
        }
    }
    return 0;
}

/* The label holds a number, or the name of one of the containers' ports. */
static int engine_port_of(const json_t *pod, const json_t *labels) {
    const char *text = json_string_value(json_object_get(labels, LABEL_MODEL_PORT));
    char *end = NULL;
    long number = text != NULL ? strtol(text, &end, 10) : 0;
    if (text == NULL) {
        return ENGINE_PORT;
    }
    if (*end == '\0' && is_port(number)) {
        return (int)number;
    }
    int port = port_named(pod, text);
    return port != 0 ? port : ENGINE_PORT;
}

static bool has_port(const json_t *container, int port) {
    const json_t *ports = json_at(container, "ports");
    for (size_t i = 0; i < json_array_size(ports); i++) {
        if (json_int_at(json_array_get(ports, i), "containerPort", 0) == port) {
            return true;
        }
    }
    return false;
}

/* ---- the engine's container ---- */

/* NULL when nothing tells it from the others. */
static const json_t *find_engine(const json_t *pod, int port) {
    const json_t *containers = json_at(pod, "spec.containers");
    const json_t *named = NULL;
    for (size_t i = 0; i < json_array_size(containers); i++) {
        const json_t *container = json_array_get(containers, i);
        if (!is_sidecar(container) && has_port(container, port)) {
            return container;
        }
        if (strcmp(json_string_at(container, "name", ""), "engine") == 0) {
            named = container;
        }
    }
    return named;
}

/* The number behind one of the names in a line of words ("--max-cpu-loras 8", "--max-cpu-loras=8"). */
static int number_after(const char *line, const char *name) {
    size_t len = strlen(name);
    for (const char *at = strstr(line, name); at != NULL; at = strstr(at + len, name)) {
        bool begins = at == line || strchr(" \t\n'\"", at[-1]) != NULL;
        if (begins && (at[len] == '=' || at[len] == ' ')) {
            long number = strtol(at + len + 1, NULL, 10);
            return number > 0 && number < INT32_MAX ? (int)number : 0;
        }
    }
    return 0;
}

/* Flags may be words of their own or stand in a shell's one word. */
static int capacity_of(const json_t *container) {
    static const char *const lists[] = {"command", "args"};
    static const char *const names[] = {"--max-cpu-loras", "--max-loaded-loras"}; /* vLLM and Davit; SGLang */
    cleanup_buffer struct buffer line = BUFFER_INIT;
    for (size_t k = 0; k < ARRAY_LEN(lists); k++) {
        const json_t *words = json_at(container, lists[k]);
        for (size_t i = 0; i < json_array_size(words); i++) {
            const char *word = json_string_value(json_array_get(words, i));
            buffer_printf(&line, "%s%s", line.len > 0 ? " " : "", word != NULL ? word : "");
        }
    }
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        int number = number_after(buffer_text(&line), names[i]);
        if (number > 0) {
            return number;
        }
    }
    return 0;
}

static const char *second_ip_of(const json_t *pod, const char *first) {
    const json_t *ips = json_at(pod, "status.podIPs");
    bool is_first_ipv6 = strchr(first, ':') != NULL;
    for (size_t i = 0; i < json_array_size(ips); i++) {
        const char *ip = json_string_at(json_array_get(ips, i), "ip", "");
        if (ip[0] != '\0' && (strchr(ip, ':') != NULL) != is_first_ipv6) {
            return ip;
        }
    }
    return "";
}

void pod_facts_read(const json_t *pod, struct pod_facts *ret_facts) {
    const json_t *labels = json_at(pod, "metadata.labels");
    const json_t *sidecar = find_sidecar(pod);
    const char *phase = json_string_at(pod, "status.phase", "");
    const char *engine = json_string_value(json_object_get(labels, LABEL_MODEL_ENGINE));
    int64_t sidecar_port = json_int_at(json_array_get(json_at(sidecar, "ports"), 0), "containerPort", SIDECAR_PORT);
    *ret_facts = (struct pod_facts){
        .name = json_string_at(pod, "metadata.name", ""),
        .namespace = json_string_at(pod, "metadata.namespace", ""),
        .uid = json_string_at(pod, "metadata.uid", ""),
        .ip = json_string_at(pod, "status.podIP", ""),
        .node = json_string_at(pod, "spec.nodeName", ""),
        .labels = labels,
        .is_gone =
            json_at(pod, "metadata.deletionTimestamp") != NULL || strcmp(phase, "Succeeded") == 0 || strcmp(phase, "Failed") == 0,
        .has_sidecar = sidecar != NULL,
        .engine_port = engine_port_of(pod, labels),
        .sidecar_port = is_port(sidecar_port) ? (int)sidecar_port : SIDECAR_PORT,
        .engine = engine != NULL && strcmp(engine, "sglang") == 0 ? DIALECT_SGLANG : DIALECT_VLLM,
    };
    ret_facts->second_ip = ret_facts->ip[0] != '\0' ? second_ip_of(pod, ret_facts->ip) : "";
    ret_facts->is_ready = !ret_facts->is_gone && ret_facts->ip[0] != '\0' && is_condition_true(pod, "Ready");
    ret_facts->capacity = capacity_of(find_engine(pod, ret_facts->engine_port));
}

char *pod_facts_start(const json_t *pod) {
    struct buffer start = BUFFER_INIT;
    buffer_append_text(&start, json_string_at(pod, "metadata.uid", ""));
    const json_t *engine = find_engine(pod, engine_port_of(pod, json_at(pod, "metadata.labels")));
    const char *name = json_string_at(engine, "name", NULL);
    const json_t *statuses = json_at(pod, "status.containerStatuses");
    for (size_t i = 0; i < json_array_size(statuses); i++) {
        const json_t *status = json_array_get(statuses, i);
        if (name != NULL ? strcmp(json_string_at(status, "name", ""), name) == 0 : !is_sidecar(status)) {
            buffer_printf(&start, "/%s:%lld:%s", json_string_at(status, "name", ""),
                          (long long)json_int_at(status, "restartCount", 0), json_string_at(status, "state.running.startedAt", ""));
        }
    }
    return buffer_take(&start);
}

/* ---- reducing ---- */

static void copy_members(json_t *to, const json_t *from, const char *const *names, size_t count) {
    for (size_t i = 0; i < count; i++) {
        json_t *value = json_object_get(from, names[i]);
        if (value != NULL) {
            json_object_set(to, names[i], value);
        }
    }
}

static json_t *reduce_object(const json_t *from, const char *const *names, size_t count) {
    json_t *to = json_object();
    copy_members(to, from, names, count);
    return to;
}

static void reduce_items(json_t *parent, const json_t *from, const char *list, const char *const *names, size_t count) {
    const json_t *items = json_object_get(from, list);
    if (json_array_size(items) > 0) {
        json_t *reduced = json_array();
        for (size_t i = 0; i < json_array_size(items); i++) {
            json_array_append_new(reduced, reduce_object(json_array_get(items, i), names, count));
        }
        json_object_set_new(parent, list, reduced);
    }
}

json_t *pod_facts_reduce(const json_t *pod) {
    static const char *const metadata[] = {"name", "namespace", "uid", "resourceVersion", "labels", "deletionTimestamp"};
    static const char *const container[] = {"name", "ports", "command", "args", "restartPolicy"};
    static const char *const status_members[] = {"phase", "podIP", "podIPs"};
    static const char *const condition[] = {"type", "status"};
    static const char *const container_status[] = {"name", "restartCount", "state"};
    const json_t *spec = json_object_get(pod, "spec"), *status = json_object_get(pod, "status");
    json_t *to_spec = json_object();
    json_t *to_status = reduce_object(status, status_members, ARRAY_LEN(status_members));
    copy_members(to_spec, spec, (const char *const[]){"nodeName"}, 1);
    reduce_items(to_spec, spec, "containers", container, ARRAY_LEN(container));
    reduce_items(to_spec, spec, "initContainers", container, ARRAY_LEN(container));
    reduce_items(to_status, status, "conditions", condition, ARRAY_LEN(condition));
    reduce_items(to_status, status, "containerStatuses", container_status, ARRAY_LEN(container_status));
    return json_pack("{s:s, s:s, s:o, s:o, s:o}", "apiVersion", "v1", "kind", "Pod", "metadata",
                     reduce_object(json_object_get(pod, "metadata"), metadata, ARRAY_LEN(metadata)), "spec", to_spec, "status",
                     to_status);
}
