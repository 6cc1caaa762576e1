/* Random worlds: each is made quietly, disturbed for a while, left alone until it settles, then changed a little.
 *
 *   PLANS=n  calls of plan_adapter to make, 20,000 unless said
 *   SEED=n   of the first world; the next has the next number, so that the SEED of a failure gives that world at once */
#include "plan_world.h"

#include <errno.h>
#include <string.h>

#define PLANS_DEFAULT 20000
#define SEED_DEFAULT 1
#define CALM_MS 450000 /* what is refused for good is tried again after 300 s, or a quarter more */
#define ATTEMPTS 40

static int64_t number_from(const char *name, int64_t fallback) {
    const char *text = getenv(name);
    char *end = NULL;
    errno = 0;
    long long number = text != NULL && text[0] != '\0' ? strtoll(text, &end, 10) : fallback;
    if (errno != 0 || (end != NULL && *end != '\0') || number < 0) {
        fail_msg("%s=%s is not a number", name, text);
    }
    return number;
}

/* ---- a world is made ---- */

/* `ret_slices`: how many an adapter may need. */
static void make_world(struct world *world, unsigned seed, int *ret_slices) {
    world_begin(world, seed, 0);
    world->uses_sidecar = world_random(world, 2) == 0;
    world->has_two_families = world_random(world, 4) == 0;
    world->has_two_ports = world_random(world, 4) == 0;
    world->operations_max = world_random(world, 2) == 0 ? 1 : 4;
    world->policy = (enum placement_policy)world_random(world, 4);
    world->has_engine_names = world_random(world, 2) == 0;
    int pods = 1 + (int)world_random(world, WORLD_PODS), adapters = 1 + (int)world_random(world, WORLD_ADAPTERS);
    int capacity = world_random(world, 3) == 0 ? 1 + (int)world_random(world, 3) : 0;
    bool reuses_prefixes = world_random(world, 3) == 0;
    for (int p = 0; p < pods; p++) {
        world_start_pod(world, p, false);
        world->pods[p].capacity = capacity;
        world->pods[p].reuses_prefixes = reuses_prefixes;
    }
    for (int a = 0; a < adapters; a++) {
        world_create(world, a, (int)world_random(world, WORLD_PODS + 2) - 1);
    }
    *ret_slices = (world->has_two_families ? 2 : 1) * (world->has_two_ports ? 2 : 1);
}

/* Each slice more may be made, and written to twice again. Where loads take long, what came meanwhile is written now and then; and
 * where adapters contend for room, that there is none and that there is some after all. */
static void check_creation(struct world *world, int slices) {
    bool has_bounds = world->pods[0].capacity > 0;
    for (int a = 0; a < WORLD_ADAPTERS; a++) {
        const struct world_adapter *adapter = &world->adapters[a];
        int writes_max = 6 + 3 * (slices - 1) + (int)((adapter->ready_ms - adapter->made_ms) / 4000) + (has_bounds ? 2 : 0);
        if (adapter->object.api != NULL && adapter->writes_at_ready >= 0 &&
            (adapter->writes_at_ready > writes_max || adapter->events_at_ready > 2)) {
            world_fail(world, "%s: %d writes and %d events from creation to Ready", adapter->name, adapter->writes_at_ready,
                       adapter->events_at_ready);
        }
    }
}

/* ---- it is disturbed ---- */

struct target {
    int a, p;
    struct world_pod *pod;
    struct world_adapter *adapter;
    bool has_object; /* that is not being deleted */
};

static void pod_appears(struct world *world, const struct target *at) {
    world_start_pod(world, at->p, world_random(world, 2) == 0);
}

static void pod_goes(struct world *world, const struct target *at) {
    if (at->pod->exists && world_random(world, 2) == 0) {
        at->pod->gone_ms = world->now_ms + 1 + world_random(world, 3000);
        world_touch(world, at->p);
    } else if (at->pod->exists) {
        world_remove_pod(world, at->p);
    }
}

static void pod_restarts(struct world *world, const struct target *at) {
    if (at->pod->exists) {
        world_restart_engine(world, at->p);
    }
}

static void pod_is_ready_or_not(struct world *world, const struct target *at) {
    at->pod->is_ready = at->pod->exists && !at->pod->is_ready;
    world_touch(world, at->p);
}

