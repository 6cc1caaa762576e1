/* What the status says, in single stories of a simulated world (plan_world.h): whoever reads it knows what is so and what is waited
 * for. */
#include "plan_world.h"

#include <string.h>

struct said {
    const char *type, *status, *reason, *message; /* the message contains it; NULL = any */
};

static void assert_said(const struct world *world, const struct said *said, size_t count) {
    for (size_t i = 0; i < count; i++) {
        const char *status = world_condition(world, 0, said[i].type, "status");
        const char *reason = world_condition(world, 0, said[i].type, "reason");
        const char *message = world_condition(world, 0, said[i].type, "message");
        if (strcmp(status, said[i].status) != 0 || strcmp(reason, said[i].reason) != 0 ||
            (said[i].message != NULL && strstr(message, said[i].message) == NULL)) {
            fail_msg("expected %s=%s %s \"%s\", found %s %s \"%s\"", said[i].type, said[i].status, said[i].reason,
                     said[i].message != NULL ? said[i].message : "", status, reason, message);
        }
    }
}

static const char *phase(const struct world *world) {
    return json_string_at(world->adapters[0].object.api, "status.phase", "");
}

static void begin(struct world *world, int pods, int replicas) {
    world_begin(world, 3, pods);
    world_create(world, 0, replicas);
    world_run(world, 12000);
}

static void test_all_conditions_go_back(void **state) {
    (void)state;
    static const struct said running[] = {{"Initialized", "True", "Initialized", NULL},
                                          {"Scheduled", "True", "Scheduled", "is placed on 2 pods: [pod-0, pod-1]"},
                                          {"Bound", "True", "Bound", "2 of 2"},
                                          {"ResourceCreated", "True", "ResourceCreated", NULL},
                                          {"Ready", "True", "ModelAdapterAvailable", NULL},
                                          {"FullyLoaded", "True", "FullyLoaded", "2 of 2"}};
    static const struct said without_pods[] = {{"Initialized", "True", "Initialized", NULL},
                                               {"Scheduled", "False", "NoMatchingPods", "no pod in namespace"},
                                               {"Bound", "False", "NoMatchingPods", "there is no pod"},
                                               {"ResourceCreated", "True", "ResourceCreated", NULL},
                                               {"Ready", "False", "NoMatchingPods", NULL},
                                               {"FullyLoaded", "False", "NoMatchingPods", "no pod in namespace"}};
    struct world world;
    begin(&world, 2, -1);
    assert_said(&world, running, ARRAY_LEN(running));
    assert_string_equal(phase(&world), "Running");
    world_remove_pod(&world, 0);
    world_remove_pod(&world, 1);
    world_run(&world, 12000);
    assert_said(&world, without_pods, ARRAY_LEN(without_pods));
    assert_string_equal(phase(&world), "Pending");
    assert_int_equal(json_int_at(world.adapters[0].object.api, "status.readyReplicas", -1), 0);
    world_put(&world, &world.adapters[0].service, json_pack("{s:{s:s}, s:{}}", "metadata", "name", "sql", "spec"));
    world_run(&world, 12000);
    assert_string_equal(world_condition(&world, 0, "ResourceCreated", "status"), "False");
    world_end(&world);
}

static void test_a_failure_is_counted_by_pods(void **state) {
    (void)state;
    static const struct said one[] = {
        {"Ready", "False", "ModelAdapterLoadingError", "Loading failed on 1 of 2 pods: pod pod-0: EngineError: refused; pod pod-1"},
        {"FullyLoaded", "False", "PartiallyLoaded", "0 of 2: pod pod-0: EngineError: refused"}};
    static const struct said both[] = {{"Ready", "False", "ModelAdapterLoadingError", "Loading failed on all pods: pod pod-0"},
                                       {"Bound", "False", "ModelAdapterLoadingError", "pod pod-1: EngineError: refused"}};
    struct world world;
    world_begin(&world, 3, 2);
    world.pods[0].mood = REFUSES_LOADS;
    world.pods[1].mood = FETCHES; /* not failed, and takes its time */
    world_create(&world, 0, -1);
    world_run(&world, 12000);
    assert_said(&world, one, ARRAY_LEN(one));
    assert_string_equal(phase(&world), "Scheduled");
    world.pods[1].mood = REFUSES_LOADS;
    world_run(&world, 3000); /* the last hope gone is said at once */
    assert_said(&world, both, ARRAY_LEN(both));
    assert_string_equal(phase(&world), "Failed");
    world_end(&world);
}

