/* JSON Patch and strategic merge. */
#include "cluster/api/patch.h"

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

struct patch_case {
    const char *target;
    const char *patch;
    const char *expected; /* NULL = an error of `code` */
    enum error_code code;
};

static void check(enum patch_type type, const char *kind, const struct patch_case *one) {
    cleanup_json json_t *target = parse(one->target);
    cleanup_json json_t *before = json_deep_copy(target);
    cleanup_json json_t *patch = parse(one->patch);
    json_t *result = NULL;
    struct error err = {0};
    int rc = patch_apply(type, kind, target, patch, &result, &err);
    if (one->expected == NULL) {
        assert_int_equal(rc, -1);
        assert_int_equal(err.code, one->code);
    } else {
        if (rc < 0) {
            fail_msg("%s: %s", one->patch, err.message);
        }
        cleanup_json json_t *expected = parse(one->expected);
        cleanup_free char *text = json_text(result);
        if (!json_equal(result, expected)) {
            fail_msg("%s + %s = %s, expected %s", one->target, one->patch, text, one->expected);
        }
    }
    assert_true(json_equal(target, before)); /* the input is never changed */
    json_decref(result);
}

static void test_json_patch(void **state) {
    (void)state;
    static const struct patch_case cases[] = {
        /* RFC 6902, appendix A */
        {"{\"foo\":\"bar\"}", "[{\"op\":\"add\",\"path\":\"/baz\",\"value\":\"qux\"}]", "{\"baz\":\"qux\",\"foo\":\"bar\"}", 0},
        {"{\"foo\":[\"bar\",\"baz\"]}", "[{\"op\":\"add\",\"path\":\"/foo/1\",\"value\":\"qux\"}]",
         "{\"foo\":[\"bar\",\"qux\",\"baz\"]}", 0},
        {"{\"baz\":\"qux\",\"foo\":\"bar\"}", "[{\"op\":\"remove\",\"path\":\"/baz\"}]", "{\"foo\":\"bar\"}", 0},
        {"{\"foo\":[1,2,3]}", "[{\"op\":\"remove\",\"path\":\"/foo/1\"}]", "{\"foo\":[1,3]}", 0},
        {"{\"a\":1}", "[{\"op\":\"replace\",\"path\":\"/a\",\"value\":2}]", "{\"a\":2}", 0},
        {"{\"foo\":{\"bar\":\"baz\",\"waldo\":\"fred\"},\"qux\":{}}",
         "[{\"op\":\"move\",\"from\":\"/foo/waldo\",\"path\":\"/qux/thud\"}]",
         "{\"foo\":{\"bar\":\"baz\"},\"qux\":{\"thud\":\"fred\"}}", 0},
        {"{\"foo\":[1,2,3]}", "[{\"op\":\"move\",\"from\":\"/foo/0\",\"path\":\"/foo/2\"}]", "{\"foo\":[2,3,1]}", 0},
        {"{\"a\":{\"b\":1}}", "[{\"op\":\"copy\",\"from\":\"/a\",\"path\":\"/c\"}]", "{\"a\":{\"b\":1},\"c\":{\"b\":1}}", 0},
        {"{\"foo\":[1]}", "[{\"op\":\"add\",\"path\":\"/foo/-\",\"value\":[2]}]", "{\"foo\":[1,[2]]}", 0},
        {"{\"/\":9,\"~1\":10}", "[{\"op\":\"test\",\"path\":\"/~01\",\"value\":10},{\"op\":\"remove\",\"path\":\"/~1\"}]",
         "{\"~1\":10}", 0},
        {"{\"a\":1}", "[{\"op\":\"replace\",\"path\":\"\",\"value\":{\"b\":2}}]", "{\"b\":2}", 0},
        {"{\"a\":1}", "[{\"op\":\"test\",\"path\":\"/a\",\"value\":2}]", NULL, ERROR_CONFLICT},
        {"{\"a\":1}", "[{\"op\":\"remove\",\"path\":\"/b\"}]", NULL, ERROR_CONFLICT},
        {"{\"a\":1}", "[{\"op\":\"replace\",\"path\":\"/b\",\"value\":1}]", NULL, ERROR_CONFLICT},
        {"{\"a\":1}", "[{\"op\":\"add\",\"path\":\"/b/c\",\"value\":1}]", NULL, ERROR_CONFLICT},
        {"{\"a\":[1]}", "[{\"op\":\"add\",\"path\":\"/a/2\",\"value\":1}]", NULL, ERROR_CONFLICT},
        {"{\"a\":[1]}", "[{\"op\":\"add\",\"path\":\"/a/01\",\"value\":1}]", NULL, ERROR_CONFLICT},
        {"{\"a\":1}", "[{\"op\":\"fly\",\"path\":\"/a\",\"value\":1}]", NULL, ERROR_INVALID},
        {"{\"a\":1}", "[{\"op\":\"add\",\"path\":\"a\",\"value\":1}]", NULL, ERROR_INVALID},
        {"{\"a\":1}", "[{\"op\":\"add\",\"path\":\"/a\"}]", NULL, ERROR_INVALID},
        {"{\"a\":1}", "[1]", NULL, ERROR_INVALID},
        {"{\"a\":1}", "{}", NULL, ERROR_INVALID},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        check(PATCH_JSON, "Pod", &cases[i]);
    }
}

