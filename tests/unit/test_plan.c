/* The planner in single stories, each told in a simulated world (plan_world.h), which checks its invariants at every step. */
#include "plan_world.h"

#include "adapter/names.h"
#include "controller/publish.h"

#include <string.h>

static int count_actions(const struct world *world) {
    const struct world_adapter *adapter = &world->adapters[0];
    return adapter->loads + adapter->proofs + adapter->unloads;
}

/* How few endpoints there ever are in that time. */
static int least_published(struct world *world, int64_t within_ms) {
    int64_t until_ms = world->now_ms + within_ms;
    int least = WORLD_PODS;
    while (world_step(world, until_ms)) {
        int count = world_count_published(world, 0);
        least = count < least ? count : least;
    }
    return least;
}

static void test_creation(void **state) {
    (void)state;
    struct world world;
    world_begin(&world, 1, 2);
    world_create(&world, 0, -1);
    world_run(&world, 5000);
    world_assert_settled(&world);
    assert_in_range(world.adapters[0].writes_at_ready, 1, 6);
    assert_int_equal(world.adapters[0].event_count, 2);
    static const char *const reasons[][2] = {
        {"Initialized", "Initialized"},         {"Scheduled", "Scheduled"},         {"Bound", "Bound"},
        {"ResourceCreated", "ResourceCreated"}, {"Ready", "ModelAdapterAvailable"}, {"FullyLoaded", "FullyLoaded"}};
    for (size_t i = 0; i < ARRAY_LEN(reasons); i++) {
        assert_string_equal(world_condition(&world, 0, reasons[i][0], "status"), "True");
        assert_string_equal(world_condition(&world, 0, reasons[i][0], "reason"), reasons[i][1]);
    }
    assert_string_equal(json_string_at(world.adapters[0].object.api, "status.phase", ""), "Running");
    int writes = world.adapters[0].write_count, actions = count_actions(&world);
    world_run(&world, 60000);
    assert_int_equal(world.adapters[0].write_count, writes); /* the steady state writes nothing and asks nothing */
    assert_int_equal(count_actions(&world), actions);
    world_end(&world);
}

static void test_no_pods(void **state) {
    (void)state;
    struct world world;
    world_begin(&world, 1, 0);
    world_create(&world, 0, -1);
    world_run(&world, 5000);
    assert_string_equal(world_condition(&world, 0, "Ready", "reason"), "NoMatchingPods");
    assert_string_equal(world_condition(&world, 0, "Ready", "status"), "False");
    world_start_pod(&world, 0, false);
    world_run(&world, 2000);
    assert_true(world_is_ready(&world, 0)); /* within two seconds of the pod being ready */
    world_end(&world);
}

static void test_scaling(void **state) {
    (void)state;
    struct world world;
    world_begin(&world, 7, 4);
    world_create(&world, 0, 2);
    world_run(&world, 5000);
    assert_int_equal(world_count_published(&world, 0), 2);
    world_edit(&world, 0, "replicas", json_integer(4));
    world_run(&world, 5000);
    assert_int_equal(world_count_published(&world, 0), 4);
    world_edit(&world, 0, "replicas", json_integer(0));
    world_run(&world, 10000);
    world_assert_settled(&world);
    assert_string_equal(world_condition(&world, 0, "Ready", "reason"), "ScaledToZero");
    world_end(&world);
}

static void test_engine_that_refuses(void **state) {
    (void)state;
    struct world world;
    world_begin(&world, 3, 2);
    world.pods[0].mood = world.pods[1].mood = REFUSES;
    world_create(&world, 0, -1);
    world_run(&world, 20000);
    assert_string_equal(world_condition(&world, 0, "Ready", "reason"), "ModelAdapterLoadingError");
    assert_non_null(strstr(world_condition(&world, 0, "Ready", "message"), "pod pod-1: EngineError: refused"));
    assert_string_equal(json_string_at(world.adapters[0].object.api, "status.phase", ""), "Failed");
    assert_int_equal(world_count_published(&world, 0), 0);
    assert_in_range(count_actions(&world), 4, 16); /* with back-off */
    world.pods[1].mood = GOOD;
    world_run(&world, 70000);
    world_assert_settled(&world);
    assert_string_equal(world_condition(&world, 0, "FullyLoaded", "message"), "1 of 2: pod pod-0: EngineError: refused");
    world_end(&world);
}