static void test_scaled_to_zero(void **state) {
    (void)state;
    static const struct said zero[] = {{"Scheduled", "True", "Scheduled", "0 replicas are wanted"},
                                       {"Bound", "False", "ScaledToZero", "0 replicas are wanted"},
                                       {"Ready", "False", "ScaledToZero", "0 replicas are wanted"},
                                       {"FullyLoaded", "False", "ScaledToZero", "0 replicas are wanted"}};
    struct world world;
    begin(&world, 2, 1);
    world_edit(&world, 0, "replicas", json_integer(0));
    world_run(&world, 15000);
    assert_said(&world, zero, ARRAY_LEN(zero));
    assert_string_equal(phase(&world), "Scaled");
    assert_int_equal(json_array_size(json_at(world.adapters[0].object.api, "status.loads")), 0);
    world_end(&world);
}

static void test_a_deletion_names_what_it_waits_for(void **state) {
    (void)state;
    static const struct said begun[] = {{"Scheduled", "False", "Terminating", "being deleted"},
                                        {"Bound", "False", "Terminating", "being deleted"},
                                        {"FullyLoaded", "False", "Terminating", "being deleted"},
                                        {"Ready", "False", "Terminating", "drained and unloaded: pod pod-0; pod pod-1"}};
    static const struct said hangs[] = {{"Ready", "False", "Terminating", "drained and unloaded: pod pod-1: timed out"}};
    struct world world;
    begin(&world, 2, -1);
    world.pods[1].mood = HANGS;
    world_delete(&world, 0);
    world_run(&world, 500);
    assert_said(&world, begun, ARRAY_LEN(begun));
    world_run(&world, 15000);
    assert_said(&world, hangs, ARRAY_LEN(hangs));
    const json_t *row = json_array_get(json_at(world.adapters[0].object.api, "status.loads"), 0);
    assert_string_equal(json_string_at(row, "state", ""), "Unloading");
    assert_string_equal(json_string_at(row, "reason", ""), "EngineUnreachable");
    world_end(&world);
}

static void test_a_number_that_cannot_be_had(void **state) {
    (void)state;
    static const struct said few[] = {
        {"Scheduled", "False", "InsufficientPods", "4 replicas wanted, 2 ready pods match podSelector: pod-0, pod-1"},
        {"Ready", "False", "InsufficientPods", NULL},
        {"Bound", "True", "Bound", "2 of 2"},
        {"FullyLoaded", "False", "PartiallyLoaded", "2 of 4"}};
    struct world world;
    begin(&world, 2, 4);
    assert_said(&world, few, ARRAY_LEN(few));
    assert_string_equal(phase(&world), "Bound");
    assert_int_equal(world_count_published(&world, 0), 2); /* what there is serves */
    world_end(&world);
}

static void test_no_room_is_a_reason(void **state) {
    (void)state;
    struct world world;
    world_begin(&world, 3, 2);
    world.pods[0].capacity = world.pods[1].capacity = 1;
    world_create(&world, 1, 2);
    world_run(&world, 12000);
    world_create(&world, 0, 1);
    world_run(&world, 12000);
    static const struct said full[] = {{"Scheduled", "False", "InsufficientCapacity",
                                        "1 replicas wanted, 0 placed; these pods hold as many adapters as they can: pod-0, pod-1"},
                                       {"Ready", "False", "InsufficientCapacity", NULL}};
    assert_said(&world, full, ARRAY_LEN(full));
    assert_string_equal(phase(&world), "Pending");
    assert_int_equal(world.adapters[0].loads, 0); /* nobody was asked in vain */
    world_delete(&world, 1);
    world_run(&world, 12000);
    assert_true(world_is_ready(&world, 0));
    world_end(&world);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_conditions_go_back),
        cmocka_unit_test(test_a_failure_is_counted_by_pods),
        cmocka_unit_test(test_scaled_to_zero),
        cmocka_unit_test(test_a_deletion_names_what_it_waits_for),
        cmocka_unit_test(test_a_number_that_cannot_be_had),
        cmocka_unit_test(test_no_room_is_a_reason),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
