/* The controller's shell, simulated: as world.c, view.c, controller.c, act.c and write.c, without what they talk to. */
#include "plan_world_parts.h"

#include "controller/known_names.h"
#include "controller/publish.h"
#include "controller/recall.h"
#include "kube/client.h"

#include <string.h>

static int64_t plans;

int64_t world_plans(void) {
    return plans;
}

/* ---- the record ---- */

void world_forget_record(struct world *world, int a) {
    struct world_adapter *adapter = &world->adapters[a];
    if (adapter->known == NULL) {
        return;
    }
    for (int i = 0; i < WORLD_WRITES; i++) {
        json_decref(adapter->writes[i].body);
        adapter->writes[i] = (struct world_write){0};
    }
    for (int i = 0; i < WORLD_OPERATIONS; i++) {
        if (world->operations[i].kind != HOLD_IDLE && world->operations[i].adapter == a) {
            world->operations[i].is_orphan = true;
        }
    }
    for (int p = 0; p < WORLD_PODS; p++) {
        hold_free(take_pointer(adapter->holds[p]));
        adapter->gauge_ms[p] = PLAN_NEVER;
        adapter->idle_ms[p] = 0;
    }
    model_adapter_release(&adapter->spec);
    json_decref(take_pointer(adapter->known));
    free(take_pointer(adapter->earlier));
    adapter->told_generation = 0;
    adapter->write_failures = 0;
    adapter->write_after_ms = adapter->deleting_since_ms = adapter->status_written_ms = adapter->slice_written_ms = 0;
    adapter->look_again_ms = PLAN_NEVER;
    adapter->digest = 0;
    adapter->is_released = false;
}

static void recall(struct world *world, int a) {
    struct world_adapter *adapter = &world->adapters[a];
    const json_t *status = json_at(adapter->known, "status"), *loads = json_at(status, "loads");
    adapter->earlier = recall_revisions(status);
    for (size_t i = 0; i < json_array_size(loads); i++) {
        const json_t *row = json_array_get(loads, i);
        struct hold_record record;
        recall_load(status, row, &record);
        if (record.is_rolled && record.revision[0] == '\0') {
            record.revision = json_string_at(status, "revision", ""); /* it may have come since */
        }
        for (int p = 0; p < WORLD_PODS; p++) {
            if (world->pods[p].exists && strcmp(world->pods[p].name, json_string_at(row, "pod", "")) == 0 &&
                record.revision[0] != '\0') {
                hold_recall(adapter->holds[p], &record);
            }
        }
    }
}

static const json_t *condition_of(const json_t *object, const char *type) {
    const json_t *conditions = json_at(object, "status.conditions");
    for (size_t i = 0; i < json_array_size(conditions); i++) {
        if (strcmp(json_string_at(json_array_get(conditions, i), "type", ""), type) == 0) {
            return json_array_get(conditions, i);
        }
    }
    return NULL;
}

static void read_object(struct world *world, int a) {
    struct world_adapter *adapter = &world->adapters[a];
    int64_t generation = adapter->spec.generation;
    bool is_new = adapter->known == NULL;
    struct error err = {0};
    json_decref(adapter->known);
    adapter->known = json_incref(adapter->object.seen);
    model_adapter_release(&adapter->spec);
    if (model_adapter_read(adapter->known, &adapter->spec, &err) < 0) {
        world_fail(world, "%s", err.message);
    }
    char before[REVISION_BYTES];
    memcpy(before, adapter->revision, REVISION_BYTES);
    model_adapter_revision(&adapter->spec, adapter->revision);
    if (!is_new && strcmp(before, adapter->revision) != 0) {
        recall_remember(&adapter->earlier, before);
    }
    adapter->is_seeking |= is_new || generation != adapter->spec.generation;
    if (adapter->spec.is_deleting && adapter->deleting_since_ms == 0) {
        int64_t drain_ms = plan_drain_ms(&adapter->spec);
        adapter->deleting_since_ms = plan_deleting_since(adapter->known, drain_ms, world->now_ms, world->now_ms);
        adapter->is_seeking = true;
    }
    for (int p = 0; is_new && p < WORLD_PODS; p++) {
        adapter->holds[p] = hold_new();
        adapter->out_ms[p] = -1;
    }
    if (is_new) {
        recall(world, a);
        bool is_full = strcmp(json_string_at(condition_of(adapter->known, "FullyLoaded"), "status", ""), "True") == 0;
        int64_t observed = json_int_at(adapter->known, "status.observedGeneration", 0);
        adapter->arrivals_until_ms = plan_arrivals_until(adapter->known, is_full, observed, world->now_ms);
    } else if (generation != adapter->spec.generation) {
        for (int p = 0; p < WORLD_PODS; p++) {
            hold_forgive(adapter->holds[p]);
        }
    }
}