static void test_what_is_fetched_is_asked_for_until_it_is_there(void **state) {
    (void)state;
    struct world world;
    world_begin(&world, 3, 2);
    world.pods[0].mood = world.pods[1].mood = FETCHES;
    world_create(&world, 0, 1);
    world_run(&world, 60000);
    const json_t *loads = json_at(world.adapters[0].object.api, "status.loads");
    const json_t *row = json_array_get(loads, 0);
    assert_int_equal(json_array_size(loads), 1); /* no other pod is tried meanwhile */
    assert_string_equal(json_string_at(row, "state", ""), "Loading");
    assert_string_equal(json_string_at(row, "message", ""), "downloading 41 % of 12.3 MB");
    assert_string_equal(world_condition(&world, 0, "Ready", "reason"), "Loading");
    assert_in_range(world.adapters[0].loads, 40, 140); /* never given up, and no back-off */
    int writes = world.adapters[0].write_count;
    assert_in_range(writes, 1, 6); /* the same words are not written twice */
    world.pods[0].mood = world.pods[1].mood = GOOD;
    world_run(&world, 2000);
    assert_true(world_is_ready(&world, 0));
    assert_in_range(world.adapters[0].write_count, writes, writes + 6);
    world_end(&world);
}

static void test_what_is_fetched_for_nobody_is_unloaded(void **state) {
    (void)state;
    struct world world;
    world_begin(&world, 3, 1);
    world.pods[0].mood = FETCHES;
    world_create(&world, 0, -1);
    world_run(&world, 5000);
    int unloads = world.adapters[0].unloads;
    world_edit(&world, 0, "replicas", json_integer(0));
    world_run(&world, 10000);
    assert_in_range(world.adapters[0].unloads, unloads + 1, unloads + 2);
    world_end(&world);
}

static void test_replicas_avoid_a_bad_pod(void **state) {
    (void)state;
    struct world world;
    for (unsigned seed = 0; seed < 4; seed++) {
        world_begin(&world, seed, 2);
        world.pods[seed % 2].mood = seed < 2 ? REFUSES : HANGS;
        world_create(&world, 0, 1);
        world_run(&world, 60000);
        assert_true(world_is_ready(&world, 0));
        world_end(&world);
    }
}

static void test_foreign_service(void **state) {
    (void)state;
    struct world world;
    world_begin(&world, 3, 1);
    world_create(&world, 0, -1);
    world_put(&world, &world.adapters[0].service, json_pack("{s:{s:s}, s:{}}", "metadata", "name", "sql", "spec"));
    world_run(&world, 5000);
    assert_string_equal(world_condition(&world, 0, "ResourceCreated", "reason"), "ServiceCreateError");
    assert_string_equal(world_condition(&world, 0, "Ready", "status"), "False");
    assert_null(world.adapters[0].slices[0].api);
    world_end(&world);
}

static void test_conflicts(void **state) {
    (void)state;
    struct world world;
    world_begin(&world, 3, 2);
    snprintf(world.pods[0].roots[0], WORLD_ROOT_BYTES, "/somebody/elses");
    world_create(&world, 0, -1);
    world_run(&world, 8000);
    assert_true(world_is_ready(&world, 0)); /* on the other pod */
    assert_int_equal(world_count_published(&world, 0), 1);
    assert_non_null(strstr(world_condition(&world, 0, "FullyLoaded", "message"), "Conflict"));
    world_delete(&world, 0);
    world_run(&world, 8000);
    assert_null(world.adapters[0].object.api);
    assert_string_equal(world.pods[0].roots[0], "/somebody/elses"); /* not ours to unload */
    assert_string_equal(world.pods[1].roots[0], "");
    world_end(&world);
}

static void test_new_revision_rolls(void **state) {
    (void)state;
    struct world world;
    world_begin(&world, 5, 3);
    world_create(&world, 0, -1);
    world_run(&world, 5000);
    world_set_url(&world, 0, 2);
    assert_int_equal(least_published(&world, 20000), 2); /* pod by pod */
    world_assert_settled(&world);
    world_end(&world);
}

static void test_bad_revision_stops_the_roll(void **state) {
    (void)state;
    struct world world;
    world_begin(&world, 5, 3);
    world_create(&world, 0, -1);
    world_run(&world, 5000);
    for (int p = 0; p < 3; p++) {
        world.pods[p].mood = REFUSES_LOADS;
    }
    world_set_url(&world, 0, 2);
    world_run(&world, 100000);
    assert_int_equal(world_count_published(&world, 0), 2);
    assert_string_equal(world_condition(&world, 0, "Ready", "status"), "False");
    world_end(&world);
}

