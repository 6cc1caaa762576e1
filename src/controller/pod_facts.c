#include "controller/pod_facts.h"

#include "adapter/names.h"

#include <string.h>

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

/* A sidecar proper is an init container that is restarted always (Kubernetes KEP-753). */
static const json_t *find_sidecar(const json_t *pod) {
    static const struct {
        const char *path;
        bool is_init;
    } lists[] = {{"spec.containers", false}, {"spec.initContainers", true}};
    for (size_t k = 0; k < ARRAY_LEN(lists); k++) {
        const json_t *containers = json_at(pod, lists[k].path);
        for (size_t i = 0; i < json_array_size(containers); i++) {
            const json_t *container = json_array_get(containers, i);
            bool is_named = strcmp(json_string_at(container, "name", ""), SIDECAR_CONTAINER) == 0;
            if (is_named && (!lists[k].is_init || strcmp(json_string_at(container, "restartPolicy", ""), "Always") == 0)) {
                return container;
            }
        }
    }
    return NULL;
}

static int port_of_label(const json_t *labels) {
    const char *text = json_string_value(json_object_get(labels, LABEL_MODEL_PORT));
    char *end = NULL;
    long port = text != NULL ? strtol(text, &end, 10) : 0;
    return text != NULL && *end == '\0' && port > 0 && port < 65536 ? (int)port : ENGINE_PORT;
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
        .engine_port = port_of_label(labels),
        .sidecar_port = sidecar_port > 0 && sidecar_port < 65536 ? (int)sidecar_port : SIDECAR_PORT,
        .engine = engine != NULL && strcmp(engine, "sglang") == 0 ? DIALECT_SGLANG : DIALECT_VLLM,
    };
    ret_facts->is_ready = !ret_facts->is_gone && ret_facts->ip[0] != '\0' && is_condition_true(pod, "Ready");
}

char *pod_facts_start(const json_t *pod) {
    struct buffer start = BUFFER_INIT;
    buffer_append_text(&start, json_string_at(pod, "metadata.uid", ""));
    const json_t *statuses = json_at(pod, "status.containerStatuses");
    for (size_t i = 0; i < json_array_size(statuses); i++) {
        const json_t *status = json_array_get(statuses, i);
        if (strcmp(json_string_at(status, "name", ""), SIDECAR_CONTAINER) != 0) {
            buffer_printf(&start, "/%s:%lld:%s", json_string_at(status, "name", ""),
                          (long long)json_int_at(status, "restartCount", 0), json_string_at(status, "state.running.startedAt", ""));
        }
    }
    return buffer_take(&start);
}
