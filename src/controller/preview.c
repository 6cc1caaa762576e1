#include "controller/preview.h"

#include "controller/preview_world.h"
#include "controller/publish.h"

#include <string.h>

#define PASSES_FIRST 256
#define PASSES_PER_POD 32
#define TRIES 4 /* of other uids, to see whether the choice of pods hangs on it */

const char *preview_action_name(enum preview_action action) {
    static const char *const names[] = {
        [PREVIEW_CREATE] = "create",
        [PREVIEW_UPDATE] = "update",
        [PREVIEW_FINALIZER] = "add-finalizer",
        [PREVIEW_CREATE_SERVICE] = "create-service",
        [PREVIEW_UPDATE_SERVICE] = "update-service",
        [PREVIEW_CREATE_SLICE] = "create-slice",
        [PREVIEW_UPDATE_SLICE] = "update-slice",
        [PREVIEW_LOAD] = "load",
        [PREVIEW_PROVE] = "prove",
        [PREVIEW_PUBLISH] = "publish",
        [PREVIEW_WITHDRAW] = "withdraw",
        [PREVIEW_DRAIN] = "drain",
        [PREVIEW_UNLOAD] = "unload",
        [PREVIEW_RELEASE] = "release",
    };
    return names[action];
}

static void add_step(struct preview *preview, enum preview_action action, const char *pod, const char *detail) {
    if (preview->step_count == PREVIEW_STEPS_MAX) {
        preview->is_cut = true;
        return;
    }
    size_t count = preview->step_count++;
    if ((count & (count - 1)) == 0) { /* room doubles at each power of two */
        preview->steps = xrealloc(preview->steps, (count > 0 ? 2 * count : 1) * sizeof(*preview->steps));
    }
    preview->steps[count] = (struct preview_step){
        .action = action, .pod = pod != NULL ? xstrdup(pod) : NULL, .detail = xstrdup(detail != NULL ? detail : "")};
}

void preview_release(struct preview *preview) {
    for (size_t i = 0; i < preview->step_count; i++) {
        free(preview->steps[i].pod);
        free(preview->steps[i].detail);
    }
    free(preview->steps);
    json_decref(preview->object);
    json_decref(preview->blocked);
    json_decref(preview->believed);
    *preview = (struct preview){0};
}

/* ---- writes ---- */

static void write_service(struct preview_world *world, const struct plan *plan, struct preview *preview) {
    if (plan->service == NULL) {
        return;
    }
    bool is_new = world->service == NULL;
    world->service = is_new ? json_deep_copy(plan->service) : json_merge_patch(world->service, plan->service);
    world->digest = 0;
    add_step(preview, is_new ? PREVIEW_CREATE_SERVICE : PREVIEW_UPDATE_SERVICE, NULL, world->spec.name);
}

static void write_slices(struct preview_world *world, const struct plan *plan, struct preview *preview) {
    if (plan->slice_count == 0) {
        return;
    }
    for (size_t i = 0; i < plan->slice_count; i++) {
        const struct plan_slice *slice = &plan->slices[i];
        size_t at = 0;
        free(publish_parse_slice_name(slice->name, &at));
        world->slices[at] = slice->is_create ? json_deep_copy(slice->body) : json_merge_patch(world->slices[at], slice->body);
        add_step(preview, slice->is_create ? PREVIEW_CREATE_SLICE : PREVIEW_UPDATE_SLICE, NULL, slice->name);
    }
    bool *were = xcalloc(world->count + 1, sizeof(*were));
    for (size_t i = 0; i < world->count; i++) {
        were[i] = world->places[i].is_published;
    }
    preview_world_read_slices(world);
    for (size_t i = 0; i < world->count; i++) {
        struct preview_place *place = &world->places[i];
        if (were[i] != place->is_published) {
            place->has_left = were[i];
            add_step(preview, were[i] ? PREVIEW_WITHDRAW : PREVIEW_PUBLISH, place->facts.name, NULL);
        }
    }
    free(were);
    world->digest = 0;
    world->slice_written_ms = world->now_ms;
}

/* Whether that is news for the planner. */
static bool write_object(struct preview_world *world, const struct plan *plan, struct preview *preview) {
    bool was_told = world->is_told;
    world->is_told |= plan->status != NULL || (plan->due & WRITE_STATUS) != 0; /* else it says so already */
    if (plan->finalizers != NULL) {
        world->object = json_merge_patch(world->object, plan->finalizers);
        add_step(preview, plan->releases ? PREVIEW_RELEASE : PREVIEW_FINALIZER, NULL, NULL);
    }
    if (plan->status != NULL) {
        world->object = json_merge_patch(world->object, plan->status);
        world->status_written_ms = world->now_ms;
    }
    return plan->finalizers != NULL || plan->status != NULL || was_told != world->is_told;
}