static void test_deletion_with_a_dead_pod(void **state) {
    (void)state;
    struct world world;
    world_begin(&world, 5, 2);
    world_create(&world, 0, -1);
    world_run(&world, 5000);
    world.pods[1].mood = HANGS;
    world_delete(&world, 0);
    world_run(&world, 36000);
    assert_null(world.adapters[0].object.api);
    assert_string_equal(world.pods[0].roots[0], "");
    world_end(&world);
}

static void test_restarted_controller_adopts(void **state) {
    (void)state;
    struct world world;
    world_begin(&world, 5, 2);
    world_create(&world, 0, -1);
    world_run(&world, 5000);
    int actions = count_actions(&world), writes = world.adapters[0].write_count;
    world_restart_controller(&world);
    world_run(&world, 5000);
    world_assert_settled(&world);
    assert_int_equal(count_actions(&world) - actions, 2);        /* a proof each, no load */
    assert_int_equal(world.adapters[0].write_count, writes);     /* and no endpoint was taken away meanwhile */
    memset(world.pods[1].roots, 0, sizeof(world.pods[1].roots)); /* this one forgets while nobody looks */
    world_restart_controller(&world);
    assert_int_equal(least_published(&world, 5000), 1);
    world_assert_settled(&world);
    world_end(&world);
}

static void test_first_slice_of_somebody_else(void **state) {
    (void)state;
    struct world world;
    world_begin(&world, 3, 2);
    world.pods[1].port = 9000; /* a slice of its own */
    world_create(&world, 0, -1);
    world_run(&world, 5000);
    size_t theirs =
        strcmp(json_string_at(json_array_get(json_at(world.adapters[0].slices[0].api, "endpoints"), 0), "targetRef.name", ""),
               "pod-0") == 0;
    world_put(&world, &world.adapters[0].slices[0], json_pack("{s:{s:s}, s:[]}", "metadata", "name", "sql", "endpoints"));
    world_run(&world, 100);
    assert_int_equal(world_count_published(&world, 0), 1);
    world.pods[theirs].is_ready = false; /* the other slice is ours: what is in it can still be taken out */
    world_touch(&world, (int)theirs);
    world_run(&world, 2000);
    assert_int_equal(world_count_published(&world, 0), 0);
    assert_string_equal(world_condition(&world, 0, "Ready", "reason"), "EndpointSliceCreateError");
    world_put(&world, &world.adapters[0].slices[0], NULL);
    world_run(&world, 5000);
    assert_int_equal(world_count_published(&world, 0), 1);
    world_end(&world);
}

static void test_weights_lost_while_rolling_count_as_out(void **state) {
    (void)state;
    struct world world;
    world_begin(&world, 5, 3);
    world_create(&world, 0, -1);
    world_run(&world, 5000);
    world_set_url(&world, 0, 2);
    int out = -1;
    while (out < 0 && world_step(&world, world.now_ms + 10000)) { /* the first one is out, and drained */
        for (int p = 0; p < 3; p++) {
            out = world_is_published(&world, 0, p) ? out : p;
        }
    }
    assert_in_range(out, 0, 2);
    memset(world.pods[out].roots, 0, sizeof(world.pods[out].roots));
    world_touch(&world, out);
    assert_int_equal(least_published(&world, 20000), 2);
    world_assert_settled(&world);
    world_end(&world);
}

static void test_nothing_is_unloaded_that_is_being_published(void **state) {
    (void)state;
    struct world world;
    for (unsigned seed = 0; seed < 20; seed++) {
        world_begin(&world, seed, 1);
        world_create(&world, 0, -1);
        world.pods[0].is_ready = false;
        world_run(&world, 5000);
        world.pods[0].is_ready = true;
        world.write_ms = 3000;
        world_touch(&world, 0);
        while (world.adapters[0].proofs == 0 && world_step(&world, world.now_ms + 10000)) {
        }
        world_run(&world, 1000); /* the slice is on its way */
        world_set_url(&world, 0, 2);
        world_run(&world, 60000);
        world_assert_settled(&world);
        world_end(&world);
    }
}

