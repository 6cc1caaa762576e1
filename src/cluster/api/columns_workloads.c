#include "base/buffer.h"
#include "cluster/api/columns.h"
#include "cluster/api/object.h"

#include <string.h>

#define NAME_COLUMN                                                                                                                \
    { "Name", "string", "name", 0, "Name must be unique within a namespace." }
#define AGE_COLUMN                                                                                                                 \
    { "Age", "string", "", 0, "Time since creation." }

/* ---- pods ---- */

const struct column columns_pod[] = {
    NAME_COLUMN,
    {"Ready", "string", "", 0, "The aggregate readiness state of this pod for accepting traffic."},
    {"Status", "string", "", 0, "The aggregate status of the containers in this pod."},
    {"Restarts", "string", "", 0,
     "The number of times the containers in this pod have been restarted and when the last container in this pod has restarted."},
    AGE_COLUMN,
    {"IP", "string", "", 1, "IP address of the pod."},
    {"Node", "string", "", 1, "Name of the node that the pod runs on."},
    {"Nominated Node", "string", "", 1, "Node on which the pod is expected to run."},
    {"Readiness Gates", "string", "", 1, "Readiness gates of this pod."},
    {0},
};

struct pod_summary {
    char reason[128];
    int64_t ready;
    int64_t total;
    int64_t restarts;
    const char *last_restart; /* time of the last container's end, NULL = none */
};

/* Reason of a state such as {"waiting":{"reason":...}}; exit codes where a termination has no reason. */
static void note_container_state(struct pod_summary *summary, const json_t *status, const char *prefix) {
    const json_t *waiting = json_at(status, "state.waiting");
    const json_t *terminated = json_at(status, "state.terminated");
    const char *waiting_reason = json_string_at(waiting, "reason", "");
    if (*waiting_reason != '\0') {
        (void)snprintf(summary->reason, sizeof(summary->reason), "%s%s", prefix, waiting_reason);
    } else if (terminated != NULL) {
        const char *reason = json_string_at(terminated, "reason", "");
        int64_t signal_number = json_int_at(terminated, "signal", 0);
        if (*reason != '\0') {
            (void)snprintf(summary->reason, sizeof(summary->reason), "%s%s", prefix, reason);
        } else if (signal_number != 0) {
            (void)snprintf(summary->reason, sizeof(summary->reason), "%sSignal:%lld", prefix, (long long)signal_number);
        } else {
            (void)snprintf(summary->reason, sizeof(summary->reason), "%sExitCode:%lld", prefix,
                           (long long)json_int_at(terminated, "exitCode", 0));
        }
    }
}

static void note_restart(struct pod_summary *summary, const json_t *status) {
    summary->restarts += json_int_at(status, "restartCount", 0);
    const char *finished = json_string_at(status, "lastState.terminated.finishedAt", NULL);
    if (finished != NULL && (summary->last_restart == NULL || strcmp(finished, summary->last_restart) > 0)) {
        summary->last_restart = finished;
    }
}

static bool is_sidecar(const json_t *pod, const char *name) {
    size_t i = 0;
    const json_t *container = NULL;
    json_array_foreach(json_at(pod, "spec.initContainers"), i, container) {
        if (strcmp(json_string_at(container, "name", ""), name) == 0) {
            return strcmp(json_string_at(container, "restartPolicy", ""), "Always") == 0;
        }
    }
    return false;
}

/* True when an init container still has to finish: its state is what the pod shows. */
static bool summarize_init(struct pod_summary *summary, const json_t *pod) {
    const json_t *statuses = json_at(pod, "status.initContainerStatuses");
    size_t i = 0;
    const json_t *status = NULL;
    json_array_foreach(statuses, i, status) {
        note_restart(summary, status);
        const json_t *terminated = json_at(status, "state.terminated");
        if (is_sidecar(pod, json_string_at(status, "name", "")) && json_bool_at(status, "started", false)) {
            summary->ready += json_bool_at(status, "ready", false) ? 1 : 0;
            continue;
        }
        if (terminated != NULL && json_int_at(terminated, "exitCode", 0) == 0) {
            continue;
        }
        const char *waiting = json_string_at(status, "state.waiting.reason", "");
        if (terminated != NULL || (*waiting != '\0' && strcmp(waiting, "PodInitializing") != 0)) {
            note_container_state(summary, status, "Init:");
        } else {
            (void)snprintf(summary->reason, sizeof(summary->reason), "Init:%zu/%zu", i,
                           json_array_size(json_at(pod, "spec.initContainers")));
        }
        return true;
    }
    return false;
}

