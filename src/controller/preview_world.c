#include "controller/preview_world.h"

#include "adapter/names.h"
#include "controller/known_names.h"
#include "controller/publish.h"
#include "controller/recall.h"
#include "kube/client.h"

#include <string.h>

#define START_MS 3600000 /* long after anything that happened before */

/* ---- what is known of a pod ---- */

const json_t *preview_row_in(const json_t *status, const char *pod) {
    const json_t *loads = json_at(status, "loads");
    for (size_t i = 0; i < json_array_size(loads); i++) {
        if (strcmp(json_string_at(json_array_get(loads, i), "pod", ""), pod) == 0) {
            return json_array_get(loads, i);
        }
    }
    return NULL;
}

static const json_t *condition_in(const json_t *status, const char *type) {
    const json_t *conditions = json_at(status, "conditions");
    for (size_t i = 0; i < json_array_size(conditions); i++) {
        if (strcmp(json_string_at(json_array_get(conditions, i), "type", ""), type) == 0) {
            return json_array_get(conditions, i);
        }
    }
    return NULL;
}

static const struct dialect_model *model_in(const struct dialect_models *models, const char *id) {
    for (size_t i = 0; models != NULL && i < models->count; i++) {
        if (strcmp(models->items[i].id, id) == 0) {
            return &models->items[i];
        }
    }
    return NULL;
}

static const struct dialect_model *find_card(const void *models, const char *id) {
    return model_in(models, id);
}

static bool is_davits(const struct dialect_models *models) {
    bool is_davit = false;
    for (size_t i = 0; models != NULL && i < models->count; i++) {
        is_davit |= models->items[i].is_davit;
    }
    return is_davit;
}

static bool reuses_prefixes(const struct preview_place *place) {
    return place->facts.engine == DIALECT_VLLM && !is_davits(place->models);
}

/* As for a controller: one that was not asked may have any. */
static void wanted_tag(const struct preview_world *world, const struct preview_place *place, char ret_tag[ENGINE_TAG_BYTES]) {
    if (place->models == NULL && place->hold->state == HOLD_LOADED) {
        memcpy(ret_tag, place->hold->tag, ENGINE_TAG_BYTES);
    } else if (world->input->has_engine_names && reuses_prefixes(place)) {
        engine_tag_of(world->revision, ret_tag);
    } else {
        ret_tag[0] = '\0';
    }
}

static const char *node_label(const struct preview_input *input, const char *node, const char *label) {
    for (size_t i = 0; i < json_array_size(input->nodes); i++) {
        const json_t *object = json_array_get(input->nodes, i);
        if (node[0] != '\0' && strcmp(kube_name(object), node) == 0) {
            const char *value = json_string_value(json_object_get(json_at(object, "metadata.labels"), label));
            return value != NULL ? value : "";
        }
    }
    return "";
}

/* ---- what it holds ---- */

/* A controller that runs knows this since it did it; here the status and the list tell. */
static void meet(struct preview_world *world, struct preview_place *place, const json_t *row) {
    const json_t *status = json_at(world->input->existing, "status");
    const char *state = json_string_at(row, "state", "");
    cleanup_free char *known = recall_revisions(status);
    struct hold_record record;
    recall_load(status, row, &record);
    struct hold *hold = place->hold;
    hold->is_wanted = row != NULL && strcmp(state, "Unloading") != 0;
    if (record.revision[0] == '\0' && place->is_published) { /* status.loads names a hundred pods */
        record.revision = json_string_at(status, "revision", "");
    }
    if (record.revision[0] != '\0' || record.is_rolled) {
        hold_recall(hold, &record);
    }
    hold_meet(hold, place->start);
    if (place->models != NULL) {
        struct known_names names;
        struct hold_target target = {
            .name = world->spec.name,
            .artifact_url = world->spec.artifact_url,
            .revision = world->revision,
            .known = known,
            .uses_sidecar = world->input->enable_sidecar && place->facts.has_sidecar,
            .is_davit = is_davits(place->models),
            .source_revision = world->spec.source_revision,
        };
        struct hold_listing listing = {.asked_ms = START_MS, .start = place->start};
        wanted_tag(world, place, target.tag);
        known_names_init(&names, world->spec.name, world->revision, known);
        known_names_look(&names, &target, hold, find_card, place->models, &listing);
        listing.is_several = false; /* nothing is listed anew here: one name has to do */
        hold_observe(hold, &target, &listing);
    } else if (hold->state == HOLD_MAYBE) {
        struct dialect_answer done = {.outcome = DIALECT_DONE};
        hold_note_load(hold, record.revision, &done, record.load_ms, 0);
        hold->is_in_place = record.is_in_place;
    }
    bool was_proved = record.was_serving || strcmp(state, "Loaded") == 0 || place->is_published;
    if (hold->state == HOLD_LOADED && was_proved) {
        hold_note_proof(hold, record.effect);
    }
    place->is_believed = place->models == NULL && place->facts.is_ready;
}

