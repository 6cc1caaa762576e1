/* Label selectors: both forms, what they match, what they refuse. */
#include "adapter/selector.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <string.h>

static const char labels_text[] = "{\"app\":\"llm\",\"tier\":\"gpu\",\"empty\":\"\",\"model.aibrix.ai/name\":\"smol\"}";

static void test_strings(void **state) {
    (void)state;
    static const struct {
        const char *text;
        int matches; /* -1: refused */
    } cases[] = {
        {"", 1},
        {"app=llm", 1},
        {"app==llm", 1},
        {"app=other", 0},
        {"app!=llm", 0},
        {"app!=other", 1},
        {"absent!=x", 1},
        {"app", 1},
        {"absent", 0},
        {"!absent", 1},
        {"!app", 0},
        {"app in (llm, other),tier notin (cpu)", 1},
        {"app in (other)", 0},
        {"absent notin (a)", 1},
        {"empty=", 1},
        {"empty in ()", 1},
        {" app = llm , tier = gpu ", 1},
        {"model.aibrix.ai/name=smol", 1},
        {"app=llm,", -1},
        {",app", -1},
        {"app=a b", -1},
        {"app in llm", -1},
        {"app in (llm", -1},
        {"=x", -1},
        {"app!x", -1},
        {"-bad=x", -1},
        {"app=-bad", -1},
        {"app>3", -1},
    };
    json_t *labels = json_loads(labels_text, 0, NULL);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct selector *selector = NULL;
        struct error err = {0};
        int result = selector_parse_string(cases[i].text, &selector, &err);
        int seen = result < 0 ? -1 : selector_matches(selector, labels);
        if (seen != cases[i].matches) {
            fail_msg("\"%s\": expected %d, got %d %s", cases[i].text, cases[i].matches, seen, err.message);
        }
        assert_true(result == 0 || err.message[0] != '\0');
        selector_free(selector);
    }
    json_decref(labels);
}

static void test_objects(void **state) {
    (void)state;
    static const struct {
        const char *text;
        int matches;
    } cases[] = {
        {"{}", 1},
        {"{\"matchLabels\":{\"app\":\"llm\"}}", 1},
        {"{\"matchLabels\":{\"app\":\"llm\",\"tier\":\"cpu\"}}", 0},
        {"{\"matchExpressions\":[{\"key\":\"app\",\"operator\":\"In\",\"values\":[\"a\",\"llm\"]}]}", 1},
        {"{\"matchLabels\":{\"app\":\"llm\"},\"matchExpressions\":[{\"key\":\"tier\",\"operator\":\"NotIn\",\"values\":[\"gpu\"]}]"
         "}",
         0},
        {"{\"matchExpressions\":[{\"key\":\"absent\",\"operator\":\"NotIn\",\"values\":[\"gpu\"]}]}", 1},
        {"{\"matchExpressions\":[{\"key\":\"app\",\"operator\":\"Exists\"}]}", 1},
        {"{\"matchExpressions\":[{\"key\":\"app\",\"operator\":\"DoesNotExist\"}]}", 0},
        {"{\"matchExpressions\":[{\"key\":\"app\",\"operator\":\"Exists\",\"values\":[\"x\"]}]}", -1},
        {"{\"matchExpressions\":[{\"key\":\"app\",\"operator\":\"In\"}]}", -1},
        {"{\"matchExpressions\":[{\"key\":\"app\",\"operator\":\"Like\",\"values\":[\"x\"]}]}", -1},
        {"{\"matchExpressions\":[{\"operator\":\"Exists\"}]}", -1},
        {"{\"matchExpressions\":{}}", -1},
        {"{\"matchLabels\":{\"app\":5}}", -1},
        {"{\"matchLabels\":{\"a b\":\"x\"}}", -1},
        {"[]", -1},
    };
    json_t *labels = json_loads(labels_text, 0, NULL);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct selector *selector = NULL;
        struct error err = {0};
        json_t *object = json_loads(cases[i].text, 0, NULL);
        assert_non_null(object);
        int seen = selector_parse_object(object, &selector, &err) < 0 ? -1 : selector_matches(selector, labels);
        if (seen != cases[i].matches) {
            fail_msg("%s: expected %d, got %d %s", cases[i].text, cases[i].matches, seen, err.message);
        }
        selector_free(selector);
        json_decref(object);
    }
    json_decref(labels);
}

static void test_no_labels(void **state) {
    (void)state;
    struct selector *selector = NULL;
    assert_int_equal(selector_parse_string("!a", &selector, NULL), 0);
    assert_true(selector_matches(selector, NULL));
    assert_false(selector_is_empty(selector));
    selector_free(selector);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_strings),
        cmocka_unit_test(test_objects),
        cmocka_unit_test(test_no_labels),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
