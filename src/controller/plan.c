#include "controller/plan.h"

#include "adapter/names.h"
#include "controller/plan_status.h"
#include "controller/publish.h"

#include <stdarg.h>
#include <string.h>

void plan_look_again(struct plan *plan, int64_t at_ms) {
    if (at_ms < plan->look_again_ms) {
        plan->look_again_ms = at_ms;
    }
}

void plan_add_event(struct plan *plan, const char *type, const char *reason, const char *format, ...) {
    if (plan->event_count == PLAN_EVENTS_MAX) {
        return;
    }
    char message[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof(message), format, arguments);
    va_end(arguments);
    plan->events[plan->event_count++] = (struct plan_event){.type = type, .reason = reason, .message = xstrdup(message)};
}

json_t *plan_text(const char *text) {
    json_t *value = json_string(text);
    if (value == NULL) {
        cleanup_buffer struct buffer quoted = BUFFER_INIT;
        json_append_string(&quoted, text, strlen(text));
        value = json_loadb(quoted.data, quoted.len, JSON_DECODE_ANY, NULL);
    }
    return value;
}

void plan_release(struct plan *plan) {
    free(plan->is_wanted);
    free(plan->is_serving);
    free(plan->is_polled);
    free(plan->actions);
    json_decref(plan->finalizers);
    json_decref(plan->service);
    json_decref(plan->slice);
    json_decref(plan->status);
    for (size_t i = 0; i < plan->event_count; i++) {
        free(plan->events[i].message);
    }
}

/* ---- what a pod is to the adapter ---- */

static bool is_revision(const struct plan_input *input, const struct hold *hold) {
    return strcmp(hold->revision, input->revision) == 0;
}

/* Published and proved by an earlier run of ours, and nothing seen since that speaks against it: a restart of the controller takes
 * nobody's endpoint away. */
static bool is_taken_over(const struct plan_pod *pod) {
    return pod->hold->is_recalled && pod->is_published;
}

bool plan_is_current(const struct plan_input *input, const struct plan_pod *pod) {
    bool is_good = (pod->hold->state == HOLD_LOADED && pod->hold->is_proved) || is_taken_over(pod);
    return is_good && is_revision(input, pod->hold);
}

/* Proved weights, of the current revision or of the one before it, on a pod that answers. */
static bool can_serve(const struct plan_pod *pod) {
    bool is_good = (pod->hold->state == HOLD_LOADED && pod->hold->is_proved) || is_taken_over(pod);
    return pod->is_ready && !pod->is_unreachable && is_good && pod->hold->running != HOLD_UNLOADING;
}

static bool may_hold(const struct plan_pod *pod) {
    return pod->hold->state == HOLD_LOADED || pod->hold->state == HOLD_MAYBE;
}

static bool has_failed(const struct plan_input *input, const struct hold *hold) {
    return hold->failures > 0 && strcmp(hold->tried, input->revision) == 0;
}

static void choose_pods(const struct plan_input *input, struct plan *plan) {
    if (input->adapter->is_deleting || input->invalid != NULL) {
        return;
    }
    struct placement_candidate *candidates = xcalloc(input->pod_count + 1, sizeof(*candidates));
    size_t *at = xcalloc(input->pod_count + 1, sizeof(*at));
    size_t count = 0;
    for (size_t i = 0; i < input->pod_count; i++) {
        const struct plan_pod *pod = &input->pods[i];
        /* One that is not ready keeps what it has, and counts only when it is ready. */
        if (pod->matches && pod->is_ready) {
            bool is_holding = !pod->is_unreachable && (may_hold(pod) || pod->hold->running == HOLD_LOADING);
            candidates[count] = (struct placement_candidate){
                .pod = pod->uid,
                .node = pod->node,
                .adapters = pod->adapters,
                .is_holding = is_holding || (pod->hold->is_wanted && !pod->is_unreachable),
                .is_failing = has_failed(input, pod->hold) || pod->is_unreachable || pod->hold->state == HOLD_CONFLICT};
            candidates[count].is_holding = candidates[count].is_holding && !candidates[count].is_failing;
            at[count++] = i;
        }
    }
    placement_choose(input->policy, input->adapter->uid, input->adapter->replicas, candidates, count);
    for (size_t i = 0; i < count; i++) {
        plan->is_wanted[at[i]] = candidates[i].is_chosen;
    }
    for (size_t i = 0; i < input->pod_count; i++) { /* with every pod wanted, one that is not ready for a moment is not unloaded */
        plan->is_wanted[i] |= input->adapter->replicas < 0 && input->pods[i].matches && !input->pods[i].is_gone;
    }
    free(candidates);
    free(at);
}

/* ---- rolling to a new revision ---- */

