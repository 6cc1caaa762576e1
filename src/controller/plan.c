#include "controller/plan.h"

#include "adapter/names.h"
#include "base/clock.h"
#include "controller/plan_status.h"
#include "controller/publish.h"

#include <stdarg.h>
#include <string.h>

#define COLLECT_FIRST_MS 300 /* from the first pod that can serve to its publication, while others are about to */
#define COLLECT_MORE_MS 4000 /* between two writes that only add */
#define UNSEEN_MS 1000       /* a write whose answer was lost is seen by then */
#define DRAIN_MS 1000        /* at least */
#define TRIES_PER_TURN 3     /* of a load on one pod, while others may be tried */
#define TURNS_MAX 1000

int proof_mode_parse(const char *name, enum proof_mode *ret_mode) {
    static const char *const names[] = {[PROOF_EFFECT] = "effect", [PROOF_GENERATE] = "generate", [PROOF_LIST] = "list"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (strcmp(name, names[i]) == 0) {
            *ret_mode = (enum proof_mode)i;
            return 0;
        }
    }
    return -1;
}

enum placement_policy plan_policy(const struct model_adapter *adapter, enum placement_policy fallback) {
    enum placement_policy policy = fallback;
    if (placement_policy_parse(adapter->placement_policy, &policy) < 0) {
        (void)placement_policy_parse(adapter->scheduler_name, &policy);
    }
    return policy;
}

int64_t plan_drain_ms(const struct model_adapter *adapter) {
    return adapter->drain_ms > DRAIN_MS ? adapter->drain_ms : DRAIN_MS;
}

int64_t plan_deleting_since(const json_t *object, int64_t drain_ms, int64_t now_ms, int64_t wall_ms) {
    int64_t deleted_ms = wall_ms, waited_max_ms = drain_ms + PLAN_GIVE_UP_MS - (DRAIN_MS + PLAN_TRY_MS);
    bool is_told = clock_parse_rfc3339(json_string_at(object, "metadata.deletionTimestamp", ""), &deleted_ms) == 0;
    int64_t waited_ms = is_told && wall_ms > deleted_ms ? wall_ms - deleted_ms : 0;
    return now_ms - (waited_ms < waited_max_ms ? waited_ms : waited_max_ms);
}

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

int64_t plan_arrivals_until(const json_t *object, bool is_fully_loaded, int64_t observed_generation, int64_t now_ms) {
    bool is_all_there = is_fully_loaded && observed_generation == json_int_at(object, "metadata.generation", 0);
    return has_finalizer(object) && !is_all_there ? now_ms + PLAN_ARRIVALS_MS : 0; /* nothing is loaded without a finalizer */
}

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
    free(plan->is_gauged);
    free(plan->is_waiting);
    free(plan->actions);
    json_decref(plan->finalizers);
    json_decref(plan->service);
    json_decref(plan->status);
    for (size_t i = 0; i < plan->slice_count; i++) {
        free(plan->slices[i].name);
        json_decref(plan->slices[i].body);
    }
    for (size_t i = 0; i < plan->event_count; i++) {
        free(plan->events[i].message);
    }
}

static bool is_due(const struct plan_input *input, struct plan *plan, int64_t at_ms) {
    if (at_ms > input->now_ms) {
        plan_look_again(plan, at_ms);
        return false;
    }
    return true;
}

/* ---- what a pod is to the adapter ---- */

/* Its revision is the current one, under the name that it is to have there. */
static bool is_revision(const struct plan_input *input, const struct plan_pod *pod) {
    return hold_is_of(pod->hold, input->revision, pod->tag);
}

/* Published and proved by an earlier run of ours, and nothing seen since that speaks against it: a restart of the controller takes
 * nobody's endpoint away. */
static bool is_taken_over(const struct plan_pod *pod) {
    return pod->hold->is_recalled && pod->is_published;
}

bool plan_is_current(const struct plan_input *input, const struct plan_pod *pod) {
    bool is_good = (pod->hold->state == HOLD_LOADED && pod->hold->is_proved) || is_taken_over(pod);
    return is_good && is_revision(input, pod);
}

/* Proved weights, of the current revision or of the one before it, on a pod that answers. */
static bool can_serve(const struct plan_pod *pod) {
    bool is_good = (pod->hold->state == HOLD_LOADED && pod->hold->is_proved) || is_taken_over(pod);
    return pod->is_ready && !pod->is_unreachable && is_good && pod->hold->running != HOLD_UNLOADING;
}

/* What is fetched for it is loaded then, whether somebody still asks or not. */
static bool may_hold(const struct plan_pod *pod) {
    return pod->hold->state == HOLD_LOADED || pod->hold->state == HOLD_MAYBE || pod->hold->is_fetching;
}

