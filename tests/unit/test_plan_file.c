/* The file of `davit plan`. */
#include "cli/plan_file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define HEAD "apiVersion: model.aibrix.ai/v1alpha1\nkind: ModelAdapter\n"

static int parse(const char *text, const char *only, struct plan_file *ret_file, struct error *err) {
    cleanup_buffer struct buffer buffer = BUFFER_INIT;
    buffer_append_text(&buffer, text);
    return plan_file_parse(&buffer, only, "fallback", ret_file, err);
}

static void test_documents(void **state) {
    (void)state;
    struct plan_file file;
    struct error err = {0};
    const char *text =
        "---\n" HEAD "metadata: {name: a}\n---\nkind: Service\napiVersion: v1\nmetadata: {name: \"s\\e[31m\"}\n---\n" HEAD
        "metadata: {name: b, namespace: other}\n---\napiVersion: v1\nkind: List\nitems:\n- {apiVersion: "
        "model.aibrix.ai/v1alpha1, kind: ModelAdapter, metadata: {name: c}}\n- {apiVersion: "
        "model.aibrix.ai/v2, kind: ModelAdapter, metadata: {name: d}}\n---\n";
    assert_int_equal(parse(text, NULL, &file, &err), 0);
    static const char *const expected[][2] = {{"fallback", "a"}, {"other", "b"}, {"fallback", "c"}};
    assert_int_equal(json_array_size(file.adapters), ARRAY_LEN(expected));
    for (size_t i = 0; i < ARRAY_LEN(expected); i++) {
        const json_t *adapter = json_array_get(file.adapters, i);
        assert_string_equal(json_string_at(adapter, "metadata.namespace", ""), expected[i][0]);
        assert_string_equal(json_string_at(adapter, "metadata.name", ""), expected[i][1]);
    }
    assert_non_null(strstr(buffer_text(&file.skipped), "ModelAdapter d (model.aibrix.ai/v2)"));
    assert_non_null(strstr(buffer_text(&file.skipped), "Service s"));
    assert_null(strchr(buffer_text(&file.skipped), '\033')); /* does not steer a terminal */
    plan_file_release(&file);
}

static void test_json(void **state) {
    (void)state;
    struct plan_file file;
    struct error err = {0};
    assert_int_equal(
        parse("{\"apiVersion\": \"model.aibrix.ai/v1alpha1\", \"kind\": \"ModelAdapter\", \"metadata\": {\"name\": \"a\"}}", "x",
              &file, &err),
        0);
    assert_string_equal(json_string_at(json_array_get(file.adapters, 0), "metadata.namespace", ""), "x");
    plan_file_release(&file);
}

static void test_what_is_wrong_is_named(void **state) {
    (void)state;
    static const struct {
        const char *text, *only, *expected;
    } cases[] = {
        {"a: [", NULL, "line"},
        {"hello", NULL, "document 1: a document without apiVersion and kind"},
        {"kind: ModelAdapter\n", NULL, "document 1: a document without apiVersion and kind"},
        {HEAD, NULL, "document 1: a ModelAdapter without metadata.name"},
        {HEAD "metadata: [name]\n", NULL, "document 1: a ModelAdapter without metadata.name"},
        {HEAD "metadata: {name: a}\n---\n" HEAD "metadata: {name: a}\n", NULL,
         "document 2: ModelAdapter fallback/a is there twice"},
        {HEAD "metadata: {name: a, namespace: x}\n", "y", "expected \"y\" (--namespace), found \"x\""},
        {HEAD "metadata: {name: a, namespace: ../x}\n", NULL, "\"../x\" is no name of a namespace"},
        {HEAD "metadata: {name: a}\nspec: text\n", NULL, "ModelAdapter a: spec: expected an object"},
        {HEAD "metadata: {name: a, labels: [b]}\n", NULL, "metadata.labels: expected an object"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct plan_file file;
        struct error err = {0};
        assert_int_equal(parse(cases[i].text, cases[i].only, &file, &err), -1);
        if (strstr(err.message, cases[i].expected) == NULL) {
            fail_msg("case %zu: expected \"%s\", found \"%s\"", i, cases[i].expected, err.message);
        }
        plan_file_release(&file);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_documents),
        cmocka_unit_test(test_json),
        cmocka_unit_test(test_what_is_wrong_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
