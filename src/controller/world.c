#include "controller/world.h"

#include "base/clock.h"
#include "controller/objects.h"
#include "controller/publish.h"
#include "controller/recall.h"
#include "controller/secrets.h"

#include <stdio.h>
#include <string.h>

char *world_key(const json_t *object) {
    return xasprintf("%s/%s", kube_namespace(object), kube_name(object));
}

struct adapter *world_adapter(struct controller *controller, const char *key) {
    return map_get(&controller->adapters, key);
}

struct pod *world_pod(struct controller *controller, const char *key) {
    return map_get(&controller->pods, key);
}

static struct pod *pod_in(struct controller *controller, const char *namespace, const char *name) {
    cleanup_free char *key = xasprintf("%s/%s", namespace, name);
    return world_pod(controller, key);
}

bool world_uses_sidecar(const struct controller *controller, const struct pod *pod) {
    return controller->options->enable_sidecar && pod->facts.has_sidecar;
}

enum dialect world_dialect(const struct controller *controller, const struct pod *pod) {
    return world_uses_sidecar(controller, pod) ? DIALECT_SIDECAR : pod->facts.engine;
}

const char *world_api_key(const struct controller *controller, const struct adapter *adapter) {
    const struct model_adapter *spec = &adapter->spec;
    const char *key = spec->api_key;
    if (spec->api_key_secret_name[0] != '\0') {
        const json_t *values = secrets_peek(controller->secrets, spec->namespace, spec->api_key_secret_name);
        key = json_string_value(json_object_get(values, spec->api_key_secret_key));
    }
    return key != NULL && key[0] != '\0' ? key : NULL;
}

/* ---- bindings ---- */

