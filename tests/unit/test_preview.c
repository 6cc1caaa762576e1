/* Previews in single stories: the exact steps, and what is said to stand in the way. */
#include "plan_world_snapshot.h"

#include <string.h>

#define CALM_MS 60000

/* "load pod-0; prove pod-0; ..."; details of object and revision are left out. Of the caller's. */
static char *steps_text(const struct preview *preview) {
    struct buffer text = BUFFER_INIT;
    for (size_t i = 0; i < preview->step_count; i++) {
        const struct preview_step *step = &preview->steps[i];
        bool has_detail = step->action == PREVIEW_UPDATE || step->action == PREVIEW_CREATE_SLICE;
        buffer_printf(&text, "%s%s%s%s%s%s", i > 0 ? "; " : "", preview_action_name(step->action), step->pod != NULL ? " " : "",
                      step->pod != NULL ? step->pod : "", has_detail ? " " : "", has_detail ? step->detail : "");
    }
    return buffer_take(&text);
}

static void assert_steps(const struct preview *preview, const char *expected) {
    cleanup_free char *text = steps_text(preview);
    assert_string_equal(text, expected);
}

/* The first that speaks of the pod, or (NULL) of none. */
static const char *blocked_reason(const struct preview *preview, const char *pod) {
    for (size_t i = 0; i < json_array_size(preview->blocked); i++) {
        const json_t *item = json_array_get(preview->blocked, i);
        if (strcmp(json_string_at(item, "pod", ""), pod != NULL ? pod : "") == 0) {
            return json_string_at(item, "reason", "");
        }
    }
    return "";
}

static int64_t ready_of(const struct preview *preview) {
    return json_int_at(preview->object, "status.readyReplicas", -1);
}

/* What the change of the world's first adapter from `existing` would do. */
static void look(struct world *world, const json_t *existing, struct preview *ret_preview) {
    struct world_snapshot snapshot;
    world_snapshot_take(world, 0, existing, &snapshot);
    preview_make(&snapshot.input, ret_preview);
    world_snapshot_release(&snapshot);
    assert_false(ret_preview->is_cut);
}

/* A world where the adapter serves on so many pods; what it is now. */
static json_t *serve(struct world *world, int pods, int replicas) {
    world_begin(world, 1, pods);
    world_create(world, 0, replicas);
    world_run(world, CALM_MS);
    assert_true(world_is_ready(world, 0));
    return json_incref(world->adapters[0].object.api);
}

static void test_new_on_two_pods(void **state) {
    (void)state;
    struct world world;
    struct preview preview;
    world_begin(&world, 1, 2);
    world_create(&world, 0, -1);
    look(&world, NULL, &preview);
    assert_steps(&preview, "create; add-finalizer; create-service; load pod-0; load pod-1; prove pod-0; prove pod-1; "
                           "create-slice sql; publish pod-0; publish pod-1");
    assert_string_equal(json_string_at(preview.object, "status.phase", ""), "Running");
    assert_int_equal(ready_of(&preview), 2);
    assert_int_equal(json_array_size(preview.blocked), 0);
    assert_false(preview.is_example);
    preview_release(&preview);
    world_end(&world);
}

static void test_new_with_replicas(void **state) {
    (void)state;
    struct world world;
    struct preview preview;
    world_begin(&world, 1, 3);
    world_create(&world, 0, 1);
    look(&world, NULL, &preview);
    assert_int_equal(ready_of(&preview), 1);
    assert_int_equal(preview.step_count, 7); /* one pod's load, proof and endpoint among them */
    assert_true(preview.is_example);
    preview_release(&preview);
    world_edit(&world, 0, "replicas", json_integer(3));
    look(&world, NULL, &preview);
    assert_int_equal(ready_of(&preview), 3);
    assert_false(preview.is_example); /* no choice, no doubt */
    preview_release(&preview);
    world_end(&world);
}

static void test_at_rest(void **state) {
    (void)state;
    struct world world;
    struct preview preview;
    cleanup_json json_t *existing = serve(&world, 3, 2);
    look(&world, existing, &preview);
    assert_steps(&preview, "");
    assert_int_equal(ready_of(&preview), 2);
    assert_int_equal(json_array_size(preview.blocked), 0);
    preview_release(&preview);
    world_end(&world);
}