static bool refresh(struct world *world, int a) {
    struct world_adapter *adapter = &world->adapters[a];
    json_t *seen = adapter->object.seen;
    if (adapter->known != NULL && (seen == NULL || strcmp(kube_uid(seen), kube_uid(adapter->known)) != 0)) {
        world_forget_record(world, a);
    }
    if (seen != NULL && seen != adapter->known) {
        read_object(world, a);
    }
    return seen != NULL;
}

void world_restart_controller(struct world *world) {
    for (int a = 0; a < WORLD_ADAPTERS; a++) {
        struct world_adapter *adapter = &world->adapters[a];
        world_forget_record(world, a);
        for (size_t i = 0; i < WORLD_RESOURCES; i++) { /* it reads everything anew */
            world_resource_at(adapter, i)->see_ms = world->now_ms;
        }
        adapter->deleted_ms = adapter->deleted_ms != 0 ? world->now_ms : 0; /* it counts from when it learns of it */
        adapter->is_woken = true;
    }
    for (int p = 0; p < WORLD_PODS; p++) {
        struct world_pod *pod = &world->pods[p];
        pod->is_observed = pod->has_failed = pod->is_awaited = false;
        pod->failures = 0;
        pod->poll_ms = pod->exists ? world->now_ms + 5 : PLAN_NEVER; /* all objects are read before the first answer */
    }
}

/* ---- the view ---- */

static bool is_counted(const struct hold *hold) {
    return hold != NULL && (hold->is_wanted || hold->state == HOLD_LOADED || hold->state == HOLD_MAYBE);
}

static int operations_on(const struct world *world, int p) {
    int count = 0;
    for (int i = 0; i < WORLD_OPERATIONS; i++) {
        const struct world_operation *operation = &world->operations[i];
        count += operation->kind != HOLD_IDLE && operation->pod == p && !operation->is_orphan;
    }
    return count;
}

static bool is_seen_published(const struct world_adapter *adapter, const struct world_pod *pod) {
    for (size_t i = 0; i < WORLD_SLICES; i++) {
        const json_t *slice = adapter->slices[i].seen;
        if (slice != NULL && !publish_is_foreign(adapter->known, slice) && publish_has_pod(slice, pod->uid, pod->ip)) {
            return true;
        }
    }
    return false;
}

static void seen_tag(const struct world_adapter *adapter, const struct world_pod *pod, char ret_tag[ENGINE_TAG_BYTES]) {
    ret_tag[0] = '\0';
    for (size_t i = 0; i < WORLD_SLICES; i++) {
        const json_t *slice = adapter->slices[i].seen;
        if (slice != NULL && !publish_is_foreign(adapter->known, slice) && publish_has_pod(slice, pod->uid, pod->ip)) {
            cleanup_json json_t *names = publish_names(slice);
            publish_tag_in(names, adapter->name, pod->name, ret_tag);
        }
    }
}