/* A pod on which somebody else took the name while it was out is not waited for: the others get the new weights. */
static void test_a_conflict_does_not_stop_a_roll(void **state) {
    (void)state;
    struct world world;
    char root[WORLD_ROOT_BYTES];
    world_begin(&world, 5, 3);
    world_create(&world, 0, -1);
    world_run(&world, 5000);
    world_set_url(&world, 0, 2);
    while (world.adapters[0].unloads == 0 && world_step(&world, world.now_ms + 10000)) {
    }
    while (world_step(&world, world.now_ms + 10000) && world.pods[0].roots[0][0] != '\0' && world.pods[1].roots[0][0] != '\0' &&
           world.pods[2].roots[0][0] != '\0') {
    }
    int taken = world.pods[0].roots[0][0] == '\0' ? 0 : world.pods[1].roots[0][0] == '\0' ? 1 : 2;
    snprintf(world.pods[taken].roots[0], WORLD_ROOT_BYTES, "/somebody/elses");
    world_touch(&world, taken);
    world_run(&world, 60000);
    world_expected_root(&world, 0, root);
    for (int p = 0; p < 3; p++) {
        assert_string_equal(world.pods[p].roots[0], p == taken ? "/somebody/elses" : root);
        assert_int_equal(world_is_published(&world, 0, p), p != taken);
    }
    world_end(&world);
}

static void test_conflict_comes_after_failure(void **state) {
    (void)state;
    struct world world;
    for (int foreign = 0; foreign < 2; foreign++) {
        world_begin(&world, 1, 2);
        snprintf(world.pods[foreign].roots[0], WORLD_ROOT_BYTES, "/somebody/elses");
        world.pods[1 - foreign].mood = REFUSES;
        world_create(&world, 0, 1);
        world_run(&world, 20000);
        world.pods[1 - foreign].mood = GOOD;
        world_run(&world, 80000);
        assert_true(world_is_ready(&world, 0)); /* a failure may pass, what somebody else has under the name stays */
        world_end(&world);
    }
}

static void test_full_pod_stays_full_after_a_restart(void **state) {
    (void)state;
    struct world world;
    for (unsigned seed = 0; seed < 40; seed++) { /* whichever of the adapters is planned first */
        world_begin(&world, seed, 2);
        world.pods[0].capacity = world.pods[1].capacity = 1;
        world_create(&world, 0, 1);
        world_run(&world, 3000);
        world_create(&world, 1, 2); /* there is room on one pod only */
        world_run(&world, 5000);
        int loads = world.adapters[1].loads;
        world_restart_controller(&world);
        world_run(&world, 15000); /* what decides nothing is written once in 10 s */
        assert_int_equal(world.adapters[1].loads, loads);
        assert_int_equal(world_count_published(&world, 0), 1);
        world_assert_settled(&world);
        world_end(&world);
    }
}

static void test_a_pod_that_is_not_ready_for_a_moment_keeps_what_it_has(void **state) {
    (void)state;
    struct world world;
    for (unsigned seed = 0; seed < 4; seed++) {
        world_begin(&world, seed, 2);
        world_create(&world, 0, 1);
        world_run(&world, 5000);
        int p = world_is_published(&world, 0, 0) ? 0 : 1, actions = count_actions(&world);
        world.pods[p].is_ready = false;
        world_touch(&world, p);
        world_run(&world, 8000);
        assert_int_equal(world_count_published(&world, 0), 0);
        world.pods[p].is_ready = true;
        world_touch(&world, p);
        world_run(&world, 1000);
        assert_true(world_is_published(&world, 0, p));
        assert_int_equal(count_actions(&world), actions); /* nothing was loaded, proved or unloaded for it, there or elsewhere */
        world_run(&world, 10000);
        world_assert_settled(&world);
        world_end(&world);
    }
}

static void test_a_pod_that_is_not_ready_for_long_gives_up_its_place(void **state) {
    (void)state;
    struct world world;
    for (unsigned seed = 0; seed < 4; seed++) {
        world_begin(&world, seed, 2);
        world_create(&world, 0, 1);
        world_run(&world, 5000);
        int p = world_is_published(&world, 0, 0) ? 0 : 1;
        world.pods[p].is_ready = false;
        world_touch(&world, p);
        world_run(&world, PLAN_UNREADY_MS + 3000);
        assert_true(world_is_published(&world, 0, 1 - p));
        assert_string_not_equal(world.pods[p].roots[0], ""); /* what it has is no hurry */
        int loads = world.adapters[0].loads;
        world.pods[p].is_ready = true;
        world_touch(&world, p);
        world_run(&world, 10000);
        assert_true(world_is_published(&world, 0, 1 - p)); /* and does not go back */
        assert_string_equal(world.pods[p].roots[0], "");
        assert_int_equal(world.adapters[0].loads, loads);
        world_assert_settled(&world);
        world_end(&world);
    }
}

