/* Random worlds at rest are changed in one way; what the preview says of the change is what the simulated controller then does.
 *
 *   PREVIEWS=n  worlds to change, 300 unless said
 *   SEED=n      of the first world */
#include "plan_world_snapshot.h"

#include "adapter/names.h"

#include <string.h>

#define PREVIEWS_DEFAULT 300
#define SEED_DEFAULT 1
#define CALM_MS 60000

static int64_t number_from(const char *name, int64_t fallback) {
    const char *text = getenv(name);
    return text != NULL && text[0] != '\0' ? strtoll(text, NULL, 10) : fallback;
}

/* ---- a change ---- */

static void make_world(struct world *world, unsigned seed, bool is_alone) {
    world_begin(world, seed, 0);
    world->uses_sidecar = world_random(world, 2) == 0;
    world->has_two_families = world_random(world, 4) == 0;
    world->has_two_ports = world_random(world, 4) == 0;
    world->policy = (enum placement_policy)world_random(world, 4);
    int pods = 1 + (int)world_random(world, WORLD_PODS), adapters = is_alone ? 1 : 1 + (int)world_random(world, WORLD_ADAPTERS);
    int capacity = world_random(world, 3) == 0 ? 1 + (int)world_random(world, 3) : 0;
    for (int p = 0; p < pods; p++) {
        world_start_pod(world, p, false);
        world->pods[p].capacity = capacity;
        snprintf(world->pods[p].zone, sizeof(world->pods[p].zone), "%s", strcmp(world->pods[p].node, "node-2") == 0 ? "b" : "a");
    }
    for (int a = 0; a < adapters; a++) {
        world_create(world, a, (int)world_random(world, WORLD_PODS + 2) - 1);
        if (world_random(world, 3) == 0) {
            world_edit(world, a, "placement", json_pack("{s:s, s:s}", "policy", "spread", "topologyKey", LABEL_ZONE));
        }
        if (world_random(world, 3) == 0) {
            world_edit(world, a, "rollout", json_pack("{s:i}", "maxUnavailable", 2));
        }
    }
}

static void change_url(struct world *world, int p) {
    (void)p;
    world_set_url(world, 0, 2);
}

static void change_replicas(struct world *world, int p) {
    (void)p;
    int replicas = (int)world_random(world, WORLD_PODS + 2) - 1;
    world_edit(world, 0, "replicas", replicas >= 0 ? json_integer(replicas) : NULL);
}

static void change_both(struct world *world, int p) {
    change_replicas(world, p);
    change_url(world, p);
}

static void change_base_model(struct world *world, int p) {
    (void)p;
    world_edit(world, 0, "baseModel", json_string("other"));
}

static void create(struct world *world, int p) {
    (void)p;
    world_create(world, 0, (int)world_random(world, WORLD_PODS + 2) - 1);
}

static void create_beside_another(struct world *world, int p) {
    create(world, p);
    snprintf(world->pods[p].roots[0], WORLD_ROOT_BYTES, "/somebody/elses");
    world_touch(world, p);
}

static void create_where_the_service_is_taken(struct world *world, int p) {
    create(world, p);
    world_put(world, &world->adapters[0].service, json_pack("{s:{s:s}, s:{}}", "metadata", "name", "sql", "spec"));
}

static void lose_label(struct world *world, int p) {
    world->pods[p].has_label = false;
    world_touch(world, p);
}

static void lose_readiness(struct world *world, int p) {
    world->pods[p].is_ready = false;
    world_touch(world, p);
}

static void forget(struct world *world, int p) {
    memset(world->pods[p].roots[0], 0, WORLD_ROOT_BYTES);
    world_touch(world, p);
}

static void leave_as_it_is(struct world *world, int p) {
    (void)world;
    (void)p;
}

/* `is_alone`: of a pod, so other adapters would move as well. `creates`: there was no such adapter. `needs_lists`: only the engines
 * know of it. */
static const struct change {
    const char *name;
    void (*make)(struct world *world, int p);
    bool is_alone, creates, needs_lists;
} changes[] = {
    {.name = "nothing", .make = leave_as_it_is},
    {.name = "another URL", .make = change_url},
    {.name = "replicas", .make = change_replicas},
    {.name = "URL and replicas", .make = change_both},
    {.name = "base model", .make = change_base_model},
    {.name = "creation", .make = create, .creates = true},
    {.name = "creation where one pod has something else",
     .make = create_beside_another,
     .is_alone = true,
     .creates = true,
     .needs_lists = true},
    {.name = "creation where the Service is taken", .make = create_where_the_service_is_taken, .creates = true},
    {.name = "a lost label", .make = lose_label, .is_alone = true},
    {.name = "a pod that is not ready", .make = lose_readiness, .is_alone = true},
    {.name = "an engine that forgot", .make = forget, .is_alone = true, .needs_lists = true},
};