/* Index of the first binding whose pod is not before `name`. */
static size_t find_binding(const struct adapter *adapter, const char *name) {
    size_t low = 0, high = adapter->binding_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (strcmp(adapter->bindings[middle]->pod->facts.name, name) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

struct binding *world_binding(const struct adapter *adapter, const struct pod *pod) {
    size_t at = find_binding(adapter, pod->facts.name);
    bool is_it = at < adapter->binding_count && adapter->bindings[at]->pod == pod;
    return is_it ? adapter->bindings[at] : NULL;
}

struct binding *world_bind(struct adapter *adapter, struct pod *pod) {
    struct binding *binding = world_binding(adapter, pod);
    if (binding != NULL) {
        return binding;
    }
    size_t at = find_binding(adapter, pod->facts.name);
    if (adapter->binding_count == adapter->binding_room) {
        adapter->binding_room = adapter->binding_room > 0 ? 2 * adapter->binding_room : 2;
        adapter->bindings = xrealloc(adapter->bindings, adapter->binding_room * sizeof(struct binding *));
    }
    binding = xcalloc(1, sizeof(*binding));
    *binding = (struct binding){.adapter = adapter, .pod = pod, .hold = hold_new()};
    memmove(&adapter->bindings[at + 1], &adapter->bindings[at], (adapter->binding_count - at) * sizeof(struct binding *));
    adapter->bindings[at] = binding;
    adapter->binding_count++;
    LIST_INSERT_HEAD(&pod->bindings, binding, in_pod);
    return binding;
}

static void wake_seeking(const struct pod *pod) {
    for (size_t i = 0; i < pod->selection_count; i++) {
        struct adapter *adapter = NULL;
        LIST_FOREACH(adapter, &pod->selections[i]->seeking, in_seeking) {
            controller_wake(pod->controller, adapter->key, 0);
        }
    }
}

static void set_counted(struct binding *binding, bool is_counted) {
    struct pod *pod = binding->pod;
    bool was_full = pod->facts.capacity > 0 && pod->adapters >= pod->facts.capacity;
    pod->adapters += is_counted - binding->is_counted;
    binding->is_counted = is_counted;
    if (was_full && pod->adapters < pod->facts.capacity) {
        wake_seeking(pod);
    }
}

void world_count(struct binding *binding) {
    const struct hold *hold = binding->hold;
    set_counted(binding, hold->is_wanted || hold->state == HOLD_LOADED || hold->state == HOLD_MAYBE || hold->is_fetching);
}

static void unbind(struct binding *binding) {
    struct adapter *adapter = binding->adapter;
    struct pod *pod = binding->pod;
    size_t at = find_binding(adapter, pod->facts.name);
    adapter->binding_count--;
    memmove(&adapter->bindings[at], &adapter->bindings[at + 1], (adapter->binding_count - at) * sizeof(struct binding *));
    LIST_REMOVE(binding, in_pod);
    if (binding->is_waiting) {
        TAILQ_REMOVE(&pod->waiting, binding, in_waiting);
    }
    set_counted(binding, false);
    hold_free(binding->hold);
    free(binding);
}

char *world_engine_name(const struct binding *binding) {
    return engine_name_of(binding->adapter->spec.name, binding->hold->tag);
}

void world_unbind_blank(struct binding *binding) {
    if (!binding->is_published && hold_is_blank(binding->hold)) {
        unbind(binding);
    }
}

/* ---- adapters ---- */

/* What an earlier run of the controller wrote down, to be confirmed by the pods' lists. */
static void recall_loads(struct controller *controller, struct adapter *adapter, const json_t *status) {
    const json_t *loads = json_at(status, "loads");
    for (size_t i = 0; i < json_array_size(loads); i++) {
        const json_t *row = json_array_get(loads, i);
        struct pod *pod = pod_in(controller, adapter->spec.namespace, json_string_at(row, "pod", ""));
        struct hold_record record;
        recall_load(status, row, &record);
        if (record.is_rolled && record.revision[0] == '\0') {
            record.revision = json_string_at(status, "revision", ""); /* it may have come since */
        }
        if (pod != NULL && record.revision[0] != '\0') {
            hold_recall(world_bind(adapter, pod)->hold, &record);
        }
    }
}

/* An earlier run's status speaks of the revision that it names. */
static void recall_version(struct adapter *adapter, const json_t *status) {
    const char *version = json_string_at(status, "version", "");
    if (strcmp(json_string_at(status, "revision", ""), adapter->revision) == 0 && adapter->spec.digest[0] == '\0' &&
        strlen(version) < VERSION_BYTES) {
        snprintf(adapter->version, VERSION_BYTES, "%s", version);
    }
}

static void read_adapter(struct controller *controller, struct adapter *adapter, json_t *object) {
    int64_t generation = adapter->spec.generation;
    bool is_new = adapter->object == NULL;
    model_adapter_release(&adapter->spec);
    json_incref(object);
    json_decref(adapter->object);
    adapter->object = object;
    struct error err = {0};
    free(take_pointer(adapter->invalid));
    if (model_adapter_read(object, &adapter->spec, &err) < 0) {
        adapter->invalid = xstrdup(err.message);
    }
    char before[REVISION_BYTES];
    memcpy(before, adapter->revision, REVISION_BYTES);
    model_adapter_revision(&adapter->spec, adapter->revision);
    if (strcmp(before, adapter->revision) != 0) {
        adapter->version[0] = '\0';
        recall_remember(&adapter->known, before); /* a load of it may be on its way yet */
    }
    if (is_new || generation != adapter->spec.generation) {
        if (adapter->invalid == NULL) {
            selection_join(controller, adapter);
        } else {
            selection_leave(controller, adapter);
        }
    } else {
        selector_free(take_pointer(adapter->spec.selector)); /* the selection has its own */
    }
    if (adapter->spec.is_deleting && adapter->deleting_since_ms == 0) {
        int64_t now_ms = clock_now_ms(), drain_ms = plan_drain_ms(&adapter->spec);
        adapter->deleting_since_ms = plan_deleting_since(object, drain_ms, now_ms, clock_wall_ms());
        selection_seek(adapter, true); /* whatever pod has it gives it back */
    }
    if (is_new) {
        cleanup_json json_t *status = objects_unpack(object);
        free(adapter->known);
        adapter->known = recall_revisions(status);
        recall_loads(controller, adapter, status);
        recall_version(adapter, status);
        struct objects_seen seen;
        objects_read_seen(object, &seen);
        adapter->arrivals_until_ms = plan_arrivals_until(object, seen.is_fully_loaded, seen.observed_generation, clock_now_ms());
    } else if (generation != adapter->spec.generation) {
        for (size_t i = 0; i < adapter->binding_count; i++) {
            hold_forgive(adapter->bindings[i]->hold);
        }
    }
}

/* Slices that were there before the adapter was known. Somebody may have deleted one in the middle. */
static void find_slices(struct controller *controller, struct adapter *adapter) {
    adapter->has_stale_slices = true;
    adapter->slice_count = 1;
    for (size_t i = 1; i < PLAN_SLICES_MAX; i++) {
        adapter->slice_count = world_slice(controller, adapter, i) != NULL ? i + 1 : adapter->slice_count;
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
    bool is_new = adapter == NULL;
    if (is_new) {
        adapter = xcalloc(1, sizeof(*adapter));
        adapter->key = xstrdup(key);
        map_set(&controller->adapters, key, adapter);
    }
    if (adapter->object != object) {
        read_adapter(controller, adapter, object);
    }
    if (is_new) {
        find_slices(controller, adapter);
    }
    return adapter;
}

void world_remove_adapter(struct controller *controller, struct adapter *adapter) {
    write_cancel(controller, adapter);
    write_leave_queue(controller, adapter);
    map_remove(&controller->adapters, adapter->key);
    while (adapter->binding_count > 0) {
        unbind(adapter->bindings[adapter->binding_count - 1]);
    }
    selection_leave(controller, adapter);
    model_adapter_release(&adapter->spec);
    json_decref(adapter->object);
    free(adapter->bindings);
    free(adapter->write_failure);
    free(adapter->invalid);
    free(adapter->known);
    free(adapter->key);
    free(adapter);
}

/* ---- Service and slices ---- */

json_t *world_service(const struct controller *controller, const struct adapter *adapter) {
    return watch_cache_get(controller->services_cache, adapter->spec.namespace, adapter->spec.name);
}

json_t *world_slice(const struct controller *controller, const struct adapter *adapter, size_t index) {
    cleanup_free char *name = publish_slice_name(adapter->spec.name, index);
    return watch_cache_get(controller->slices_cache, adapter->spec.namespace, name);
}

struct adapter *world_note_resource(struct controller *controller, const json_t *object, bool is_slice) {
    size_t index = 0;
    cleanup_free char *name = is_slice ? publish_parse_slice_name(kube_name(object), &index) : xstrdup(kube_name(object));
    if (name == NULL) {
        return NULL;
    }
    cleanup_free char *key = xasprintf("%s/%s", kube_namespace(object), name);
    struct adapter *adapter = world_adapter(controller, key);
    if (adapter == NULL) {
        return NULL;
    }
    adapter->digest = 0;
    if (is_slice) {
        adapter->has_stale_slices = true;
        adapter->slice_count = adapter->slice_count > index ? adapter->slice_count : index + 1;
    }
    return adapter;
}

void world_objects_take(const struct controller *controller, const struct adapter *adapter, unsigned due,
                        struct plan_objects *ret_objects) {
    *ret_objects = (struct plan_objects){0};
    if ((due & WRITE_SERVICE) != 0) {
        ret_objects->service = objects_unpack(world_service(controller, adapter));
    }
    for (size_t i = 0; (due & WRITE_SLICE) != 0 && i < adapter->slice_count; i++) {
        ret_objects->slices[i] = objects_unpack(world_slice(controller, adapter, i));
    }
    if ((due & WRITE_STATUS) != 0) {
        ret_objects->status = objects_unpack(adapter->object);
    }
}

void world_objects_release(struct plan_objects *objects) {
    json_decref((json_t *)objects->service);
    json_decref((json_t *)objects->status);
    for (size_t i = 0; i < PLAN_SLICES_MAX; i++) {
        json_decref((json_t *)objects->slices[i]);
    }
}

/* ---- pods ---- */

void world_wake_concerned(struct controller *controller, const struct pod *pod) {
    struct binding *binding = NULL;
    LIST_FOREACH(binding, &pod->bindings, in_pod) {
        controller_wake(controller, binding->adapter->key, 0);
    }
    wake_seeking(pod);
}

void world_note_node(struct controller *controller, const char *name) {
    struct map_entry *entry = NULL;
    for (size_t at = 0; (entry = map_next(&controller->pods, &at)) != NULL;) {
        const struct pod *pod = entry->value;
        if (strcmp(pod->facts.node, name) == 0) {
            world_wake_concerned(controller, pod);
        }
    }
}

bool world_is_polled(const struct pod *pod) {
    return pod->selection_count > 0 || !LIST_EMPTY(&pod->bindings);
}

static void forget_list(struct pod *pod) {
    map_release(&pod->listed);
    pod->listed = MAP_INIT;
    dialect_models_release(&pod->models);
    pod->list_digest = 0;
    pod->is_observed = false;
}

static struct pod *make_pod(struct controller *controller, const char *key) {
    struct pod *pod = xcalloc(1, sizeof(*pod));
    pod->controller = controller;
    pod->key = xstrdup(key);
    pod->start = xstrdup("");
    LIST_INIT(&pod->bindings);
    LIST_INIT(&pod->operations);
    TAILQ_INIT(&pod->waiting);
    map_set(&controller->pods, pod->key, pod);
    return pod;
}

static bool is_same_view(const struct pod_facts *a, const struct pod_facts *b) {
    return a->is_ready == b->is_ready && a->is_gone == b->is_gone && strcmp(a->ip, b->ip) == 0 &&
           strcmp(a->second_ip, b->second_ip) == 0 && strcmp(a->uid, b->uid) == 0 && strcmp(a->node, b->node) == 0 &&
           json_equal((json_t *)a->labels, (json_t *)b->labels);
}

/* It was meant for an engine that is no more. */
static void forget_engine(struct pod *pod) {
    observe_cancel(pod);
    gauge_cancel(pod);
    forget_list(pod);
    free(take_pointer(pod->failure));
    act_release_base_proof(take_pointer(pod->base_proof));
    pod->failures = 0;
    pod->is_lost = false;
    act_release(pod);
}

struct pod *world_update_pod(struct controller *controller, json_t *object) {
    cleanup_free char *key = world_key(object);
    struct pod *pod = world_pod(controller, key);
    bool is_new = pod == NULL;
    if (is_new) {
        pod = make_pod(controller, key);
    } else if (!json_equal((json_t *)pod->facts.labels, json_at(object, "metadata.labels"))) {
        world_wake_concerned(controller, pod); /* those that matched the old labels */
    }
    cleanup_json json_t *old_object = pod->object;
    struct pod_facts old_facts = pod->facts;
    pod->object = json_incref(object);
    pod_facts_read(object, &pod->facts);
    if (is_new || (old_facts.is_ready && !pod->facts.is_ready)) {
        pod->unready_ms = clock_now_ms();
    }
    char *start = pod_facts_start(object);
    /* At another address nothing that runs would arrive. */
    bool is_other_engine = is_new || strcmp(pod->start, start) != 0 || strcmp(old_facts.ip, pod->facts.ip) != 0;
    free(pod->start);
    pod->start = start;
    if (is_other_engine) {
        forget_engine(pod);
    }
    if (is_other_engine || !is_same_view(&old_facts, &pod->facts)) { /* heartbeats wake nobody */
        selection_update_pod(controller, pod, false);
        if (pod->facts.is_ready) {
            observe_soon(pod, 0);
        }
        world_wake_concerned(controller, pod);
    }
    return pod;
}

void world_remove_pod(struct controller *controller, const char *key) {
    struct pod *pod = map_remove(&controller->pods, key);
    if (pod == NULL) {
        return;
    }
    observe_release(pod);
    gauge_release(pod);
    act_release(pod);
    world_wake_concerned(controller, pod);
    selection_update_pod(controller, pod, true);
    while (!LIST_EMPTY(&pod->bindings)) {
        unbind(LIST_FIRST(&pod->bindings));
    }
    if (pod->is_queued) {
        TAILQ_REMOVE(&controller->waiting, pod, in_waiting);
    }
    forget_list(pod);
    json_decref(pod->object);
    free(pod->selections);
    act_release_base_proof(pod->base_proof);
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
    map_release(&controller->selections);
}
