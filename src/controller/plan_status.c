#include "controller/plan_status.h"

#include "base/clock.h"
#include "controller/plan_loads.h"
#include "controller/plan_verdicts.h"

#include <string.h>

/* Changes that decide nothing are collected: six writes an adapter from creation to Ready have to do. */
#define WRITE_GAP_MS 10000
#define WRITE_GAP_FETCHING_MS 5000
#define WRITE_GAP_FULL_MS 1500 /* when all pods have it; at once when one has not any more */

static const char *const condition_types[CONDITION_COUNT] = {"Initialized", "Scheduled",   "Bound",    "ResourceCreated",
                                                             "Ready",       "FullyLoaded", "NoEffect", "WeightsMayBeStale"};

/* ---- the object ---- */

static const json_t *condition_in(const json_t *status, const char *type) {
    const json_t *conditions = json_at(status, "conditions");
    for (size_t i = 0; i < json_array_size(conditions); i++) {
        const json_t *condition = json_array_get(conditions, i);
        if (strcmp(json_string_at(condition, "type", ""), type) == 0) {
            return condition;
        }
    }
    return NULL;
}

static json_t *render_condition(const struct plan_input *input, const json_t *old, const char *type,
                                const struct verdict *verdict) {
    char now[CLOCK_RFC3339_BYTES];
    clock_format_rfc3339(input->wall_ms, now);
    const char *status = verdict->is_true ? "True" : "False";
    bool has_moved = strcmp(json_string_at(old, "status", ""), status) != 0;
    return json_pack("{s:s, s:s, s:s, s:o, s:s, s:I}", "type", type, "status", status, "reason", verdict->reason, "message",
                     plan_text(buffer_text(&verdict->message)), "lastTransitionTime",
                     has_moved ? now : json_string_at(old, "lastTransitionTime", now), "observedGeneration",
                     (json_int_t)input->adapter->generation);
}

static json_t *render_instances(const struct plan_input *input, const struct plan *plan) {
    json_t *instances = json_array();
    for (size_t i = 0; i < input->pod_count; i++) {
        if (plan->is_serving[i] && input->pods[i].is_published) {
            json_array_append_new(instances, plan_text(input->pods[i].name));
        }
    }
    return instances;
}

static json_t *render(const struct plan_input *input, const json_t *old, const struct plan *plan, const struct tally *tally,
                      const struct verdict *verdicts) {
    int replicas = input->adapter->replicas;
    json_t *conditions = json_array();
    for (int i = 0; i < CONDITION_COUNT; i++) {
        const json_t *before = condition_in(old, condition_types[i]);
        if (verdicts[i].reason != NULL) {
            json_array_append_new(conditions, render_condition(input, before, condition_types[i], &verdicts[i]));
        }
    }
    json_t *status = json_pack("{s:s, s:I, s:s, s:i, s:i, s:i, s:o, s:o, s:o}", "phase", plan_phase(input, tally, verdicts),
                               "observedGeneration", (json_int_t)input->adapter->generation, "revision", input->revision,
                               "candidates", input->ready, "desiredReplicas", replicas >= 0 ? replicas : input->ready,
                               "readyReplicas", tally->serving, "conditions", conditions, "instances",
                               render_instances(input, plan), "loads", plan_render_loads(input, json_at(old, "loads"), plan));
    json_t *earlier = plan_render_earlier(input);
    if (json_array_size(earlier) > 0 || json_object_get(old, "earlierRevisions") != NULL) {
        json_object_set(status, "earlierRevisions", earlier);
    }
    json_decref(earlier);
    const char *version = input->version != NULL ? input->version : "";
    if (version[0] != '\0' || json_string_at(old, "version", "")[0] != '\0') { /* "": of an older revision */
        json_object_set_new(status, "version", plan_text(version));
    }
    return status;
}

static json_t *difference(const json_t *old, const json_t *new, int replicas) {
    json_t *patch = json_object();
    const char *key = NULL;
    json_t *value = NULL;
    json_object_foreach((json_t *)new, key, value) {
        if (!json_equal(json_object_get(old, key), value)) {
            json_object_set(patch, key, value);
        }
    }
    /* With a number of replicas, pods that come and go elsewhere are no news of this adapter. */
    if (replicas >= 0 && json_object_size(patch) == 1 && json_object_get(old, "candidates") != NULL) {
        json_object_del(patch, "candidates");
    }
    return patch;
}