/* ---- actions, all of which succeed ---- */

static void perform(struct preview_world *world, const struct plan_action *action, struct preview *preview) {
    struct preview_place *place = &world->places[action->pod];
    struct hold *hold = place->hold;
    const char *pod = place->facts.name;
    struct dialect_answer done = {.outcome = DIALECT_DONE};
    switch (action->kind) {
    case HOLD_LOADING:
        add_step(preview, PREVIEW_LOAD, pod, world->revision);
        hold_begin(hold, HOLD_LOADING, world->revision, world->views[action->pod].tag);
        hold_note_load(hold, world->revision, &done, -1, world->now_ms);
        break;
    case HOLD_PROVING:
        add_step(preview, PREVIEW_PROVE, pod, NULL);
        hold_note_proof(hold, world->input->proof == PROOF_EFFECT ? EFFECT_SEEN : EFFECT_UNKNOWN);
        break;
    case HOLD_UNLOADING:
        if (place->has_left) {
            cleanup_free char *limit = xasprintf("at most %lld s", (long long)(plan_drain_ms(&world->spec) / 1000));
            add_step(preview, PREVIEW_DRAIN, pod, limit);
            place->has_left = false;
        }
        add_step(preview, PREVIEW_UNLOAD, pod, hold->revision);
        hold_note_unload(hold, &done, world->now_ms);
        break;
    case HOLD_CLEARING: /* one name has to do here */
    case HOLD_IDLE:
        break;
    }
}

static bool apply(struct preview_world *world, const struct plan *plan, struct preview *preview) {
    world->digest = plan->is_published ? plan->digest : world->digest;
    write_service(world, plan, preview);
    write_slices(world, plan, preview);
    bool has_written = write_object(world, plan, preview) || plan->service != NULL || plan->slice_count > 0;
    for (size_t i = 0; i < world->count; i++) {
        world->places[i].hold->is_wanted = plan->is_wanted[i];
    }
    for (size_t i = 0; i < plan->action_count; i++) {
        perform(world, &plan->actions[i], preview);
    }
    return has_written || plan->action_count > 0;
}

/* One turn of the controller at the adapter; false when nothing is left to do. */
static bool pass(struct preview_world *world, struct preview *preview) {
    struct plan_input input;
    struct plan plan;
    struct plan_objects objects = {.service = world->service, .status = json_at(world->object, "status")};
    memcpy(objects.slices, world->slices, sizeof(objects.slices));
    preview_world_look(world, &input);
    plan_adapter(&input, &plan);
    if (plan.due != 0) {
        plan_words(&input, &objects, &plan);
    }
    bool goes_on = apply(world, &plan, preview) && !plan.releases;
    if (!goes_on && !plan.releases && plan.look_again_ms != PLAN_NEVER) {
        world->now_ms = plan.look_again_ms > world->now_ms ? plan.look_again_ms : world->now_ms + 1;
        goes_on = true;
    }
    plan_release(&plan);
    return goes_on;
}

static void play(struct preview_world *world, struct preview *preview) {
    size_t passes = PASSES_FIRST + PASSES_PER_POD * world->count;
    while (passes > 0 && pass(world, preview)) {
        passes--;
    }
    preview->is_cut |= passes == 0;
}

/* ---- what the object is and becomes ---- */

static void list_changes(const json_t *before, const json_t *now, const char *parent, struct buffer *out) {
    const char *key = NULL;
    json_t *value = NULL;
    cleanup_json json_t *all = json_is_object(before) ? json_copy((json_t *)before) : json_object();
    json_object_update_missing(all, (json_t *)now);
    json_object_foreach(all, key, value) {
        if (!json_equal(json_object_get(before, key), json_object_get(now, key))) {
            buffer_printf(out, "%s%s.%s", out->len > 0 ? ", " : "", parent, key);
        }
    }
}

