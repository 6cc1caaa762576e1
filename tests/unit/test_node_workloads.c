/* Deployments and ReplicaSets in a simulated cluster: the plans are carried out on objects in memory, pods become ready when the
 * test says so. */
#include "base/clock.h"
#include "cluster/node/deployment.h"
#include "cluster/node/replica_set.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define WALL 1800000000000

struct world {
    json_t *deployment;
    json_t *sets;
    json_t *pods;
    int64_t wall_ms;
    uint64_t seed;
    int uids;
};

static void world_init(struct world *world, int replicas, const char *strategy) {
    static const char format[] =
        "{\"apiVersion\":\"apps/"
        "v1\",\"kind\":\"Deployment\",\"metadata\":{\"name\":\"web\",\"namespace\":\"d\",\"uid\":\"D\",\"generation\":1},"
        "\"spec\":{\"replicas\":%d,\"selector\":{\"matchLabels\":{\"a\":\"b\"}},\"strategy\":%s,\"template\":{\"metadata\":{"
        "\"labels\":"
        "{\"a\":\"b\"}},\"spec\":{\"containers\":[{\"name\":\"c\",\"image\":\"1\"}]}}}}";
    char text[1024];
    (void)snprintf(text, sizeof(text), format, replicas, strategy);
    struct error err;
    *world = (struct world){
        .deployment = json_parse(text, strlen(text), &err), .sets = json_array(), .pods = json_array(), .wall_ms = WALL};
    assert_non_null(world->deployment);
}

static void world_release(struct world *world) {
    json_decref(world->deployment);
    json_decref(world->sets);
    json_decref(world->pods);
}

static size_t find(const json_t *objects, const char *name) {
    size_t index = 0;
    json_t *object = NULL;
    json_array_foreach((json_t *)objects, index, object) {
        if (strcmp(kube_name(object), name) == 0) {
            return index;
        }
    }
    return SIZE_MAX;
}

static void carry_out(struct world *world, struct api_actions *actions) {
    for (size_t i = 0; i < actions->count; i++) {
        struct api_action *action = &actions->items[i];
        json_t *objects = action->resource == &kube_replicasets ? world->sets : world->pods;
        if (action->verb == KUBE_CREATE) {
            json_t *object = json_deep_copy(action->body);
            cleanup_free char *uid = xasprintf("uid%d", world->uids++);
            json_object_set_new(json_object_get(object, "metadata"), "uid", json_string(uid));
            assert_int_equal(find(objects, kube_name(object)), SIZE_MAX);
            json_array_append_new(objects, object);
        } else if (action->verb == KUBE_DELETE) {
            assert_true(find(objects, action->name) != SIZE_MAX);
            json_array_remove(objects, find(objects, action->name));
        } else if (action->resource == &kube_deployments) {
            world->deployment = json_merge_patch(world->deployment, action->body);
        } else {
            size_t index = find(objects, action->name);
            assert_true(index != SIZE_MAX);
            json_array_set_new(objects, index, json_merge_patch(json_deep_copy(json_array_get(objects, index)), action->body));
        }
    }
    api_actions_release(actions);
}

static void run_replica_sets(struct world *world) {
    for (size_t i = 0; i < json_array_size(world->sets); i++) {
        json_t *set = json_array_get(world->sets, i);
        cleanup_json json_t *own = json_array();
        size_t index = 0;
        json_t *pod = NULL;
        json_array_foreach(world->pods, index, pod) {
            if (kube_is_controlled_by(pod, set)) {
                json_array_append(own, pod);
            }
        }
        struct api_actions actions = {0};
        replica_set_plan(set, own, world->wall_ms, world->seed++, &actions);
        carry_out(world, &actions);
    }
}

static void run_deployment(struct world *world) {
    struct api_actions actions = {0};
    deployment_plan(world->deployment, world->sets, world->wall_ms, &actions);
    carry_out(world, &actions);
}

static void set_ready(struct world *world, json_t *pod, bool is_ready) {
    char now_text[CLOCK_RFC3339_BYTES];
    clock_format_rfc3339(world->wall_ms, now_text);
    json_object_set_new(json_object_get(pod, "spec"), "nodeName", json_string("n"));
    json_object_set_new(pod, "status",
                        json_pack("{s:s, s:[{s:s, s:s, s:s}]}", "phase", "Running", "conditions", "type", "Ready", "status",
                                  is_ready ? "True" : "False", "lastTransitionTime", now_text));
}

