/* tests/fixtures/validation.json against the C validator; tests/interop/kubernetes/test_validation.py posts the same rows to a real
 * API server, which knows the CRD only. And: each grammar's function against its regular expression. */
#include "adapter/model_adapter.h"
#include "adapter/syntax.h"
#include "base/file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <regex.h>
#include <stdlib.h>
#include <string.h>

#define FIXTURE_BYTES_MAX (1 << 20)

static json_t *rows(void) {
    const char *root = getenv("DAVIT_SOURCE_DIR");
    cleanup_free char *path = xasprintf("%s/tests/fixtures/validation.json", root != NULL ? root : ".");
    struct error err = {0};
    cleanup_buffer struct buffer text = BUFFER_INIT;
    if (file_read(path, FIXTURE_BYTES_MAX, &text, &err) < 0) {
        fail_msg("%s", err.message);
    }
    json_t *list = json_parse(text.data, text.len, &err);
    if (list == NULL) {
        fail_msg("%s: %s", path, err.message);
    }
    return list;
}

/* As an API server does it: pruned, defaulted, validated. */
static json_t *prepared(const json_t *object) {
    json_t *copy = json_deep_copy(object);
    if (copy != NULL) {
        model_adapter_prune(copy);
        model_adapter_default(copy);
    }
    return copy;
}

static bool names_field(const json_t *causes, const char *field) {
    for (size_t i = 0; i < json_array_size(causes); i++) {
        if (strcmp(json_string_at(json_array_get(causes, i), "field", ""), field) == 0) {
            return true;
        }
    }
    return false;
}

static void test_rows(void **state) {
    (void)state;
    cleanup_json json_t *list = rows();
    assert_true(json_array_size(list) >= 60);
    int wrong = 0;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *row = json_array_get(list, i);
        cleanup_json json_t *object = prepared(json_object_get(row, "object"));
        cleanup_json json_t *old = prepared(json_object_get(row, "old_object"));
        cleanup_json json_t *causes = json_array();
        bool is_valid = model_adapter_validate(object, old, causes) == 0;
        bool wanted = json_bool_at(row, "valid", false);
        if (is_valid != wanted || (!wanted && !names_field(causes, json_string_at(row, "field", "")))) {
            cleanup_free char *found = json_text(causes);
            print_error("row %zu, %s: expected %s, found %s\n", i, json_string_at(row, "name", ""),
                        wanted ? "no cause" : json_string_at(row, "field", ""), found);
            wrong++;
        }
    }
    assert_int_equal(wrong, 0);
}

/* An object that was stored without the rules is told apart by the reader too, with the field in the message. */
static void test_reader_agrees(void **state) {
    (void)state;
    cleanup_json json_t *list = rows();
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *row = json_array_get(list, i);
        if (json_object_get(row, "old_object") != NULL) {
            continue;
        }
        cleanup_json json_t *object = prepared(json_object_get(row, "object"));
        struct model_adapter adapter;
        struct error err = {0};
        bool is_readable = model_adapter_read(object, &adapter, &err) == 0;
        model_adapter_release(&adapter);
        if (is_readable != json_bool_at(row, "valid", false)) {
            fail_msg("row %zu, %s: %s", i, json_string_at(row, "name", ""), is_readable ? "read" : err.message);
        }
    }
}

static void test_patterns(void **state) {
    (void)state;
    static const struct {
        const char *pattern;
        bool (*matches)(const char *text);
    } grammars[] = {
        {SYNTAX_SERVICE_NAME, syntax_is_service_name},
        {SYNTAX_SUBDOMAIN, syntax_is_subdomain},
        {SYNTAX_LABEL_KEY, syntax_is_label_key},
        {SYNTAX_LABEL_VALUE, syntax_is_label_value},
        {SYNTAX_DATA_KEY, syntax_is_data_key},
        {SYNTAX_PRINTABLE, syntax_is_printable},
        {SYNTAX_VISIBLE, syntax_is_visible},
        {SYNTAX_DIGEST, syntax_is_digest},
        {SYNTAX_REASON, syntax_is_reason},
        {SYNTAX_CONDITION_TYPE, syntax_is_condition_type},
    };
    static const char *const pieces[] = {"a",
                                         "z",
                                         "A",
                                         "Z",
                                         "0",
                                         "9",
                                         "-",
                                         "_",
                                         ".",
                                         "/",
                                         ":",
                                         ",",
                                         " ",
                                         "\x7f",
                                         "\t",
                                         "sha256:",
                                         "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
                                         "\xc3\xa9"};
    unsigned seed = 7;
    for (size_t g = 0; g < ARRAY_LEN(grammars); g++) {
        regex_t regex;
        assert_int_equal(regcomp(&regex, grammars[g].pattern, REG_EXTENDED | REG_NOSUB), 0);
        int matched = 0;
        for (int round = 0; round < 20000; round++) {
            cleanup_buffer struct buffer text = BUFFER_INIT;
            for (int count = rand_r(&seed) % 6; count > 0; count--) {
                buffer_printf(&text, "%s", pieces[(size_t)rand_r(&seed) % ARRAY_LEN(pieces)]);
            }
            bool expected = regexec(&regex, buffer_text(&text), 0, NULL, 0) == 0;
            matched += expected;
            if (grammars[g].matches(buffer_text(&text)) != expected) {
                fail_msg("%s: \"%s\": the pattern says %d", grammars[g].pattern, buffer_text(&text), expected);
            }
        }
        assert_in_range(matched, 1, 19999);
        regfree(&regex);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_reader_agrees),
        cmocka_unit_test(test_patterns),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
