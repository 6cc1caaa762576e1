/* What the API makes of what clients send: metadata, defaulting, validation, generation, status, deletion. */
#include "cluster/api/deletion.h"
#include "cluster/api/kind_schema.h"
#include "cluster/api/object.h"
#include "cluster/api/status.h"
#include "cluster/api/strategy.h"
#include "cluster/api/validate.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static json_t *parse(const char *text) {
    struct error err;
    json_t *value = json_parse(text, strlen(text), &err);
    assert_non_null(value);
    return value;
}

static const char adapter_text[] =
    "{\"kind\":\"ModelAdapter\",\"metadata\":{\"name\":\"sql\",\"uid\":\"mine\"},\"spec\":{\"artifactURL\":\"/m/sql\","
    "\"podSelector\":{\"matchLabels\":{\"a\":\"b\"}}},\"status\":{\"phase\":\"Running\"}}";

static struct strategy_input input_for(const char *group, const char *plural, json_t *warnings) {
    return (struct strategy_input){.resource = resource_find(group, NULL, plural), .namespace = "default", .warnings = warnings};
}

static json_t *created(const char *group, const char *plural, const char *text) {
    cleanup_json json_t *warnings = json_array();
    struct strategy_input input = input_for(group, plural, warnings);
    json_t *object = parse(text);
    cleanup_json json_t *status = strategy_create(&input, object);
    if (status != NULL) {
        fail_msg("%s", json_string_at(status, "message", ""));
    }
    return object;
}

static void assert_refused(const char *group, const char *plural, const char *text, int code, const char *part) {
    cleanup_json json_t *warnings = json_array();
    struct strategy_input input = input_for(group, plural, warnings);
    input.field_validation = FIELDS_STRICT;
    cleanup_json json_t *object = parse(text);
    cleanup_json json_t *status = strategy_create(&input, object);
    assert_non_null(status);
    assert_int_equal(status_code(status), code);
    if (strstr(json_string_at(status, "message", ""), part) == NULL) {
        fail_msg("\"%s\" does not say \"%s\"", json_string_at(status, "message", ""), part);
    }
}

static void test_create(void **state) {
    (void)state;
    cleanup_json json_t *object = created("model.aibrix.ai", "modeladapters", adapter_text);
    assert_string_equal(object_namespace(object), "default");
    assert_string_not_equal(object_uid(object), "mine");
    assert_int_equal(strlen(object_uid(object)), 36);
    assert_int_equal(json_int_at(object, "metadata.generation", 0), 1);
    assert_null(json_object_get(object, "status")); /* the status subresource's */
    assert_string_equal(json_string_at(object, "apiVersion", ""), "model.aibrix.ai/v1alpha1");
    assert_true(object_created_ms(object) > 0);

    cleanup_json json_t *named =
        created("", "configmaps", "{\"metadata\":{\"generateName\":\"x-\",\"creationTimestamp\":null},\"data\":{\"a\":\"b\"}}");
    assert_int_equal(strlen(object_name(named)), 7);
    cleanup_json json_t *secret = created("", "secrets", "{\"metadata\":{\"name\":\"s\"},\"stringData\":{\"t\":\"abc\"}}");
    assert_string_equal(json_string_at(secret, "data.t", ""), "YWJj");
    assert_null(json_object_get(secret, "stringData"));
}