static void compare_objects(const struct preview_input *input, struct preview *preview) {
    static const char *const parents[] = {"spec", "metadata.labels", "metadata.annotations"};
    cleanup_buffer struct buffer fields = BUFFER_INIT;
    if (input->existing == NULL) {
        add_step(preview, PREVIEW_CREATE, NULL, NULL);
        return;
    }
    cleanup_json json_t *before = json_deep_copy(input->existing); /* a default that is filled in is no change */
    cleanup_json json_t *now = json_deep_copy(input->object);
    model_adapter_default(before);
    model_adapter_default(now);
    for (size_t i = 0; i < ARRAY_LEN(parents); i++) {
        list_changes(json_at(before, parents[i]), json_at(now, parents[i]), parents[i], &fields);
    }
    if (fields.len > 0) {
        add_step(preview, PREVIEW_UPDATE, NULL, fields.data);
    }
}

/* Nothing is said twice: several conditions may have one cause. */
static void add_blocked(json_t *blocked, const char *pod, const json_t *said) {
    const char *reason = json_string_at(said, "reason", ""), *message = json_string_at(said, "message", "");
    for (size_t i = 0; pod == NULL && i < json_array_size(blocked); i++) {
        const json_t *item = json_array_get(blocked, i);
        if (strcmp(json_string_at(item, "reason", ""), reason) == 0 && strcmp(json_string_at(item, "message", ""), message) == 0) {
            return;
        }
    }
    json_t *item = json_pack("{s:s, s:s}", "reason", reason, "message", message);
    if (pod != NULL) {
        json_object_set_new(item, "pod", json_string(pod));
    }
    json_array_append_new(blocked, item);
}

/* From the status that the controller would write in the end. */
static json_t *list_blocked(const json_t *object) {
    json_t *blocked = json_array();
    const json_t *conditions = json_at(object, "status.conditions"), *loads = json_at(object, "status.loads");
    for (size_t i = 0; i < json_array_size(conditions); i++) {
        const json_t *condition = json_array_get(conditions, i);
        const char *type = json_string_at(condition, "type", "");
        bool counts = strcmp(type, "Scheduled") == 0 || strcmp(type, "ResourceCreated") == 0 || strcmp(type, "Ready") == 0;
        if (counts && strcmp(json_string_at(condition, "status", ""), "False") == 0) {
            add_blocked(blocked, NULL, condition);
        }
    }
    for (size_t i = 0; i < json_array_size(loads); i++) {
        const json_t *row = json_array_get(loads, i);
        if (strcmp(json_string_at(row, "state", ""), "Ready") != 0) {
            add_blocked(blocked, json_string_at(row, "pod", ""), row);
        }
    }
    return blocked;
}

static json_t *list_believed(const struct preview_world *world) {
    json_t *names = json_array();
    for (size_t i = 0; i < world->count; i++) {
        if (world->places[i].is_believed) {
            json_array_append_new(names, plan_text(world->places[i].facts.name));
        }
    }
    return names;
}

/* ---- which pods ---- */

/* A digest of where it is in the end. */
static char *placed(const struct preview_world *world) {
    struct buffer names = BUFFER_INIT;
    for (size_t i = 0; i < world->count; i++) {
        if (world->places[i].hold->is_wanted) {
            buffer_printf(&names, "%s\n", world->places[i].facts.name);
        }
    }
    return buffer_take(&names);
}

/* The API draws the uid, and placement breaks ties by it. */
static bool hangs_on_uid(const struct preview_input *input, const char *names) {
    bool hangs = false;
    for (int i = 0; i < TRIES && !hangs; i++) {
        char uid[16];
        snprintf(uid, sizeof(uid), "(new %d)", i);
        cleanup_json json_t *object = json_deep_copy(input->object);
        json_object_set_new(json_object_get(object, "metadata"), "uid", json_string(uid));
        struct preview_input other = *input;
        struct preview unused = {0};
        struct preview_world world;
        other.object = object;
        preview_world_init(&world, &other);
        play(&world, &unused);
        cleanup_free char *others = placed(&world);
        hangs = strcmp(names, others) != 0;
        preview_world_release(&world);
        preview_release(&unused);
    }
    return hangs;
}

void preview_make(const struct preview_input *input, struct preview *ret_preview) {
    struct preview_world world;
    *ret_preview = (struct preview){0};
    compare_objects(input, ret_preview);
    preview_world_init(&world, input);
    play(&world, ret_preview);
    if (input->existing == NULL && world.spec.replicas >= 0 && world.spec.replicas < world.ready) {
        cleanup_free char *names = placed(&world);
        ret_preview->is_example = hangs_on_uid(input, names);
    }
    ret_preview->object = json_incref(world.object);
    ret_preview->blocked = list_blocked(world.object);
    ret_preview->believed = list_believed(&world);
    preview_world_release(&world);
}