static void pod_is_labelled_or_not(struct world *world, const struct target *at) {
    at->pod->has_label = !at->pod->has_label;
    world_touch(world, at->p);
}

static void mood_changes(struct world *world, const struct target *at) {
    at->pod->mood = world_random(world, 3) == 0 ? GOOD : (enum mood)world_random(world, MOODS);
    at->pod->touched_ms = world->now_ms;
}

static void engine_forgets(struct world *world, const struct target *at) {
    memset(at->pod->roots[at->a], 0, sizeof(at->pod->roots[at->a]));
    memset(at->pod->tagged[at->a], 0, sizeof(at->pod->tagged[at->a]));
    at->pod->touched_ms = world->now_ms;
}

/* Not between a load of ours and the first list after it: engines write paths in their own ways, and that list says how. */
static void engine_has_something_else(struct world *world, const struct target *at) {
    const struct hold *hold = at->adapter->holds[at->p];
    bool is_unlisted = hold != NULL && hold->state == HOLD_LOADED && hold->root == NULL;
    if (at->pod->exists && at->pod->roots[at->a][0] == '\0' && !is_unlisted) {
        snprintf(at->pod->roots[at->a], WORLD_ROOT_BYTES, "/somebody/elses");
        at->pod->touched_ms = world->now_ms;
    }
}

/* Somebody loads it by hand, or a load comes after nobody waits for it any more: under its own name, or another of it. */
static void engine_has_it_twice(struct world *world, const struct target *at) {
    char root[WORLD_ROOT_BYTES], tag[ENGINE_TAG_BYTES] = "";
    if (!at->pod->exists || !at->has_object) {
        return;
    }
    world_expected_root(world, at->a, root);
    if (world_random(world, 2) == 0) {
        const char *url = json_string_at(at->adapter->object.api, "spec.artifactURL", "");
        memcpy(tag, at->adapter->tags[url[strlen(url) - 1] - '0'], sizeof(tag));
    }
    char *under = world_root_under(world, at->a, at->p, tag);
    if (under[0] == '\0') {
        memcpy(under, root, sizeof(root));
        at->pod->touched_ms = world->now_ms;
    }
}

static void object_appears(struct world *world, const struct target *at) {
    if (at->adapter->object.api == NULL) {
        world_create(world, at->a, (int)world_random(world, WORLD_PODS + 2) - 1);
    }
}

static void object_goes(struct world *world, const struct target *at) {
    if (at->has_object) {
        world_delete(world, at->a);
    }
}

static void weights_change(struct world *world, const struct target *at) {
    if (at->has_object) {
        world_set_url(world, at->a, (int)world_random(world, 3));
    }
}

static void replicas_change(struct world *world, const struct target *at) {
    if (at->has_object) {
        int replicas = (int)world_random(world, WORLD_PODS + 2) - 1;
        world_edit(world, at->a, "replicas", replicas >= 0 ? json_integer(replicas) : NULL);
    }
}

static void policy_changes(struct world *world, const struct target *at) {
    static const char *const policies[] = {"random", "leastAdapters", "binPack", "spread"};
    json_t *placement = json_pack("{s:s}", "policy", policies[world_random(world, 4)]);
    if (at->has_object) {
        if (world_random(world, 2) == 0) {
            json_object_set_new(placement, "topologyKey", json_string("topology.kubernetes.io/zone"));
        }
        world_edit(world, at->a, "placement", json_incref(placement));
    }
    json_decref(placement);
}

static void rollout_changes(struct world *world, const struct target *at) {
    static const char *const percents[] = {"1%", "34%", "50%", "100%"};
    if (at->has_object) {
        bool is_percent = world_random(world, 2) == 0;
        json_t *value = is_percent ? json_string(percents[world_random(world, 4)]) : json_integer(1 + world_random(world, 3));
        world_edit(world, at->a, "rollout", json_pack("{s:o}", "maxUnavailable", value));
    }
}

static void drain_changes(struct world *world, const struct target *at) {
    if (at->has_object) {
        world_edit(world, at->a, "drainSeconds", json_integer(world_random(world, 5)));
    }
}

static void resource_is_deleted(struct world *world, const struct target *at) {
    world_put(world, world_random(world, 3) == 0 ? &at->adapter->service : &at->adapter->slices[world_random(world, 2)], NULL);
}

