/* The HTTPRoutes and ReferenceGrants of adapters: rendered, brought back, told from others'. */
#include "controller/objects.h"
#include "controller/route_objects.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <string.h>

static const struct route_options options = {
    .gateway_namespace = "aibrix-system", .gateway_name = "aibrix-eg", .timeout_ms = 120000};

static json_t *parse(const char *text) {
    json_t *value = json_loads(text, 0, NULL);
    assert_non_null(value);
    return value;
}

static json_t *make_adapter(const char *namespace, const char *custom_paths) {
    cleanup_free char *text = xasprintf("{\"apiVersion\":\"model.aibrix.ai/v1alpha1\",\"kind\":\"ModelAdapter\",\"metadata\":{"
                                        "\"name\":\"sql\",\"namespace\":\"%s\",\"uid\":\"u\",\"annotations\":{"
                                        "\"model.aibrix.ai/model-router-custom-paths\":\"%s\",\"noise\":\"x\"},"
                                        "\"labels\":{\"model.aibrix.ai/name\":\"another\"}},\"spec\":{}}",
                                        namespace, custom_paths);
    cleanup_json json_t *whole = parse(text);
    return objects_reduce_adapter(whole);
}

/* Word for word, as the reference has it. */
static void test_rendered(void **state) {
    (void)state;
    static const char *const paths[] = {"/v1/completions",       "/v1/chat/completions",
                                        "/v1/responses",         "/v1/messages",
                                        "/v1/embeddings",        "/v1/rerank",
                                        "/v1/classify",          "/generate",
                                        "/generatevideo",        "/v1/audio/transcriptions",
                                        "/v1/audio/translations"};
    cleanup_json json_t *adapter = make_adapter("ns", "");
    cleanup_json json_t *route = route_render(&options, adapter, 8001);
    cleanup_json json_t *metadata =
        parse("{\"name\":\"sql-router\",\"namespace\":\"aibrix-system\",\"labels\":{\"app.kubernetes.io/managed-by\":"
              "\"davit-controller\",\"adapter.model.aibrix.ai/name\":\"sql\",\"adapter.model.aibrix.ai/namespace\":\"ns\"},"
              "\"annotations\":{\"adapter.model.aibrix.ai/uid\":\"u\"}}");
    cleanup_json json_t *parents = parse("[{\"name\":\"aibrix-eg\",\"namespace\":\"aibrix-system\"}]");
    cleanup_json json_t *backends = parse("[{\"name\":\"sql\",\"namespace\":\"ns\",\"port\":8001}]");
    const json_t *rule = json_array_get(json_at(route, "spec.rules"), 0);
    assert_true(json_equal(json_object_get(route, "metadata"), metadata));
    assert_true(json_equal(json_at(route, "spec.parentRefs"), parents));
    assert_true(json_equal(json_at(rule, "backendRefs"), backends));
    assert_string_equal(json_string_at(rule, "timeouts.request", ""), "120s");
    assert_int_equal(json_array_size(json_at(rule, "matches")), ARRAY_LEN(paths));
    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        const json_t *match = json_array_get(json_at(rule, "matches"), i);
        cleanup_json json_t *headers = parse("[{\"type\":\"Exact\",\"name\":\"model\",\"value\":\"sql\"}]");
        assert_string_equal(json_string_at(match, "path.type", ""), "PathPrefix");
        assert_string_equal(json_string_at(match, "path.value", ""), paths[i]);
        assert_true(json_equal(json_at(match, "headers"), headers));
    }
}