static void test_a_new_revision_rolls(void **state) {
    (void)state;
    struct world world;
    struct preview preview;
    cleanup_json json_t *existing = serve(&world, 2, -1);
    world_set_url(&world, 0, 2);
    look(&world, existing, &preview);
    assert_steps(&preview,
                 "update spec.artifactURL; update-slice; withdraw pod-0; drain pod-0; unload pod-0; load pod-0; prove pod-0; "
                 "update-slice; publish pod-0; withdraw pod-1; drain pod-1; unload pod-1; load pod-1; prove pod-1; "
                 "update-slice; publish pod-1");
    assert_string_not_equal(json_string_at(preview.object, "status.revision", ""), json_string_at(existing, "status.revision", ""));
    preview_release(&preview);
    world_edit(&world, 0, "rollout", json_pack("{s:s}", "maxUnavailable", "100%"));
    look(&world, existing, &preview);
    assert_steps(&preview, "update spec.artifactURL, spec.rollout; update-slice; withdraw pod-0; withdraw pod-1; drain pod-0; "
                           "unload pod-0; drain pod-1; unload pod-1; load pod-0; load pod-1; prove pod-0; prove pod-1; "
                           "update-slice; publish pod-0; publish pod-1");
    preview_release(&preview);
    world_end(&world);
}

static void test_scaled_down(void **state) {
    (void)state;
    struct world world;
    struct preview preview;
    cleanup_json json_t *existing = serve(&world, 2, 2);
    world_edit(&world, 0, "replicas", json_integer(0));
    look(&world, existing, &preview);
    assert_steps(&preview,
                 "update spec.replicas; update-slice; withdraw pod-0; withdraw pod-1; drain pod-0; unload pod-0; drain pod-1; "
                 "unload pod-1");
    assert_string_equal(blocked_reason(&preview, NULL), "ScaledToZero");
    preview_release(&preview);
    world_end(&world);
}

static void test_a_lost_label(void **state) {
    (void)state;
    struct world world;
    struct preview preview;
    cleanup_json json_t *existing = serve(&world, 2, -1);
    world.pods[1].has_label = false;
    look(&world, existing, &preview);
    assert_steps(&preview, "update-slice; withdraw pod-1; drain pod-1; unload pod-1");
    preview_release(&preview);
    world_end(&world);
}

static void test_a_pod_that_is_not_ready(void **state) {
    (void)state;
    struct world world;
    struct preview preview;
    world_begin(&world, 1, 2);
    world.pods[1].is_ready = false;
    world_create(&world, 0, -1);
    look(&world, NULL, &preview);
    assert_steps(&preview, "create; add-finalizer; create-service; load pod-0; prove pod-0; create-slice sql; publish pod-0");
    assert_string_equal(blocked_reason(&preview, "pod-1"), "PodNotReady");
    preview_release(&preview);
    world_end(&world);
}

static void test_a_conflict(void **state) {
    (void)state;
    struct world world;
    struct preview preview;
    world_begin(&world, 1, 2);
    snprintf(world.pods[0].roots[0], WORLD_ROOT_BYTES, "/somebody/elses");
    world_create(&world, 0, -1);
    look(&world, NULL, &preview);
    assert_steps(&preview, "create; add-finalizer; create-service; load pod-1; prove pod-1; create-slice sql; publish pod-1");
    assert_string_equal(blocked_reason(&preview, "pod-0"), "Conflict");
    preview_release(&preview);
    world_end(&world);
}

static void test_no_pod_and_no_room(void **state) {
    (void)state;
    struct world world;
    struct preview preview;
    world_begin(&world, 1, 1);
    world.pods[0].capacity = 1;
    world_create(&world, 1, 1);
    world_run(&world, CALM_MS);
    world_create(&world, 0, 1);
    look(&world, NULL, &preview);
    assert_string_equal(blocked_reason(&preview, NULL), "InsufficientCapacity");
    assert_steps(&preview, "create; add-finalizer");
    preview_release(&preview);
    world.pods[0].has_label = false;
    look(&world, NULL, &preview);
    assert_string_equal(blocked_reason(&preview, NULL), "NoMatchingPods");
    preview_release(&preview);
    world_end(&world);
}

static void test_somebody_elses_service(void **state) {
    (void)state;
    struct world world;
    struct preview preview;
    world_begin(&world, 1, 1);
    world_create(&world, 0, -1);
    world_put(&world, &world.adapters[0].service, json_pack("{s:{s:s}, s:{}}", "metadata", "name", "sql", "spec"));
    look(&world, NULL, &preview);
    assert_steps(&preview, "create; add-finalizer; load pod-0; prove pod-0"); /* as the controller does: only nothing leads to it */
    assert_string_equal(blocked_reason(&preview, NULL), "ServiceCreateError");
    preview_release(&preview);
    world_end(&world);
}