bool plan_has_failed(const struct plan_input *input, const struct hold *hold) {
    return hold->failures > 0 && !hold->is_fetching && strcmp(hold->tried, input->revision) == 0;
}

/* ---- placement ---- */

/* A pod that fails is tried a few times before another that failed once has its turn again, and so on: whichever of them comes to
 * its senses is found. Waiting does not help against what is permanent, and one that does not answer has no turns to use up. */
static int failed_turns(const struct plan_pod *pod) {
    int turns = pod->hold->outcome == DIALECT_PERMANENT ? pod->hold->failures : pod->hold->failures / TRIES_PER_TURN;
    return pod->is_unreachable || turns > TURNS_MAX ? TURNS_MAX : turns;
}

static struct placement_candidate candidate_of(const struct plan_input *input, const struct plan_pod *pod) {
    bool is_failing = plan_has_failed(input, pod->hold) || pod->is_unreachable || pod->hold->state == HOLD_CONFLICT;
    bool is_holding = may_hold(pod) || pod->hold->running == HOLD_LOADING;
    /* Chosen before it was known what others have there, as after a restart: nothing is lost by choosing again. */
    bool is_overbooked = pod->is_full && !is_holding;
    return (struct placement_candidate){.pod = pod->uid,
                                        .node = pod->node,
                                        .domain = pod->domain,
                                        .adapters = pod->adapters,
                                        .is_holding = !is_failing && is_holding,
                                        .is_wanted = !is_failing && !is_overbooked && pod->hold->is_wanted,
                                        .is_failing = is_failing,
                                        .failed_turns = failed_turns(pod),
                                        .is_taken = pod->hold->state == HOLD_CONFLICT,
                                        .is_full = pod->is_full};
}

/* A readiness probe that fails for a moment moves nothing: the pod has the adapter, and its place, when it is back. */
static bool keeps_its_place(const struct plan_input *input, struct plan *plan, const struct plan_pod *pod) {
    bool has_place = pod->hold->is_wanted || pod->hold->is_recalled;
    bool may_be_back = pod->matches && !pod->is_ready && !pod->is_gone && has_place && may_hold(pod);
    return may_be_back && !is_due(input, plan, pod->unready_ms + PLAN_UNREADY_MS);
}

/* Of the pods that keep their places, those that are not taken by pods which are ready and have the adapter. Returns how many. */
static int keep_places(const struct plan_input *input, struct plan *plan, const struct placement_candidate *ready, size_t count) {
    int left = input->adapter->replicas, kept = 0;
    for (size_t i = 0; i < count; i++) {
        left -= ready[i].is_holding;
    }
    for (size_t i = 0; i < input->pod_count && kept < left; i++) {
        plan->is_wanted[i] = keeps_its_place(input, plan, &input->pods[i]);
        kept += plan->is_wanted[i];
    }
    return kept;
}

static void choose_pods(const struct plan_input *input, struct plan *plan) {
    int replicas = input->adapter->replicas;
    if (input->adapter->is_deleting || input->invalid != NULL) {
        return;
    }
    struct placement_candidate *candidates = xcalloc(input->pod_count + 1, sizeof(*candidates));
    size_t *at = xcalloc(input->pod_count + 1, sizeof(*at));
    size_t count = 0;
    for (size_t i = 0; i < input->pod_count; i++) {
        const struct plan_pod *pod = &input->pods[i];
        if (replicas < 0) { /* one that is not ready for a moment is not unloaded */
            plan->is_wanted[i] = pod->matches && !pod->is_gone;
        } else if (pod->matches && pod->is_ready) {
            candidates[count] = candidate_of(input, pod);
            at[count++] = i;
        }
    }
    int kept = replicas > 0 ? keep_places(input, plan, candidates, count) : 0;
    int placed = replicas >= 0 ? placement_choose(input->policy, input->adapter->uid, replicas - kept, candidates, count) : 0;
    plan->placed_short = replicas > placed + kept ? replicas - placed - kept : 0;
    for (size_t i = 0; i < count; i++) {
        plan->is_wanted[at[i]] = candidates[i].is_chosen;
    }
    free(candidates);
    free(at);
}

/* ---- rolling to a new revision ---- */

static int allowed_out(const struct plan_input *input, int wanted) {
    int percent = input->adapter->max_unavailable_percent;
    int allowed = percent > 0 ? (int)((int64_t)wanted * percent / 100) : input->adapter->max_unavailable;
    return allowed > 1 ? allowed : 1;
}