/* ---- who is published ---- */

/* By name; `name` may be of no place. */
static struct preview_place *place_named(const struct preview_world *world, const char *name) {
    size_t low = 0, high = world->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        int order = strcmp(world->places[middle].facts.name, name);
        if (order == 0) {
            return &world->places[middle];
        }
        low = order < 0 ? middle + 1 : low;
        high = order < 0 ? high : middle;
    }
    return NULL;
}

static struct preview_place *place_of(const struct preview_world *world, const json_t *endpoint) {
    const char *name = json_string_at(endpoint, "targetRef.name", NULL);
    const char *ip = json_string_value(json_array_get(json_at(endpoint, "addresses"), 0));
    if (name != NULL) {
        struct preview_place *place = place_named(world, name);
        bool is_it = place != NULL && strcmp(json_string_at(endpoint, "targetRef.uid", place->facts.uid), place->facts.uid) == 0;
        return is_it ? place : NULL;
    }
    for (size_t i = 0; ip != NULL && i < world->count; i++) { /* as AIBrix writes them */
        if (world->places[i].matches && strcmp(world->places[i].facts.ip, ip) == 0) {
            return &world->places[i];
        }
    }
    return NULL;
}

void preview_world_read_slices(struct preview_world *world) {
    for (size_t i = 0; i < world->count; i++) {
        world->places[i].is_published = false;
    }
    for (size_t s = 0; s < PLAN_SLICES_MAX; s++) {
        bool is_ours = world->slices[s] != NULL && !publish_is_foreign(world->object, world->slices[s]);
        const json_t *endpoints = is_ours ? json_at(world->slices[s], "endpoints") : NULL;
        cleanup_json json_t *names = publish_names(world->slices[s]);
        for (size_t k = 0; k < json_array_size(endpoints); k++) {
            struct preview_place *place = place_of(world, json_array_get(endpoints, k));
            if (place != NULL) {
                place->is_published = true;
                publish_tag_in(names, world->spec.name, place->facts.name, place->published_tag);
            }
        }
    }
}

/* ---- the other adapters ---- */

/* Under its own name, or another of it. */
static bool lists_adapter(const struct dialect_models *models, const char *name) {
    for (size_t i = 0; models != NULL && i < models->count; i++) {
        size_t len = 0;
        (void)engine_name_split(models->items[i].id, &len);
        if (models->items[i].parent != NULL && strlen(name) == len && strncmp(models->items[i].id, name, len) == 0) {
            return true;
        }
    }
    return false;
}

