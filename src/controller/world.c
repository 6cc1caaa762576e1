#include "controller/world.h"

#include "adapter/names.h"
#include "base/clock.h"
#include "controller/publish.h"

#include <string.h>

#define DRAIN_MS 1000
#define GIVE_UP_MS 30000
/* A pod that is Ready and does not answer keeps its endpoints for a moment: the sidecar alone may be restarting. */
#define UNREACHABLE_MS 10000
#define UNREACHABLE_FAILURES 3

char *world_key(const json_t *object) {
    return xasprintf("%s/%s", kube_namespace(object), kube_name(object));
}

struct adapter *world_adapter(struct controller *controller, const char *key) {
    return map_get(&controller->adapters, key);
}

struct pod *world_pod(struct controller *controller, const char *key) {
    return map_get(&controller->pods, key);
}

bool world_uses_sidecar(const struct controller *controller, const struct pod *pod) {
    return controller->options->enable_sidecar && pod->facts.has_sidecar;
}

enum dialect world_dialect(const struct controller *controller, const struct pod *pod) {
    return world_uses_sidecar(controller, pod) ? DIALECT_SIDECAR : pod->facts.engine;
}

/* ---- adapters ---- */

static bool may_hold(const struct hold *hold) {
    return hold->state == HOLD_LOADED || hold->state == HOLD_MAYBE;
}

static bool is_counted(const struct hold *hold) {
    return hold->is_wanted || may_hold(hold);
}

static void remove_hold(struct controller *controller, struct adapter *adapter, const char *pod_key) {
    struct hold *hold = map_remove(&adapter->holds, pod_key);
    struct pod *pod = world_pod(controller, pod_key);
    if (hold != NULL && pod != NULL) {
        pod->adapters -= hold->is_counted;
    }
    hold_free(hold);
}

static enum hold_effect recall_effect(const json_t *object) {
    const json_t *conditions = json_at(object, "status.conditions");
    for (size_t i = 0; i < json_array_size(conditions); i++) {
        const json_t *condition = json_array_get(conditions, i);
        if (strcmp(json_string_at(condition, "type", ""), "NoEffect") == 0) {
            return strcmp(json_string_at(condition, "status", ""), "True") == 0 ? EFFECT_NONE : EFFECT_SEEN;
        }
    }
    return EFFECT_UNKNOWN;
}

/* What an earlier run of the controller wrote down, to be confirmed by the pods' lists. */
static void recall_loads(struct adapter *adapter) {
    const json_t *loads = json_at(adapter->object, "status.loads");
    enum hold_effect effect = recall_effect(adapter->object);
    for (size_t i = 0; i < json_array_size(loads); i++) {
        const json_t *row = json_array_get(loads, i);
        const char *pod = json_string_at(row, "pod", "");
        const char *revision = json_string_at(row, "revision", "");
        if (pod[0] != '\0' && revision[0] != '\0') {
            cleanup_free char *key = xasprintf("%s/%s", adapter->spec.namespace, pod);
            struct hold *hold = hold_new();
            hold_recall(hold, revision, strcmp(json_string_at(row, "state", ""), "Ready") == 0, json_int_at(row, "loadMillis", -1),
                        effect);
            hold_free(map_set(&adapter->holds, key, hold));
        }
    }
}

static void forgive_holds(struct adapter *adapter) {
    struct map_entry *entry = NULL;
    for (size_t at = 0; (entry = map_next(&adapter->holds, &at)) != NULL;) {
        hold_forgive(entry->value);
    }
}

static void read_adapter(struct adapter *adapter, json_t *object) {
    int64_t generation = adapter->spec.generation;
    bool is_new = adapter->object == NULL;
    model_adapter_release(&adapter->spec);
    json_incref(object);
    json_decref(adapter->object);
    adapter->object = object;
    adapter->is_valid = model_adapter_read(object, &adapter->spec, &adapter->invalid) == 0;
    model_adapter_revision(&adapter->spec, adapter->revision);
    if (adapter->spec.is_deleting && adapter->deleting_since_ms == 0) {
        adapter->deleting_since_ms = clock_now_ms();
    }
    if (is_new) {
        recall_loads(adapter);
    } else if (generation != adapter->spec.generation) {
        forgive_holds(adapter);
    }
}

struct adapter *world_refresh_adapter(struct controller *controller, const char *key) {
    struct adapter *adapter = world_adapter(controller, key);
    const char *slash = strchr(key, '/');
    cleanup_free char *namespace = xstrndup(key, (size_t)(slash - key));
    json_t *object = watch_cache_get(controller->adapters_cache, namespace, slash + 1);
    if (adapter != NULL && (object == NULL || strcmp(kube_uid(object), adapter->spec.uid) != 0)) {
        world_remove_adapter(controller, adapter); /* gone, or another of the same name */
        adapter = NULL;
    }
    if (object == NULL) {
        return NULL;
    }
    if (adapter == NULL) {
        adapter = xcalloc(1, sizeof(*adapter));
        adapter->key = xstrdup(key);
        map_set(&controller->adapters, key, adapter);
    }
    if (adapter->object != object) {
        read_adapter(adapter, object);
    }
    return adapter;
}