static int64_t count_ready(const struct world *world) {
    int64_t count = 0;
    size_t index = 0;
    json_t *pod = NULL;
    json_array_foreach(world->pods, index, pod) {
        const json_t *condition = json_array_get(json_at(pod, "status.conditions"), 0);
        count += strcmp(json_string_at(condition, "status", ""), "True") == 0;
    }
    return count;
}

static const char *reason(const struct world *world, const char *type) {
    size_t index = 0;
    json_t *condition = NULL;
    json_array_foreach(json_at(world->deployment, "status.conditions"), index, condition) {
        if (strcmp(json_string_at(condition, "type", ""), type) == 0) {
            return json_string_at(condition, "reason", "");
        }
    }
    return "";
}

static void settle(struct world *world) {
    for (int round = 0; round < 40; round++) {
        run_deployment(world);
        run_replica_sets(world);
        size_t index = 0;
        json_t *pod = NULL;
        json_array_foreach(world->pods, index, pod) {
            if (json_object_get(pod, "status") == NULL) {
                set_ready(world, pod, true);
            }
        }
        world->wall_ms += 1000;
    }
}

static void set_image(struct world *world, const char *image) {
    json_t *container = json_array_get(json_at(world->deployment, "spec.template.spec.containers"), 0);
    json_object_set_new(container, "image", json_string(image));
    json_object_set_new(json_object_get(world->deployment, "metadata"), "generation",
                        json_integer(json_int_at(world->deployment, "metadata.generation", 0) + 1));
}

static void test_first_rollout(void **state) {
    (void)state;
    struct world world;
    world_init(&world, 3, "{}");
    run_deployment(&world);
    assert_int_equal(json_array_size(world.sets), 1);
    assert_string_equal(reason(&world, "Available"), "MinimumReplicasUnavailable");
    run_deployment(&world);
    assert_string_equal(reason(&world, "Progressing"), "NewReplicaSetCreated");
    settle(&world);
    assert_int_equal(json_array_size(world.pods), 3);
    assert_string_equal(reason(&world, "Available"), "MinimumReplicasAvailable");
    assert_string_equal(reason(&world, "Progressing"), "NewReplicaSetAvailable");
    assert_int_equal(json_int_at(world.deployment, "status.availableReplicas", 0), 3);
    assert_int_equal(json_int_at(world.deployment, "status.observedGeneration", 0), 1);
    assert_null(json_at(world.deployment, "status.unavailableReplicas"));
    /* Nothing is left to do, and nothing is written. */
    struct api_actions actions = {0};
    deployment_plan(world.deployment, world.sets, world.wall_ms, &actions);
    assert_int_equal(actions.count, 0);
    world_release(&world);
}

/* The label that tells ReplicaSets apart, copied by somebody into the Deployment's own template. */
static void test_a_hash_in_the_template_settles(void **state) {
    (void)state;
    struct world world;
    world_init(&world, 2, "{}");
    json_t *labels = json_at(world.deployment, "spec.template.metadata.labels");
    json_object_set_new(labels, "pod-template-hash", json_string("abc"));
    settle(&world);
    assert_int_equal(json_array_size(world.sets), 1);
    assert_int_equal(json_array_size(world.pods), 2);
    struct api_actions actions = {0};
    deployment_plan(world.deployment, world.sets, world.wall_ms, &actions);
    assert_int_equal(actions.count, 0);
    world_release(&world);
}

static void test_scale_and_lost_pod(void **state) {
    (void)state;
    struct world world;
    world_init(&world, 2, "{}");
    settle(&world);
    json_array_remove(world.pods, 0);
    settle(&world);
    assert_int_equal(json_array_size(world.pods), 2);
    json_object_set_new(json_object_get(world.deployment, "spec"), "replicas", json_integer(5));
    settle(&world);
    assert_int_equal(json_array_size(world.pods), 5);
    set_ready(&world, json_array_get(world.pods, 3), false);
    cleanup_free char *unready = xstrdup(kube_name(json_array_get(world.pods, 3)));
    json_object_set_new(json_object_get(world.deployment, "spec"), "replicas", json_integer(4));
    run_deployment(&world);
    run_replica_sets(&world);
    assert_int_equal(find(world.pods, unready), SIZE_MAX); /* the one that serves nobody goes first */
    json_object_set_new(json_object_get(world.deployment, "spec"), "replicas", json_integer(0));
    settle(&world);
    assert_int_equal(json_array_size(world.pods), 0);
    assert_int_equal(json_array_size(world.sets), 1);
    world_release(&world);
}

/* Random readiness, random losses, random order of the controllers: the bounds of the strategy hold at each step, and in the end it
 * is done. */