static bool has_stranger(const struct world *world, const struct world_adapter *adapter) {
    for (size_t i = 0; i < WORLD_SLICES; i++) {
        const json_t *slice = adapter->slices[i].seen;
        const json_t *endpoints = slice != NULL && !publish_is_foreign(adapter->known, slice) ? json_at(slice, "endpoints") : NULL;
        for (size_t k = 0; k < json_array_size(endpoints); k++) {
            const char *uid = json_string_at(json_array_get(endpoints, k), "targetRef.uid", "");
            bool is_known = false;
            for (int p = 0; p < WORLD_PODS; p++) {
                is_known |= world->pods[p].exists && strcmp(world->pods[p].uid, uid) == 0;
            }
            if (!is_known) {
                return true;
            }
        }
    }
    return false;
}

void world_wanted_tag(const struct world *world, int a, int p, char ret_tag[ENGINE_TAG_BYTES]) {
    const struct world_adapter *adapter = &world->adapters[a];
    ret_tag[0] = '\0';
    if (!world->pods[p].is_observed) {
        memcpy(ret_tag, adapter->holds[p]->tag, ENGINE_TAG_BYTES);
    } else if (world->has_engine_names && world->pods[p].reuses_prefixes) {
        engine_tag_of(adapter->revision, ret_tag);
    }
}

static int count_tagged(const struct world_adapter *adapter, const char roots[WORLD_VERSIONS][WORLD_ROOT_BYTES]) {
    struct known_names names;
    int count = 0;
    known_names_init(&names, adapter->name, adapter->revision, adapter->earlier);
    for (size_t i = 1; i < names.count; i++) {
        for (int v = 0; v < WORLD_VERSIONS; v++) {
            count += roots[v][0] != '\0' && strcmp(adapter->tags[v], names.rows[i].tag) == 0;
        }
    }
    return count;
}

int world_count_names(const struct world *world, int a, int p) {
    const struct world_pod *pod = &world->pods[p];
    bool has_own = pod->roots[a][0] != '\0' && strcmp(pod->roots[a], WORLD_FOREIGN_ROOT) != 0;
    return has_own + count_tagged(&world->adapters[a], pod->tagged[a]);
}

bool world_lists_ours(const struct world *world, int a, int p) {
    const struct world_adapter *adapter = &world->adapters[a];
    char root[WORLD_ROOT_BYTES];
    world_root(world, a, adapter->spec.artifact_url, adapter->revision, root);
    return strcmp(world->pods[p].listed[a], root) == 0 || count_tagged(adapter, world->pods[p].listed_tagged[a]) > 0;
}

struct list {
    struct world *world;
    int a, p;
    struct dialect_model card; /* the last that was found */
};

static const struct dialect_model *find_card(const void *arg, const char *id) {
    struct list *list = (struct list *)arg;
    struct world_pod *pod = &list->world->pods[list->p];
    size_t len = 0;
    const char *tag = engine_name_split(id, &len);
    char *root = pod->listed[list->a];
    for (int v = 0; v < WORLD_VERSIONS && tag[0] != '\0'; v++) {
        bool is_it = strcmp(list->world->adapters[list->a].tags[v], tag) == 0;
        root = is_it ? pod->listed_tagged[list->a][v] : v == 0 ? (char *)"" : root;
    }
    list->card = (struct dialect_model){.id = (char *)id, .root = root, .parent = (char *)"base"};
    return root[0] != '\0' ? &list->card : NULL;
}

static void observe(struct world *world, int a, int p, struct hold *hold) {
    struct world_adapter *adapter = &world->adapters[a];
    struct world_pod *pod = &world->pods[p];
    struct hold_target target = {.name = adapter->name,
                                 .artifact_url = adapter->spec.artifact_url,
                                 .revision = adapter->revision,
                                 .uses_sidecar = world->uses_sidecar,
                                 .known = adapter->earlier};
    struct hold_listing listing = {.asked_ms = pod->asked_ms, .start = pod->observed_start};
    struct known_names names;
    hold_meet(hold, pod->start_text);
    if (pod->is_observed) {
        struct list list = {.world = world, .a = a, .p = p};
        world_wanted_tag(world, a, p, target.tag);
        known_names_init(&names, adapter->name, adapter->revision, adapter->earlier);
        known_names_look(&names, &target, hold, find_card, &list, &listing);
        hold_observe(hold, &target, &listing);
    }
}