void world_remove_adapter(struct controller *controller, struct adapter *adapter) {
    write_cancel(controller, adapter);
    map_remove(&controller->adapters, adapter->key);
    struct map_entry *entry = NULL;
    for (size_t at = 0; (entry = map_next(&adapter->holds, &at)) != NULL;) {
        cleanup_free char *key = xstrdup(entry->key);
        remove_hold(controller, adapter, key);
    }
    map_release(&adapter->holds);
    model_adapter_release(&adapter->spec);
    json_decref(adapter->object);
    free(adapter->write_failure);
    free(adapter->key);
    free(adapter);
}

struct hold *world_hold(struct adapter *adapter, const struct pod *pod) {
    return map_get(&adapter->holds, pod->key);
}

bool world_concerns(const struct adapter *adapter, const struct pod *pod) {
    if (strcmp(adapter->spec.namespace, pod->facts.namespace) != 0) {
        return false;
    }
    return map_get(&adapter->holds, pod->key) != NULL ||
           (adapter->is_valid && selector_matches(adapter->spec.selector, pod->facts.labels));
}

void world_wake_concerned(struct controller *controller, const struct pod *pod) {
    struct map_entry *entry = NULL;
    for (size_t at = 0; (entry = map_next(&controller->adapters, &at)) != NULL;) {
        if (world_concerns(entry->value, pod)) {
            controller_wake(controller, entry->key, 0);
        }
    }
}

/* ---- pods ---- */

static void forget_list(struct pod *pod) {
    map_release(&pod->listed);
    pod->listed = MAP_INIT;
    dialect_models_release(&pod->models);
    pod->is_observed = false;
}

struct pod *world_update_pod(struct controller *controller, json_t *object) {
    cleanup_free char *key = world_key(object);
    struct pod *pod = world_pod(controller, key);
    if (pod == NULL) {
        pod = xcalloc(1, sizeof(*pod));
        pod->controller = controller;
        pod->key = take_pointer(key);
        map_set(&controller->pods, pod->key, pod);
    }
    json_incref(object);
    json_decref(pod->object);
    pod->object = object;
    pod_facts_read(object, &pod->facts);
    char *start = pod_facts_start(object);
    if (pod->start == NULL || strcmp(pod->start, start) != 0) {
        forget_list(pod);
        free(take_pointer(pod->failure));
        pod->failures = 0;
        act_release(pod); /* it was meant for an engine that is no more */
    }
    free(pod->start);
    pod->start = start;
    return pod;
}

void world_remove_pod(struct controller *controller, const char *key) {
    struct pod *pod = map_remove(&controller->pods, key);
    if (pod == NULL) {
        return;
    }
    observe_release(pod);
    act_release(pod);
    struct map_entry *entry = NULL;
    for (size_t at = 0; (entry = map_next(&controller->adapters, &at)) != NULL;) {
        struct adapter *adapter = entry->value;
        if (world_concerns(adapter, pod)) {
            controller_wake(controller, adapter->key, 0);
            remove_hold(controller, adapter, pod->key);
        }
    }
    forget_list(pod);
    map_release(&pod->waiting);
    json_decref(pod->object);
    free(pod->observed_start);
    free(pod->poll_start);
    free(pod->failure);
    free(pod->start);
    free(pod->key);
    free(pod);
}

void world_free(struct controller *controller) {
    struct map_entry *entry = NULL;
    for (size_t at = 0; (entry = map_next(&controller->adapters, &at)) != NULL;) {
        world_remove_adapter(controller, entry->value);
    }
    for (size_t at = 0; (entry = map_next(&controller->pods, &at)) != NULL;) {
        cleanup_free char *key = xstrdup(entry->key);
        world_remove_pod(controller, key);
    }
    map_release(&controller->adapters);
    map_release(&controller->pods);
}

/* ---- the view ---- */

static void observe_hold(struct controller *controller, struct adapter *adapter, const struct pod *pod, struct hold *hold) {
    const struct dialect_model *model = map_get(&pod->listed, adapter->spec.name);
    struct hold_target target = {.name = adapter->spec.name,
                                 .artifact_url = adapter->spec.artifact_url,
                                 .revision = adapter->revision,
                                 .uses_sidecar = world_uses_sidecar(controller, pod)};
    struct hold_listing listing = {.is_listed = model != NULL,
                                   .root = model != NULL ? model->root : "",
                                   .is_base = model != NULL && model->parent == NULL,
                                   .asked_ms = pod->asked_ms,
                                   .start = pod->observed_start};
    hold_observe(hold, &target, &listing);
    bool is_listed_by_engine = hold->state == HOLD_LOADED && hold->root != NULL && !hold->is_proved;
    if (controller->options->proof == PROOF_LIST && is_listed_by_engine && strcmp(hold->revision, adapter->revision) == 0) {
        hold_note_proof(hold, EFFECT_UNKNOWN);
    }
}