/* ---- events ---- */

static bool was_true(const json_t *status, const char *type) {
    return strcmp(json_string_at(condition_in(status, type), "status", ""), "True") == 0;
}

static void tell_failures(const json_t *old, const json_t *new, struct plan *plan) {
    cleanup_buffer struct buffer text = BUFFER_INIT;
    const json_t *loads = json_at(new, "loads");
    for (size_t i = 0; i < json_array_size(loads) && text.len < 900; i++) {
        const json_t *row = json_array_get(loads, i);
        const char *pod = json_string_at(row, "pod", ""), *reason = json_string_at(row, "reason", "");
        const json_t *before = plan_row_in(json_at(old, "loads"), pod);
        bool is_new =
            strcmp(json_string_at(before, "state", ""), "Failed") != 0 || strcmp(json_string_at(before, "reason", ""), reason) != 0;
        if (strcmp(json_string_at(row, "state", ""), "Failed") == 0 && is_new) {
            buffer_printf(&text, "%spod %s: %s: %.300s", text.len > 0 ? "; " : "", pod, reason, json_string_at(row, "message", ""));
        }
    }
    if (text.len > 0) {
        plan_add_event(plan, "Warning", "LoadFailed", "%s", text.data);
    }
}

/* A pod that had its turns and gave up its place to another that may do better. */
static void tell_exchanges(const struct plan_input *input, const json_t *old, struct plan *plan) {
    cleanup_buffer struct buffer given_up = BUFFER_INIT, instead = BUFFER_INIT;
    for (size_t i = 0; i < input->pod_count && input->adapter->replicas > 0; i++) {
        const struct plan_pod *pod = &input->pods[i];
        const json_t *row = plan_row_in(json_at(old, "loads"), pod->name);
        if (row == NULL && plan->is_wanted[i]) {
            plan_list_name(&instead, pod->name);
        } else if (row != NULL && !plan->is_wanted[i] && pod->matches && pod->is_ready && plan_has_failed(input, pod->hold) &&
                   given_up.len < 600) {
            buffer_printf(&given_up, "%spod %s: %s: %.200s", given_up.len > 0 ? "; " : "", pod->name,
                          pod->hold->reason != NULL ? pod->hold->reason : "Failed", hold_message(pod->hold));
        }
    }
    if (given_up.len > 0 && instead.len > 0) {
        plan_add_event(plan, "Warning", "LoadMoved", "loading fails (%s); tried instead: %.300s", given_up.data, instead.data);
    }
}

/* An engine that is asked itself fetches with what it was started with, and takes what it finds. */
static void tell_what_sidecars_do(const struct plan_input *input, struct plan *plan) {
    cleanup_buffer struct buffer names = BUFFER_INIT;
    for (size_t i = 0; i < input->pod_count; i++) {
        if (plan->is_wanted[i] && input->pods[i].is_direct) {
            plan_list_name(&names, input->pods[i].name);
        }
    }
    if (names.len > 0 && input->adapter->secret_name[0] != '\0') {
        plan_add_event(plan, "Warning", "CredentialsUnused",
                       "credentialsSecretRef is for the sidecar, which these pods do not use: %s", names.data);
    }
    if (names.len > 0 && input->adapter->digest[0] != '\0') {
        plan_add_event(plan, "Warning", "DigestUnchecked", "digest is checked by the sidecar, which these pods do not use: %s",
                       names.data);
    }
}

