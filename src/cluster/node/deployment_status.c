#include "cluster/node/deployment_status.h"

#include "base/clock.h"

#include <string.h>

struct counts {
    int64_t wanted; /* sum of spec.replicas */
    int64_t replicas;
    int64_t updated;
    int64_t ready;
    int64_t available;
};

static struct counts count(const struct deployment_view *view) {
    struct counts counts = {0};
    size_t index = 0;
    json_t *set = NULL;
    json_array_foreach((json_t *)view->replica_sets, index, set) {
        counts.wanted += json_int_at(set, "spec.replicas", 1);
        counts.replicas += json_int_at(set, "status.replicas", 0);
        counts.ready += json_int_at(set, "status.readyReplicas", 0);
        counts.available += json_int_at(set, "status.availableReplicas", 0);
    }
    counts.updated = json_int_at(view->new_replica_set, "status.replicas", 0);
    return counts;
}

/* ---- conditions ---- */

static const json_t *find_condition(const json_t *deployment, const char *type) {
    size_t index = 0;
    json_t *condition = NULL;
    json_array_foreach(json_at(deployment, "status.conditions"), index, condition) {
        if (strcmp(json_string_at(condition, "type", ""), type) == 0) {
            return condition;
        }
    }
    return NULL;
}

/* A condition whose status and reason are as before stays as it was, times and message included
 * (deploymentutil.SetDeploymentCondition). */
static json_t *make_condition(const struct deployment_view *view, const char *type, bool is_true, const char *reason,
                              const char *message, bool is_update) {
    char now_text[CLOCK_RFC3339_BYTES];
    clock_format_rfc3339(view->wall_ms, now_text);
    const json_t *before = find_condition(view->deployment, type);
    const char *value = is_true ? "True" : "False";
    bool is_same_status = strcmp(json_string_at(before, "status", ""), value) == 0;
    bool is_same_reason = strcmp(json_string_at(before, "reason", ""), reason) == 0;
    if (is_same_status && is_same_reason && !is_update) {
        return json_deep_copy(before);
    }
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s}", "type", type, "status", value, "reason", reason, "message", message,
                     "lastUpdateTime", now_text, "lastTransitionTime",
                     is_same_status ? json_string_at(before, "lastTransitionTime", now_text) : now_text);
}

static json_t *available_condition(const struct deployment_view *view, const struct counts *counts) {
    bool is_available = counts->available >= view->replicas - view->max_unavailable;
    return make_condition(view, "Available", is_available, is_available ? "MinimumReplicasAvailable" : "MinimumReplicasUnavailable",
                          is_available ? "Deployment has minimum availability." : "Deployment does not have minimum availability.",
                          false);
}

static bool is_complete(const struct deployment_view *view, const struct counts *counts) {
    return view->new_replica_set != NULL && counts->updated == view->replicas && counts->replicas == view->replicas &&
           counts->available == view->replicas;
}

/* Something moved in the right direction since the status was written last. */
static bool has_progressed(const struct deployment_view *view, const struct counts *counts) {
    const json_t *status = json_object_get(view->deployment, "status");
    int64_t updated_before = json_int_at(status, "updatedReplicas", 0);
    int64_t old_before = json_int_at(status, "replicas", 0) - updated_before;
    return counts->updated > updated_before || counts->replicas - counts->updated < old_before ||
           counts->ready > json_int_at(status, "readyReplicas", 0) ||
           counts->available > json_int_at(status, "availableReplicas", 0);
}

static bool is_past_deadline(const struct deployment_view *view, const json_t *progressing, struct api_actions *actions) {
    int64_t deadline_ms = 1000 * json_int_at(view->deployment, "spec.progressDeadlineSeconds", 600);
    int64_t updated_ms = 0;
    if (progressing == NULL || clock_parse_rfc3339(json_string_at(progressing, "lastUpdateTime", ""), &updated_ms) < 0) {
        return false;
    }
    if (view->wall_ms - updated_ms >= deadline_ms) {
        return true;
    }
    api_actions_look_again(actions, updated_ms + deadline_ms - view->wall_ms + 1000);
    return false;
}

static json_t *progressing_condition(const struct deployment_view *view, const struct counts *counts, struct api_actions *actions) {
    const json_t *before = find_condition(view->deployment, "Progressing");
    const char *reason_before = json_string_at(before, "reason", "");
    const char *set = view->new_replica_set != NULL ? kube_name(view->new_replica_set) : "";
    if (view->new_replica_set == NULL) {
        return before != NULL ? json_deep_copy(before) : NULL;
    }
    if (is_complete(view, counts)) {
        cleanup_free char *message = xasprintf("ReplicaSet \"%s\" has successfully progressed.", set);
        bool is_other_set = strcmp(json_string_at(before, "message", ""), message) != 0;
        return make_condition(view, "Progressing", true, "NewReplicaSetAvailable", message, is_other_set);
    }
    /* A finished rollout stays finished while its own pods come and go; only another template is another rollout. */
    bool is_finished = strcmp(reason_before, "NewReplicaSetAvailable") == 0 &&
                       strstr(json_string_at(before, "message", ""), set) != NULL &&
                       counts->wanted == json_int_at(view->new_replica_set, "spec.replicas", 1);
    if (is_finished) {
        return json_deep_copy(before);
    }
    if (before == NULL || strcmp(reason_before, "NewReplicaSetAvailable") == 0) {
        cleanup_free char *message = xasprintf("Created new replica set \"%s\"", set);
        return make_condition(view, "Progressing", true, "NewReplicaSetCreated", message, false);
    }
    if (has_progressed(view, counts)) {
        cleanup_free char *message = xasprintf("ReplicaSet \"%s\" is progressing.", set);
        return make_condition(view, "Progressing", true, "ReplicaSetUpdated", message, true);
    }
    if (is_past_deadline(view, before, actions)) {
        cleanup_free char *message = xasprintf("ReplicaSet \"%s\" has timed out progressing.", set);
        return make_condition(view, "Progressing", false, "ProgressDeadlineExceeded", message, false);
    }
    return json_deep_copy(before);
}

json_t *deployment_status(const struct deployment_view *view, struct api_actions *actions) {
    struct counts counts = count(view);
    int64_t unavailable = counts.wanted > counts.available ? counts.wanted - counts.available : 0;
    json_t *conditions = json_array();
    json_array_append_new(conditions, available_condition(view, &counts));
    json_t *progressing = progressing_condition(view, &counts, actions);
    if (progressing != NULL) {
        json_array_append_new(conditions, progressing);
    }
    json_t *status = json_pack("{s:I, s:o}", "observedGeneration",
                               (json_int_t)json_int_at(view->deployment, "metadata.generation", 0), "conditions", conditions);
    const struct {
        const char *name;
        int64_t value;
    } numbers[] = {
        {"replicas", counts.replicas},           {"updatedReplicas", counts.updated},  {"readyReplicas", counts.ready},
        {"availableReplicas", counts.available}, {"unavailableReplicas", unavailable},
    };
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
        if (numbers[i].value != 0) { /* omitempty */
            json_object_set_new(status, numbers[i].name, json_integer(numbers[i].value));
        }
    }
    return status;
}