/* All fail for a moment, then one only: whichever it is, it does not keep the adapter from the others. */
static void test_a_pod_that_fails_for_long_is_exchanged(void **state) {
    (void)state;
    struct world world;
    for (unsigned seed = 0; seed < 6; seed++) {
        world_begin(&world, seed, 3);
        for (int p = 0; p < 3; p++) {
            world.pods[p].mood = REFUSES_LOADS;
        }
        world_create(&world, 0, 1);
        world_run(&world, 4000); /* each has failed */
        world.pods[seed % 3].mood = GOOD;
        world_run(&world, 90000);
        assert_true(world_is_published(&world, 0, (int)(seed % 3)));
        int actions = count_actions(&world);
        world_run(&world, 200000);
        assert_int_equal(count_actions(&world), actions);
        world_end(&world);
    }
}

static void test_a_pod_deleted_by_force_leaves_at_once(void **state) {
    (void)state;
    struct world world;
    world_begin(&world, 5, 2);
    world_create(&world, 0, -1);
    while (world_count_published(&world, 0) < 2 && world_step(&world, world.now_ms + 5000)) {
    }
    world_start_pod(&world, 2, false);
    world_start_pod(&world, 3, false);
    world.pods[3].mood = SLOW; /* what only adds to the slice waits for its load */
    while (!(world.adapters[0].holds[2] != NULL && world.adapters[0].holds[2]->is_proved) &&
           world_step(&world, world.now_ms + 5000)) {
    }
    assert_int_equal(world_count_published(&world, 0), 2);
    char uid[sizeof(world.pods[0].uid)];
    memcpy(uid, world.pods[0].uid, sizeof(uid));
    world_remove_pod(&world, 0);
    int64_t gone_ms = world.now_ms;
    while (publish_has_pod(world.adapters[0].slices[0].api, uid, "") && world_step(&world, gone_ms + 5000)) {
    }
    assert_in_range(world.now_ms - gone_ms, 0, 100);
    world_end(&world);
}

/* A dead controller had rolled the pod and published it, and had not written that down: it is not out when a newer revision comes.
 */
static void test_what_was_rolled_and_serves_is_not_out(void **state) {
    (void)state;
    struct world world;
    world_begin(&world, 5, 2);
    world_create(&world, 0, -1);
    world_run(&world, 5000);
    for (int p = 0; p < 2; p++) {
        world.adapters[0].holds[p]->is_rolled = true; /* as recalled */
    }
    world_set_url(&world, 0, 2);
    assert_int_equal(least_published(&world, 20000), 1);
    world_assert_settled(&world);
    world_end(&world);
}

/* A pod that was taken out and does not let go of the old weights is out for whoever runs next, too. */
static void test_a_restart_knows_who_cannot_be_unloaded(void **state) {
    (void)state;
    struct world world;
    for (int i = 0; i < 6; i++) {
        world_begin(&world, 5 + (unsigned)i, 2);
        world_create(&world, 0, -1);
        world_run(&world, 5000);
        world.pods[0].mood = world.pods[1].mood = REFUSES;
        world_set_url(&world, 0, 2);
        world_run(&world, 30000);
        assert_int_equal(world_count_published(&world, 0), 1);
        world_restart_controller(&world);
        world_run(&world, 10000);
        world_set_url(&world, 0, 3);
        assert_int_equal(least_published(&world, 60000), 1);
        world.pods[0].mood = world.pods[1].mood = GOOD;
        world_run(&world, 120000);
        world_assert_settled(&world);
        world_end(&world);
    }
}

/* The last that has other weights than are wanted, -1 while there are several. */
static int last_to_roll(struct world *world) {
    char root[WORLD_ROOT_BYTES];
    int last = -1, count = 0;
    world_expected_root(world, 0, root);
    for (int p = 0; p < 3; p++) {
        bool is_old = strcmp(world->pods[p].roots[0], root) != 0;
        count += is_old;
        last = is_old ? p : last;
    }
    return count == 1 ? last : -1;
}