static void test_refusals(void **state) {
    (void)state;
    assert_refused("", "configmaps", "{\"metadata\":{\"name\":\"Bad_Name\"}}", 422, "RFC 1123");
    assert_refused("", "configmaps", "{\"metadata\":{}}", 422, "name or generateName is required");
    assert_refused("", "configmaps", "{\"metadata\":{\"name\":\"a\",\"namespace\":\"other\"}}", 400,
                   "does not match the namespace");
    assert_refused("", "configmaps", "{\"metadata\":{\"name\":\"a\",\"resourceVersion\":\"3\"}}", 400,
                   "resourceVersion should not be set");
    assert_refused("", "configmaps", "{\"kind\":\"Secret\",\"metadata\":{\"name\":\"a\"}}", 400,
                   "cannot be handled as a ConfigMap");
    assert_refused("", "configmaps", "{\"metadata\":{\"name\":\"a\",\"labels\":{\"x\":\"a/b\"}}}", 422, "a valid label");
    assert_refused("", "configmaps", "{\"metadata\":{\"name\":\"a\"},\"data\":{\"a\":1}}", 422, "must be a string");
    assert_refused("", "configmaps", "[]", 400, "must be a JSON object");
    assert_refused("", "secrets", "{\"metadata\":{\"name\":\"a\"},\"data\":{\"a\":\"#\"}}", 422, "base64");
    assert_refused("", "services", "{\"metadata\":{\"name\":\"1a\"},\"spec\":{\"ports\":[{\"port\":80}]}}", 422, "DNS-1035");
    assert_refused("", "services", "{\"metadata\":{\"name\":\"a\"},\"spec\":{}}", 422, "spec.ports");
    assert_refused("apps", "deployments",
                   "{\"metadata\":{\"name\":\"a\"},\"spec\":{\"selector\":{\"matchLabels\":{\"a\":\"b\"}},\"template\":{}}}", 422,
                   "does not match template");
    assert_refused("discovery.k8s.io", "endpointslices",
                   "{\"metadata\":{\"name\":\"a\"},\"addressType\":\"IPv4\",\"endpoints\":[{\"addresses\":[\"::1\"]}]}", 422,
                   "valid IPv4");
    assert_refused("model.aibrix.ai", "modeladapters", "{\"metadata\":{\"name\":\"a\"},\"spec\":{\"baseModle\":\"x\"}}", 400,
                   "strict decoding error: unknown field \"spec.baseModle\"");
    assert_refused("apiextensions.k8s.io", "customresourcedefinitions", "{\"metadata\":{\"name\":\"widgets.example.com\"}}", 422,
                   "modeladapters");
}

#define DEPLOYMENT(spec, container)                                                                                                \
    "{\"metadata\":{\"name\":\"d\"},\"spec\":{" spec "\"selector\":{\"matchLabels\":{\"a\":\"b\"}},\"template\":{\"metadata\":{"   \
    "\"labels\":{\"a\":\"b\"}},\"spec\":{\"containers\":[{"                                                                        \
    "\"name\":\"c\",\"image\":\"i\"" container "}]}}}}"