/* How many more pods may leave an older revision: as many as the object allows to be out at a time, and none while the new one is
 * known only to fail. A pod that gave up the old one and fails at the new one counts as out. */
static int turns_to_roll(const struct plan_input *input, const struct plan *plan) {
    bool is_known_good = false, has_rolled_and_failed = false;
    int out = 0, wanted = 0;
    for (size_t i = 0; i < input->pod_count; i++) {
        const struct plan_pod *pod = &input->pods[i];
        const struct hold *hold = pod->hold;
        if (!plan->is_wanted[i] || !pod->is_ready || pod->is_unreachable || hold->state == HOLD_CONFLICT) {
            continue; /* something else keeps it out */
        }
        bool is_current = plan_is_current(input, pod);
        /* With old weights, or with those that are wanted until they have answered. */
        bool is_to_be_proved = is_revision(input, pod) && !plan_has_failed(input, hold);
        bool has_served = hold->is_proved || hold->is_recalled;
        bool has_left =
            hold->state == HOLD_LOADED && !pod->is_published && (has_served || !is_revision(input, pod) || is_to_be_proved);
        bool may_have_left = hold->state == HOLD_MAYBE && !pod->is_published; /* the next list tells */
        wanted++;
        is_known_good |= is_current;
        has_rolled_and_failed |= hold->is_rolled && plan_has_failed(input, hold) && !is_current;
        bool was_rolled = hold->is_rolled && !pod->is_published; /* else it serves again, with weights that were new then */
        out += !is_current && (hold->running != HOLD_IDLE || was_rolled || has_left || may_have_left);
    }
    int turns = allowed_out(input, wanted) - out;
    return has_rolled_and_failed && !is_known_good ? 0 : turns;
}

static void choose_serving(const struct plan_input *input, struct plan *plan) {
    int turns = turns_to_roll(input, plan);
    for (size_t i = 0; i < input->pod_count; i++) {
        const struct plan_pod *pod = &input->pods[i];
        plan->is_serving[i] = plan->is_wanted[i] && can_serve(pod);
        if (plan->is_serving[i] && !is_revision(input, pod)) {
            if (!pod->is_published) {
                plan->is_serving[i] = false; /* what has left with old weights does not come back with them */
            } else if (turns > 0) {
                plan->is_serving[i] = false;
                turns--;
            }
        }
    }
}

/* ---- actions ---- */

static void act(const struct plan_input *input, struct plan *plan, size_t pod, enum hold_action kind) {
    if (input->pods[pod].is_busy) {
        plan->is_waiting[pod] = true;
    } else {
        plan->actions[plan->action_count++] = (struct plan_action){.kind = kind, .pod = pod};
    }
}

/* The drain time is over, or the engine has no request of the adapter any more. Some that were sent while the endpoint was there
 * may reach the engine a moment later: what it said before that does not count. */
static bool is_drained(const struct plan_input *input, struct plan *plan, size_t at) {
    const struct plan_pod *pod = &input->pods[at];
    int64_t first_ms = pod->hold->unpublished_ms + DRAIN_MS, last_ms = pod->hold->unpublished_ms + input->drain_ms;
    if (!is_due(input, plan, first_ms)) {
        return false;
    }
    bool is_idle = pod->idle_ms >= first_ms;
    plan->is_gauged[at] = !is_idle && input->now_ms < last_ms;
    return is_idle || is_due(input, plan, last_ms);
}

/* Endpoint out, drained, then unloaded. */
static void retire(const struct plan_input *input, struct plan *plan, size_t at) {
    const struct plan_pod *pod = &input->pods[at];
    const struct hold *hold = pod->hold;
    if (pod->is_published || plan->is_serving[at] || hold->unpublished_ms == 0) {
        return; /* the slice is written first */
    }
    if (hold->state == HOLD_MAYBE && pod->is_ready && (!pod->is_observed || hold->is_several)) {
        plan->is_polled[at] = true; /* which name it is under is not known */
        return;
    }
    /* What is on its way, or was done although the answer was lost, may show it as published yet. */
    if ((input->writes_running & WRITE_SLICE) != 0 || !is_due(input, plan, input->slice_written_ms + UNSEEN_MS)) {
        return;
    }
    /* An unload that failed says nothing against the load that may follow, hence its own clock: `tried` is another revision. */
    bool has_retry = hold->reason != NULL && strcmp(hold->reason, HOLD_REASON_UNLOAD) == 0;
    if (is_drained(input, plan, at) && (!has_retry || is_due(input, plan, hold->retry_at_ms))) {
        act(input, plan, at, HOLD_UNLOADING);
    }
}