static void summarize_containers(struct pod_summary *summary, const json_t *pod) {
    const json_t *statuses = json_at(pod, "status.containerStatuses");
    bool is_running = false;
    for (size_t i = json_array_size(statuses); i-- > 0;) {
        const json_t *status = json_array_get(statuses, i);
        note_restart(summary, status);
        note_container_state(summary, status, "");
        if (json_bool_at(status, "ready", false) && json_at(status, "state.running") != NULL) {
            is_running = true;
            summary->ready++;
        }
    }
    if (is_running && strcmp(summary->reason, "Completed") == 0) {
        (void)snprintf(summary->reason, sizeof(summary->reason), "Running");
    }
}

/* As printPod of kubernetes/pkg/printers/internalversion. */
static struct pod_summary summarize_pod(const json_t *pod) {
    struct pod_summary summary = {.total = (int64_t)json_array_size(json_at(pod, "spec.containers"))};
    const char *reason = json_string_at(pod, "status.reason", "");
    (void)snprintf(summary.reason, sizeof(summary.reason), "%s",
                   *reason != '\0' ? reason : json_string_at(pod, "status.phase", "Unknown"));
    size_t i = 0;
    const json_t *container = NULL;
    json_array_foreach(json_at(pod, "spec.initContainers"), i, container) {
        summary.total += strcmp(json_string_at(container, "restartPolicy", ""), "Always") == 0 ? 1 : 0;
    }
    if (!summarize_init(&summary, pod)) {
        summarize_containers(&summary, pod);
    }
    if (object_is_deleting(pod)) {
        (void)snprintf(summary.reason, sizeof(summary.reason), "%s", strcmp(reason, "NodeLost") == 0 ? "Unknown" : "Terminating");
    }
    return summary;
}

void cells_pod(const json_t *object, int64_t now_ms, json_t *cells) {
    struct pod_summary summary = summarize_pod(object);
    cell_text(cells, object_name(object));
    json_array_append_new(cells, json_sprintf("%lld/%lld", (long long)summary.ready, (long long)summary.total));
    cell_text(cells, summary.reason);
    if (summary.restarts > 0 && summary.last_restart != NULL) {
        cleanup_json json_t *ago = columns_since(summary.last_restart, now_ms);
        json_array_append_new(cells, json_sprintf("%lld (%s ago)", (long long)summary.restarts, json_string_value(ago)));
    } else {
        json_array_append_new(cells, json_sprintf("%lld", (long long)summary.restarts));
    }
    json_array_append_new(cells, columns_age(object, now_ms));
    cell_text_or(cells, json_string_at(object, "status.podIP", ""), "<none>");
    cell_text_or(cells, json_string_at(object, "spec.nodeName", ""), "<none>");
    cell_text_or(cells, json_string_at(object, "status.nominatedNodeName", ""), "<none>");
    cell_text(cells, "<none>");
}

/* ---- deployments and replica sets ---- */

#define TEMPLATE_COLUMNS                                                                                                           \
    {"Containers", "string", "", 1, "Names of each container in the template."},                                                   \
        {"Images", "string", "", 1, "Images referenced by each container in the template."}, {                                     \
        "Selector", "string", "", 1, "Label selector for the pods of this object."                                                 \
    }

const struct column columns_deployment[] = {
    NAME_COLUMN,
    {"Ready", "string", "", 0, "Number of the pod with ready state"},
    {"Up-to-date", "string", "", 0,
     "Total number of non-terminated pods targeted by this deployment that have the desired template spec."},
    {"Available", "string", "", 0, "Total number of available pods targeted by this deployment."},
    AGE_COLUMN,
    TEMPLATE_COLUMNS,
    {0},
};

const struct column columns_replica_set[] = {
    NAME_COLUMN,
    {"Desired", "integer", "", 0, "Number of desired pods."},
    {"Current", "integer", "", 0, "Number of existing pods."},
    {"Ready", "integer", "", 0, "Number of ready pods."},
    AGE_COLUMN,
    TEMPLATE_COLUMNS,
    {0},
};

static json_t *container_list(const json_t *object, const char *member) {
    cleanup_buffer struct buffer text = BUFFER_INIT;
    size_t i = 0;
    const json_t *container = NULL;
    json_array_foreach(json_at(object, "spec.template.spec.containers"), i, container) {
        buffer_printf(&text, "%s%s", i > 0 ? "," : "", json_string_at(container, member, ""));
    }
    return json_string(buffer_text(&text));
}