/* ... also when the weights that it has are wanted again, and do not answer. */
static void test_who_cannot_be_unloaded_is_out_with_weights_that_come_back(void **state) {
    (void)state;
    struct world world;
    for (int i = 0; i < 6; i++) {
        world_begin(&world, 5 + (unsigned)i, 3);
        world_create(&world, 0, -1);
        world_run(&world, 5000);
        world_set_url(&world, 0, 2);
        while (last_to_roll(&world) < 0 && world_step(&world, world.now_ms + 60000)) {
        }
        int last = last_to_roll(&world);
        world.pods[last].mood = REFUSES;
        world_run(&world, 10000);
        assert_false(world_is_published(&world, 0, last));
        assert_int_equal(world_count_published(&world, 0), 2);
        world_restart_controller(&world);
        world_run(&world, 10000);
        world_set_url(&world, 0, 1);
        assert_int_equal(least_published(&world, 60000), 2);
        world.pods[last].mood = GOOD;
        world_run(&world, 120000);
        world_assert_settled(&world);
        world_end(&world);
    }
}

static void test_a_restart_does_not_begin_a_deletion_anew(void **state) {
    (void)state;
    struct world world;
    world_begin(&world, 5, 2);
    world_create(&world, 0, -1);
    world_run(&world, 5000);
    world.pods[1].mood = HANGS;
    world_delete(&world, 0);
    int64_t deleted_ms = world.now_ms;
    for (int i = 0; i < 2; i++) {
        world_run(&world, 10000);
        world_restart_controller(&world);
    }
    while (world.adapters[0].object.api != NULL && world_step(&world, deleted_ms + 100000)) {
    }
    assert_in_range(world.now_ms - deleted_ms, 30000, 34000);
    world_end(&world);
}

/* However many are before it in the queue for a pod that is slow, and however late the controller began: nothing is left there. */
static void test_a_deletion_waits_for_a_pod_that_answers(void **state) {
    (void)state;
    struct world world;
    for (unsigned seed = 0; seed < 40; seed++) {
        world_begin(&world, seed, 1);
        world.pods[0].mood = SLOW;
        for (int a = 0; a < WORLD_ADAPTERS; a++) {
            world_create(&world, a, -1);
        }
        world_run(&world, 120000);
        for (int a = 0; a < WORLD_ADAPTERS; a++) {
            world_delete(&world, a);
        }
        world_run(&world, 5000);
        world_restart_controller(&world);
        world_run(&world, 5000);
        world_restart_controller(&world);
        world_run(&world, 120000);
        for (int a = 0; a < WORLD_ADAPTERS; a++) {
            assert_null(world.adapters[a].object.api);
            assert_string_equal(world.pods[0].roots[a], "");
        }
        world_end(&world);
    }
}

/* Engines go on with what a controller that was killed had asked for: the object waits for it. */
static void test_what_arrives_after_a_restart_is_unloaded(void **state) {
    (void)state;
    struct world world;
    for (unsigned seed = 0; seed < 60; seed++) {
        world_begin(&world, seed, 2);
        world.pods[0].mood = world.pods[1].mood = SLOW;
        world_create(&world, 0, seed % 2 == 0 ? -1 : 1);
        world_run(&world, 300 + 100 * (seed % 10));
        world_restart_controller(&world);
        world_run(&world, 20 * (seed % 7));
        world_delete(&world, 0);
        world_run(&world, 100000);
        assert_null(world.adapters[0].object.api);
        for (int p = 0; p < 2; p++) {
            assert_string_equal(world.pods[p].roots[0], "");
        }
        world_end(&world);
    }
}

/* ... and for nothing where all was done already. */
static void test_a_deletion_after_a_restart_is_no_slower(void **state) {
    (void)state;
    struct world world;
    world_begin(&world, 3, 2);
    world_create(&world, 0, -1);
    world_run(&world, 10000);
    world_restart_controller(&world);
    world_delete(&world, 0);
    world_run(&world, 3000);
    assert_null(world.adapters[0].object.api);
    world_end(&world);
}

static void test_a_deletion_leaves_time_for_a_try(void **state) {
    (void)state;
    static const struct {
        const char *deleted;
        int64_t wall_ms, drain_ms, since_ms;
    } cases[] = {{"1970-01-01T00:01:40Z", 100000, 1000, 500000}, /* now */
                 {"1970-01-01T00:01:40Z", 105000, 1000, 495000},
                 {"1970-01-01T00:01:40Z", 200000, 1000, 480000}, /* long ago, or by another clock */
                 {"1970-01-01T00:01:40Z", 200000, 60000, 421000},
                 {"1970-01-01T00:01:40Z", 10000, 1000, 500000}, /* to come */
                 {"some day", 100000, 1000, 500000},
                 {NULL, 100000, 1000, 500000}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        json_t *object = json_pack("{s:{s:s*}}", "metadata", "deletionTimestamp", cases[i].deleted);
        assert_int_equal(plan_deleting_since(object, cases[i].drain_ms, 500000, cases[i].wall_ms), cases[i].since_ms);
        json_decref(object);
    }
}

