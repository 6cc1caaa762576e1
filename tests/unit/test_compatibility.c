/* What docs/compatibility.md promises of Service, EndpointSlices and status, where no other test shows it. */
#include "controller/plan.h"
#include "controller/publish.h"
#include "controller/world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <string.h>

#define PODS 250

/* A world of PODS pods and one adapter, still. */
struct still {
    json_t *object;
    struct model_adapter adapter;
    struct error invalid;
    struct plan_pod pods[PODS];
    char text[PODS][4][64]; /* name and uid, address, second address, node */
    bool serving[PODS];
    struct plan_input input;
};

static void begin(struct still *still, const char *spec, size_t pods) {
    memset(still, 0, sizeof(*still));
    cleanup_free char *text =
        xasprintf("{\"apiVersion\":\"model.aibrix.ai/v1alpha1\",\"kind\":\"ModelAdapter\",\"metadata\":{\"name\":\"sql\","
                  "\"namespace\":\"ns\",\"uid\":\"u\",\"generation\":1,\"finalizers\":[\"adapter.model.aibrix.ai/finalizer\"]},"
                  "\"spec\":%s}",
                  spec);
    still->object = json_loads(text, 0, NULL);
    assert_non_null(still->object);
    bool is_valid = model_adapter_read(still->object, &still->adapter, &still->invalid) == 0;
    for (size_t i = 0; i < pods; i++) {
        snprintf(still->text[i][0], 64, "pod-%zu", i);
        snprintf(still->text[i][1], 64, "10.0.%zu.%zu", i / 200, i % 200 + 1);
        snprintf(still->text[i][2], 64, "fd00::%zx", i + 1);
        snprintf(still->text[i][3], 64, "node-%zu", i % 3);
        still->pods[i] = (struct plan_pod){.name = still->text[i][0],
                                           .uid = still->text[i][0],
                                           .ip = still->text[i][1],
                                           .second_ip = "",
                                           .node = still->text[i][3],
                                           .zone = "z",
                                           .domain = "",
                                           .engine_port = 8000,
                                           .matches = true,
                                           .is_ready = true,
                                           .is_observed = true,
                                           .hold = hold_new()};
        hold_meet((struct hold *)still->pods[i].hold, "s");
        still->serving[i] = true;
    }
    still->input = (struct plan_input){.object = still->object,
                                       .adapter = &still->adapter,
                                       .invalid = is_valid ? NULL : still->invalid.message,
                                       .revision = "0123456789abcdef",
                                       .pods = still->pods,
                                       .pod_count = pods,
                                       .matching = (int)pods,
                                       .ready = (int)pods,
                                       .seen = {.phase = "", .ready_status = "", .ready_reason = ""},
                                       .policy = PLACEMENT_LEAST_ADAPTERS,
                                       .drain_ms = 1000,
                                       .give_up_ms = 30000,
                                       .now_ms = 1000000,
                                       .wall_ms = 1000000};
}

static void end(struct still *still) {
    for (size_t i = 0; i < still->input.pod_count; i++) {
        hold_free((struct hold *)still->pods[i].hold);
    }
    model_adapter_release(&still->adapter);
    json_decref(still->object);
}

#define SPEC "{\"baseModel\":\"base\",\"artifactURL\":\"/a\",\"podSelector\":{\"matchLabels\":{\"a\":\"b\"}}}"

static const char *condition(const json_t *status, const char *type, const char *member) {
    const json_t *conditions = json_at(status, "status.conditions");
    for (size_t i = 0; i < json_array_size(conditions); i++) {
        if (strcmp(json_string_at(json_array_get(conditions, i), "type", ""), type) == 0) {
            return json_string_at(json_array_get(conditions, i), member, "");
        }
    }
    return "";
}

static void plan(struct still *still, struct plan *ret_plan) {
    struct plan_objects objects = {0};
    plan_adapter(&still->input, ret_plan);
    plan_words(&still->input, &objects, ret_plan);
}

static void test_many_endpoints_are_many_slices(void **state) {
    (void)state;
    struct still *still = xmalloc(sizeof(*still));
    const json_t *slices[PLAN_SLICES_MAX] = {NULL};
    struct plan plan = {0};
    begin(still, SPEC, PODS);
    publish_slices(&still->input, still->serving, slices, &plan);
    assert_int_equal(plan.slice_count, 3);
    size_t endpoints = 0;
    static const char *const names[] = {"sql", "sql.2", "sql.3"};
    for (size_t i = 0; i < 3; i++) {
        assert_string_equal(plan.slices[i].name, names[i]);
        assert_in_range(json_array_size(json_at(plan.slices[i].body, "endpoints")), 1, 100);
        const json_t *labels = json_at(plan.slices[i].body, "metadata.labels");
        assert_string_equal(json_string_value(json_object_get(labels, "kubernetes.io/service-name")), "sql");
        endpoints += json_array_size(json_at(plan.slices[i].body, "endpoints"));
    }
    assert_int_equal(endpoints, PODS);
    plan_release(&plan);
    end(still);
    free(still);
}

static void test_a_slice_for_each_address_family(void **state) {
    (void)state;
    struct still *still = xmalloc(sizeof(*still));
    const json_t *slices[PLAN_SLICES_MAX] = {NULL};
    struct plan plan = {0};
    begin(still, SPEC, 2);
    still->pods[0].second_ip = still->text[0][2]; /* dual stack */
    still->pods[1].ip = still->text[1][2];        /* IPv6 alone */
    publish_slices(&still->input, still->serving, slices, &plan);
    assert_int_equal(plan.slice_count, 2);
    static const char *const families[] = {"IPv4", "IPv6"};
    for (size_t i = 0; i < 2; i++) {
        assert_string_equal(json_string_at(plan.slices[i].body, "addressType", ""), families[i]);
        assert_int_equal(json_array_size(json_at(plan.slices[i].body, "endpoints")), i + 1);
    }
    plan_release(&plan);
    end(still);
    free(still);
}

