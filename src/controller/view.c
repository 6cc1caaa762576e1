/* The planner's input: the adapter and the pods that concern it, as far as is known. */
#include "adapter/names.h"
#include "base/clock.h"
#include "controller/objects.h"
#include "controller/publish.h"
#include "controller/routes.h"
#include "controller/world.h"

#include <string.h>

/* Of pods to which the adapter is nothing. */
static const struct hold blank = {.load_ms = -1};

/* ---- who is published ---- */

static struct pod *pod_of_endpoint(struct controller *controller, const struct adapter *adapter, const json_t *endpoint) {
    const char *name = json_string_at(endpoint, "targetRef.name", NULL);
    if (name != NULL) {
        cleanup_free char *key = xasprintf("%s/%s", adapter->spec.namespace, name);
        struct pod *pod = world_pod(controller, key);
        bool is_it = pod != NULL && strcmp(json_string_at(endpoint, "targetRef.uid", pod->facts.uid), pod->facts.uid) == 0;
        return is_it ? pod : NULL;
    }
    const char *ip = json_string_value(json_array_get(json_at(endpoint, "addresses"), 0));
    for (size_t i = 0; ip != NULL && adapter->selection != NULL && i < adapter->selection->pod_count; i++) {
        if (strcmp(adapter->selection->pods[i]->facts.ip, ip) == 0) { /* as AIBrix writes them */
            return adapter->selection->pods[i];
        }
    }
    return NULL;
}

static void note_published(struct binding *binding, const json_t *names) {
    binding->is_published = true;
    publish_tag_in(names, binding->adapter->spec.name, binding->pod->facts.name, binding->published_tag);
}

/* A pod that is named and not known may have been told to the slices' watch first: they are read again. */
static void read_slices(struct controller *controller, struct adapter *adapter) {
    bool has_unknown = false;
    for (size_t i = 0; i < adapter->binding_count; i++) {
        adapter->bindings[i]->is_published = false;
        adapter->bindings[i]->published_tag[0] = '\0';
    }
    for (size_t i = 0; i < adapter->slice_count; i++) {
        const json_t *reduced = world_slice(controller, adapter, i);
        cleanup_json json_t *slice =
            reduced != NULL && objects_is_controlled_by(reduced, adapter->spec.uid) ? objects_unpack(reduced) : NULL;
        cleanup_json json_t *names = publish_names(slice);
        const json_t *endpoints = json_at(slice, "endpoints");
        for (size_t k = 0; k < json_array_size(endpoints); k++) {
            struct pod *pod = pod_of_endpoint(controller, adapter, json_array_get(endpoints, k));
            has_unknown |= pod == NULL;
            if (pod != NULL) {
                note_published(world_bind(adapter, pod), names);
            }
        }
    }
    adapter->has_stale_slices = has_unknown;
}

/* ---- one pod ---- */

static bool reuses_prefixes(const struct pod *pod) {
    return pod->facts.engine == DIALECT_VLLM && !pod->is_davit;
}

/* Of the name under which the pod is to have the current revision. Whose engine it has is known once it was asked. */
static void wanted_tag(const struct controller *controller, const struct adapter *adapter, const struct pod *pod,
                       const struct hold *hold, char ret_tag[ENGINE_TAG_BYTES]) {
    if (!pod->is_observed) {
        memcpy(ret_tag, hold->tag, ENGINE_TAG_BYTES);
    } else if (controller->options->has_engine_names && reuses_prefixes(pod)) {
        engine_tag_of(adapter->revision, ret_tag);
    } else {
        ret_tag[0] = '\0';
    }
}

static const struct dialect_model *find_card(const void *list, const char *id) {
    return map_get(list, id);
}

/* Most pods list no name with a tag: those are not looked for there. */
static const struct known_names *names_at(const struct controller *controller, const struct adapter *adapter, const struct pod *pod,
                                          struct world_view *view) {
    bool has_tags = controller->options->has_engine_names || pod->lists_tags;
    struct known_names *names = has_tags ? &view->names : &view->own_name;
    if (names->count == 0) {
        known_names_init(names, adapter->spec.name, has_tags ? adapter->revision : "", has_tags ? adapter->known : NULL);
    }
    return names;
}

static void look(const struct controller *controller, const struct adapter *adapter, const struct pod *pod, const struct hold *hold,
                 struct world_view *view, struct hold_target *ret_target, struct hold_listing *ret_listing) {
    *ret_target = (struct hold_target){.name = adapter->spec.name,
                                       .artifact_url = adapter->spec.artifact_url,
                                       .revision = adapter->revision,
                                       .known = adapter->known,
                                       .uses_sidecar = world_uses_sidecar(controller, pod),
                                       .is_davit = pod->is_davit,
                                       .source_revision = adapter->spec.source_revision};
    wanted_tag(controller, adapter, pod, hold, ret_target->tag);
    *ret_listing = (struct hold_listing){.asked_ms = pod->asked_ms, .start = pod->observed_start};
    known_names_look(names_at(controller, adapter, pod, view), ret_target, hold, find_card, &pod->listed, ret_listing);
}