static struct plan_pod view_pod(struct world *world, int a, int p, bool is_published) {
    struct world_adapter *adapter = &world->adapters[a];
    struct world_pod *pod = &world->pods[p];
    struct hold *hold = adapter->holds[p];
    int others = 0;
    for (int other = 0; other < WORLD_ADAPTERS; other++) {
        others += other != a && is_counted(world->adapters[other].holds[p]);
    }
    bool is_unreachable = pod->failures >= 3 && world->now_ms - pod->failing_since_ms >= UNREACHABLE_MS;
    struct plan_pod view = {.name = pod->name,
                            .uid = pod->uid,
                            .ip = pod->ip,
                            .second_ip = pod->second_ip,
                            .node = pod->node,
                            .zone = pod->zone,
                            .domain = adapter->spec.topology_key[0] != '\0' ? pod->zone : pod->node,
                            .engine_port = pod->port,
                            .matches = pod->has_label,
                            .is_ready = pod->is_ready && pod->gone_ms == 0,
                            .unready_ms = pod->unready_ms,
                            .is_gone = pod->gone_ms != 0,
                            .is_observed = pod->is_observed,
                            .is_unreachable = is_unreachable,
                            .observe_failure = pod->has_failed ? "timed out" : NULL,
                            .is_busy = operations_on(world, p) >= world->operations_max,
                            .is_full = pod->capacity > 0 && others >= pod->capacity,
                            .reuses_prefixes = pod->reuses_prefixes,
                            .adapters = others,
                            .is_published = is_published,
                            .idle_ms = adapter->idle_ms[p],
                            .hold = hold};
    world_wanted_tag(world, a, p, view.tag);
    seen_tag(adapter, pod, view.published_tag);
    return view;
}

struct view {
    struct plan_input input;
    struct plan_pod pods[WORLD_PODS];
    int slots[WORLD_PODS]; /* of the pods */
};

static int compare_names(const void *a, const void *b) {
    return strcmp(((const struct plan_pod *)a)->name, ((const struct plan_pod *)b)->name);
}

/* Those bound to it, and all that match while it looks for pods. */
static void view_pods(struct world *world, int a, struct view *view) {
    struct world_adapter *adapter = &world->adapters[a];
    for (int p = 0; p < WORLD_PODS; p++) {
        struct world_pod *pod = &world->pods[p];
        struct hold *hold = adapter->holds[p];
        if (!pod->exists) {
            continue;
        }
        view->input.matching += pod->has_label;
        view->input.ready += pod->has_label && pod->is_ready && pod->gone_ms == 0;
        bool is_published = is_seen_published(adapter, pod);
        pod->unready_ms = pod->is_ready ? 0 : pod->unready_ms != 0 ? pod->unready_ms : world->now_ms;
        observe(world, a, p, hold);
        hold->unpublished_ms = is_published ? 0 : hold->unpublished_ms != 0 ? hold->unpublished_ms : world->now_ms;
        bool is_bound = is_published || !hold_is_blank(hold);
        if (is_bound || (adapter->is_seeking && pod->has_label)) {
            view->pods[view->input.pod_count++] = view_pod(world, a, p, is_published);
        } else {
            adapter->gauge_ms[p] = PLAN_NEVER; /* it was the binding that drained */
        }
    }
    qsort(view->pods, view->input.pod_count, sizeof(view->pods[0]), compare_names);
    for (size_t i = 0; i < view->input.pod_count; i++) {
        for (int p = 0; p < WORLD_PODS; p++) {
            view->slots[i] = view->pods[i].hold == adapter->holds[p] ? p : view->slots[i];
        }
    }
}

static bool has_unasked(const struct world *world) {
    for (int p = 0; p < WORLD_PODS; p++) {
        if (world->pods[p].exists && world->pods[p].has_label && !world->pods[p].is_observed) {
            return true;
        }
    }
    return false;
}