static json_t *selector_text(const json_t *selector) {
    cleanup_buffer struct buffer text = BUFFER_INIT;
    const char *key = NULL;
    json_t *value = NULL;
    json_object_foreach(json_object_get(selector, "matchLabels"), key, value) {
        buffer_printf(&text, "%s%s=%s", text.len > 0 ? "," : "", key, json_is_string(value) ? json_string_value(value) : "");
    }
    size_t i = 0;
    const json_t *term = NULL;
    json_array_foreach(json_object_get(selector, "matchExpressions"), i, term) {
        buffer_printf(&text, "%s%s %s", text.len > 0 ? "," : "", json_string_at(term, "key", ""),
                      json_string_at(term, "operator", ""));
    }
    return json_string(text.len > 0 ? text.data : "<none>");
}

static void template_cells(const json_t *object, json_t *cells) {
    json_array_append_new(cells, container_list(object, "name"));
    json_array_append_new(cells, container_list(object, "image"));
    json_array_append_new(cells, selector_text(json_at(object, "spec.selector")));
}

void cells_deployment(const json_t *object, int64_t now_ms, json_t *cells) {
    cell_text(cells, object_name(object));
    json_array_append_new(cells, json_sprintf("%lld/%lld", (long long)json_int_at(object, "status.readyReplicas", 0),
                                              (long long)json_int_at(object, "spec.replicas", 1)));
    json_array_append_new(cells, json_sprintf("%lld", (long long)json_int_at(object, "status.updatedReplicas", 0)));
    json_array_append_new(cells, json_sprintf("%lld", (long long)json_int_at(object, "status.availableReplicas", 0)));
    json_array_append_new(cells, columns_age(object, now_ms));
    template_cells(object, cells);
}

void cells_replica_set(const json_t *object, int64_t now_ms, json_t *cells) {
    cell_text(cells, object_name(object));
    cell_int(cells, json_int_at(object, "spec.replicas", 1));
    cell_int(cells, json_int_at(object, "status.replicas", 0));
    cell_int(cells, json_int_at(object, "status.readyReplicas", 0));
    json_array_append_new(cells, columns_age(object, now_ms));
    template_cells(object, cells);
}

/* ---- adapters: the CRD's printer columns ---- */

const struct column columns_model_adapter[] = {
    NAME_COLUMN,
    {"Phase", "string", "", 0, "Phase of the adapter."},
    {"Desired", "integer", "", 0, "Pods that are to hold the adapter."},
    {"Ready", "integer", "", 0, "Pods that hold the adapter."},
    {"Candidates", "integer", "", 0, "Ready pods that match the selector."},
    {"Reason", "string", "", 0, "Reason of the Ready condition."},
    {"Model Path", "string", "", 0, "Where the adapter's weights are."},
    {"Age", "date", "", 0, "Time since creation."},
    {"Base Model", "string", "", 1, "The base model that the adapter was trained on."},
    {"Instances", "string", "", 1, "Pods that hold the adapter."},
    {"Message", "string", "", 1, "Message of the Ready condition."},
    {0},
};

static void cell_value_at(json_t *cells, const json_t *object, const char *path) {
    json_t *value = json_at(object, path);
    json_array_append_new(cells, value != NULL ? json_incref(value) : json_null());
}

static const json_t *ready_condition(const json_t *object) {
    size_t i = 0;
    const json_t *condition = NULL;
    json_array_foreach(json_at(object, "status.conditions"), i, condition) {
        if (strcmp(json_string_at(condition, "type", ""), "Ready") == 0) {
            return condition;
        }
    }
    return NULL;
}

void cells_model_adapter(const json_t *object, int64_t now_ms, json_t *cells) {
    const json_t *ready = ready_condition(object);
    cell_text(cells, object_name(object));
    cell_value_at(cells, object, "status.phase");
    cell_value_at(cells, object, "status.desiredReplicas");
    cell_value_at(cells, object, "status.readyReplicas");
    cell_value_at(cells, object, "status.candidates");
    cell_text(cells, json_string_at(ready, "reason", ""));
    cell_value_at(cells, object, "spec.artifactURL");
    json_array_append_new(cells, columns_age(object, now_ms));
    cell_value_at(cells, object, "spec.baseModel");
    cleanup_buffer struct buffer instances = BUFFER_INIT;
    size_t i = 0;
    const json_t *item = NULL;
    json_array_foreach(json_at(object, "status.instances"), i, item) {
        buffer_printf(&instances, "%s%s", i > 0 ? "," : "", json_is_string(item) ? json_string_value(item) : "");
    }
    cell_text(cells, buffer_text(&instances));
    cell_text(cells, json_string_at(ready, "message", ""));
}