static bool is_to_wait(const struct plan_input *input, const struct hold *hold) {
    return hold->is_fetching || plan_has_failed(input, hold);
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
        if (hold->is_fetching && strcmp(hold->tag, pod->tag) != 0) {
            retire(input, plan, at); /* it would come beside the one that is wanted now */
        } else if (!input->is_untold && (!is_to_wait(input, hold) || is_due(input, plan, hold->retry_at_ms))) {
            act(input, plan, at, HOLD_LOADING);
        }
        break;
    case HOLD_MAYBE:
        plan->is_polled[at] = true;
        break;
    case HOLD_LOADED:
        if (!is_revision(input, pod)) {
            retire(input, plan, at);
        } else if (!hold->is_proved && input->proof == PROOF_LIST) {
            plan->is_polled[at] = true; /* the next list proves it */
        } else if (!hold->is_proved && (!plan_has_failed(input, hold) || is_due(input, plan, hold->retry_at_ms))) {
            act(input, plan, at, HOLD_PROVING);
        } else if (hold->is_proved && hold->is_several && is_due(input, plan, hold->clear_at_ms)) {
            act(input, plan, at, HOLD_CLEARING);
        }
        break;
    case HOLD_CONFLICT:
        break; /* until the list says otherwise */
    }
}

/* One that is not ready keeps what it has: it may be wanted again when it is back, and then serves at once. */
static bool is_to_give_it_back(const struct plan_input *input, const struct plan_pod *pod) {
    bool is_over = input->adapter->is_deleting || input->invalid != NULL || input->adapter->replicas == 0;
    return may_hold(pod) && pod->ip[0] != '\0' && (pod->is_ready || !pod->matches || is_over);
}

static void plan_pods(const struct plan_input *input, struct plan *plan) {
    for (size_t i = 0; i < input->pod_count; i++) {
        const struct plan_pod *pod = &input->pods[i];
        if (pod->is_gone || pod->hold->running != HOLD_IDLE) {
            continue;
        }
        if (plan->is_wanted[i]) {
            advance(input, plan, i);
        } else if (is_to_give_it_back(input, pod)) {
            retire(input, plan, i);
        }
    }
}

/* ---- the object's own writes ---- */