static void take_view(struct world *world, int a, struct view *view) {
    struct world_adapter *adapter = &world->adapters[a];
    const json_t *ready = condition_of(adapter->known, "Ready");
    const json_t *full = condition_of(adapter->known, "FullyLoaded");
    int64_t drain_ms = adapter->spec.drain_ms > WORLD_DRAIN_MS ? adapter->spec.drain_ms : WORLD_DRAIN_MS;
    enum placement_policy policy = world->policy;
    (void)placement_policy_parse(adapter->spec.placement_policy, &policy);
    *view = (struct view){.input = {.object = adapter->known,
                                    .adapter = &adapter->spec,
                                    .pods = view->pods,
                                    .policy = policy,
                                    .write_after_ms = adapter->write_after_ms,
                                    .status_written_ms = adapter->status_written_ms,
                                    .slice_written_ms = adapter->slice_written_ms,
                                    .is_released = adapter->is_released,
                                    .deleting_since_ms = adapter->deleting_since_ms,
                                    .arrivals_until_ms = adapter->arrivals_until_ms,
                                    .drain_ms = drain_ms,
                                    .give_up_ms = WORLD_GIVE_UP_MS + drain_ms,
                                    .now_ms = world->now_ms,
                                    .wall_ms = world->now_ms}};
    memcpy(view->input.revision, adapter->revision, REVISION_BYTES);
    view->input.is_untold = adapter->told_generation != adapter->spec.generation &&
                            json_int_at(adapter->known, "status.observedGeneration", 0) != adapter->spec.generation;
    bool is_told = world->has_engine_names || has_unasked(world);
    view->input.known = strcmp(adapter->earlier, adapter->revision) != 0 && is_told ? adapter->earlier : NULL;
    for (int i = 0; i < WORLD_WRITES; i++) {
        view->input.writes_running |= (unsigned)adapter->writes[i].kind;
    }
    view->input.seen = (struct plan_seen){.has_service = adapter->service.seen != NULL,
                                          .has_slice = adapter->slices[0].seen != NULL,
                                          .is_service_foreign = publish_is_foreign(adapter->known, adapter->service.seen),
                                          .is_slice_foreign = publish_is_foreign(adapter->known, adapter->slices[0].seen),
                                          .has_stranger = has_stranger(world, adapter),
                                          .digest = adapter->digest,
                                          .phase = json_string_at(adapter->known, "status.phase", ""),
                                          .ready_status = json_string_at(ready, "status", ""),
                                          .ready_reason = json_string_at(ready, "reason", ""),
                                          .is_fully_loaded = strcmp(json_string_at(full, "status", ""), "True") == 0,
                                          .observed_generation = json_int_at(adapter->known, "status.observedGeneration", 0)};
    view_pods(world, a, view);
}

static void make_plan(struct world *world, int a, const struct view *view, struct plan *plan) {
    struct world_adapter *adapter = &world->adapters[a];
    struct plan_objects objects = {.service = adapter->service.seen, .status = json_at(adapter->known, "status")};
    for (size_t i = 0; i < WORLD_SLICES; i++) {
        objects.slices[i] = adapter->slices[i].seen;
    }
    plans++;
    plan_adapter(&view->input, plan);
    if (plan->due != 0) {
        plan_words(&view->input, &objects, plan);
    }
    world_check_plan(world, a, &view->input, plan, view->slots);
}

/* ---- what the plan asks for ---- */

static void start_write(struct world *world, int a, struct world_write write) {
    struct world_adapter *adapter = &world->adapters[a];
    unsigned percent = adapter->write_failures < 3 ? world->write_fails_percent : 0;
    for (int i = 0; i < WORLD_WRITES; i++) {
        if (adapter->writes[i].kind == 0) {
            write.done_ms = world->now_ms + 1 + world_random(world, (unsigned)world->write_ms);
            write.fails = world_random(world, 100) < percent;
            write.is_lost = percent > 0 && world_random(world, 100) < world->lost_percent;
            write.generation = adapter->spec.generation;
            json_incref(write.body);
            adapter->writes[i] = write;
            adapter->write_count++;
            return;
        }
    }
    world_fail(world, "%s: more writes under way than there can be", adapter->name);
}