/* Whether one more pod may leave an older revision: one at a time, and not while the new one is known only to fail. */
static bool may_roll(const struct plan_input *input, const struct plan *plan) {
    bool is_known_good = false, has_rolled_and_failed = false, is_one_under_way = false;
    for (size_t i = 0; i < input->pod_count; i++) {
        const struct plan_pod *pod = &input->pods[i];
        const struct hold *hold = pod->hold;
        if (!plan->is_wanted[i] || !pod->is_ready || pod->is_unreachable) {
            continue;
        }
        bool is_failing = has_failed(input, hold) && !plan_is_current(input, pod);
        is_known_good |= plan_is_current(input, pod);
        has_rolled_and_failed |= hold->is_rolled && is_failing;
        is_one_under_way |= hold->running != HOLD_IDLE || (hold->is_rolled && !is_failing && !plan_is_current(input, pod)) ||
                            (hold->state == HOLD_LOADED && !is_revision(input, hold) && !pod->is_published &&
                             (hold->is_proved || hold->is_recalled));
    }
    return !is_one_under_way && (is_known_good || !has_rolled_and_failed);
}

static void choose_serving(const struct plan_input *input, struct plan *plan) {
    bool has_turn = may_roll(input, plan);
    for (size_t i = 0; i < input->pod_count; i++) {
        const struct plan_pod *pod = &input->pods[i];
        plan->is_serving[i] = plan->is_wanted[i] && can_serve(pod);
        if (plan->is_serving[i] && !is_revision(input, pod->hold)) {
            if (!pod->is_published) {
                plan->is_serving[i] = false; /* what has left with old weights does not come back with them */
            } else if (has_turn) {
                plan->is_serving[i] = false;
                has_turn = false;
            }
        }
    }
}

/* ---- actions ---- */

static void act(const struct plan_input *input, struct plan *plan, size_t pod, enum hold_action kind) {
    if (input->pods[pod].is_busy) {
        plan->waits_for_pod = true;
    } else {
        plan->actions[plan->action_count++] = (struct plan_action){.kind = kind, .pod = pod};
    }
}

static bool is_due(const struct plan_input *input, struct plan *plan, int64_t at_ms) {
    if (at_ms > input->now_ms) {
        plan_look_again(plan, at_ms);
        return false;
    }
    return true;
}

/* Endpoint out, drained, then unloaded. */
static void retire(const struct plan_input *input, struct plan *plan, size_t at) {
    const struct plan_pod *pod = &input->pods[at];
    const struct hold *hold = pod->hold;
    if (pod->is_published || plan->is_serving[at] || hold->unpublished_ms == 0) {
        return; /* the slice is written first */
    }
    /* An unload that failed says nothing against the load that may follow, hence its own clock: `tried` is another revision. */
    bool has_retry = hold->reason != NULL && strcmp(hold->reason, "UnloadFailed") == 0;
    if (is_due(input, plan, hold->unpublished_ms + input->drain_ms) && (!has_retry || is_due(input, plan, hold->retry_at_ms))) {
        act(input, plan, at, HOLD_UNLOADING);
    }
}

static void advance(const struct plan_input *input, struct plan *plan, size_t at) {
    const struct plan_pod *pod = &input->pods[at];
    const struct hold *hold = pod->hold;
    if (!pod->is_ready || !pod->is_observed) {
        plan->is_polled[at] = pod->is_ready;
        return;
    }
    switch (hold->state) {
    case HOLD_NONE:
        if (!has_failed(input, hold) || is_due(input, plan, hold->retry_at_ms)) {
            act(input, plan, at, HOLD_LOADING);
        }
        break;
    case HOLD_MAYBE:
        plan->is_polled[at] = true;
        break;
    case HOLD_LOADED:
        if (!is_revision(input, hold)) {
            retire(input, plan, at);
        } else if (!hold->is_proved && (!has_failed(input, hold) || is_due(input, plan, hold->retry_at_ms))) {
            act(input, plan, at, HOLD_PROVING);
        }
        break;
    case HOLD_CONFLICT:
        break; /* until the list says otherwise */
    }
}

static void plan_pods(const struct plan_input *input, struct plan *plan) {
    for (size_t i = 0; i < input->pod_count; i++) {
        const struct plan_pod *pod = &input->pods[i];
        if (pod->is_gone || pod->hold->running != HOLD_IDLE) {
            continue;
        }
        if (plan->is_wanted[i]) {
            advance(input, plan, i);
        } else if (may_hold(pod) && pod->ip[0] != '\0') {
            retire(input, plan, i);
        }
    }
}

/* ---- the object's own writes ---- */

