#include "controller/plan_verdicts.h"

#include "controller/plan_loads.h"

#include <stdarg.h>
#include <string.h>

#define CAUSES_NAMED_MAX 10

const char *plan_plural(int count) {
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

/* ---- all of them ---- */

void plan_list_name(struct buffer *names, const char *name) {
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
    struct pod_state state = plan_pod_state(input, plan, at);
    if (input->adapter->is_deleting && plan_has_row(input, plan, at)) {
        count_leaving(&state, pod->name, &tally->leaving);
    }
    if (!pod->matches || pod->is_gone) {
        return;
    }
    if (!pod->is_ready) {
        plan_list_name(&tally->not_ready, pod->name);
        return;
    }
    if (!plan->is_wanted[at]) {
        if (pod->is_full) {
            plan_list_name(&tally->full, pod->name);
        }
        return;
    }
    tally->wanted++;
    plan_list_name(&tally->pods, pod->name);
    bool is_loaded = plan_is_current(input, pod) && !pod->is_unreachable;
    tally->loaded += is_loaded;
    tally->serving += is_loaded && plan->is_serving[at] && pod->is_published;
    tally->failing += state.is_failed;
    tally->is_fetching |= pod->hold->is_fetching;
    if (!is_loaded) {
        count_cause(tally, pod->name, &state);
    } else if (pod->hold->effect == EFFECT_NONE) {
        tally->without_effect++;
        plan_list_name(&tally->no_effect, pod->name);
    } else if (pod->hold->effect == EFFECT_SEEN) {
        tally->with_effect++;
    }
    if (is_loaded && plan_is_maybe_stale(pod)) {
        plan_list_name(&tally->stale, pod->name);
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
               tally->wanted, plan_plural(tally->wanted), buffer_text(&tally->pods));
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

bool plan_is_resource_error(const struct verdict *verdict) {
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
    } else if (plan_is_resource_error(&verdicts[RESOURCE_CREATED])) {
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

const char *plan_phase(const struct plan_input *input, const struct tally *tally, const struct verdict *verdicts) {
    if (input->adapter->is_deleting) {
        return input->seen.phase[0] != '\0' ? input->seen.phase : "Pending";
    }
    if (input->invalid != NULL) {
        return "Failed";
    }
    if (verdicts[READY].is_true) {
        return "Running";
    }
    if (plan_is_resource_error(&verdicts[RESOURCE_CREATED])) {
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

/* ---- the parts ---- */

void plan_judge(const struct plan_input *input, const struct plan *plan, struct tally *tally, struct verdict *verdicts) {
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

void plan_judge_release(struct tally *tally, struct verdict *verdicts) {
    struct buffer *texts[] = {&tally->pods,      &tally->not_ready, &tally->full,   &tally->causes,
                              &tally->no_effect, &tally->stale,     &tally->leaving};
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        buffer_release(texts[i]);
    }
    for (int i = 0; i < CONDITION_COUNT; i++) {
        buffer_release(&verdicts[i].message);
    }
}