static void start_writes(struct world *world, int a, const struct plan *plan) {
    struct world_adapter *adapter = &world->adapters[a];
    if (plan->service != NULL) {
        start_write(world, a,
                    (struct world_write){.kind = WRITE_SERVICE, .body = plan->service, .is_create = adapter->service.seen == NULL});
    }
    for (size_t i = 0; i < plan->slice_count; i++) {
        size_t index = 0;
        free(publish_parse_slice_name(plan->slices[i].name, &index));
        if (index >= WORLD_SLICES) {
            world_fail(world, "%s: wants slice %s", adapter->name, plan->slices[i].name);
        }
        adapter->slice_written_ms = world->now_ms;
        start_write(world, a,
                    (struct world_write){
                        .kind = WRITE_SLICE, .slice = index, .body = plan->slices[i].body, .is_create = plan->slices[i].is_create});
    }
    if (plan->status != NULL) {
        adapter->status_written_ms = world->now_ms;
        start_write(world, a, (struct world_write){.kind = WRITE_STATUS, .body = plan->status});
    } else if ((plan->due & WRITE_STATUS) != 0 && adapter->told_generation != adapter->spec.generation) {
        adapter->told_generation = adapter->spec.generation; /* it says so already */
        adapter->is_woken = true;
    }
    if (plan->finalizers != NULL && adapter->is_released) {
        world_fail(world, "%s: its finalizer is taken off twice", adapter->name);
    }
    if (plan->finalizers != NULL) {
        start_write(world, a, (struct world_write){.kind = WRITE_FINALIZER, .body = plan->finalizers, .releases = plan->releases});
    }
    adapter->event_count += (int)plan->event_count;
}

static void start_action(struct world *world, int a, int p, enum hold_action kind, const char *tag) {
    struct world_adapter *adapter = &world->adapters[a];
    struct world_operation operation = {.kind = kind, .adapter = a, .pod = p, .start = world->pods[p].start};
    world_check_action(world, a, p, kind);
    memcpy(operation.revision, adapter->revision, REVISION_BYTES);
    world_root(world, a, adapter->spec.artifact_url, adapter->revision, operation.root);
    const struct hold *hold = adapter->holds[p];
    memcpy(operation.tag, kind == HOLD_LOADING ? tag : kind == HOLD_CLEARING ? hold->other : hold->tag, ENGINE_TAG_BYTES);
    if (world_begin_operation(world, &operation)) {
        hold_begin(adapter->holds[p], kind, adapter->revision, tag);
        adapter->loads += kind == HOLD_LOADING;
        adapter->proofs += kind == HOLD_PROVING;
        adapter->unloads += kind == HOLD_UNLOADING;
    }
}

void world_note_operation(struct world *world, const struct world_operation *operation, const struct dialect_answer *answer) {
    struct world_adapter *adapter = &world->adapters[operation->adapter];
    struct world_pod *pod = &world->pods[operation->pod];
    struct hold *hold = adapter->holds[operation->pod];
    pod->has_changed = true;
    if (hold == NULL || operation->is_orphan) {
        return;
    }
    if (operation->kind == HOLD_LOADING) {
        hold_note_load(hold, operation->revision, answer, 10, world->now_ms);
    } else if (operation->kind == HOLD_UNLOADING || operation->kind == HOLD_CLEARING) {
        if (operation->kind == HOLD_UNLOADING) {
            hold_note_unload(hold, answer, world->now_ms);
        } else {
            hold_note_clear(hold, answer, world->now_ms);
        }
        if (answer->outcome == DIALECT_DONE || answer->outcome == DIALECT_NOT_LOADED) {
            int a = operation->adapter;
            const char *tag = operation->tag;
            char *listed = tag[0] == '\0' ? pod->listed[a] : pod->listed_tagged[a][world_version_of(world, a, tag)];
            listed[0] = '\0';
        }
    } else if (answer->outcome == DIALECT_DONE) {
        hold_note_proof(hold, EFFECT_SEEN);
    } else {
        hold_note_failure(hold, operation->revision, answer, answer->outcome == DIALECT_BUSY ? "EngineBusy" : "ProofFailed",
                          world->now_ms);
        pod->is_awaited = true;
        pod->poll_ms = pod->is_ready ? world->now_ms : pod->poll_ms;
    }
    for (int a = 0; a < WORLD_ADAPTERS; a++) { /* who waits for the pod */
        world->adapters[a].is_woken = true;
    }
}