static void observe_hold(struct controller *controller, struct adapter *adapter, const struct pod *pod, struct hold *hold,
                         struct world_view *view) {
    struct hold_target target;
    struct hold_listing listing;
    look(controller, adapter, pod, hold, view, &target, &listing);
    hold_observe(hold, &target, &listing);
    bool is_listed_by_engine = hold->state == HOLD_LOADED && hold->root != NULL && !hold->is_proved;
    if (controller->options->proof == PROOF_LIST && is_listed_by_engine && hold_is_of(hold, adapter->revision, target.tag)) {
        hold_note_proof(hold, EFFECT_UNKNOWN);
    }
}

static void refresh_binding(struct controller *controller, struct binding *binding, struct world_view *view) {
    int64_t now_ms = view->input.now_ms;
    struct hold *hold = binding->hold;
    struct pod *pod = binding->pod;
    hold_meet(hold, pod->start);
    if (pod->is_observed) {
        observe_hold(controller, binding->adapter, pod, hold, view);
    }
    hold->unpublished_ms = binding->is_published ? 0 : hold->unpublished_ms != 0 ? hold->unpublished_ms : now_ms;
    world_count(binding);
}

static const char *node_label(const struct controller *controller, const struct pod *pod, const char *label) {
    const json_t *node = controller->nodes_cache != NULL && pod->facts.node[0] != '\0'
                             ? watch_cache_get(controller->nodes_cache, NULL, pod->facts.node)
                             : NULL;
    const char *value = json_string_value(json_object_get(json_at(node, "metadata.labels"), label));
    return value != NULL ? value : "";
}

static const char *domain_of(const struct controller *controller, const struct adapter *adapter, const struct pod *pod) {
    const char *key = adapter->spec.topology_key;
    return key[0] == '\0' ? pod->facts.node : node_label(controller, pod, key);
}

static bool lists_it(const struct controller *controller, const struct adapter *adapter, const struct pod *pod,
                     struct world_view *view) {
    struct hold_target target;
    struct hold_listing listing;
    look(controller, adapter, pod, &blank, view, &target, &listing);
    return listing.is_listed;
}

static void view_pod(struct controller *controller, struct adapter *adapter, struct pod *pod, struct binding *binding,
                     struct world_view *view) {
    if (binding == NULL && pod->is_observed && lists_it(controller, adapter, pod, view)) {
        binding = world_bind(adapter, pod); /* something of that name is there already */
    }
    if (binding != NULL) {
        refresh_binding(controller, binding, view);
    }
    const struct hold *hold = binding != NULL ? binding->hold : &blank;
    int others = pod->adapters - (binding != NULL && binding->is_counted);
    view->views[view->input.pod_count] = (struct plan_pod){
        .name = pod->facts.name,
        .uid = pod->facts.uid,
        .ip = pod->facts.ip,
        .second_ip = pod->facts.second_ip,
        .node = pod->facts.node,
        .zone = node_label(controller, pod, LABEL_ZONE),
        .domain = domain_of(controller, adapter, pod),
        .engine_port = pod->facts.engine_port,
        .matches = adapter->selection != NULL && selection_has(pod, adapter->selection),
        .is_ready = pod->facts.is_ready,
        .unready_ms = pod->unready_ms,
        .is_gone = pod->facts.is_gone,
        .is_observed = pod->is_observed,
        .is_unreachable = pod->is_lost,
        .observe_failure = pod->failure,
        .is_busy = pod->operation_count >= POD_OPERATIONS_MAX || controller->operations >= OPERATIONS_MAX,
        .is_full = pod->facts.capacity > 0 && others >= pod->facts.capacity,
        .reuses_prefixes = reuses_prefixes(pod),
        .is_direct = !world_uses_sidecar(controller, pod),
        .adapters = others,
        .is_published = binding != NULL && binding->is_published,
        .idle_ms = binding != NULL ? binding->idle_ms : 0,
        .hold = hold,
    };
    wanted_tag(controller, adapter, pod, hold, view->views[view->input.pod_count].tag);
    if (binding != NULL) {
        memcpy(view->views[view->input.pod_count].published_tag, binding->published_tag, ENGINE_TAG_BYTES);
    }
    view->pods[view->input.pod_count++] = pod;
}

/* ---- all that concern it, by name ---- */

