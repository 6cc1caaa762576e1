/* The glance at an object's text: it agrees with a parser on what it sees, and a text that is cut stays inside of itself. */
#include "kube/glance.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static char *identity_of(const struct kube_glance *glance) {
    cleanup_json json_t *identity = kube_glance_identity(glance);
    return json_dumps(json_at(identity, "metadata"), JSON_COMPACT | JSON_SORT_KEYS);
}

/* What is glanced at, and what a parse leaves of it. */
static void test_glances(void **state) {
    (void)state;
    static const struct {
        const char *text, *identity, *parsed;
    } cases[] = {
        {"{\"kind\":\"Pod\",\"metadata\":{\"name\":\"a\",\"namespace\":\"n\",\"resourceVersion\":\"7\",\"uid\":\"u\"},\"spec\":{}}",
         "{\"name\":\"a\",\"namespace\":\"n\",\"resourceVersion\":\"7\",\"uid\":\"u\"}",
         "{\"kind\":\"Pod\",\"metadata\":{\"name\":\"a\",\"namespace\":\"n\",\"resourceVersion\":\"7\",\"uid\":\"u\"},\"spec\":{}"
         "}"},
        {"{\"metadata\":{\"managedFields\":[{\"f\":{\"f:x\":{}}}],\"name\":\"a\"}}", "{\"name\":\"a\"}",
         "{\"metadata\":{\"name\":\"a\"}}"},
        {"{\"metadata\":{\"name\":\"a\", \"managedFields\" : [{\"m\":\"]}\\\"\"}] , \"resourceVersion\":\"7\"}}",
         "{\"name\":\"a\",\"resourceVersion\":\"7\"}", "{\"metadata\":{\"name\":\"a\",\"resourceVersion\":\"7\"}}"},
        {"{\"metadata\":{\"managedFields\":[]}}", "{}", "{\"metadata\":{}}"},
        {" { \"spec\" : { \"metadata\" : {\"name\":\"no\"} } , \"metadata\" : { \"name\" : \"a\" } } ", "{\"name\":\"a\"}",
         "{\"metadata\":{\"name\":\"a\"},\"spec\":{\"metadata\":{\"name\":\"no\"}}}"},
        {"{\"a\":\"\\\"metadata\\\":{\",\"n\":-1.5e3,\"t\":true,\"l\":[1,[2,{\"x\":null}]],\"metadata\":{\"labels\":{\"name\":"
         "\"no\"},"
         "\"name\":\"a\"}}",
         "{\"name\":\"a\"}",
         "{\"a\":\"\\\"metadata\\\":{\",\"l\":[1,[2,{\"x\":null}]],\"metadata\":{\"labels\":{\"name\":\"no\"},\"name\":\"a\"},"
         "\"n\":-1500.0,\"t\":true}"},
        {"{\"metadata\":{\"name\":\"a\\u0062\",\"uid\":7}}", "{}", "{\"metadata\":{\"name\":\"ab\",\"uid\":7}}"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct kube_glance glance;
        struct error err = {0};
        assert_true(kube_glance_object(cases[i].text, strlen(cases[i].text), &glance));
        cleanup_free char *identity = identity_of(&glance);
        assert_string_equal(identity, cases[i].identity);
        cleanup_json json_t *parsed = kube_glance_parse(&glance, cases[i].text, strlen(cases[i].text), &err);
        cleanup_free char *text = json_dumps(parsed, JSON_COMPACT | JSON_SORT_KEYS);
        assert_string_equal(text, cases[i].parsed);
        /* The same in an event. */
        cleanup_free char *event = xasprintf("{\"type\":\"ADDED\",\"object\":%s}", cases[i].text);
        assert_true(kube_glance_event(event, strlen(event), &glance));
        assert_int_equal(glance.type.len, 5);
        cleanup_free char *same = identity_of(&glance);
        assert_string_equal(same, cases[i].identity);
    }
}

/* Cut anywhere, it says no or what the whole says; nothing is read behind the end. */
static void test_refuses_what_is_cut(void **state) {
    (void)state;
    static const char text[] = "{\"a\":[{\"b\":\"c\\\\\"}],\"metadata\":{\"managedFields\":[{}],\"name\":\"a\",\"uid\":\"u\"}}";
    size_t whole = sizeof(text) - 1;
    for (size_t len = 0; len < whole - 1; len++) {
        cleanup_free char *copy = xmalloc(len + 1); /* so that a sanitizer sees a byte too many */
        memcpy(copy, text, len);
        struct kube_glance glance;
        assert_false(kube_glance_object(copy, len, &glance));
        struct error err = {0};
        assert_null(kube_glance_parse(&glance, copy, len, &err));
    }
    static const char *const others[] = {"", "1", "[]", "{}", "{\"metadata\":1}", "{\"metadata\":[]}", "{\"metadata\"}", "{,}"};
    for (size_t i = 0; i < ARRAY_LEN(others); i++) {
        struct kube_glance glance;
        assert_false(kube_glance_object(others[i], strlen(others[i]), &glance));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_glances), cmocka_unit_test(test_refuses_what_is_cut)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