static bool is_seeking(const struct plan_input *input, const struct plan *plan) {
    int good = 0;
    for (size_t i = 0; i < input->pod_count; i++) {
        const struct plan_pod *pod = &input->pods[i];
        good += plan->is_wanted[i] && pod->is_ready && !pod->is_unreachable && !plan_has_failed(input, pod->hold) &&
                pod->hold->state != HOLD_CONFLICT;
    }
    return input->adapter->replicas < 0 || input->adapter->is_deleting || good < input->adapter->replicas;
}

static void apply(struct world *world, int a, const struct view *view, const struct plan *plan) {
    struct world_adapter *adapter = &world->adapters[a];
    adapter->digest = plan->is_published ? plan->digest : adapter->digest;
    adapter->look_again_ms = plan->look_again_ms;
    start_writes(world, a, plan);
    for (size_t i = 0; i < plan->action_count; i++) {
        size_t at = plan->actions[i].pod;
        start_action(world, a, view->slots[at], plan->actions[i].kind, view->pods[at].tag);
    }
    for (size_t i = 0; i < view->input.pod_count; i++) {
        int p = view->slots[i];
        struct world_pod *pod = &world->pods[p];
        adapter->holds[p]->is_wanted = plan->is_wanted[i];
        if (!plan->is_gauged[i]) {
            adapter->gauge_ms[p] = PLAN_NEVER;
        } else if (adapter->gauge_ms[p] == PLAN_NEVER) {
            adapter->gauge_asked_ms[p] = world->now_ms;
            adapter->gauge_ms[p] = world->now_ms + 1 + world_random(world, 200);
        }
        if (plan->is_polled[i] && pod->is_ready) {
            int64_t soon_ms = world->now_ms + 20;
            pod->is_awaited = true;
            pod->poll_ms = soon_ms < pod->poll_ms ? soon_ms : pod->poll_ms;
        }
    }
}

void world_reconcile(struct world *world, int a) {
    struct view view;
    struct plan plan;
    world->adapters[a].is_woken = false;
    world->adapters[a].look_again_ms = PLAN_NEVER;
    if (!refresh(world, a)) {
        return;
    }
    bool had_all = world->adapters[a].is_seeking;
    take_view(world, a, &view);
    make_plan(world, a, &view, &plan);
    world->adapters[a].is_seeking = is_seeking(&view.input, &plan);
    if (world->adapters[a].is_seeking && !had_all) { /* planned among the pods it has; now among all, as controller.c does */
        plan_release(&plan);
        take_view(world, a, &view);
        make_plan(world, a, &view, &plan);
    }
    apply(world, a, &view, &plan);
    plan_release(&plan);
}

bool world_would_act(struct world *world, int a) {
    struct view view;
    struct plan plan;
    if (!refresh(world, a)) {
        return false;
    }
    take_view(world, a, &view);
    make_plan(world, a, &view, &plan);
    bool acts = plan.action_count > 0 || plan.service != NULL || plan.slice_count > 0 || plan.status != NULL ||
                plan.finalizers != NULL || plan.event_count > 0;
    for (size_t i = 0; i < view.input.pod_count; i++) {
        acts |= plan.is_polled[i];
    }
    plan_release(&plan);
    return acts;
}
