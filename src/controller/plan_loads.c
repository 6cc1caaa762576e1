#include "controller/plan_loads.h"

#include "base/clock.h"
#include "controller/recall.h"

#include <string.h>

#define LOADS_MAX 100

/* ---- one pod ---- */

/* New weights under a name that the engine knew, or may have known, with others. */
bool plan_is_maybe_stale(const struct plan_pod *pod) {
    return pod->reuses_prefixes && pod->hold->is_in_place && pod->hold->tag[0] == '\0';
}

struct pod_state plan_pod_state(const struct plan_input *input, const struct plan *plan, size_t at) {
    const struct plan_pod *pod = &input->pods[at];
    const struct hold *hold = pod->hold;
    bool has_failed = hold->failures > 0 && hold->reason != NULL;
    if (hold->running == HOLD_UNLOADING || (!plan->is_wanted[at] && hold->state == HOLD_LOADED)) {
        bool is_silent = !has_failed && pod->observe_failure != NULL;
        return (struct pod_state){"Unloading",
                                  has_failed  ? hold->reason
                                  : is_silent ? "EngineUnreachable"
                                              : "NotWanted",
                                  has_failed  ? hold_message(hold)
                                  : is_silent ? pod->observe_failure
                                              : "",
                                  false};
    }
    if (!pod->is_ready) {
        return (struct pod_state){"Pending", "PodNotReady", "the pod is not ready", false};
    }
    if (pod->is_unreachable || (!pod->is_observed && pod->observe_failure != NULL)) {
        return (struct pod_state){"Failed", "EngineUnreachable", pod->observe_failure != NULL ? pod->observe_failure : "", true};
    }
    if (hold->state == HOLD_CONFLICT) {
        return (struct pod_state){"Failed", "Conflict", hold_message(hold), true};
    }
    if (plan_is_current(input, pod)) {
        const char *how = plan_is_maybe_stale(pod) ? HOLD_REASON_IN_PLACE : "Loaded";
        return pod->is_published ? (struct pod_state){"Ready", how, "", false}
                                 : (struct pod_state){"Loaded", "NotPublished", "", false};
    }
    if (hold->is_fetching) {
        return (struct pod_state){"Loading", dialect_outcome_name(DIALECT_PENDING), hold_message(hold), false};
    }
    if (has_failed && hold->outcome == DIALECT_BUSY) {
        return (struct pod_state){"Pending", hold->reason, hold_message(hold), false};
    }
    if (has_failed) {
        return (struct pod_state){"Failed", hold->reason, hold_message(hold), true};
    }
    if (hold->state == HOLD_LOADED && strcmp(hold->revision, input->revision) != 0) {
        return (struct pod_state){"Outdated", "OlderRevision", "", false};
    }
    if (hold->state == HOLD_LOADED && !hold_is_of(hold, input->revision, pod->tag)) {
        return (struct pod_state){"Outdated", "OtherName", "", false};
    }
    return hold->state == HOLD_LOADED ? (struct pod_state){"Proving", "Proving", "", false}
                                      : (struct pod_state){"Loading", "Loading", "", false};
}

bool plan_has_row(const struct plan_input *input, const struct plan *plan, size_t at) {
    const struct plan_pod *pod = &input->pods[at];
    bool may_hold = pod->hold->state == HOLD_LOADED || pod->hold->state == HOLD_MAYBE;
    return !pod->is_gone && (plan->is_wanted[at] || may_hold || pod->hold->running != HOLD_IDLE);
}

const json_t *plan_row_in(const json_t *loads, const char *pod) {
    for (size_t i = 0; i < json_array_size(loads); i++) {
        if (strcmp(json_string_at(json_array_get(loads, i), "pod", ""), pod) == 0) {
            return json_array_get(loads, i);
        }
    }
    return NULL;
}

/* `old`: the rows that the object has. */
static json_t *row_of(const struct plan_input *input, const json_t *old, const struct plan *plan, size_t at) {
    const struct hold *hold = input->pods[at].hold;
    struct pod_state state = plan_pod_state(input, plan, at);
    json_t *row = json_pack("{s:o, s:s}", "pod", plan_text(input->pods[at].name), "state", state.state);
    bool has_it = hold->state == HOLD_LOADED || hold->state == HOLD_MAYBE;
    if (hold_may_have(hold)[0] != '\0') {
        json_object_set_new(row, "revision", plan_text(hold_may_have(hold)));
    }
    if (hold->tag[0] != '\0' && (has_it || hold->running == HOLD_LOADING || hold->is_fetching)) {
        cleanup_free char *name = engine_name_of(input->adapter->name, hold->tag);
        json_object_set_new(row, "engineName", json_string(name));
    }
    if (hold->is_rolled) {
        json_object_set_new(row, "replaces",
                            plan_text(hold->last[0] != '\0' && strcmp(hold->last, input->revision) != 0 ? hold->last : "?"));
    }
    if (has_it && hold->load_ms >= 0) {
        json_object_set_new(row, "loadMillis", json_integer(hold->load_ms));
    }
    json_object_set_new(row, "reason", json_string(state.reason));
    char now[CLOCK_RFC3339_BYTES];
    clock_format_rfc3339(input->wall_ms, now);
    const json_t *before = plan_row_in(old, input->pods[at].name);
    bool is_as_before = strcmp(json_string_at(before, "state", ""), state.state) == 0;
    json_object_set_new(row, "since", json_string(is_as_before ? json_string_at(before, "since", now) : now));
    if (state.message[0] != '\0') {
        json_object_set_new(row, "message", plan_text(state.message));
    }
    return row;
}

/* ---- all rows ---- */

static int compare_rows(const void *a, const void *b) {
    return strcmp(json_string_at(*(json_t *const *)a, "pod", ""), json_string_at(*(json_t *const *)b, "pod", ""));
}

json_t *plan_render_loads(const struct plan_input *input, const json_t *old, const struct plan *plan) {
    json_t **rows = xcalloc(input->pod_count + 1, sizeof(*rows));
    size_t count = 0;
    for (size_t i = 0; i < input->pod_count; i++) {
        if (plan_has_row(input, plan, i)) {
            rows[count++] = row_of(input, old, plan, i);
        }
    }
    qsort(rows, count, sizeof(*rows), compare_rows);
    json_t *loads = json_array();
    for (size_t i = 0; i < count; i++) {
        if (i < LOADS_MAX) {
            json_array_append(loads, rows[i]);
        }
        json_decref(rows[i]);
    }
    free(rows);
    return loads;
}

/* Who comes after us knows by them that what a pod has is ours. */
json_t *plan_render_earlier(const struct plan_input *input) {
    cleanup_buffer struct buffer list = BUFFER_INIT;
    buffer_append_text(&list, input->known != NULL ? input->known : "");
    for (size_t i = 0; i < input->pod_count; i++) {
        if (!input->pods[i].is_gone) {
            recall_add_revision(&list, hold_may_have(input->pods[i].hold));
        }
    }
    json_t *earlier = json_array();
    char each[REVISION_BYTES];
    for (const char *at = buffer_text(&list); (at = recall_next(at, each)) != NULL;) {
        if (strcmp(each, input->revision) != 0) {
            json_array_append_new(earlier, json_string(each));
        }
    }
    return earlier;
}