static void resource_is_edited(struct world *world, const struct target *at) {
    static const char *const edits[] = {"{\"endpoints\":[]}", "{\"metadata\":{\"labels\":null}}",
                                        "{\"ports\":[{\"name\":\"http\",\"port\":1,\"protocol\":\"TCP\"}]}",
                                        "{\"endpoints\":[{\"addresses\":[\"127.9.9.9\"],\"targetRef\":{\"uid\":\"stranger\"}}]}",
                                        "{\"spec\":{\"ports\":[{\"name\":\"http\",\"port\":1,\"targetPort\":1}]}}"};
    size_t edit = world_random(world, ARRAY_LEN(edits));
    struct world_resource *resource = edit == 4 ? &at->adapter->service : &at->adapter->slices[world_random(world, 2)];
    if (resource->api != NULL) {
        cleanup_json json_t *patch = json_loads(edits[edit], 0, NULL);
        json_t *next = json_merge_patch(json_deep_copy(resource->api), patch);
        world_put(world, resource, next);
    }
}

static void resource_of_somebody_else(struct world *world, const struct target *at) {
    unsigned which = world_random(world, 3);
    struct world_resource *resource = which == 0 ? &at->adapter->service : &at->adapter->slices[which - 1];
    if (resource->api == NULL) {
        world_put(world, resource,
                  json_pack("{s:{s:s, s:s}, s:s, s:[], s:{}}", "metadata", "name", "theirs", "resourceVersion", "1", "addressType",
                            "IPv4", "endpoints", "spec"));
    }
}

static void api_changes(struct world *world, const struct target *at) {
    (void)at;
    world->write_fails_percent = world_random(world, 2) * 30;
    world->lost_percent = world_random(world, 2) * 20;
    world->write_ms = 1 + world_random(world, 2) * 400;
    world->lag_ms = world_random(world, 2) * 500;
}

static void controller_restarts(struct world *world, const struct target *at) {
    (void)at;
    world_restart_controller(world);
}

static void controller_names_otherwise(struct world *world, const struct target *at) {
    world->has_engine_names = !world->has_engine_names;
    controller_restarts(world, at);
}

static void (*const disturbances[])(struct world *, const struct target *) = {pod_appears,
                                                                              pod_goes,
                                                                              pod_restarts,
                                                                              pod_is_ready_or_not,
                                                                              pod_is_ready_or_not,
                                                                              pod_is_labelled_or_not,
                                                                              mood_changes,
                                                                              mood_changes,
                                                                              mood_changes,
                                                                              engine_forgets,
                                                                              engine_has_something_else,
                                                                              object_appears,
                                                                              object_appears,
                                                                              object_goes,
                                                                              weights_change,
                                                                              weights_change,
                                                                              replicas_change,
                                                                              policy_changes,
                                                                              rollout_changes,
                                                                              drain_changes,
                                                                              resource_is_deleted,
                                                                              resource_is_edited,
                                                                              resource_of_somebody_else,
                                                                              api_changes,
                                                                              controller_restarts,
                                                                              engine_has_it_twice,
                                                                              controller_names_otherwise};

static void disturb(struct world *world) {
    struct target at = {.a = (int)world_random(world, WORLD_ADAPTERS), .p = (int)world_random(world, WORLD_PODS)};
    at.pod = &world->pods[at.p];
    at.adapter = &world->adapters[at.a];
    at.has_object = at.adapter->object.api != NULL && at.adapter->deleted_ms == 0;
    disturbances[world_random(world, ARRAY_LEN(disturbances))](world, &at);
}

/* ---- it is left alone ---- */

static bool is_theirs(const json_t *object) {
    return strcmp(json_string_at(object, "metadata.name", ""), "theirs") == 0;
}