static bool is_unreachable(const struct pod *pod, int64_t now_ms) {
    return pod->failures >= UNREACHABLE_FAILURES && now_ms - pod->failing_since_ms >= UNREACHABLE_MS;
}

static void view_pod(struct controller *controller, struct adapter *adapter, struct pod *pod, struct world_view *view) {
    int64_t now_ms = view->input.now_ms;
    struct hold *hold = world_hold(adapter, pod);
    if (hold == NULL) {
        hold = hold_new();
        map_set(&adapter->holds, pod->key, hold);
    }
    hold_meet(hold, pod->start);
    if (pod->is_observed) {
        observe_hold(controller, adapter, pod, hold);
    }
    bool is_published = publish_has_pod(view->input.slice, pod->facts.uid, pod->facts.ip);
    hold->unpublished_ms = is_published ? 0 : hold->unpublished_ms != 0 ? hold->unpublished_ms : now_ms;
    pod->adapters += is_counted(hold) - hold->is_counted;
    hold->is_counted = is_counted(hold);
    view->views[view->input.pod_count] = (struct plan_pod){
        .name = pod->facts.name,
        .uid = pod->facts.uid,
        .ip = pod->facts.ip,
        .node = pod->facts.node,
        .start = pod->start,
        .engine_port = pod->facts.engine_port,
        .matches = adapter->is_valid && selector_matches(adapter->spec.selector, pod->facts.labels),
        .is_ready = pod->facts.is_ready,
        .is_gone = pod->facts.is_gone,
        .is_observed = pod->is_observed,
        .is_unreachable = is_unreachable(pod, now_ms),
        .observe_failure = pod->failure,
        .is_busy = pod->operation_count >= POD_OPERATIONS_MAX,
        .adapters = pod->adapters - hold->is_counted,
        .is_published = is_published,
        .hold = hold,
    };
    view->pods[view->input.pod_count++] = pod;
}

/* Holds recalled for pods that do not exist any more. */
static void drop_orphans(struct controller *controller, struct adapter *adapter) {
    struct map_entry *entry = NULL;
    for (size_t at = 0; (entry = map_next(&adapter->holds, &at)) != NULL;) {
        if (world_pod(controller, entry->key) == NULL) {
            hold_free(map_remove(&adapter->holds, entry->key));
        }
    }
}

static int compare_pods(const void *a, const void *b) {
    return strcmp((*(struct pod *const *)a)->key, (*(struct pod *const *)b)->key);
}

void world_view_take(struct controller *controller, struct adapter *adapter, struct world_view *ret_view) {
    const struct controller_options *options = controller->options;
    const struct model_adapter *spec = &adapter->spec;
    *ret_view = (struct world_view){
        .views = xcalloc(controller->pods.count + 1, sizeof(*ret_view->views)),
        .pods = xcalloc(controller->pods.count + 1, sizeof(*ret_view->pods)),
        .input = {.object = adapter->object,
                  .adapter = spec,
                  .invalid = adapter->is_valid ? NULL : adapter->invalid.message,
                  .service = watch_cache_get(controller->services_cache, spec->namespace, spec->name),
                  .slice = watch_cache_get(controller->slices_cache, spec->namespace, spec->name),
                  .proof = options->proof,
                  .policy = options->policy,
                  .writes_running = adapter->writes_running,
                  .write_failure = adapter->write_failure,
                  .write_after_ms = adapter->write_after_ms,
                  .status_written_ms = adapter->status_written_ms,
                  .deleting_since_ms = adapter->deleting_since_ms,
                  .drain_ms = DRAIN_MS,
                  .give_up_ms = GIVE_UP_MS,
                  .now_ms = clock_now_ms(),
                  .wall_ms = clock_wall_ms()},
    };
    memcpy(ret_view->input.revision, adapter->revision, REVISION_BYTES);
    drop_orphans(controller, adapter);
    struct pod **concerned = xcalloc(controller->pods.count + 1, sizeof(struct pod *));
    size_t count = 0;
    struct map_entry *entry = NULL;
    for (size_t at = 0; (entry = map_next(&controller->pods, &at)) != NULL;) {
        if (world_concerns(adapter, entry->value)) {
            concerned[count++] = entry->value;
        }
    }
    /* By name: endpoints and instances are listed in this order, and another life of the controller must find it the same. */
    qsort(concerned, count, sizeof(struct pod *), compare_pods);
    for (size_t i = 0; i < count; i++) {
        view_pod(controller, adapter, concerned[i], ret_view);
    }
    free(concerned);
    ret_view->input.pods = ret_view->views;
}

void world_view_release(struct world_view *view) {
    free(view->views);
    free(view->pods);
}