static void test_strategic(void **state) {
    (void)state;
    static const struct patch_case cases[] = {
        /* containers by name; members that the patch does not name stay */
        {"{\"spec\":{\"containers\":[{\"name\":\"a\",\"image\":\"1\"},{\"name\":\"b\",\"image\":\"1\"}]}}",
         "{\"spec\":{\"containers\":[{\"name\":\"b\",\"image\":\"2\"},{\"name\":\"c\",\"image\":\"3\"}]}}",
         "{\"spec\":{\"containers\":[{\"name\":\"a\",\"image\":\"1\"},{\"name\":\"b\",\"image\":\"2\"},{\"name\":\"c\",\"image\":"
         "\"3\"}]}}",
         0},
        {"{\"spec\":{\"containers\":[{\"name\":\"a\"},{\"name\":\"b\"}]}}",
         "{\"spec\":{\"containers\":[{\"name\":\"a\",\"$patch\":\"delete\"}]}}", "{\"spec\":{\"containers\":[{\"name\":\"b\"}]}}",
         0},
        {"{\"spec\":{\"containers\":[{\"name\":\"a\"}]}}",
         "{\"spec\":{\"containers\":[{\"$patch\":\"replace\"},{\"name\":\"z\"}]}}",
         "{\"spec\":{\"containers\":[{\"name\":\"z\"}]}}", 0},
        /* the order that kubectl asks for */
        {"{\"spec\":{\"containers\":[{\"name\":\"a\"},{\"name\":\"b\"}]}}",
         "{\"spec\":{\"$setElementOrder/"
         "containers\":[{\"name\":\"c\"},{\"name\":\"a\"},{\"name\":\"b\"}],\"containers\":[{\"name\":\"c\"}]}}",
         "{\"spec\":{\"containers\":[{\"name\":\"c\"},{\"name\":\"a\"},{\"name\":\"b\"}]}}", 0},
        /* env and ports of a container, lists without a key are replaced */
        {"{\"containers\":[{\"name\":\"a\",\"env\":[{\"name\":\"X\",\"value\":\"1\"}],\"ports\":[{\"containerPort\":1}],\"args\":["
         "\"a\",\"b\"]}]}",
         "{\"containers\":[{\"name\":\"a\",\"env\":[{\"name\":\"Y\",\"value\":\"2\"}],\"ports\":[{\"containerPort\":1,\"name\":"
         "\"p\"}],\"args\":[\"c\"]}]}",
         "{\"containers\":[{\"name\":\"a\",\"env\":[{\"name\":\"X\",\"value\":\"1\"},{\"name\":\"Y\",\"value\":\"2\"}],\"ports\":[{"
         "\"containerPort\":1,"
         "\"name\":\"p\"}],\"args\":[\"c\"]}]}",
         0},
        /* finalizers are a set */
        {"{\"metadata\":{\"finalizers\":[\"a\",\"b\"]}}", "{\"metadata\":{\"finalizers\":[\"b\",\"c\"]}}",
         "{\"metadata\":{\"finalizers\":[\"a\",\"b\",\"c\"]}}", 0},
        {"{\"metadata\":{\"finalizers\":[\"a\",\"b\"]}}", "{\"metadata\":{\"$deleteFromPrimitiveList/finalizers\":[\"a\"]}}",
         "{\"metadata\":{\"finalizers\":[\"b\"]}}", 0},
        {"{\"metadata\":{\"labels\":{\"a\":\"1\",\"b\":\"2\"}}}", "{\"metadata\":{\"labels\":{\"a\":null}}}",
         "{\"metadata\":{\"labels\":{\"b\":\"2\"}}}", 0},
        {"{\"spec\":{\"strategy\":{\"type\":\"RollingUpdate\",\"rollingUpdate\":{}}}}",
         "{\"spec\":{\"strategy\":{\"$retainKeys\":[\"type\"],\"type\":\"Recreate\"}}}",
         "{\"spec\":{\"strategy\":{\"type\":\"Recreate\"}}}", 0},
        {"{\"status\":{\"conditions\":[{\"type\":\"Ready\",\"status\":\"False\"}]}}",
         "{\"status\":{\"conditions\":[{\"type\":\"Ready\",\"status\":\"True\"}]}}",
         "{\"status\":{\"conditions\":[{\"type\":\"Ready\",\"status\":\"True\"}]}}", 0},
        {"{\"a\":{\"b\":1}}", "{\"a\":{\"$patch\":\"replace\",\"c\":2}}", "{\"a\":{\"c\":2}}", 0},
        {"{\"spec\":{\"containers\":[]}}", "{\"spec\":{\"containers\":[{\"image\":\"x\"}]}}", NULL, ERROR_INVALID},
        {"{\"a\":{}}", "{\"a\":{\"$patch\":\"fly\"}}", NULL, ERROR_INVALID},
        {"{}", "[]", NULL, ERROR_INVALID},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        check(PATCH_STRATEGIC, "Deployment", &cases[i]);
    }
    static const struct patch_case service = {"{\"spec\":{\"ports\":[{\"port\":80,\"name\":\"a\"}]}}",
                                              "{\"spec\":{\"ports\":[{\"port\":80,\"name\":\"b\"}]}}",
                                              "{\"spec\":{\"ports\":[{\"port\":80,\"name\":\"b\"}]}}", 0};
    check(PATCH_STRATEGIC, "Service", &service);
    static const struct patch_case slice = {
        "{\"ports\":[{\"port\":80},{\"port\":81}],\"endpoints\":[{\"addresses\":[\"1.1.1.1\"]}]}",
        "{\"ports\":[{\"port\":82}],\"endpoints\":[]}", "{\"ports\":[{\"port\":82}],\"endpoints\":[]}", 0};
    check(PATCH_STRATEGIC, "EndpointSlice", &slice);
}