static bool has_finalizer(const json_t *object) {
    const json_t *finalizers = json_at(object, "metadata.finalizers");
    for (size_t i = 0; i < json_array_size(finalizers); i++) {
        const char *text = json_string_value(json_array_get(finalizers, i));
        if (text != NULL && strcmp(text, MODEL_ADAPTER_FINALIZER) == 0) {
            return true;
        }
    }
    return false;
}

static void write_finalizers(const struct plan_input *input, struct plan *plan, bool add) {
    if ((input->writes_running & WRITE_FINALIZER) != 0 || !is_due(input, plan, input->write_after_ms)) {
        return;
    }
    json_t *list = json_array();
    const json_t *old = json_at(input->object, "metadata.finalizers");
    for (size_t i = 0; i < json_array_size(old); i++) {
        const char *text = json_string_value(json_array_get(old, i));
        if (text != NULL && strcmp(text, MODEL_ADAPTER_FINALIZER) != 0) {
            json_array_append(list, json_array_get(old, i));
        }
    }
    if (add) {
        json_array_append_new(list, json_string(MODEL_ADAPTER_FINALIZER));
    }
    /* The version makes two writers of the list notice one another. */
    plan->finalizers = json_pack("{s:{s:o, s:s}}", "metadata", "finalizers", list, "resourceVersion",
                                 json_string_at(input->object, "metadata.resourceVersion", ""));
    plan->releases = !add;
}

/* Deletion: done when nothing may hold it any more, or when time is up. */
static void plan_release_object(const struct plan_input *input, struct plan *plan) {
    cleanup_buffer struct buffer left = BUFFER_INIT;
    int64_t deadline = input->deleting_since_ms + input->give_up_ms;
    for (size_t i = 0; i < input->pod_count; i++) {
        const struct plan_pod *pod = &input->pods[i];
        bool is_unknown = pod->matches && pod->is_ready && !pod->is_observed;
        plan->is_polled[i] |= is_unknown;
        if (!pod->is_gone && (may_hold(pod) || pod->hold->running != HOLD_IDLE || is_unknown)) {
            buffer_printf(&left, "%spod %s%s%s", left.len > 0 ? "; " : "", pod->name, pod->hold->reason != NULL ? ": " : "",
                          pod->hold->reason != NULL ? pod->hold->message : "");
        }
    }
    if (left.len > 0 && !is_due(input, plan, deadline)) {
        return;
    }
    write_finalizers(input, plan, false);
    if (plan->finalizers != NULL && left.len > 0) {
        plan_add_event(plan, "Warning", "UnloadGivenUp", "deleted after %lld s although it may still be loaded: %.900s",
                       (long long)(input->give_up_ms / 1000), left.data);
    } else if (plan->finalizers != NULL) {
        plan_add_event(plan, "Normal", "Unloaded", "no pod holds the adapter any more");
    }
}

static void plan_published(const struct plan_input *input, struct plan *plan) {
    if (!is_due(input, plan, input->write_after_ms)) {
        return;
    }
    bool is_service_ours = !publish_is_foreign(input, input->service);
    if ((input->writes_running & WRITE_SERVICE) == 0 && !input->adapter->is_deleting && input->invalid == NULL) {
        bool is_any_wanted = false;
        for (size_t i = 0; i < input->pod_count; i++) {
            is_any_wanted |= plan->is_wanted[i];
        }
        if (is_any_wanted || input->service != NULL) {
            plan->service = publish_service(input, plan->is_serving);
        }
    }
    /* A foreign Service of that name must not gain our endpoints; taking them out is always right. */
    if ((input->writes_running & WRITE_SLICE) == 0 && (input->slice != NULL || is_service_ours)) {
        plan->slice = publish_slice(input, plan->is_serving);
    }
}

void plan_adapter(const struct plan_input *input, struct plan *ret_plan) {
    size_t room = input->pod_count + 1;
    *ret_plan = (struct plan){.is_wanted = xcalloc(room, sizeof(bool)),
                              .is_serving = xcalloc(room, sizeof(bool)),
                              .is_polled = xcalloc(room, sizeof(bool)),
                              .actions = xcalloc(room, sizeof(struct plan_action)),
                              .look_again_ms = PLAN_NEVER};
    bool is_ours = has_finalizer(input->object);
    if (!is_ours) {
        if (!input->adapter->is_deleting) {
            write_finalizers(input, ret_plan, true); /* before anything that has to be undone */
        }
        return;
    }
    choose_pods(input, ret_plan);
    choose_serving(input, ret_plan);
    plan_published(input, ret_plan);
    plan_pods(input, ret_plan);
    if (input->adapter->is_deleting) {
        plan_release_object(input, ret_plan);
    }
    if (ret_plan->finalizers == NULL) {
        plan_status(input, ret_plan);
    }
}