static void test_an_object_that_is_being_deleted(void **state) {
    (void)state;
    struct world world;
    struct preview preview;
    cleanup_json json_t *before = serve(&world, 1, -1);
    world_delete(&world, 0);
    look(&world, world.adapters[0].object.api, &preview);
    assert_steps(&preview, "update-slice; withdraw pod-0; drain pod-0; unload pod-0; release");
    preview_release(&preview);
    world_end(&world);
}

static void test_engines_that_were_not_asked(void **state) {
    (void)state;
    struct world world;
    struct world_snapshot snapshot;
    struct preview preview;
    cleanup_json json_t *existing = serve(&world, 2, -1);
    memset(world.pods[0].roots[0], 0, WORLD_ROOT_BYTES); /* nobody knows */
    world_snapshot_take(&world, 0, existing, &snapshot);
    world_snapshot_hide_lists(&snapshot);
    preview_make(&snapshot.input, &preview);
    assert_steps(&preview, "");
    assert_int_equal(json_array_size(preview.believed), 2);
    preview_release(&preview);
    world_snapshot_release(&snapshot);
    world_end(&world);
}

/* ---- what is applied ---- */

static void test_a_new_object(void **state) {
    (void)state;
    cleanup_json json_t *file = json_pack("{s:{s:s}, s:{s:s}, s:{s:s}}", "metadata", "name", "sql", "spec", "artifactURL", "/a",
                                          "status", "phase", "Running");
    cleanup_json json_t *object = preview_object(file, NULL);
    assert_null(json_object_get(object, "status")); /* nobody applies a status */
    assert_int_equal(json_int_at(object, "metadata.generation", 0), 1);
}

static void test_what_was_applied_before_goes_and_what_others_set_stays(void **state) {
    (void)state;
    cleanup_json json_t *before =
        json_pack("{s:{s:s}, s:{s:s, s:i}}", "metadata", "name", "sql", "spec", "artifactURL", "/a/1", "replicas", 2);
    cleanup_free char *text = json_text(before);
    cleanup_json json_t *existing = json_pack(
        "{s:{s:s, s:s, s:i, s:{s:s}, s:{s:s}}, s:{s:s, s:i, s:i, s:{s:{s:s}}}}", "metadata", "name", "sql", "uid", "1",
        "generation", 4, "annotations", "kubectl.kubernetes.io/last-applied-configuration", text, "labels", "theirs", "kept",
        "spec", "artifactURL", "/a/1", "replicas", 2, "drainSeconds", 7, "podSelector", "matchLabels", "app", "llm");
    cleanup_json json_t *file = json_pack("{s:{s:s}, s:{s:s}}", "metadata", "name", "sql", "spec", "artifactURL", "/a/2");
    cleanup_json json_t *object = preview_object(file, existing);
    assert_string_equal(json_string_at(object, "spec.artifactURL", ""), "/a/2");
    assert_null(json_at(object, "spec.replicas"));
    assert_int_equal(json_int_at(object, "spec.drainSeconds", 0), 7);
    assert_string_equal(json_string_at(object, "spec.podSelector.matchLabels.app", ""), "llm");
    assert_string_equal(json_string_at(object, "metadata.labels.theirs", ""), "kept");
    assert_int_equal(json_int_at(object, "metadata.generation", 0), 5);
    cleanup_json json_t *same =
        json_pack("{s:{s:s}, s:{s:s, s:i}}", "metadata", "name", "sql", "spec", "artifactURL", "/a/1", "replicas", 2);
    cleanup_json json_t *unchanged = preview_object(same, existing);
    assert_int_equal(json_int_at(unchanged, "metadata.generation", 0), 4);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_new_on_two_pods),
        cmocka_unit_test(test_new_with_replicas),
        cmocka_unit_test(test_at_rest),
        cmocka_unit_test(test_a_new_revision_rolls),
        cmocka_unit_test(test_scaled_down),
        cmocka_unit_test(test_a_lost_label),
        cmocka_unit_test(test_a_pod_that_is_not_ready),
        cmocka_unit_test(test_a_conflict),
        cmocka_unit_test(test_no_pod_and_no_room),
        cmocka_unit_test(test_somebody_elses_service),
        cmocka_unit_test(test_an_object_that_is_being_deleted),
        cmocka_unit_test(test_engines_that_were_not_asked),
        cmocka_unit_test(test_a_new_object),
        cmocka_unit_test(test_what_was_applied_before_goes_and_what_others_set_stays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