/* ---- the comparison ---- */

static int count_steps(const struct preview *preview, enum preview_action action) {
    int count = 0;
    for (size_t i = 0; i < preview->step_count; i++) {
        count += preview->steps[i].action == action;
    }
    return count;
}

static bool is_named(const json_t *names, const char *name) {
    for (size_t i = 0; i < json_array_size(names); i++) {
        if (strcmp(json_string_value(json_array_get(names, i)), name) == 0) {
            return true;
        }
    }
    return false;
}

static void compare(const struct world *world, const struct change *change, const struct world_adapter *before,
                    const struct preview *preview) {
    const struct world_adapter *adapter = &world->adapters[0];
    const int done[] = {adapter->loads - before->loads, adapter->proofs - before->proofs, adapter->unloads - before->unloads};
    const enum preview_action actions[] = {PREVIEW_LOAD, PREVIEW_PROVE, PREVIEW_UNLOAD};
    for (size_t i = 0; i < ARRAY_LEN(actions); i++) {
        int said = count_steps(preview, actions[i]);
        if (said != done[i]) {
            world_fail(world, "after %s: %s %d times was said, %d was done", change->name, preview_action_name(actions[i]), said,
                       done[i]);
        }
    }
    if (change->make == leave_as_it_is && preview->step_count > 0) {
        world_fail(world, "%s was to do: %s", adapter->name, preview_action_name(preview->steps[0].action));
    }
    for (int p = 0; p < WORLD_PODS; p++) {
        const struct world_pod *pod = &world->pods[p];
        bool was_said = is_named(json_at(preview->object, "status.instances"), pod->name);
        if (pod->exists && was_said != world_is_published(world, 0, p)) {
            world_fail(world, "after %s: %s is%s published, which was not said", change->name, pod->name, was_said ? " not" : "");
        }
    }
    static const char *const members[] = {"phase", "revision", "readyReplicas", "desiredReplicas"};
    for (size_t i = 0; i < ARRAY_LEN(members); i++) {
        const json_t *said = json_object_get(json_at(preview->object, "status"), members[i]);
        const json_t *found = json_object_get(json_at(adapter->object.api, "status"), members[i]);
        if (!json_equal((json_t *)said, (json_t *)found)) {
            cleanup_free char *a = json_text(said);
            cleanup_free char *b = json_text(found);
            world_fail(world, "after %s: status.%s: %s was said, it is %s", change->name, members[i], a, b);
        }
    }
}

static void try_change(unsigned seed) {
    const struct change *change = &changes[seed % ARRAY_LEN(changes)];
    struct world world;
    struct world_snapshot snapshot;
    struct preview preview;
    make_world(&world, seed, change->is_alone);
    if (change->creates) {
        world_delete(&world, 0);
    }
    world_run(&world, CALM_MS);
    world_settle(&world, CALM_MS);
    int p = 0;
    while (change->is_alone && p + 1 < WORLD_PODS && world.pods[p + 1].exists && !world_is_published(&world, 0, p)) {
        p++;
    }
    cleanup_json json_t *existing = world.adapters[0].object.api != NULL ? json_incref(world.adapters[0].object.api) : NULL;
    change->make(&world, p);
    struct world_adapter before = world.adapters[0];
    world_snapshot_take(&world, 0, existing, &snapshot);
    if (!change->needs_lists && world_random(&world, 3) == 0) {
        world_snapshot_hide_lists(&snapshot);
    }
    preview_make(&snapshot.input, &preview);
    world_snapshot_release(&snapshot);
    assert_false(preview.is_cut);
    world_run(&world, CALM_MS);
    world_settle(&world, CALM_MS);
    compare(&world, change, &before, &preview);
    preview_release(&preview);
    world_end(&world);
}

static void test_what_is_said_is_done(void **state) {
    (void)state;
    unsigned first = (unsigned)number_from("SEED", SEED_DEFAULT);
    unsigned count = (unsigned)number_from("PREVIEWS", PREVIEWS_DEFAULT);
    for (unsigned i = 0; i < count; i++) {
        try_change(first + i);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_what_is_said_is_done)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