static void tell(const struct plan_input *input, const json_t *old, const json_t *new, const struct tally *tally,
                 const struct verdict *verdicts, struct plan *plan) {
    if (input->adapter->is_deleting) {
        return;
    }
    if (verdicts[FULLY_LOADED].is_true && !was_true(old, "FullyLoaded")) {
        plan_add_event(plan, "Normal", "Loaded", "loaded and proved on %d of %d pods: %s", tally->loaded, tally->wanted,
                       buffer_text(&tally->pods));
        tell_what_sidecars_do(input, plan);
    }
    tell_failures(old, new, plan);
    tell_exchanges(input, old, plan);
    if (verdicts[READY].is_true && !was_true(old, "Ready")) {
        plan_add_event(plan, "Normal", "Ready", "published on %d pod%s, can be asked for as \"%s\"", tally->serving,
                       plan_plural(tally->serving), input->adapter->name);
    } else if (!verdicts[READY].is_true && was_true(old, "Ready")) {
        bool is_as_wanted = input->adapter->replicas == 0; /* somebody scaled it down */
        plan_add_event(plan, is_as_wanted ? "Normal" : "Warning", "NotReady", "%s: %.900s", verdicts[READY].reason,
                       buffer_text(&verdicts[READY].message));
    }
    if (verdicts[NO_EFFECT].is_true && !was_true(old, "NoEffect")) {
        plan_add_event(plan, "Warning", "NoEffect", "%.1000s", buffer_text(&verdicts[NO_EFFECT].message));
    }
    const json_t *resources = condition_in(old, "ResourceCreated");
    if (plan_is_resource_error(&verdicts[RESOURCE_CREATED]) &&
        strcmp(json_string_at(resources, "reason", ""), verdicts[RESOURCE_CREATED].reason) != 0) {
        plan_add_event(plan, "Warning", verdicts[RESOURCE_CREATED].reason, "%.1000s",
                       buffer_text(&verdicts[RESOURCE_CREATED].message));
    }
    if (input->invalid != NULL && strcmp(json_string_at(condition_in(old, "Ready"), "reason", ""), "ValidationFailed") != 0) {
        plan_add_event(plan, "Warning", "ValidationFailed", "%.1000s", input->invalid);
    }
}

/* How long after the last write the next may come: at once for what somebody waits for. */
static int64_t write_gap_ms(const struct plan_input *input, const struct tally *tally, const struct verdict *verdicts) {
    const struct plan_seen *seen = &input->seen;
    const struct verdict *ready = &verdicts[READY];
    bool is_urgent = strcmp(seen->ready_status, ready->is_true ? "True" : "False") != 0 ||
                     strcmp(seen->ready_reason, ready->reason) != 0 || seen->observed_generation != input->adapter->generation;
    bool has_lost_one = seen->is_fully_loaded && !verdicts[FULLY_LOADED].is_true;
    bool has_failed = strcmp(plan_phase(input, tally, verdicts), "Failed") == 0 && strcmp(seen->phase, "Failed") != 0;
    if (is_urgent || has_lost_one || has_failed || input->status_written_ms == 0) {
        return 0;
    }
    if (seen->is_fully_loaded != verdicts[FULLY_LOADED].is_true) {
        return WRITE_GAP_FULL_MS;
    }
    return tally->is_fetching ? WRITE_GAP_FETCHING_MS : WRITE_GAP_MS;
}

void plan_status_decide(const struct plan_input *input, struct plan *plan) {
    struct tally tally = {0};
    struct verdict verdicts[CONDITION_COUNT] = {0};
    if ((input->writes_running & WRITE_STATUS) != 0) {
        return;
    }
    plan_judge(input, plan, &tally, verdicts);
    int64_t gap_ms = write_gap_ms(input, &tally, verdicts);
    int64_t due_ms = input->status_written_ms + gap_ms;
    plan->is_status_urgent = gap_ms == 0;
    due_ms = due_ms > input->write_after_ms ? due_ms : input->write_after_ms;
    if (due_ms > input->now_ms) {
        plan_look_again(plan, due_ms);
    } else if (plan->is_status_urgent || (input->writes_running & WRITE_SLICE) == 0) { /* else its end is news for the status */
        plan->due |= WRITE_STATUS;
    }
    plan_judge_release(&tally, verdicts);
}

void plan_status_words(const struct plan_input *input, const json_t *old, struct plan *plan) {
    struct tally tally = {0};
    struct verdict verdicts[CONDITION_COUNT] = {0};
    plan_judge(input, plan, &tally, verdicts);
    cleanup_json json_t *status = render(input, old, plan, &tally, verdicts);
    cleanup_json json_t *patch = difference(old, status, input->adapter->replicas);
    if (json_object_size(patch) > 0) {
        plan->status = json_pack("{s:O}", "status", patch);
        tell(input, old, status, &tally, verdicts, plan);
    }
    plan_judge_release(&tally, verdicts);
}
