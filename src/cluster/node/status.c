#include "cluster/node/status.h"

#include "base/clock.h"

#include <stdio.h>
#include <string.h>

/* ---- containers ---- */

static json_t *waiting_state(const struct container *container) {
    json_t *waiting = json_pack("{s:s}", "reason", container->waiting_reason);
    if (container->waiting_message[0] != '\0') {
        json_object_set_new(waiting, "message", json_string(container->waiting_message));
    }
    return json_pack("{s:o}", "waiting", waiting);
}

static json_t *container_state_of(const struct container *container) {
    char started[CLOCK_RFC3339_BYTES];
    switch (container->state) {
    case CONTAINER_RUNNING:
        clock_format_rfc3339(container->started_wall_ms, started);
        return json_pack("{s:{s:s}}", "running", "startedAt", started);
    case CONTAINER_ENDED:
        return json_pack("{s:o}", "terminated", container_terminated(container));
    default:
        return waiting_state(container);
    }
}

static json_t *container_status(const struct container *container) {
    char id[64] = "";
    if (container->process.pid > 0) {
        (void)snprintf(id, sizeof(id), "process://%d", (int)container->process.pid);
    }
    json_t *last = container->last_ended != NULL ? json_pack("{s:O}", "terminated", container->last_ended) : json_object();
    return json_pack("{s:s, s:o, s:o, s:b, s:i, s:s, s:s, s:s, s:b}", "name", container->name, "state",
                     container_state_of(container), "lastState", last, "ready", container_is_ready(container), "restartCount",
                     container->restart_count, "image", json_string_at(container->spec, "image", ""), "imageID", "", "containerID",
                     id, "started", container_is_started(container));
}

static json_t *container_statuses(const struct pod *pod, bool mains) {
    json_t *statuses = json_array();
    for (size_t i = 0; i < pod->container_count; i++) {
        if ((pod->containers[i].kind == CONTAINER_MAIN) == mains) {
            json_array_append_new(statuses, container_status(&pod->containers[i]));
        }
    }
    return statuses;
}

/* ---- conditions ---- */

struct condition {
    const char *type;
    bool is_true;
    const char *reason; /* of False */
    const char *message;
};

static const json_t *find_condition(const json_t *status, const char *type) {
    size_t index = 0;
    json_t *condition = NULL;
    json_array_foreach(json_object_get(status, "conditions"), index, condition) {
        if (strcmp(json_string_at(condition, "type", ""), type) == 0) {
            return condition;
        }
    }
    return NULL;
}

static void add_condition(json_t *conditions, const struct condition *wanted, const json_t *previous, const char *now_text) {
    const char *value = wanted->is_true ? "True" : "False";
    const json_t *before = find_condition(previous, wanted->type);
    bool is_same = before != NULL && strcmp(json_string_at(before, "status", ""), value) == 0;
    json_t *condition =
        json_pack("{s:s, s:s, s:n, s:s}", "type", wanted->type, "status", value, "lastProbeTime", "lastTransitionTime",
                  is_same ? json_string_at(before, "lastTransitionTime", now_text) : now_text);
    if (!wanted->is_true) {
        json_object_set_new(condition, "reason", json_string(wanted->reason));
        json_object_set_new(condition, "message", json_string(wanted->message));
    }
    json_array_append_new(conditions, condition);
}

static void append_name(struct buffer *names, const struct container *container) {
    buffer_printf(names, "%s%s", names->len > 0 ? " " : "", container->name);
}

static bool is_initialized(const struct container *container) {
    return container->kind == CONTAINER_SIDECAR ? container_is_started(container)
                                                : container->state == CONTAINER_ENDED && container->exit_code == 0;
}