static void test_unknown_fields(void **state) {
    (void)state;
    static const struct {
        const char *group;
        const char *plural;
        const char *text;
        const char *path; /* NULL = all is known */
    } cases[] = {
        {"apps", "deployments", DEPLOYMENT("", ""), NULL},
        {"apps", "deployments", DEPLOYMENT("\"foo\":1,", ""), "unknown field \"spec.foo\""},
        {"apps", "deployments", DEPLOYMENT("", ",\"imagee\":\"x\""), "unknown field \"spec.template.spec.containers[0].imagee\""},
        {"apps", "deployments", DEPLOYMENT("", ",\"readinessProbe\":{\"httpGet\":{\"port\":1,\"pat\":\"/\"}}"),
         "spec.template.spec.containers[0].readinessProbe.httpGet.pat"},
        {"apps", "deployments", DEPLOYMENT("", ",\"resources\":{\"limits\":{\"example.org/any\":\"1\"}}"), NULL},
        {"", "pods", "{\"metadata\":{\"name\":\"p\",\"label\":{}},\"spec\":{\"containers\":[{\"name\":\"c\",\"image\":\"i\"}]}}",
         "unknown field \"metadata.label\""},
        {"", "services",
         "{\"metadata\":{\"name\":\"s\"},\"spec\":{\"ports\":[{\"name\":\"a\",\"port\":1},{\"name\":\"b\",\"port\":2,"
         "\"targetport\":3}]}}",
         "unknown field \"spec.ports[1].targetport\""},
        {"", "secrets", "{\"metadata\":{\"name\":\"s\"},\"stringdata\":{}}", "unknown field \"stringdata\""},
        {"", "configmaps", "{\"metadata\":{\"name\":\"s\"},\"data\":{\"anything\":\"x\"}}", NULL},
        {"discovery.k8s.io", "endpointslices",
         "{\"metadata\":{\"name\":\"s\"},\"addressType\":\"IPv4\",\"endpoints\":[{\"addresses\":[\"10.0.0.1\"],\"ready\":true}]}",
         "unknown field \"endpoints[0].ready\""},
        {"coordination.k8s.io", "leases", "{\"metadata\":{\"name\":\"l\"},\"spec\":{\"holder\":\"x\"}}",
         "unknown field \"spec.holder\""},
        {"model.aibrix.ai", "modeladapters",
         "{\"metadata\":{\"name\":\"s\"},\"spec\":{\"artifactURL\":\"/"
         "m\",\"baseModle\":\"x\",\"podSelector\":{\"matchLabels\":{\"a\":"
         "\"b\"}}}}",
         "unknown field \"spec.baseModle\""},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        for (enum field_validation how = FIELDS_WARN; how <= FIELDS_IGNORE; how++) {
            cleanup_json json_t *warnings = json_array();
            struct strategy_input input = input_for(cases[i].group, cases[i].plural, warnings);
            input.field_validation = how;
            cleanup_json json_t *object = parse(cases[i].text);
            cleanup_json json_t *status = strategy_create(&input, object);
            bool is_bad = cases[i].path != NULL;
            if ((status != NULL) != (is_bad && how == FIELDS_STRICT)) {
                fail_msg("%s: %s", cases[i].text, status != NULL ? json_string_at(status, "message", "") : "accepted");
            }
            assert_int_equal(json_array_size(warnings), is_bad && how == FIELDS_WARN ? 1 : 0);
            const char *words =
                status != NULL ? json_string_at(status, "message", "") : json_string_value(json_array_get(warnings, 0));
            assert_true(!is_bad || how == FIELDS_IGNORE || strstr(words, cases[i].path) != NULL);
        }
    }
    /* Dropped, whoever asked. */
    cleanup_json json_t *pruned = created("apps", "deployments", DEPLOYMENT("\"foo\":1,", ",\"bar\":[{}]"));
    cleanup_free char *text = json_text(pruned);
    assert_null(strstr(text, "foo"));
    assert_null(strstr(text, "bar"));
}

/* However many there are and whatever their names. */
static void test_unknown_fields_are_told_in_bounds(void **state) {
    (void)state;
    cleanup_json json_t *object = json_pack("{s:{s:s}}", "metadata", "name", "c");
    for (int i = 0; i < 1000; i++) {
        cleanup_free char *name = xasprintf("%d%0*d", i, 1000, 0);
        json_object_set_new(object, name, json_true());
    }
    cleanup_json json_t *warnings = json_array();
    struct strategy_input input = input_for("", "configmaps", warnings);
    cleanup_json json_t *strict = json_deep_copy(object);
    assert_null(strategy_create(&input, object));
    assert_int_equal(json_array_size(warnings), 10);
    input.field_validation = FIELDS_STRICT;
    cleanup_json json_t *status = strategy_create(&input, strict);
    assert_non_null(status);
    const char *message = json_string_at(status, "message", "");
    assert_true(strlen(message) < 4096);
    assert_non_null(strstr(message, ", and 990 more"));
}

/* Everything that a type names is a type. */
static void check_type(const char *name, json_t *seen) {
    const struct kind_schema *type = kind_schema_find(name);
    if (type == NULL) {
        fail_msg("no type \"%s\"", name);
    }
    if (json_object_get(seen, name) != NULL) {
        return;
    }
    json_object_set_new(seen, name, json_true());
    for (const char *at = type->fields; (at = strchr(at, ':')) != NULL;) {
        at++;
        cleanup_free char *below = xstrndup(at, strcspn(at, " "));
        check_type(below, seen);
    }
}

