/* ModelAdapter: pruning, the spec as a struct, and what an artifact's URL means. Its rules: test_model_adapter_rules.c. */
#include "adapter/artifact_url.h"
#include "adapter/model_adapter.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <string.h>

#define GOOD_SPEC "\"podSelector\":{\"matchLabels\":{\"app\":\"llm\"}},\"artifactURL\":\"/a\""

static json_t *object_with(const char *name, const char *spec) {
    char text[4096];
    snprintf(text, sizeof(text),
             "{\"apiVersion\":\"model.aibrix.ai/v1alpha1\",\"kind\":\"ModelAdapter\",\"metadata\":{\"name\":\"%s\"},"
             "\"spec\":{%s}}",
             name, spec);
    json_t *object = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(object);
    return object;
}

static void test_unknown_fields(void **state) {
    (void)state;
    json_t *object = object_with("sql", GOOD_SPEC ",\"baseModle\":\"x\",\"credentialsSecretRef\":{\"name\":\"s\",\"key\":\"k\"}");
    json_t *paths = json_array();
    model_adapter_unknown_fields(object, paths);
    assert_int_equal(json_array_size(paths), 2);
    assert_string_equal(json_string_value(json_array_get(paths, 0)), "spec.baseModle");
    assert_string_equal(json_string_value(json_array_get(paths, 1)), "spec.credentialsSecretRef.key");
    json_array_clear(paths);
    model_adapter_prune(object);
    model_adapter_unknown_fields(object, paths);
    assert_int_equal(json_array_size(paths), 0);
    assert_string_equal(json_string_at(object, "spec.credentialsSecretRef.name", ""), "s");
    json_decref(paths);
    json_decref(object);
}

static void test_defaults(void **state) {
    (void)state;
    json_t *object =
        object_with("sql", GOOD_SPEC ",\"baseModel\":null,\"schedulerName\":null,\"credentialsSecretRef\":{},"
                                     "\"apiKeySecretRef\":{\"name\":\"s\"},\"additionalConfig\":{\"a\":null,\"b\":\"c\"}");
    model_adapter_default(object);
    assert_null(json_at(object, "spec.baseModel"));
    assert_string_equal(json_string_at(object, "spec.schedulerName", ""), "default");
    assert_string_equal(json_string_at(object, "spec.credentialsSecretRef.name", "none"), "");
    assert_string_equal(json_string_at(object, "spec.apiKeySecretRef.key", ""), "api-key");
    assert_int_equal(json_object_size(json_at(object, "spec.additionalConfig")), 1);
    json_decref(object);
}

static void test_read(void **state) {
    (void)state;
    json_t *object = object_with("sql", GOOD_SPEC ",\"additionalConfig\":{\"api-key\":\"k\"}");
    struct model_adapter adapter;
    struct error err = {0};
    assert_int_equal(model_adapter_read(object, &adapter, &err), 0);
    assert_int_equal(adapter.replicas, REPLICAS_ALL);
    assert_string_equal(adapter.api_key, "k");
    assert_string_equal(adapter.secret_name, "");
    model_adapter_release(&adapter);
    json_decref(object);
    object = json_loads("{\"metadata\":{\"name\":\"x\"}}", 0, NULL);
    assert_int_equal(model_adapter_read(object, &adapter, &err), -1);
    assert_string_equal(adapter.name, "x");
    assert_int_equal(err.code, ERROR_INVALID);
    model_adapter_release(&adapter);
    json_decref(object);
}