static void test_rolling_update_keeps_its_bounds(void **state) {
    (void)state;
    static const struct {
        const char *strategy;
        int surge;
        int unavailable;
    } cases[] = {{"{\"rollingUpdate\":{\"maxSurge\":1,\"maxUnavailable\":0}}", 1, 0},
                 {"{\"rollingUpdate\":{\"maxSurge\":0,\"maxUnavailable\":1}}", 0, 1},
                 {"{}", 2, 1},
                 {"{\"rollingUpdate\":{\"maxSurge\":\"100%\",\"maxUnavailable\":\"50%\"}}", 6, 3},
                 {"{\"rollingUpdate\":{\"maxSurge\":0,\"maxUnavailable\":0}}", 0, 1}};
    const int replicas = 6;
    for (int run = 0; run < 200; run++) {
        size_t which = (size_t)run % ARRAY_LEN(cases);
        unsigned random = (unsigned)run * 7919 + 1;
        struct world world;
        world_init(&world, replicas, cases[which].strategy);
        settle(&world);
        for (int image = 2; image < 5; image++) {
            char text[16];
            (void)snprintf(text, sizeof(text), "%d", image);
            set_image(&world, text);
            for (int step = 0; step < 30; step++) {
                random = random * 1103515245 + 12345;
                if (random >> 16 & 1) {
                    run_deployment(&world);
                } else {
                    run_replica_sets(&world);
                }
                assert_true((int)json_array_size(world.pods) <= replicas + cases[which].surge);
                assert_true(count_ready(&world) >= replicas - cases[which].unavailable);
                size_t index = 0;
                json_t *pod = NULL;
                json_array_foreach(world.pods, index, pod) {
                    random = random * 1103515245 + 12345;
                    if (json_object_get(pod, "status") == NULL && (random >> 16) % 3 == 0) {
                        set_ready(&world, pod, true);
                    }
                }
                world.wall_ms += 1000;
            }
        }
        settle(&world);
        assert_int_equal(json_array_size(world.pods), replicas);
        size_t index = 0;
        json_t *pod = NULL;
        json_array_foreach(world.pods, index, pod) {
            assert_string_equal(json_string_at(json_array_get(json_at(pod, "spec.containers"), 0), "image", ""), "4");
        }
        assert_string_equal(reason(&world, "Progressing"), "NewReplicaSetAvailable");
        assert_int_equal(json_int_at(world.deployment, "status.updatedReplicas", 0), replicas);
        world_release(&world);
    }
}

static void test_recreate_and_rollback(void **state) {
    (void)state;
    struct world world;
    world_init(&world, 2, "{\"type\":\"Recreate\"}");
    settle(&world);
    set_image(&world, "2");
    run_deployment(&world);
    run_replica_sets(&world);
    assert_int_equal(json_array_size(world.pods), 0); /* the old ones are gone before a new one is there */
    settle(&world);
    assert_int_equal(json_array_size(world.pods), 2);
    set_image(&world, "1");
    settle(&world);
    assert_int_equal(json_array_size(world.sets), 2); /* the first ReplicaSet is used again, as revision 3 */
    json_t *set = deployment_new_replica_set(world.deployment, world.sets);
    assert_string_equal(
        json_string_value(json_object_get(json_at(set, "metadata.annotations"), "deployment.kubernetes.io/revision")), "3");
    world_release(&world);
}

static void test_progress_deadline(void **state) {
    (void)state;
    struct world world;
    world_init(&world, 2, "{}");
    run_deployment(&world);
    run_deployment(&world);
    world.wall_ms += 601000;
    run_deployment(&world);
    assert_string_equal(reason(&world, "Progressing"), "ProgressDeadlineExceeded");
    settle(&world);
    assert_string_equal(reason(&world, "Progressing"), "NewReplicaSetAvailable");
    world_release(&world);
}

static void test_int_or_percent(void **state) {
    (void)state;
    assert_int_equal(int_or_percent(NULL, 10, true, "25%"), 3);
    assert_int_equal(int_or_percent(NULL, 10, false, "25%"), 2);
    cleanup_json json_t *number = json_integer(4);
    assert_int_equal(int_or_percent(number, 10, true, "25%"), 4);
    cleanup_json json_t *bad = json_string("many");
    assert_int_equal(int_or_percent(bad, 10, true, "25%"), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_first_rollout),         cmocka_unit_test(test_a_hash_in_the_template_settles),
        cmocka_unit_test(test_scale_and_lost_pod),    cmocka_unit_test(test_rolling_update_keeps_its_bounds),
        cmocka_unit_test(test_recreate_and_rollback), cmocka_unit_test(test_progress_deadline),
        cmocka_unit_test(test_int_or_percent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