static void write_finalizers(const struct plan_input *input, struct plan *plan, bool add) {
    /* A status that is being written changes the version that the patch below names. */
    if ((input->writes_running & (WRITE_FINALIZER | WRITE_STATUS)) != 0 || !is_due(input, plan, input->write_after_ms)) {
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

/* It answers and was not asked in vain: whoever is before us in the queue for it, our turn comes. */
static bool is_to_come(const struct plan_pod *pod) {
    return pod->is_ready && !pod->is_unreachable && pod->observe_failure == NULL && pod->hold->reason == NULL;
}

/* Who ran before us may have asked for a load, and the engine goes on with it: the list does not have it yet. */
static bool may_arrive(const struct plan_input *input, struct plan *plan, const struct plan_pod *pod) {
    bool is_open = pod->matches && pod->is_ready && !pod->is_unreachable && pod->hold->since_ms == 0;
    return is_open && input->arrivals_until_ms != 0 && !is_due(input, plan, input->arrivals_until_ms);
}

/* Deletion: done when nothing may hold it any more and no route leads to it, or when time is up. */
static void plan_release_object(const struct plan_input *input, struct plan *plan) {
    cleanup_buffer struct buffer left = BUFFER_INIT;
    int64_t deadline = input->deleting_since_ms + input->give_up_ms;
    bool is_any_to_come = false;
    for (size_t i = 0; i < input->pod_count; i++) {
        const struct plan_pod *pod = &input->pods[i];
        bool is_unknown = pod->matches && pod->is_ready && !pod->is_observed;
        plan->is_polled[i] |= is_unknown;
        is_unknown |= may_arrive(input, plan, pod);
        if (!pod->is_gone && (may_hold(pod) || pod->hold->running != HOLD_IDLE || is_unknown)) {
            is_any_to_come |= is_to_come(pod);
            buffer_printf(&left, "%spod %s%s%s", left.len > 0 ? "; " : "", pod->name, pod->hold->reason != NULL ? ": " : "",
                          pod->hold->reason != NULL ? hold_message(pod->hold) : "");
        }
    }
    if (input->seen.has_route) {
        buffer_printf(&left, "%sits HTTPRoute is still there", left.len > 0 ? "; " : "");
    }
    bool is_over = is_due(input, plan, deadline) && (!is_any_to_come || is_due(input, plan, deadline + PLAN_QUEUE_MS));
    if (left.len > 0 && !is_over) {
        return;
    }
    write_finalizers(input, plan, false);
    if (plan->finalizers != NULL && left.len > 0) {
        plan_add_event(plan, "Warning", "UnloadGivenUp", "deleted after %lld s although something of it may be left: %.900s",
                       (long long)((input->now_ms - input->deleting_since_ms) / 1000), left.data);
    } else if (plan->finalizers != NULL) {
        plan_add_event(plan, "Normal", "Unloaded", "no pod holds the adapter any more");
    }
}

/* ---- Service and slices ---- */

/* Whether the slices can wait for more of the pods: what serves already goes on, and each write less is one less for everybody who
 * watches. */
static bool may_collect(const struct plan_input *input, struct plan *plan) {
    bool is_any_published = false, is_any_coming = false;
    int64_t first_ms = PLAN_NEVER;
    if (input->seen.has_stranger) {
        return false; /* what leads nowhere is taken out at once */
    }
    for (size_t i = 0; i < input->pod_count; i++) {
        const struct plan_pod *pod = &input->pods[i];
        bool is_misnamed = plan->is_serving[i] && strcmp(publish_tag(pod), pod->published_tag) != 0;
        if (pod->is_published && (!plan->is_serving[i] || is_misnamed)) {
            return false;
        }
        bool is_new = plan->is_serving[i] && !pod->is_published;
        first_ms = is_new && pod->hold->since_ms < first_ms ? pod->hold->since_ms : first_ms;
        is_any_published |= pod->is_published;
        is_any_coming |= plan->is_wanted[i] && pod->is_ready && !plan->is_serving[i] && !pod->is_unreachable &&
                         (pod->hold->running != HOLD_IDLE || (pod->hold->failures == 0 && pod->hold->state != HOLD_CONFLICT));
    }
    if (!is_any_coming || first_ms == PLAN_NEVER) {
        return false;
    }
    int64_t due_ms = is_any_published ? input->slice_written_ms + COLLECT_MORE_MS : first_ms + COLLECT_FIRST_MS;
    return !is_due(input, plan, due_ms);
}

static void plan_published(const struct plan_input *input, struct plan *plan) {
    const struct plan_seen *seen = &input->seen;
    /* What is somebody else's must not gain our endpoints; taking them out is always right. */
    for (size_t i = 0; (seen->is_service_foreign || seen->is_slice_foreign) && i < input->pod_count; i++) {
        plan->is_serving[i] &= input->pods[i].is_published;
    }
    plan->digest = publish_digest(input, plan->is_serving);
    if (plan->digest == seen->digest || !is_due(input, plan, input->write_after_ms)) {
        return;
    }
    bool is_any_wanted = seen->has_service;
    for (size_t i = 0; i < input->pod_count; i++) {
        is_any_wanted |= plan->is_wanted[i];
    }
    if ((input->writes_running & WRITE_SERVICE) == 0 && !input->adapter->is_deleting && input->invalid == NULL && is_any_wanted) {
        plan->due |= WRITE_SERVICE;
    }
    if ((input->writes_running & WRITE_SLICE) == 0 && !may_collect(input, plan)) {
        plan->due |= WRITE_SLICE;
    }
}

void plan_adapter(const struct plan_input *input, struct plan *ret_plan) {
    size_t room = input->pod_count + 1;
    *ret_plan = (struct plan){.is_wanted = xcalloc(room, sizeof(bool)),
                              .is_serving = xcalloc(room, sizeof(bool)),
                              .is_polled = xcalloc(room, sizeof(bool)),
                              .is_gauged = xcalloc(room, sizeof(bool)),
                              .is_waiting = xcalloc(room, sizeof(bool)),
                              .actions = xcalloc(room, sizeof(struct plan_action)),
                              .look_again_ms = PLAN_NEVER};
    if (input->is_released) {
        return;
    }
    if (!has_finalizer(input->object)) {
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
        plan_status_decide(input, ret_plan);
    }
}

void plan_words(const struct plan_input *input, const struct plan_objects *objects, struct plan *plan) {
    if ((plan->due & WRITE_SERVICE) != 0) {
        plan->service = publish_service(input, plan->is_serving, objects->service);
    }
    if ((plan->due & WRITE_SLICE) != 0) {
        publish_slices(input, plan->is_serving, objects->slices, plan);
        bool is_service_said = (plan->due & WRITE_SERVICE) != 0 || input->adapter->is_deleting;
        plan->is_published = is_service_said && plan->service == NULL && plan->slice_count == 0;
    }
    if ((plan->due & WRITE_STATUS) != 0 && (plan->is_status_urgent || plan->slice_count == 0)) {
        plan_status_words(input, objects->status, plan);
    }
}