static void test_types(void **state) {
    (void)state;
    cleanup_json json_t *seen = json_object();
    for (const struct resource *resource = resource_table; resource->plural != NULL; resource++) {
        if (!resource->is_custom) {
            check_type(resource->kind, seen);
        }
    }
    assert_true(json_object_size(seen) > 100);
}

/* What could not be read again, and what is larger than etcd takes. */
static void test_bounds(void **state) {
    (void)state;
    cleanup_buffer struct buffer deep = BUFFER_INIT;
    cleanup_buffer struct buffer large = BUFFER_INIT;
    buffer_append_text(&deep, "{\"metadata\":{\"name\":\"c\"},\"data\":");
    for (int i = 0; i < OBJECT_LEVELS_MAX; i++) {
        buffer_append_text(&deep, "{\"a\":");
    }
    buffer_append_text(&deep, "1");
    for (int i = 0; i <= OBJECT_LEVELS_MAX; i++) {
        buffer_append_text(&deep, "}");
    }
    buffer_append_text(&large, "{\"metadata\":{\"name\":\"c\"},\"data\":{\"a\":\"");
    for (int i = 0; i < OBJECT_BYTES_MAX; i++) {
        buffer_append_char(&large, 'x');
    }
    buffer_append_text(&large, "\"}}");
    assert_refused("", "configmaps", buffer_text(&deep), 400, "nested deeper than");
    assert_refused("", "configmaps", buffer_text(&large), 413, "too large");
}

static void test_loopback_endpoints_are_allowed(void **state) {
    (void)state;
    cleanup_json json_t *slice =
        created("discovery.k8s.io", "endpointslices",
                "{\"metadata\":{\"name\":\"sql.2\"},\"addressType\":\"IPv4\",\"endpoints\":[{\"addresses\":[\"127.1.0.2\"]}]}");
    assert_non_null(slice);
}

static json_t *updated(const json_t *old_object, const char *patch_text, bool is_status, int expected_code) {
    cleanup_json json_t *warnings = json_array();
    struct strategy_input input = input_for("model.aibrix.ai", "modeladapters", warnings);
    input.name = "sql";
    cleanup_json json_t *patch = parse(patch_text);
    cleanup_json json_t *object = json_merge_patch(json_deep_copy(old_object), patch);
    json_t *result = NULL;
    cleanup_json json_t *status = strategy_update(&input, old_object, object, is_status, &result);
    assert_int_equal(status != NULL ? status_code(status) : 200, expected_code);
    return result;
}

static void test_update(void **state) {
    (void)state;
    cleanup_json json_t *object = created("model.aibrix.ai", "modeladapters", adapter_text);
    object_set_revision(object, 7);

    cleanup_json json_t *spec = updated(object, "{\"spec\":{\"artifactURL\":\"/m/2\"},\"status\":{\"phase\":\"Lie\"}}", false, 200);
    assert_int_equal(json_int_at(spec, "metadata.generation", 0), 2);
    assert_null(json_object_get(spec, "status"));

    cleanup_json json_t *labels =
        updated(object, "{\"metadata\":{\"labels\":{\"a\":\"b\"},\"managedFields\":[],\"generation\":9}}", false, 200);
    assert_int_equal(json_int_at(labels, "metadata.generation", 0), 1);
    assert_null(json_at(labels, "metadata.managedFields"));
    assert_ptr_equal(json_object_get(labels, "spec"), json_object_get(object, "spec")); /* held once */

    cleanup_json json_t *same = updated(object, "{\"metadata\":{\"labels\":null}}", false, 200);
    assert_true(json_equal(same, object)); /* nothing to store */

    cleanup_json json_t *status =
        updated(object, "{\"spec\":{\"artifactURL\":\"/m/3\"},\"status\":{\"phase\":\"Running\"}}", true, 200);
    assert_string_equal(json_string_at(status, "status.phase", ""), "Running");
    assert_string_equal(json_string_at(status, "spec.artifactURL", ""), "/m/sql");
    assert_int_equal(json_int_at(status, "metadata.generation", 0), 1);

    assert_null(updated(object, "{\"metadata\":{\"resourceVersion\":\"6\"}}", false, 409));
    assert_null(updated(object, "{\"metadata\":{\"uid\":\"other\"}}", false, 409));
    assert_null(updated(object, "{\"metadata\":{\"name\":\"other\"}}", false, 400));
    assert_null(updated(object, "{\"spec\":{\"artifactURL\":\"\"}}", false, 422));
}