static void test_engines_are_asked_at_either_family(void **state) {
    (void)state;
    static const struct {
        const char *ip, *url;
    } cases[] = {{"10.0.0.1", "http://10.0.0.1:8000/v1/models"}, {"fd00::1", "http://[fd00::1]:8000/v1/models"}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct pod pod = {.facts = {.ip = cases[i].ip}};
        cleanup_free char *url = act_url(&pod, 8000, "/v1/models");
        assert_string_equal(url, cases[i].url);
    }
}

static void test_drift_is_repaired_and_foreign_objects_left_alone(void **state) {
    (void)state;
    struct still *still = xmalloc(sizeof(*still));
    begin(still, SPEC, 1);
    cleanup_json json_t *service = publish_service(&still->input, still->serving, NULL);
    json_object_clear(json_at(service, "metadata.labels"));
    json_object_set_new(json_array_get(json_at(service, "spec.ports"), 0), "port", json_integer(1));
    cleanup_json json_t *patch = publish_service(&still->input, still->serving, service);
    cleanup_json json_t *repaired = json_merge_patch(json_deep_copy(service), patch);
    assert_null(publish_service(&still->input, still->serving, repaired));
    const json_t *labels = json_at(repaired, "metadata.labels");
    assert_string_equal(json_string_value(json_object_get(labels, "model.aibrix.ai/name")), "base");
    assert_int_equal(json_int_at(json_array_get(json_at(repaired, "spec.ports"), 0), "port", 0), 8000);

    json_array_clear(json_at(repaired, "metadata.ownerReferences")); /* somebody else's now */
    json_object_clear(json_at(repaired, "metadata.labels"));
    assert_null(publish_service(&still->input, still->serving, repaired));
    cleanup_json json_t *foreign =
        json_loads("{\"metadata\":{\"name\":\"sql\"},\"addressType\":\"IPv4\",\"endpoints\":[]}", 0, NULL);
    const json_t *slices[PLAN_SLICES_MAX] = {foreign};
    struct plan plan = {0};
    publish_slices(&still->input, still->serving, slices, &plan);
    for (size_t i = 0; i < plan.slice_count; i++) {
        assert_string_not_equal(plan.slices[i].name, "sql");
    }
    plan_release(&plan);
    end(still);
    free(still);
}

static void test_what_was_stored_without_rules_says_so(void **state) {
    (void)state;
    static const struct {
        const char *spec, *message;
    } cases[] = {
        {"{\"artifactURL\":\"/a\",\"podSelector\":{}}", "spec.podSelector"},
        {"{\"artifactURL\":\"/a\",\"podSelector\":{\"matchLabels\":{}}}", "spec.podSelector"},
        {"{\"artifactURL\":\"ftp://h/a\",\"podSelector\":{\"matchLabels\":{\"a\":\"b\"}}}", "spec.artifactURL"},
        {"null", "spec"},
    };
    struct still *still = xmalloc(sizeof(*still));
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct plan planned;
        begin(still, cases[i].spec, 3);
        plan(still, &planned);
        assert_string_equal(condition(planned.status, "Ready", "status"), "False");
        assert_string_equal(condition(planned.status, "Ready", "reason"), "ValidationFailed");
        assert_non_null(strstr(condition(planned.status, "Ready", "message"), cases[i].message));
        assert_int_equal(planned.action_count, 0);
        assert_null(planned.service);
        assert_int_equal(planned.slice_count, 0);
        plan_release(&planned);
        end(still);
    }
    free(still);
}

/* An API server refuses conditions with longer messages, and the status with them. */
static void test_many_long_causes_fit_into_a_condition(void **state) {
    (void)state;
    struct still *still = xmalloc(sizeof(*still));
    struct dialect_answer answer = {.outcome = DIALECT_FAILED};
    struct plan planned;
    memset(answer.message, 'x', sizeof(answer.message) - 1);
    begin(still, SPEC, PODS);
    for (size_t i = 0; i < PODS; i++) {
        hold_note_load((struct hold *)still->pods[i].hold, still->input.revision, &answer, 5, still->input.now_ms);
    }
    plan(still, &planned);
    const json_t *conditions = json_at(planned.status, "status.conditions");
    assert_true(json_array_size(conditions) > 0);
    for (size_t i = 0; i < json_array_size(conditions); i++) {
        assert_in_range(strlen(json_string_at(json_array_get(conditions, i), "message", "")), 0, 32768);
    }
    assert_non_null(strstr(condition(planned.status, "Ready", "message"), "pod-"));
    assert_string_equal(json_string_at(planned.status, "status.phase", ""), "Failed");
    assert_in_range(json_array_size(json_at(planned.status, "status.loads")), 1, 100);
    plan_release(&planned);
    end(still);
    free(still);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_many_endpoints_are_many_slices),
        cmocka_unit_test(test_a_slice_for_each_address_family),
        cmocka_unit_test(test_engines_are_asked_at_either_family),
        cmocka_unit_test(test_drift_is_repaired_and_foreign_objects_left_alone),
        cmocka_unit_test(test_what_was_stored_without_rules_says_so),
        cmocka_unit_test(test_many_long_causes_fit_into_a_condition),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