static void calm(struct world *world) {
    world->write_fails_percent = world->lost_percent = 0;
    for (int p = 0; p < WORLD_PODS; p++) {
        struct world_pod *pod = &world->pods[p];
        pod->mood = GOOD;
        pod->is_ready = pod->has_label = pod->exists;
        for (int a = 0; a < WORLD_ADAPTERS; a++) {
            bool is_left = world->adapters[a].object.api == NULL || strcmp(pod->roots[a], "/somebody/elses") == 0;
            if (is_left && world_random(world, 4) > 0) {
                pod->roots[a][0] = '\0';
            }
            if (world->adapters[a].object.api == NULL) {
                memset(pod->tagged[a], 0, sizeof(pod->tagged[a]));
            }
        }
        if (pod->exists) {
            world_touch(world, p);
        }
    }
    for (int a = 0; a < WORLD_ADAPTERS; a++) {
        struct world_resource *const resources[] = {&world->adapters[a].service, &world->adapters[a].slices[0],
                                                    &world->adapters[a].slices[1]};
        for (size_t i = 0; i < ARRAY_LEN(resources); i++) {
            if (is_theirs(resources[i]->api)) {
                world_put(world, resources[i], NULL);
            }
        }
    }
}

/* ---- it is changed a little ---- */

struct moves {
    int actions, removals;
    bool was_on[WORLD_PODS], is_satisfied;
};

static void count_moves(const struct world *world, struct moves *moves) {
    for (int a = 0; a < WORLD_ADAPTERS; a++) {
        const struct world_adapter *adapter = &world->adapters[a];
        moves[a] = (struct moves){.actions = adapter->loads + adapter->unloads,
                                  .removals = adapter->removals,
                                  .is_satisfied =
                                      json_int_at(adapter->object.api, "spec.replicas", -1) == world_count_published(world, a)};
        for (int p = 0; p < WORLD_PODS; p++) {
            moves[a].was_on[p] = world_is_published(world, a, p);
        }
    }
}

/* An adapter that lacks replicas may find room: after a restart also that of another which could not use it. */
static void check_moves(struct world *world, const struct moves *before, int removed, bool is_restart, const char *what) {
    for (int a = 0; a < WORLD_ADAPTERS; a++) {
        const struct world_adapter *adapter = &world->adapters[a];
        bool concerns = removed >= 0 ? before[a].was_on[removed] : !is_restart && !before[a].is_satisfied;
        bool has_all = before[a].is_satisfied || (is_restart && json_int_at(adapter->object.api, "spec.replicas", -1) < 0);
        if (adapter->object.api != NULL && has_all && !concerns &&
            (adapter->loads + adapter->unloads != before[a].actions || adapter->removals != before[a].removals)) {
            world_fail(world, "%s: %s moved it: %d loads and unloads, %d endpoints out", adapter->name, what,
                       adapter->loads + adapter->unloads - before[a].actions, adapter->removals - before[a].removals);
        }
    }
}

static void change_a_little(struct world *world) {
    struct moves before[WORLD_ADAPTERS];
    int p = (int)world_random(world, WORLD_PODS);
    bool existed = world->pods[p].exists;
    count_moves(world, before);
    world_restart_controller(world);
    world_settle(world, CALM_MS);
    check_moves(world, before, -1, true, "a restart of the controller");
    count_moves(world, before);
    if (existed) {
        world_remove_pod(world, p);
    } else {
        world_start_pod(world, p, true);
    }
    world_settle(world, CALM_MS);
    check_moves(world, before, existed ? p : -1, false, existed ? "a pod that went" : "a pod that came");
    world_assert_settled(world);
}

static void run_world(unsigned seed) {
    struct world world;
    int slices = 1;
    make_world(&world, seed, &slices);
    world_settle(&world, CALM_MS);
    check_creation(&world, slices);
    world_assert_settled(&world);
    for (int i = 0; i < ATTEMPTS; i++) {
        world_run(&world, (int64_t)world_random(&world, world_random(&world, 8) == 0 ? 30000 : 3000));
        disturb(&world);
    }
    calm(&world);
    world_settle(&world, CALM_MS);
    world_assert_settled(&world);
    change_a_little(&world);
    world_end(&world);
}

static void test_random_worlds(void **state) {
    (void)state;
    int64_t plans = number_from("PLANS", PLANS_DEFAULT);
    unsigned first = (unsigned)number_from("SEED", SEED_DEFAULT), seed = first;
    print_message("PLANS=%lld SEED=%u\n", (long long)plans, first);
    do {
        run_world(seed++);
    } while (world_plans() < plans);
    print_message("%lld plans in %u worlds\n", (long long)world_plans(), seed - first);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_random_worlds)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