/* At whatever moment of the roll, and although the status is written now and then only. */
static void test_a_restart_takes_no_second_pod_out(void **state) {
    (void)state;
    struct world world;
    for (int i = 0; i < 60; i++) {
        world_begin(&world, 5 + (unsigned)i, 3);
        world.uses_sidecar = i % 2 == 0;
        world_create(&world, 0, i % 3 == 0 ? 3 : -1);
        world_run(&world, 5000);
        for (int p = 0; p < 3; p++) {
            world.pods[p].mood = i % 4 < 2 ? SLOW : REFUSES_LOADS;
        }
        world_set_url(&world, 0, 2);
        int least = least_published(&world, 300 * i);
        world_restart_controller(&world);
        int later = least_published(&world, 20000);
        assert_in_range(later < least ? later : least, 2, 3);
        for (int p = 0; p < 3; p++) {
            world.pods[p].mood = GOOD;
        }
        assert_in_range(least_published(&world, 150000), 2, 3);
        world_assert_settled(&world);
        world_end(&world);
    }
}

/* Whatever was under way as the object changed: what a pod has of it is known to the next run, and goes. */
static void test_a_restart_knows_what_was_being_loaded(void **state) {
    (void)state;
    struct world world;
    for (int i = 0; i < 400; i++) {
        world_begin(&world, 100 + (unsigned)i, 3);
        world_create(&world, 0, i % 2 == 0 ? 2 : -1);
        world_run(&world, (i % 20) * 10);
        world_set_url(&world, 0, 2);
        world_run(&world, (i / 20) * 10);
        world_restart_controller(&world);
        world_run(&world, 5 * (i % 7));
        if (i % 3 == 0) {
            world_set_url(&world, 0, 3);
        }
        world_run(&world, 60000);
        world_assert_settled(&world);
        world_delete(&world, 0);
        world_run(&world, 60000);
        for (int p = 0; p < 3; p++) {
            assert_string_equal(world.pods[p].roots[0], "");
        }
        world_end(&world);
    }
}

/* From the endpoint's end to the unload. */
static int64_t drained_ms(bool has_gauge, enum mood mood, int64_t busy_ms) {
    struct world world;
    world_begin(&world, 1, 1);
    world.pods[0].has_gauge = has_gauge;
    world.busy_ms = busy_ms;
    world_create(&world, 0, -1);
    world_edit(&world, 0, "drainSeconds", json_integer(30));
    world_run(&world, 10000);
    world.pods[0].mood = mood;
    world_delete(&world, 0);
    while (world.adapters[0].unloads == 0 && world_step(&world, world.now_ms + 60000)) {
    }
    assert_int_equal(world.adapters[0].unloads, 1);
    int64_t took_ms = world.now_ms - world.adapters[0].out_ms[0];
    world_end(&world);
    return took_ms;
}

static void test_a_drain_ends_with_the_last_request(void **state) {
    (void)state;
    assert_in_range(drained_ms(true, GOOD, 1), 1000, 1500);
    assert_in_range(drained_ms(true, GOOD, 10000), 10000, 11000);
    assert_in_range(drained_ms(true, GOOD, 60000), 30000, 30500); /* it lasts longer than the drain */
    assert_in_range(drained_ms(false, GOOD, 1), 30000, 30500);    /* who does not say what runs is given all the time */
    assert_in_range(drained_ms(true, HANGS, 1), 30000, 30500);
}