static json_t *conditions(const struct pod *pod, const json_t *previous, const char *now_text) {
    cleanup_buffer struct buffer incomplete = BUFFER_INIT;
    cleanup_buffer struct buffer unready = BUFFER_INIT;
    for (size_t i = 0; i < pod->container_count; i++) {
        const struct container *container = &pod->containers[i];
        if (container->kind != CONTAINER_MAIN && !pod->is_initialized && !is_initialized(container)) {
            append_name(&incomplete, container);
        }
        if (container->kind != CONTAINER_INIT && !container_is_ready(container)) {
            append_name(&unready, container);
        }
    }
    cleanup_free char *incomplete_message = xasprintf("containers with incomplete status: [%s]", buffer_text(&incomplete));
    cleanup_free char *unready_message = xasprintf("containers with unready status: [%s]", buffer_text(&unready));
    bool has_succeeded = pod_has_ended(pod) && incomplete.len == 0;
    const char *unready_reason = has_succeeded ? "PodCompleted" : "ContainersNotReady";
    bool all_ready = unready.len == 0 && incomplete.len == 0;
    const struct condition wanted[] = {
        {"PodScheduled", true, "", ""},
        {"Initialized", pod->is_initialized || incomplete.len == 0, "ContainersNotInitialized", incomplete_message},
        {"ContainersReady", all_ready, unready_reason, unready_message},
        {"Ready", all_ready && !pod->is_terminating, all_ready ? "PodTerminating" : unready_reason,
         all_ready ? "the pod is being deleted" : unready_message},
    };
    json_t *list = json_array();
    for (size_t i = 0; i < ARRAY_LEN(wanted); i++) {
        add_condition(list, &wanted[i], previous, now_text);
    }
    return list;
}

/* ---- the whole ---- */

static const char *phase(const struct pod *pod) {
    bool any_waits_for_its_first_run = false;
    bool any_failed = false;
    for (size_t i = 0; i < pod->container_count; i++) {
        const struct container *container = &pod->containers[i];
        if (container->kind == CONTAINER_MAIN) {
            any_waits_for_its_first_run =
                any_waits_for_its_first_run || (container->state == CONTAINER_WAITING && container->last_ended == NULL);
        }
        any_failed = any_failed ||
                     (container->kind != CONTAINER_SIDECAR && container->state == CONTAINER_ENDED && container->exit_code != 0);
    }
    if (pod_has_ended(pod)) {
        return any_failed ? "Failed" : "Succeeded";
    }
    return any_waits_for_its_first_run || !pod->is_initialized ? "Pending" : "Running";
}

const char *pod_qos_class(const json_t *spec) {
    bool any = false;
    bool all_limited = true;
    size_t index = 0;
    json_t *container = NULL;
    json_array_foreach(json_object_get(spec, "containers"), index, container) {
        const json_t *limits = json_at(container, "resources.limits");
        const json_t *requests = json_at(container, "resources.requests");
        any = any || json_object_size(limits) > 0 || json_object_size(requests) > 0;
        bool has_both = json_object_get(limits, "cpu") != NULL && json_object_get(limits, "memory") != NULL;
        bool is_equal = json_object_size(requests) == 0 || json_equal(limits, requests);
        all_limited = all_limited && has_both && is_equal;
    }
    return !any ? "BestEffort" : all_limited ? "Guaranteed" : "Burstable";
}

json_t *pod_status(const struct pod *pod, const json_t *previous, int64_t wall_ms) {
    char now_text[CLOCK_RFC3339_BYTES];
    char started[CLOCK_RFC3339_BYTES];
    clock_format_rfc3339(wall_ms, now_text);
    clock_format_rfc3339(pod->started_wall_ms, started);
    json_t *status =
        json_pack("{s:s, s:o, s:s, s:o, s:s, s:[{s:s}], s:s}", "phase", phase(pod), "conditions",
                  conditions(pod, previous, now_text), "hostIP", "127.0.0.1", "containerStatuses", container_statuses(pod, true),
                  "startTime", started, "hostIPs", "ip", "127.0.0.1", "qosClass", pod_qos_class(pod->spec));
    if (pod->address[0] != '\0') {
        json_object_set_new(status, "podIP", json_string(pod->address));
        json_object_set_new(status, "podIPs", json_pack("[{s:s}]", "ip", pod->address));
    }
    if (json_array_size(json_object_get(pod->spec, "initContainers")) > 0) {
        json_object_set_new(status, "initContainerStatuses", container_statuses(pod, false));
    }
    return status;
}

json_t *pod_status_patch(const json_t *status, const json_t *previous) {
    json_t *body = json_deep_copy(status);
    const char *key = NULL;
    json_t *value = NULL;
    json_object_foreach((json_t *)previous, key, value) {
        if (json_object_get(status, key) == NULL) {
            json_object_set_new(body, key, json_null());
        }
    }
    return json_pack("{s:o}", "status", body);
}