static void list_pods(const struct adapter *adapter, struct world_view *view) {
    const struct selection *selection = adapter->is_seeking ? adapter->selection : NULL;
    size_t matching = selection != NULL ? selection->pod_count : 0;
    size_t s = 0, b = 0, count = 0;
    view->pods = xcalloc(matching + adapter->binding_count + 1, sizeof(*view->pods));
    while (s < matching || b < adapter->binding_count) {
        struct pod *matched = s < matching ? selection->pods[s] : NULL;
        struct pod *bound = b < adapter->binding_count ? adapter->bindings[b]->pod : NULL;
        int order = matched == NULL ? 1 : bound == NULL ? -1 : strcmp(matched->facts.name, bound->facts.name);
        view->pods[count++] = order <= 0 ? matched : bound;
        s += order <= 0;
        b += order >= 0;
    }
    view->input.pod_count = count;
    view->views = xcalloc(count + 1, sizeof(*view->views));
}

/* Revisions of before, while some pod was not asked yet what it has of them. Where each has a name of its own, a load that comes
 * late is not in the way of the next and is found by its name alone: then always. */
static const char *known_yet(const struct controller *controller, const struct adapter *adapter) {
    if (adapter->known[0] == '\0' || strcmp(adapter->known, adapter->revision) == 0 || adapter->selection == NULL) {
        return NULL;
    }
    if (controller->options->has_engine_names) {
        return adapter->known;
    }
    for (size_t i = 0; i < adapter->selection->pod_count; i++) {
        if (!adapter->selection->pods[i]->is_observed) {
            return adapter->known;
        }
    }
    return NULL;
}

static void see(const struct controller *controller, const struct adapter *adapter, struct plan_seen *seen) {
    const json_t *service = world_service(controller, adapter);
    const json_t *slice = world_slice(controller, adapter, 0);
    struct objects_seen status;
    objects_read_seen(adapter->object, &status);
    *seen = (struct plan_seen){.has_service = service != NULL,
                               .has_slice = slice != NULL,
                               .is_service_foreign = service != NULL && !objects_is_controlled_by(service, adapter->spec.uid),
                               .is_slice_foreign = slice != NULL && !objects_is_controlled_by(slice, adapter->spec.uid),
                               .has_stranger = adapter->has_stale_slices, /* they were read: some endpoint's pod is not known */
                               .has_route = adapter->spec.is_deleting && routes_has(controller->routes, adapter->key),
                               .digest = adapter->digest,
                               .phase = status.phase,
                               .ready_status = status.ready_status,
                               .ready_reason = status.ready_reason,
                               .is_fully_loaded = status.is_fully_loaded,
                               .observed_generation = status.observed_generation};
}

void world_view_take(struct controller *controller, struct adapter *adapter, struct world_view *ret_view) {
    const struct model_adapter *spec = &adapter->spec;
    if (adapter->has_stale_slices) {
        read_slices(controller, adapter);
    }
    *ret_view = (struct world_view){
        .input = {.object = adapter->object,
                  .adapter = spec,
                  .invalid = adapter->invalid,
                  .known = known_yet(controller, adapter),
                  .version = adapter->version,
                  .arrivals_until_ms = adapter->arrivals_until_ms,
                  .matching = adapter->selection != NULL ? (int)adapter->selection->pod_count : 0,
                  .ready = adapter->selection != NULL ? (int)adapter->selection->ready_count : 0,
                  .proof = controller->options->proof,
                  .policy = plan_policy(spec, controller->options->policy),
                  .writes_running = adapter->writes_running,
                  .write_failure = adapter->write_failure,
                  .write_after_ms = adapter->write_after_ms,
                  .is_untold = adapter->told_generation != spec->generation,
                  .status_written_ms = adapter->status_written_ms,
                  .slice_written_ms = adapter->slice_written_ms,
                  .is_released = adapter->is_released,
                  .deleting_since_ms = adapter->deleting_since_ms,
                  .drain_ms = plan_drain_ms(spec),
                  .give_up_ms = plan_drain_ms(spec) + PLAN_GIVE_UP_MS,
                  .now_ms = clock_now_ms(),
                  .wall_ms = clock_wall_ms()},
    };
    memcpy(ret_view->input.revision, adapter->revision, REVISION_BYTES);
    see(controller, adapter, &ret_view->input.seen);
    ret_view->input.is_untold &= ret_view->input.seen.observed_generation != spec->generation;
    list_pods(adapter, ret_view);
    size_t count = ret_view->input.pod_count;
    ret_view->input.pod_count = 0;
    for (size_t i = 0; i < count; i++) {
        struct pod *pod = ret_view->pods[i];
        view_pod(controller, adapter, pod, world_binding(adapter, pod), ret_view);
    }
    ret_view->input.pods = ret_view->views;
}

void world_view_release(struct world_view *view) {
    free(view->views);
    free(view->pods);
}