static void count_others(struct preview_world *world) {
    size_t *counted = xcalloc(world->count + 1, sizeof(*counted)); /* the last adapter that was counted there, from 1 */
    size_t adapters = json_array_size(world->input->adapters);
    for (size_t a = 0; a < adapters; a++) {
        const json_t *other = json_array_get(world->input->adapters, a);
        const json_t *loads = json_at(other, "status.loads");
        if (strcmp(kube_name(other), world->spec.name) == 0) {
            continue;
        }
        for (size_t i = 0; i < json_array_size(loads); i++) {
            struct preview_place *place = place_named(world, json_string_at(json_array_get(loads, i), "pod", ""));
            if (place != NULL && counted[place - world->places] != a + 1) {
                counted[place - world->places] = a + 1;
                place->others++;
            }
        }
        for (size_t p = 0; p < world->count; p++) {
            if (counted[p] != a + 1 && lists_adapter(world->places[p].models, kube_name(other))) {
                world->places[p].others++;
            }
        }
    }
    free(counted);
}

/* ---- life ---- */

static int compare_places(const void *a, const void *b) {
    return strcmp(((const struct preview_place *)a)->facts.name, ((const struct preview_place *)b)->facts.name);
}

static void add_place(struct preview_world *world, const struct preview_pod *pod) {
    const struct preview_input *input = world->input;
    struct preview_place *place = &world->places[world->count++];
    const char *key = world->spec.topology_key;
    place->models = pod->models;
    pod_facts_read(pod->object, &place->facts);
    place->start = pod_facts_start(pod->object);
    place->hold = hold_new();
    place->matches = !world->is_invalid && selector_matches(world->spec.selector, place->facts.labels);
    place->zone = node_label(input, place->facts.node, LABEL_ZONE);
    place->domain = key[0] == '\0' ? place->facts.node : node_label(input, place->facts.node, key);
    world->matching += place->matches;
    world->ready += place->matches && place->facts.is_ready;
}

static void read_objects(struct preview_world *world) {
    const struct preview_input *input = world->input;
    world->object = json_deep_copy(input->object);
    world->is_invalid = model_adapter_read(world->object, &world->spec, &world->err) < 0;
    model_adapter_revision(&world->spec, world->revision);
    world->service = input->service != NULL ? json_deep_copy(input->service) : NULL;
    for (size_t i = 0; i < PLAN_SLICES_MAX; i++) {
        world->slices[i] = input->slices[i] != NULL ? json_deep_copy(input->slices[i]) : NULL;
    }
}

static void release_place(struct preview_place *place) {
    hold_free(place->hold);
    free(place->start);
}

/* The pods that match, or that have or may have something of it. */
static void keep_concerned(struct preview_world *world) {
    size_t kept = 0;
    for (size_t i = 0; i < world->count; i++) {
        struct preview_place *place = &world->places[i];
        if (place->matches || place->is_published || !hold_is_blank(place->hold)) {
            world->places[kept++] = *place;
        } else {
            release_place(place);
        }
    }
    world->count = kept;
}

void preview_world_init(struct preview_world *world, const struct preview_input *input) {
    *world = (struct preview_world){.input = input, .now_ms = START_MS};
    read_objects(world);
    world->places = xcalloc(input->pod_count + 1, sizeof(*world->places));
    world->views = xcalloc(input->pod_count + 1, sizeof(*world->views));
    for (size_t i = 0; i < input->pod_count; i++) {
        add_place(world, &input->pods[i]);
    }
    qsort(world->places, world->count, sizeof(*world->places), compare_places);
    count_others(world);
    preview_world_read_slices(world);
    for (size_t i = 0; i < world->count; i++) {
        struct preview_place *place = &world->places[i];
        meet(world, place, preview_row_in(json_at(input->existing, "status"), place->facts.name));
        place->hold->unpublished_ms = place->is_published ? 0 : 1; /* long ago */
    }
    keep_concerned(world);
}

void preview_world_release(struct preview_world *world) {
    for (size_t i = 0; i < world->count; i++) {
        release_place(&world->places[i]);
    }
    for (size_t i = 0; i < PLAN_SLICES_MAX; i++) {
        json_decref(world->slices[i]);
    }
    model_adapter_release(&world->spec);
    json_decref(world->service);
    json_decref(world->object);
    free(world->places);
    free(world->views);
}

/* ---- the look ---- */

