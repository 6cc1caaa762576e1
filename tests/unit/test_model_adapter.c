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

static void expect_engine_path(const char *url, const char *revision, bool is_davit, const char *expected) {
    cleanup_free char *path = NULL;
    struct error err = {0};
    int result = artifact_engine_path(url, revision, is_davit, &path, &err);
    assert_int_equal(result, expected != NULL ? 0 : -1);
    assert_int_equal(err.code, expected != NULL ? ERROR_NONE : ERROR_UNSUPPORTED);
    if (expected != NULL) {
        assert_string_equal(path, expected);
    }
}

static void test_artifact_urls(void **state) {
    (void)state;
    static const struct {
        const char *url;
        enum artifact_scheme scheme;
        const char *engine_path; /* of any engine that is asked without a sidecar; NULL: refused */
        const char *davits_path;
    } cases[] = {
        {"/models/a", ARTIFACT_PATH, "/models/a", "/models/a"},
        {"file:///models/a", ARTIFACT_PATH, "/models/a", "/models/a"},
        {"file://host/a", ARTIFACT_UNKNOWN, NULL, NULL},
        {"huggingface://org/repo", ARTIFACT_HUGGINGFACE, "org/repo", "huggingface://org/repo"},
        {"hf://org/repo", ARTIFACT_HUGGINGFACE, "org/repo", "hf://org/repo"},
        {"hf://repo", ARTIFACT_HUGGINGFACE, "repo", "hf://repo"},
        {"hf://org/repo/folder", ARTIFACT_HUGGINGFACE, NULL, "hf://org/repo/folder"},
        {"hf://org/repo@v1", ARTIFACT_HUGGINGFACE, NULL, "hf://org/repo@v1"},
        {"huggingface://", ARTIFACT_HUGGINGFACE, NULL, "huggingface://"},
        {"s3://b/k", ARTIFACT_S3, NULL, "s3://b/k"},
        {"gs://b/k", ARTIFACT_GCS, NULL, "gs://b/k"},
        {"gcs://b/k", ARTIFACT_GCS, NULL, "gcs://b/k"},
        {"tos://b/k", ARTIFACT_TOS, NULL, "tos://b/k"},
        {"https://h/k", ARTIFACT_HTTP, NULL, "https://h/k"},
        {"org/repo", ARTIFACT_UNKNOWN, NULL, NULL},
        {"", ARTIFACT_UNKNOWN, NULL, NULL},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(artifact_scheme_of(cases[i].url), cases[i].scheme);
        expect_engine_path(cases[i].url, "", false, cases[i].engine_path);
        expect_engine_path(cases[i].url, "", true, cases[i].davits_path);
    }
}

/* A revision beside the URL is kept, or the engine is not asked: it would load another. */
static void test_revisions_for_engines(void **state) {
    (void)state;
    static const struct {
        const char *url, *revision;
        const char *engine_path, *davits_path;
    } cases[] = {
        {"/models/a", "v1", "/models/a", "/models/a"},
        {"hf://org/repo", "v1", NULL, "hf://org/repo@v1"},
        {"huggingface://org/repo/a/b", "v1", NULL, "huggingface://org/repo@v1/a/b"},
        {"hf://repo", "refs/pr/1", NULL, "hf://repo@refs%2Fpr%2F1"},
        {"hf://org/repo", "50%?#", NULL, "hf://org/repo@50%25%3F%23"},
        {"hf://org/repo@v1/a", "v1", NULL, "hf://org/repo@v1/a"},
        {"hf://org/repo@refs/pr/1/a", "refs/pr/1", NULL, "hf://org/repo@refs/pr/1/a"},
        {"hf://org/repo@refs%2Fpr%2F1", "refs/pr/1", NULL, "hf://org/repo@refs%2Fpr%2F1"},
        {"hf://org/repo@v1", "v2", NULL, NULL},
        {"hf://org/repo@v10", "v1", NULL, NULL},
        {"s3://b/k", "v1", NULL, NULL},
        {"https://h/k", "v1", NULL, NULL},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        expect_engine_path(cases[i].url, cases[i].revision, false, cases[i].engine_path);
        expect_engine_path(cases[i].url, cases[i].revision, true, cases[i].davits_path);
    }
}

static void test_what_is_shown_of_a_url(void **state) {
    (void)state;
    static const char *const same[] = {"/a?b", "s3://b/k?x", "hf://o/r", "https://h", "http://h:1/a/b@c", "~/a"};
    for (size_t i = 0; i < sizeof(same) / sizeof(same[0]); i++) {
        cleanup_free char *shown = artifact_shown_url(same[i]);
        assert_string_equal(shown, same[i]);
    }
    cleanup_free char *user = artifact_shown_url("https://me:s3cret@p@h/a");
    assert_string_equal(user, "https://h/a");
    cleanup_free char *one = artifact_shown_url("https://me:s3cret@h/a?sig=s3cret");
    cleanup_free char *other = artifact_shown_url("https://h/a?sig=other");
    assert_int_equal(strncmp(one, "https://h/a?sha256=", strlen("https://h/a?sha256=")), 0);
    assert_null(strstr(one, "s3cret"));
    assert_string_not_equal(one, other);
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
        cmocka_unit_test(test_unknown_fields),
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_read),
        cmocka_unit_test(test_artifact_urls),
        cmocka_unit_test(test_revisions_for_engines),
        cmocka_unit_test(test_what_is_shown_of_a_url),
        cmocka_unit_test(test_added_fields),
        cmocka_unit_test(test_revisions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