static void test_deletion_options(void **state) {
    (void)state;
    struct deletion deletion;
    cleanup_json json_t *body =
        parse("{\"propagationPolicy\":\"Foreground\",\"gracePeriodSeconds\":0,\"preconditions\":{\"uid\":\"u\"}}");
    assert_null(deletion_parse(body, NULL, NULL, &deletion));
    assert_true(deletion.is_foreground);
    assert_int_equal(deletion.grace_seconds, 0);
    const struct resource *pods = resource_find("", "v1", "pods");
    cleanup_json json_t *pod = parse("{\"metadata\":{\"name\":\"p\",\"uid\":\"v\"}}");
    cleanup_json json_t *conflict = deletion_check(&deletion, pods, pod);
    assert_int_equal(status_code(conflict), 409);
    cleanup_json json_t *bad = parse("{\"propagationPolicy\":\"Sideways\"}");
    cleanup_json json_t *refused = deletion_parse(bad, NULL, NULL, &deletion);
    assert_int_equal(status_code(refused), 422);

    cleanup_json json_t *waiting =
        parse("{\"metadata\":{\"deletionTimestamp\":\"2026-11-23T10:00:00Z\",\"finalizers\":[\"a/b\"]}}");
    assert_false(deletion_is_complete(pods, waiting));
    object_remove_finalizer(waiting, "a/b");
    assert_true(deletion_is_complete(pods, waiting));
    json_object_set_new(object_meta_mutable(waiting), "deletionGracePeriodSeconds", json_integer(30));
    assert_false(deletion_is_complete(pods, waiting)); /* the kubelet's turn */
}

static void test_scale(void **state) {
    (void)state;
    const struct resource *deployments = resource_find("apps", "v1", "deployments");
    cleanup_json json_t *object =
        created("apps", "deployments",
                "{\"metadata\":{\"name\":\"d\"},\"spec\":{\"selector\":{\"matchLabels\":{\"a\":\"b\"}},\"template\":{\"metadata\":"
                "{\"labels\":{\"a\":\"b\"}},\"spec\":{\"containers\":[{\"name\":\"c\",\"image\":\"i\"}]}}}}");
    assert_int_equal(json_int_at(object, "spec.replicas", 0), 1);
    assert_string_equal(json_string_at(object, "spec.strategy.rollingUpdate.maxSurge", ""), "25%");
    assert_int_equal(json_int_at(object, "spec.template.spec.terminationGracePeriodSeconds", 0), 30);
    cleanup_json json_t *scale = strategy_scale_of(object);
    assert_int_equal(json_int_at(scale, "spec.replicas", 0), 1);
    assert_string_equal(json_string_at(scale, "status.selector", ""), "a=b");
    json_object_set_new(json_object_get(scale, "spec"), "replicas", json_integer(4));
    json_t *scaled = NULL;
    assert_null(strategy_with_scale(deployments, object, scale, &scaled));
    assert_int_equal(json_int_at(scaled, "spec.replicas", 0), 4);
    json_decref(scaled);
    json_object_set_new(json_object_get(scale, "spec"), "replicas", json_integer(-1));
    cleanup_json json_t *refused = strategy_with_scale(deployments, object, scale, &scaled);
    assert_int_equal(status_code(refused), 422);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_create),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_unknown_fields),
        cmocka_unit_test(test_unknown_fields_are_told_in_bounds),
        cmocka_unit_test(test_types),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_loopback_endpoints_are_allowed),
        cmocka_unit_test(test_update),
        cmocka_unit_test(test_deletion_options),
        cmocka_unit_test(test_scale),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