static void view_place(struct preview_world *world, struct preview_place *place, struct plan_pod *ret_view) {
    const struct pod_facts *facts = &place->facts;
    struct hold *hold = place->hold;
    bool is_current = hold->state == HOLD_LOADED && strcmp(hold->revision, world->revision) == 0;
    if (world->input->proof == PROOF_LIST && is_current && !hold->is_proved) {
        hold_note_proof(hold, EFFECT_UNKNOWN); /* the next list shows it */
    }
    hold->unpublished_ms = place->is_published ? 0 : hold->unpublished_ms != 0 ? hold->unpublished_ms : world->now_ms;
    *ret_view = (struct plan_pod){.name = facts->name,
                                  .uid = facts->uid,
                                  .ip = facts->ip,
                                  .second_ip = facts->second_ip,
                                  .node = facts->node,
                                  .zone = place->zone,
                                  .domain = place->domain,
                                  .engine_port = facts->engine_port,
                                  .matches = place->matches,
                                  .is_ready = facts->is_ready,
                                  .is_gone = facts->is_gone,
                                  .is_observed = true,
                                  .is_full = facts->capacity > 0 && place->others >= facts->capacity,
                                  .reuses_prefixes = reuses_prefixes(place),
                                  .is_direct = !(world->input->enable_sidecar && facts->has_sidecar),
                                  .adapters = place->others,
                                  .is_published = place->is_published,
                                  .hold = hold};
    wanted_tag(world, place, ret_view->tag);
    memcpy(ret_view->published_tag, place->published_tag, ENGINE_TAG_BYTES);
}

static void see(const struct preview_world *world, struct plan_seen *ret_seen) {
    const json_t *status = json_at(world->object, "status");
    const json_t *ready = condition_in(status, "Ready");
    *ret_seen = (struct plan_seen){.has_service = world->service != NULL,
                                   .has_slice = world->slices[0] != NULL,
                                   .is_service_foreign = publish_is_foreign(world->object, world->service),
                                   .is_slice_foreign = publish_is_foreign(world->object, world->slices[0]),
                                   .digest = world->digest,
                                   .phase = json_string_at(status, "phase", ""),
                                   .ready_status = json_string_at(ready, "status", ""),
                                   .ready_reason = json_string_at(ready, "reason", ""),
                                   .is_fully_loaded =
                                       strcmp(json_string_at(condition_in(status, "FullyLoaded"), "status", ""), "True") == 0,
                                   .observed_generation = json_int_at(status, "observedGeneration", 0)};
}

void preview_world_look(struct preview_world *world, struct plan_input *ret_input) {
    const struct model_adapter *spec = &world->spec;
    *ret_input = (struct plan_input){.object = world->object,
                                     .adapter = spec,
                                     .invalid = world->is_invalid ? world->err.message : NULL,
                                     .pods = world->views,
                                     .matching = world->matching,
                                     .ready = world->ready,
                                     .proof = world->input->proof,
                                     .policy = plan_policy(spec, world->input->policy),
                                     .status_written_ms = world->status_written_ms,
                                     .slice_written_ms = world->slice_written_ms,
                                     .deleting_since_ms = spec->is_deleting ? START_MS : 0,
                                     .drain_ms = plan_drain_ms(spec),
                                     .give_up_ms = plan_drain_ms(spec) + PLAN_GIVE_UP_MS,
                                     .now_ms = world->now_ms,
                                     .wall_ms = world->now_ms};
    memcpy(ret_input->revision, world->revision, REVISION_BYTES);
    bool is_of_it = strcmp(json_string_at(world->object, "status.revision", ""), world->revision) == 0;
    ret_input->version = is_of_it ? json_string_at(world->object, "status.version", "") : "";
    see(world, &ret_input->seen);
    ret_input->is_untold = !world->is_told && ret_input->seen.observed_generation != spec->generation;
    for (size_t i = 0; i < world->count; i++) {
        view_place(world, &world->places[i], &world->views[i]);
    }
    ret_input->pod_count = world->count;
}