/* Small patches that would make large documents, or take the square of a long list. */
static void test_bounds(void **state) {
    (void)state;
    cleanup_buffer struct buffer copies = BUFFER_INIT;
    cleanup_buffer struct buffer list = BUFFER_INIT;
    buffer_append_text(&copies, "[");
    for (int i = 0; i < 40; i++) {
        buffer_printf(&copies, "%s{\"op\":\"copy\",\"from\":\"/x\",\"path\":\"/x/k%d\"}", i != 0 ? "," : "", i);
    }
    buffer_append_text(&copies, "]");
    buffer_append_text(&list, "{\"spec\":{\"containers\":[{\"name\":\"c\",\"env\":[");
    for (int i = 0; i <= MERGED_LIST_ITEMS_MAX; i++) {
        buffer_printf(&list, "%s{\"name\":\"n%d\",\"value\":\"v\"}", i != 0 ? "," : "", i);
    }
    buffer_append_text(&list, "]}]}}");
    const struct patch_case doubling = {"{\"x\":{\"a\":\"0123456789\"}}", buffer_text(&copies), NULL, ERROR_LIMIT};
    const struct patch_case long_list = {"{\"spec\":{}}", buffer_text(&list), NULL, ERROR_LIMIT};
    check(PATCH_JSON, "Pod", &doubling);
    check(PATCH_STRATEGIC, "Pod", &long_list);
}

static void test_merge(void **state) {
    (void)state;
    static const struct patch_case cases[] = {
        {"{\"a\":{\"b\":1,\"c\":2},\"l\":[1]}", "{\"a\":{\"b\":null,\"d\":3},\"l\":[2]}", "{\"a\":{\"c\":2,\"d\":3},\"l\":[2]}", 0},
        {"{\"a\":1}", "3", NULL, ERROR_INVALID},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        check(PATCH_MERGE, "ModelAdapter", &cases[i]);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_json_patch),
        cmocka_unit_test(test_strategic),
        cmocka_unit_test(test_merge),
        cmocka_unit_test(test_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