/* What the engine said within the first second does not count: a request may have been on its way to it. */
static void test_a_gauge_that_was_read_too_soon_ends_no_drain(void **state) {
    (void)state;
    static const struct {
        int64_t idle_ms, now_ms;
        bool unloads, is_gauged;
    } cases[] = {{0, 100999, false, false},     {0, 101000, false, true},      {100999, 105000, false, true},
                 {101000, 101000, true, false}, {101000, 105000, true, false}, {0, 129999, false, true},
                 {0, 130000, true, false}};
    json_t *object = json_pack("{s:{s:s, s:s, s:s, s:[s]}, s:{s:s, s:i, s:{s:{s:s}}}}", "metadata", "name", "sql", "namespace",
                               "default", "deletionTimestamp", "1970-01-01T00:01:40Z", "finalizers", MODEL_ADAPTER_FINALIZER,
                               "spec", "artifactURL", "/a/sql", "drainSeconds", 30, "podSelector", "matchLabels", "app", "llm");
    struct model_adapter spec;
    struct error err = {0};
    assert_int_equal(model_adapter_read(object, &spec, &err), 0);
    struct hold hold = {.state = HOLD_LOADED, .unpublished_ms = 100000, .start = (char *)"1"};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct plan_pod pod = {.name = "p",
                               .uid = "u",
                               .ip = "127.0.0.1",
                               .second_ip = "",
                               .node = "",
                               .zone = "",
                               .domain = "",
                               .matches = true,
                               .is_ready = true,
                               .is_observed = true,
                               .idle_ms = cases[i].idle_ms,
                               .hold = &hold};
        struct plan_input input = {.object = object,
                                   .seen = {.phase = "", .ready_status = "", .ready_reason = ""},
                                   .adapter = &spec,
                                   .pods = &pod,
                                   .pod_count = 1,
                                   .drain_ms = plan_drain_ms(&spec),
                                   .give_up_ms = 60000,
                                   .deleting_since_ms = 100000,
                                   .now_ms = cases[i].now_ms};
        struct plan plan;
        plan_adapter(&input, &plan);
        assert_int_equal(plan.action_count, cases[i].unloads);
        assert_int_equal(plan.is_gauged[0], cases[i].is_gauged);
        assert_true(cases[i].unloads || plan.look_again_ms <= 130000);
        plan_release(&plan);
    }
    model_adapter_release(&spec);
    json_decref(object);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_creation),
        cmocka_unit_test(test_no_pods),
        cmocka_unit_test(test_scaling),
        cmocka_unit_test(test_engine_that_refuses),
        cmocka_unit_test(test_what_is_fetched_is_asked_for_until_it_is_there),
        cmocka_unit_test(test_what_is_fetched_for_nobody_is_unloaded),
        cmocka_unit_test(test_replicas_avoid_a_bad_pod),
        cmocka_unit_test(test_foreign_service),
        cmocka_unit_test(test_conflicts),
        cmocka_unit_test(test_new_revision_rolls),
        cmocka_unit_test(test_bad_revision_stops_the_roll),
        cmocka_unit_test(test_deletion_with_a_dead_pod),
        cmocka_unit_test(test_restarted_controller_adopts),
        cmocka_unit_test(test_first_slice_of_somebody_else),
        cmocka_unit_test(test_weights_lost_while_rolling_count_as_out),
        cmocka_unit_test(test_nothing_is_unloaded_that_is_being_published),
        cmocka_unit_test(test_a_drain_ends_with_the_last_request),
        cmocka_unit_test(test_a_gauge_that_was_read_too_soon_ends_no_drain),
        cmocka_unit_test(test_a_conflict_does_not_stop_a_roll),
        cmocka_unit_test(test_conflict_comes_after_failure),
        cmocka_unit_test(test_full_pod_stays_full_after_a_restart),
        cmocka_unit_test(test_a_restart_takes_no_second_pod_out),
        cmocka_unit_test(test_a_restart_knows_what_was_being_loaded),
        cmocka_unit_test(test_what_was_rolled_and_serves_is_not_out),
        cmocka_unit_test(test_a_restart_knows_who_cannot_be_unloaded),
        cmocka_unit_test(test_who_cannot_be_unloaded_is_out_with_weights_that_come_back),
        cmocka_unit_test(test_a_restart_does_not_begin_a_deletion_anew),
        cmocka_unit_test(test_a_deletion_waits_for_a_pod_that_answers),
        cmocka_unit_test(test_what_arrives_after_a_restart_is_unloaded),
        cmocka_unit_test(test_a_deletion_after_a_restart_is_no_slower),
        cmocka_unit_test(test_a_deletion_leaves_time_for_a_try),
        cmocka_unit_test(test_a_pod_deleted_by_force_leaves_at_once),
        cmocka_unit_test(test_a_pod_that_fails_for_long_is_exchanged),
        cmocka_unit_test(test_a_pod_that_is_not_ready_for_a_moment_keeps_what_it_has),
        cmocka_unit_test(test_a_pod_that_is_not_ready_for_long_gives_up_its_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