static void test_custom_paths(void **state) {
    (void)state;
    static const struct {
        const char *text;
        const char *last; /* the path that comes last */
        size_t added;
    } rows[] = {
        {"/a", "/a", 1},
        {" /a , /b/c ", "/b/c", 2},
        {"/a,/a,/v1/rerank", "/a", 1},
        {"relative,/a", "/a", 1},
        {"/a//b,/a/../b,/x/..,/a", "/a", 1},
        {"/a%2fb,/a b,/a?x", "/ab", 1},
        {",,", "/v1/audio/translations", 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        cleanup_json json_t *adapter = make_adapter("ns", rows[i].text);
        cleanup_json json_t *route = route_render(&options, adapter, 8000);
        const json_t *matches = json_at(json_array_get(json_at(route, "spec.rules"), 0), "matches");
        size_t count = json_array_size(matches);
        assert_int_equal(count, 11 + rows[i].added);
        assert_string_equal(json_string_at(json_array_get(matches, count - 1), "path.value", ""), rows[i].last);
    }
    cleanup_buffer struct buffer many = BUFFER_INIT;
    for (int i = 0; i < 100; i++) {
        buffer_printf(&many, "/p%d,", i);
    }
    cleanup_json json_t *adapter = make_adapter("ns", buffer_text(&many));
    cleanup_json json_t *route = route_render(&options, adapter, 8000);
    assert_int_equal(json_array_size(json_at(json_array_get(json_at(route, "spec.rules"), 0), "matches")), ROUTE_MATCHES_MAX);
}

/* As the API and the cache give it back: with defaults, and packed. */
static json_t *stored(const json_t *route) {
    json_t *found = json_deep_copy(route);
    json_object_set_new(json_object_get(found, "metadata"), "resourceVersion", json_string("7"));
    json_t *parent = json_array_get(json_at(found, "spec.parentRefs"), 0);
    json_object_set_new(parent, "kind", json_string("Gateway"));
    json_t *backend = json_array_get(json_at(json_array_get(json_at(found, "spec.rules"), 0), "backendRefs"), 0);
    json_object_set_new(backend, "weight", json_integer(1));
    json_object_set_new(found, "status", json_object());
    cleanup_json json_t *reduced = objects_reduce_route(found);
    json_decref(found);
    return objects_unpack(reduced);
}

static void test_patches(void **state) {
    (void)state;
    cleanup_json json_t *adapter = make_adapter("ns", "");
    cleanup_json json_t *wanted = route_render(&options, adapter, 8000);
    cleanup_json json_t *found = stored(wanted);
    assert_null(route_patch(wanted, found)); /* what the API added is no drift */

    cleanup_json json_t *other_port = route_render(&options, adapter, 8001);
    cleanup_json json_t *patch = route_patch(other_port, found);
    assert_string_equal(json_string_at(patch, "metadata.resourceVersion", ""), "7");
    assert_null(json_at(patch, "spec.parentRefs"));
    found = json_merge_patch(found, patch);
    assert_null(route_patch(other_port, found));

    json_object_del(json_at(found, "metadata.labels"), "adapter.model.aibrix.ai/name");
    json_array_clear(json_at(found, "spec.parentRefs"));
    cleanup_json json_t *second = route_patch(other_port, found);
    assert_non_null(json_at(second, "spec.parentRefs"));
    assert_null(json_at(second, "spec.rules"));
    found = json_merge_patch(found, second);
    assert_null(route_patch(other_port, found));
}

static void test_whose(void **state) {
    (void)state;
    cleanup_json json_t *adapter = make_adapter("ns", "");
    cleanup_json json_t *route = route_render(&options, adapter, 8000);
    cleanup_free char *key = route_adapter_key(route);
    assert_string_equal(key, "ns/sql");
    assert_null(json_at(route, "metadata.ownerReferences"));
    json_object_set_new(json_at(route, "metadata.labels"), "adapter.model.aibrix.ai/name", json_string("json"));
    assert_null(route_adapter_key(route)); /* not the name that this one's route has */
    json_object_del(json_object_get(route, "metadata"), "labels");
    assert_null(route_adapter_key(route));

    cleanup_json json_t *local = make_adapter("aibrix-system", "");
    cleanup_json json_t *owned = route_render(&options, local, 8000);
    const json_t *owner = json_array_get(json_at(owned, "metadata.ownerReferences"), 0);
    assert_string_equal(json_string_at(owner, "uid", ""), "u");
}

static void test_grants(void **state) {
    (void)state;
    cleanup_json json_t *grant = route_grant_render(&options, "ns");
    cleanup_json json_t *spec = parse("{\"from\":[{\"group\":\"gateway.networking.k8s.io\",\"kind\":\"HTTPRoute\",\"namespace\":"
                                      "\"aibrix-system\"}],\"to\":[{\"group\":\"\",\"kind\":\"Service\"}]}");
    assert_string_equal(json_string_at(grant, "metadata.name", ""), "aibrix-system-reserved-referencegrant-in-ns");
    assert_string_equal(json_string_at(grant, "metadata.namespace", ""), "ns");
    assert_true(json_equal(json_object_get(grant, "spec"), spec));
    assert_true(route_grant_is_ours(grant));
    assert_true(route_grant_allows(&options, grant));
    json_object_del(json_object_get(grant, "metadata"), "labels");
    assert_false(route_grant_is_ours(grant));
    assert_true(route_grant_allows(&options, grant));
    struct route_options elsewhere = {.gateway_namespace = "edge", .gateway_name = "g", .timeout_ms = 1500};
    assert_false(route_grant_allows(&elsewhere, grant));
    cleanup_json json_t *adapter = make_adapter("ns", "");
    cleanup_json json_t *route = route_render(&elsewhere, adapter, 8000);
    assert_string_equal(json_string_at(json_array_get(json_at(route, "spec.rules"), 0), "timeouts.request", ""), "1500ms");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rendered), cmocka_unit_test(test_custom_paths), cmocka_unit_test(test_patches),
        cmocka_unit_test(test_whose),    cmocka_unit_test(test_grants),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
