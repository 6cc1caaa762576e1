#include "controller/plan_status.h"

#include "base/clock.h"
#include "controller/publish.h"
#include "controller/recall.h"

#include <stdarg.h>
#include <string.h>

#define LOADS_MAX 100
#define CAUSES_NAMED_MAX 10
/* Changes that decide nothing are collected: six writes an adapter from creation to Ready have to do. */
#define WRITE_GAP_MS 10000
#define WRITE_GAP_FETCHING_MS 5000
#define WRITE_GAP_FULL_MS 1500 /* when all pods have it; at once when one has not any more */

struct verdict {
    bool is_true;
    const char *reason; /* NULL = the condition is not there */
    struct buffer message;
};

enum condition {
    INITIALIZED,
    SCHEDULED,
    BOUND,
    RESOURCE_CREATED,
    READY,
    FULLY_LOADED,
    NO_EFFECT,
    WEIGHTS_MAY_BE_STALE,
    CONDITION_COUNT
};

static const char *const condition_types[CONDITION_COUNT] = {"Initialized", "Scheduled",   "Bound",    "ResourceCreated",
                                                             "Ready",       "FullyLoaded", "NoEffect", "WeightsMayBeStale"};

struct tally {
    int wanted, loaded, serving, without_effect, with_effect;
    int failing; /* not for want of patience */
    struct buffer pods, not_ready, full, causes, no_effect, stale, leaving;
    int causes_named, causes_more;
    bool is_fetching; /* some pod, which says how far it is */
};

static const char *plural(int count) {
    return count == 1 ? "" : "s";
}

static void decide(struct verdict *verdict, bool is_true, const char *reason, const char *format, ...) DAVIT_PRINTF(4, 5);
static void decide(struct verdict *verdict, bool is_true, const char *reason, const char *format, ...) {
    char message[4096];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof(message), format, arguments);
    va_end(arguments);
    verdict->is_true = is_true;
    verdict->reason = reason;
    buffer_clear(&verdict->message);
    buffer_append_text(&verdict->message, message);
}

/* ---- one pod ---- */

struct pod_state {
    const char *state, *reason;
    const char *message;
    bool is_failed;
};

/* New weights under a name that the engine knew, or may have known, with others. */
static bool is_maybe_stale(const struct plan_pod *pod) {
    return pod->reuses_prefixes && pod->hold->is_in_place && pod->hold->tag[0] == '\0';
}