static void test_artifact_urls(void **state) {
    (void)state;
    static const struct {
        const char *url;
        enum artifact_scheme scheme;
        const char *engine_path; /* NULL: refused in direct mode */
    } cases[] = {
        {"/models/a", ARTIFACT_PATH, "/models/a"},
        {"file:///models/a", ARTIFACT_PATH, "/models/a"},
        {"file://host/a", ARTIFACT_UNKNOWN, NULL},
        {"huggingface://org/repo", ARTIFACT_HUGGINGFACE, "org/repo"},
        {"hf://org/repo", ARTIFACT_HUGGINGFACE, "org/repo"},
        {"huggingface://", ARTIFACT_HUGGINGFACE, NULL},
        {"s3://b/k", ARTIFACT_S3, NULL},
        {"gs://b/k", ARTIFACT_GCS, NULL},
        {"gcs://b/k", ARTIFACT_GCS, NULL},
        {"tos://b/k", ARTIFACT_TOS, NULL},
        {"https://h/k", ARTIFACT_HTTP, NULL},
        {"org/repo", ARTIFACT_UNKNOWN, NULL},
        {"", ARTIFACT_UNKNOWN, NULL},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const char *path = NULL;
        struct error err = {0};
        int result = artifact_engine_path(cases[i].url, &path, &err);
        assert_int_equal(artifact_scheme_of(cases[i].url), cases[i].scheme);
        assert_int_equal(result, cases[i].engine_path != NULL ? 0 : -1);
        if (cases[i].engine_path != NULL) {
            assert_string_equal(path, cases[i].engine_path);
        }
    }
}

static void test_added_fields(void **state) {
    (void)state;
    const char *digest = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    char spec[1024];
    snprintf(spec, sizeof(spec),
             GOOD_SPEC
             ",\"schedulerName\":\"binPack\",\"apiKeySecretRef\":{\"name\":\"s\"},\"revision\":\"v1\",\"digest\":\"sha256:%s\","
             "\"placement\":{\"policy\":\"spread\",\"topologyKey\":\"zone\"},\"rollout\":{\"maxUnavailable\":\"25%%\"},"
             "\"drainSeconds\":0",
             digest);
    json_t *object = object_with("sql", spec);
    struct model_adapter adapter;
    assert_int_equal(model_adapter_read(object, &adapter, NULL), 0);
    assert_string_equal(adapter.api_key_secret_name, "s");
    assert_string_equal(adapter.api_key_secret_key, "api-key");
    assert_string_equal(adapter.source_revision, "v1");
    assert_string_equal(adapter.digest, digest);
    assert_string_equal(adapter.placement_policy, "spread");
    assert_string_equal(adapter.topology_key, "zone");
    assert_string_equal(adapter.scheduler_name, "binPack");
    assert_int_equal(adapter.max_unavailable, 1);
    assert_int_equal(adapter.max_unavailable_percent, 25);
    assert_int_equal(adapter.drain_ms, 0);
    model_adapter_release(&adapter);
    json_decref(object);

    object = object_with("sql", GOOD_SPEC ",\"rollout\":{\"maxUnavailable\":3}");
    assert_int_equal(model_adapter_read(object, &adapter, NULL), 0);
    assert_string_equal(adapter.api_key_secret_name, "");
    assert_string_equal(adapter.api_key_secret_key, "");
    assert_string_equal(adapter.digest, "");
    assert_int_equal(adapter.max_unavailable, 3);
    assert_int_equal(adapter.max_unavailable_percent, 0);
    assert_int_equal(adapter.drain_ms, -1);
    model_adapter_release(&adapter);
    json_decref(object);
}

static void test_revisions(void **state) {
    (void)state;
    static const struct {
        const char *url, *revision, *digest;
    } sources[] = {{"/a", "", ""}, {"/b", "", ""}, {"/a", "b", ""}, {"/a", "", "b"}, {"/a", "b", "c"}, {"/a", "bc", ""}};
    char texts[6][MODEL_ADAPTER_REVISION_BYTES];
    for (size_t i = 0; i < 6; i++) {
        struct model_adapter adapter = {
            .artifact_url = sources[i].url, .source_revision = sources[i].revision, .digest = sources[i].digest};
        model_adapter_revision(&adapter, texts[i]);
        assert_int_equal(strlen(texts[i]), 24);
        for (size_t j = 0; j < i; j++) {
            assert_string_not_equal(texts[i], texts[j]);
        }
    }
    /* printf /a | sha256sum: what is loaded somewhere keeps its name when the program is replaced. */
    assert_string_equal(texts[0], "6a50dc856a50dc8584134c7d");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unknown_fields), cmocka_unit_test(test_defaults),     cmocka_unit_test(test_read),
        cmocka_unit_test(test_artifact_urls),  cmocka_unit_test(test_added_fields), cmocka_unit_test(test_revisions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