static struct pod_state state_of(const struct plan_input *input, const struct plan *plan, size_t at) {
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
        const char *how = is_maybe_stale(pod) ? HOLD_REASON_IN_PLACE : "Loaded";
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

static bool is_worth_a_row(const struct plan_input *input, const struct plan *plan, size_t at) {
    const struct plan_pod *pod = &input->pods[at];
    bool may_hold = pod->hold->state == HOLD_LOADED || pod->hold->state == HOLD_MAYBE;
    return !pod->is_gone && (plan->is_wanted[at] || may_hold || pod->hold->running != HOLD_IDLE);
}

static const json_t *row_in(const json_t *loads, const char *pod) {
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
    struct pod_state state = state_of(input, plan, at);
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
    const json_t *before = row_in(old, input->pods[at].name);
    bool is_as_before = strcmp(json_string_at(before, "state", ""), state.state) == 0;
    json_object_set_new(row, "since", json_string(is_as_before ? json_string_at(before, "since", now) : now));
    if (state.message[0] != '\0') {
        json_object_set_new(row, "message", plan_text(state.message));
    }
    return row;
}

/* ---- all of them ---- */

static void list_name(struct buffer *names, const char *name) {
    if (names->len < 1000) {
        buffer_printf(names, "%s%s", names->len > 0 ? ", " : "", name);
    }
}

static void count_cause(struct tally *tally, const char *pod, const struct pod_state *state) {
    if (tally->causes_named == CAUSES_NAMED_MAX) {
        tally->causes_more++;
        return;
    }
    tally->causes_named++;
    buffer_printf(&tally->causes, "%spod %s: %s%s%.300s", tally->causes.len > 0 ? "; " : "", pod, state->reason,
                  state->message[0] != '\0' ? ": " : "", state->message);
}

/* A pod from which it has to go before the object can. */
static void count_leaving(const struct pod_state *state, const char *pod, struct buffer *leaving) {
    if (leaving->len < 2000) {
        buffer_printf(leaving, "%spod %s%s%.300s", leaving->len > 0 ? "; " : "", pod, state->message[0] != '\0' ? ": " : "",
                      state->message);
    }
}

static void count_pod(const struct plan_input *input, const struct plan *plan, size_t at, struct tally *tally) {
    const struct plan_pod *pod = &input->pods[at];
    struct pod_state state = state_of(input, plan, at);
    if (input->adapter->is_deleting && is_worth_a_row(input, plan, at)) {
        count_leaving(&state, pod->name, &tally->leaving);
    }
    if (!pod->matches || pod->is_gone) {
        return;
    }
    if (!pod->is_ready) {
        list_name(&tally->not_ready, pod->name);
        return;
    }
    if (!plan->is_wanted[at]) {
        if (pod->is_full) {
            list_name(&tally->full, pod->name);
        }
        return;
    }
    tally->wanted++;
    list_name(&tally->pods, pod->name);
    bool is_loaded = plan_is_current(input, pod) && !pod->is_unreachable;
    tally->loaded += is_loaded;
    tally->serving += is_loaded && plan->is_serving[at] && pod->is_published;
    tally->failing += state.is_failed;
    tally->is_fetching |= pod->hold->is_fetching;
    if (!is_loaded) {
        count_cause(tally, pod->name, &state);
    } else if (pod->hold->effect == EFFECT_NONE) {
        tally->without_effect++;
        list_name(&tally->no_effect, pod->name);
    } else if (pod->hold->effect == EFFECT_SEEN) {
        tally->with_effect++;
    }
    if (is_loaded && is_maybe_stale(pod)) {
        list_name(&tally->stale, pod->name);
    }
}

static void take_tally(const struct plan_input *input, const struct plan *plan, struct tally *tally) {
    for (size_t i = 0; i < input->pod_count; i++) {
        count_pod(input, plan, i, tally);
    }
    if (tally->causes_more > 0) {
        buffer_printf(&tally->causes, "; and %d more pods", tally->causes_more);
    }
}

/* ---- the conditions ---- */

/* Why no pod is to have it: the one thing that there is to say of pods then. NULL = some are to. */
static const char *rest_reason(const struct plan_input *input, const char **ret_words) {
    bool is_over = input->adapter->is_deleting;
    *ret_words = input->invalid != NULL ? input->invalid : is_over ? "the adapter is being deleted" : "0 replicas are wanted";
    return input->invalid != NULL          ? "ValidationFailed"
           : is_over                       ? "Terminating"
           : input->adapter->replicas == 0 ? "ScaledToZero"
                                           : NULL;
}

static void judge_rest(const char *reason, const char *words, struct verdict *verdicts) {
    bool is_as_wanted = strcmp(reason, "ScaledToZero") == 0;
    decide(&verdicts[SCHEDULED], is_as_wanted, is_as_wanted ? "Scheduled" : reason, "%s", words);
    decide(&verdicts[BOUND], false, reason, "%s", words);
    decide(&verdicts[FULLY_LOADED], false, reason, "%s", words);
}

static void judge_scheduled(const struct plan_input *input, const struct tally *tally, struct verdict *scheduled) {
    int replicas = input->adapter->replicas;
    if (input->matching == 0) {
        decide(scheduled, false, "NoMatchingPods", "no pod in namespace %s matches podSelector", input->adapter->namespace);
    } else if (input->ready == 0) {
        decide(scheduled, false, "PodNotReady", "none of the pods that match podSelector is ready (%d): %s", input->matching,
               buffer_text(&tally->not_ready));
    } else if (replicas > input->ready) {
        decide(scheduled, false, "InsufficientPods", "%d replicas wanted, %d ready pods match podSelector: %s", replicas,
               input->ready, buffer_text(&tally->pods));
    } else if (tally->full.len > 0 && tally->wanted < replicas) {
        decide(scheduled, false, "InsufficientCapacity",
               "%d replicas wanted, %d placed; these pods hold as many adapters as they can: %s", replicas, tally->wanted,
               buffer_text(&tally->full));
    } else {
        decide(scheduled, true, "Scheduled", "%s/%s is placed on %d pod%s: [%s]", input->adapter->namespace, input->adapter->name,
               tally->wanted, plural(tally->wanted), buffer_text(&tally->pods));
    }
}

static void judge_pods(const struct plan_input *input, const struct tally *tally, struct verdict *verdicts) {
    int replicas = input->adapter->replicas;
    judge_scheduled(input, tally, &verdicts[SCHEDULED]);
    if (tally->loaded > 0) {
        decide(&verdicts[BOUND], true, "Bound", "loaded and proved on %d of %d pods", tally->loaded, tally->wanted);
    } else if (tally->failing > 0) {
        decide(&verdicts[BOUND], false, "ModelAdapterLoadingError", "%s", buffer_text(&tally->causes));
    } else {
        decide(&verdicts[BOUND], false, tally->wanted > 0 ? "Loading" : verdicts[SCHEDULED].reason, "%s",
               tally->causes.len > 0 ? buffer_text(&tally->causes) : "there is no pod to load it on");
    }
    bool is_full = tally->wanted > 0 && tally->loaded == tally->wanted && replicas <= tally->wanted;
    decide(&verdicts[FULLY_LOADED], is_full, is_full ? "FullyLoaded" : "PartiallyLoaded", "%d of %d%s%s", tally->loaded,
           replicas > tally->wanted ? replicas : tally->wanted, tally->causes.len > 0 ? ": " : "", buffer_text(&tally->causes));
    if (tally->wanted == 0) {
        decide(&verdicts[FULLY_LOADED], false, verdicts[SCHEDULED].reason, "%s", buffer_text(&verdicts[SCHEDULED].message));
    }
}

static void judge_weights(const struct tally *tally, struct verdict *verdicts) {
    if (tally->without_effect > 0) {
        decide(&verdicts[NO_EFFECT], true, "NoEffect",
               "the answers have the base model's log-probabilities, so the engine may be answering without the adapter, on: %s",
               buffer_text(&tally->no_effect));
    } else if (tally->with_effect > 0) {
        decide(&verdicts[NO_EFFECT], false, "EffectSeen", "the adapter changes the model's log-probabilities");
    }
    if (tally->stale.len > 0) {
        decide(&verdicts[WEIGHTS_MAY_BE_STALE], true, "PrefixCacheKeyedByName",
               "other weights were or may have been loaded under this name before, and these engines key their prefix cache by it: "
               "%s; a restart of the pod clears it",
               buffer_text(&tally->stale));
    }
}

static void judge_resources(const struct plan_input *input, const struct tally *tally, struct verdict *verdict) {
    const char *name = input->adapter->name;
    if (input->seen.is_service_foreign) {
        decide(verdict, false, "ServiceCreateError", "Service %s/%s exists and does not belong to this ModelAdapter",
               input->adapter->namespace, name);
    } else if (input->seen.is_slice_foreign) {
        decide(verdict, false, "EndpointSliceCreateError", "EndpointSlice %s/%s exists and does not belong to this ModelAdapter",
               input->adapter->namespace, name);
    } else if (input->write_failure != NULL) {
        decide(verdict, false, !input->seen.has_service ? "ServiceCreateError" : "EndpointSliceCreateError", "%s",
               input->write_failure);
    } else if (!input->seen.has_service) {
        decide(verdict, false, "Pending", "the Service is %s",
               tally->wanted > 0 ? "being created" : "created once a pod is chosen");
    } else if (!input->seen.has_slice) {
        decide(verdict, false, "Pending", "the EndpointSlice is created once the adapter has answered on a pod");
    } else {
        decide(verdict, true, "ResourceCreated", "Service and EndpointSlice %s/%s are up to date", input->adapter->namespace, name);
    }
}

static bool is_resource_error(const struct verdict *verdict) {
    return !verdict->is_true && strcmp(verdict->reason, "Pending") != 0;
}

static void judge_ready(const struct plan_input *input, const struct tally *tally, struct verdict *verdicts) {
    struct verdict *ready = &verdicts[READY];
    int need = input->adapter->replicas >= 0 ? input->adapter->replicas : 1;
    const char *words = NULL, *rest = rest_reason(input, &words);
    if (rest != NULL && input->adapter->is_deleting && tally->leaving.len > 0) {
        decide(ready, false, rest, "the adapter is being drained and unloaded: %s", buffer_text(&tally->leaving));
    } else if (rest != NULL) {
        decide(ready, false, rest, "%s", words);
    } else if (is_resource_error(&verdicts[RESOURCE_CREATED])) {
        decide(ready, false, verdicts[RESOURCE_CREATED].reason, "%s", buffer_text(&verdicts[RESOURCE_CREATED].message));
    } else if (tally->serving >= need) {
        decide(ready, true, "ModelAdapterAvailable", "ModelAdapter %s/%s is ready", input->adapter->namespace,
               input->adapter->name);
    } else if (tally->failing > 0 && tally->failing == tally->wanted) {
        decide(ready, false, "ModelAdapterLoadingError", "Loading failed on all pods: %s", buffer_text(&tally->causes));
    } else if (tally->failing > 0) {
        decide(ready, false, "ModelAdapterLoadingError", "Loading failed on %d of %d pods: %s", tally->failing, tally->wanted,
               buffer_text(&tally->causes));
    } else if (!verdicts[SCHEDULED].is_true) {
        decide(ready, false, verdicts[SCHEDULED].reason, "%s", buffer_text(&verdicts[SCHEDULED].message));
    } else {
        decide(ready, false, "Loading", "loaded on %d of %d pods%s%s", tally->loaded, tally->wanted,
               tally->causes.len > 0 ? ": " : "", buffer_text(&tally->causes));
    }
}

static const char *phase_of(const struct plan_input *input, const struct tally *tally, const struct verdict *verdicts) {
    if (input->adapter->is_deleting) {
        return input->seen.phase[0] != '\0' ? input->seen.phase : "Pending";
    }
    if (input->invalid != NULL) {
        return "Failed";
    }
    if (verdicts[READY].is_true) {
        return "Running";
    }
    if (is_resource_error(&verdicts[RESOURCE_CREATED])) {
        return "ResourceCreated"; /* the reference's name for having failed at that */
    }
    if (input->adapter->replicas == 0) {
        return "Scaled";
    }
    if (tally->failing > 0 && tally->failing == tally->wanted) {
        return "Failed";
    }
    return tally->loaded > 0 ? "Bound" : verdicts[SCHEDULED].is_true ? "Scheduled" : "Pending";
}

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

static int compare_rows(const void *a, const void *b) {
    return strcmp(json_string_at(*(json_t *const *)a, "pod", ""), json_string_at(*(json_t *const *)b, "pod", ""));
}

static json_t *render_loads(const struct plan_input *input, const json_t *old, const struct plan *plan) {
    json_t **rows = xcalloc(input->pod_count + 1, sizeof(*rows));
    size_t count = 0;
    for (size_t i = 0; i < input->pod_count; i++) {
        if (is_worth_a_row(input, plan, i)) {
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
static json_t *render_earlier(const struct plan_input *input) {
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
    json_t *status = json_pack("{s:s, s:I, s:s, s:i, s:i, s:i, s:o, s:o, s:o}", "phase", phase_of(input, tally, verdicts),
                               "observedGeneration", (json_int_t)input->adapter->generation, "revision", input->revision,
                               "candidates", input->ready, "desiredReplicas", replicas >= 0 ? replicas : input->ready,
                               "readyReplicas", tally->serving, "conditions", conditions, "instances",
                               render_instances(input, plan), "loads", render_loads(input, json_at(old, "loads"), plan));
    json_t *earlier = render_earlier(input);
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
        const json_t *before = row_in(json_at(old, "loads"), pod);
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
        const json_t *row = row_in(json_at(old, "loads"), pod->name);
        if (row == NULL && plan->is_wanted[i]) {
            list_name(&instead, pod->name);
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
            list_name(&names, input->pods[i].name);
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
                       plural(tally->serving), input->adapter->name);
    } else if (!verdicts[READY].is_true && was_true(old, "Ready")) {
        bool is_as_wanted = input->adapter->replicas == 0; /* somebody scaled it down */
        plan_add_event(plan, is_as_wanted ? "Normal" : "Warning", "NotReady", "%s: %.900s", verdicts[READY].reason,
                       buffer_text(&verdicts[READY].message));
    }
    if (verdicts[NO_EFFECT].is_true && !was_true(old, "NoEffect")) {
        plan_add_event(plan, "Warning", "NoEffect", "%.1000s", buffer_text(&verdicts[NO_EFFECT].message));
    }
    const json_t *resources = condition_in(old, "ResourceCreated");
    if (is_resource_error(&verdicts[RESOURCE_CREATED]) &&
        strcmp(json_string_at(resources, "reason", ""), verdicts[RESOURCE_CREATED].reason) != 0) {
        plan_add_event(plan, "Warning", verdicts[RESOURCE_CREATED].reason, "%.1000s",
                       buffer_text(&verdicts[RESOURCE_CREATED].message));
    }
    if (input->invalid != NULL && strcmp(json_string_at(condition_in(old, "Ready"), "reason", ""), "ValidationFailed") != 0) {
        plan_add_event(plan, "Warning", "ValidationFailed", "%.1000s", input->invalid);
    }
}

/* ---- the parts ---- */

static void judge(const struct plan_input *input, const struct plan *plan, struct tally *tally, struct verdict *verdicts) {
    take_tally(input, plan, tally);
    decide(&verdicts[INITIALIZED], input->invalid == NULL, input->invalid == NULL ? "Initialized" : "ValidationFailed", "%s",
           input->invalid == NULL ? "the object is valid and has its finalizer" : input->invalid);
    const char *words = NULL, *rest = rest_reason(input, &words);
    if (rest != NULL) {
        judge_rest(rest, words, verdicts);
    } else {
        judge_pods(input, tally, verdicts);
    }
    judge_weights(tally, verdicts);
    judge_resources(input, tally, &verdicts[RESOURCE_CREATED]);
    judge_ready(input, tally, verdicts);
}

static void release(struct tally *tally, struct verdict *verdicts) {
    struct buffer *texts[] = {&tally->pods,      &tally->not_ready, &tally->full,   &tally->causes,
                              &tally->no_effect, &tally->stale,     &tally->leaving};
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        buffer_release(texts[i]);
    }
    for (int i = 0; i < CONDITION_COUNT; i++) {
        buffer_release(&verdicts[i].message);
    }
}

/* How long after the last write the next may come: at once for what somebody waits for. */
static int64_t write_gap_ms(const struct plan_input *input, const struct tally *tally, const struct verdict *verdicts) {
    const struct plan_seen *seen = &input->seen;
    const struct verdict *ready = &verdicts[READY];
    bool is_urgent = strcmp(seen->ready_status, ready->is_true ? "True" : "False") != 0 ||
                     strcmp(seen->ready_reason, ready->reason) != 0 || seen->observed_generation != input->adapter->generation;
    bool has_lost_one = seen->is_fully_loaded && !verdicts[FULLY_LOADED].is_true;
    bool has_failed = strcmp(phase_of(input, tally, verdicts), "Failed") == 0 && strcmp(seen->phase, "Failed") != 0;
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
    judge(input, plan, &tally, verdicts);
    int64_t gap_ms = write_gap_ms(input, &tally, verdicts);
    int64_t due_ms = input->status_written_ms + gap_ms;
    plan->is_status_urgent = gap_ms == 0;
    due_ms = due_ms > input->write_after_ms ? due_ms : input->write_after_ms;
    if (due_ms > input->now_ms) {
        plan_look_again(plan, due_ms);
    } else if (plan->is_status_urgent || (input->writes_running & WRITE_SLICE) == 0) { /* else its end is news for the status */
        plan->due |= WRITE_STATUS;
    }
    release(&tally, verdicts);
}

void plan_status_words(const struct plan_input *input, const json_t *old, struct plan *plan) {
    struct tally tally = {0};
    struct verdict verdicts[CONDITION_COUNT] = {0};
    judge(input, plan, &tally, verdicts);
    cleanup_json json_t *status = render(input, old, plan, &tally, verdicts);
    cleanup_json json_t *patch = difference(old, status, input->adapter->replicas);
    if (json_object_size(patch) > 0) {
        plan->status = json_pack("{s:O}", "status", patch);
        tell(input, old, status, &tally, verdicts, plan);
    }
    release(&tally, verdicts);
}
