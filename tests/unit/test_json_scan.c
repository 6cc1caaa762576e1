/* The body scan: what it takes from good bodies, what it refuses, and that it agrees with a full parser on random text. */
#include "gateway/json_scan.h"

#include "base/buffer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

static void test_table_of_good_bodies(void **state) {
    (void)state;
    static const struct {
        const char *body;
        const char *model; /* NULL = none */
        const char *value; /* the value's bytes in the body */
        bool stream;
    } rows[] = {
        {"{}", NULL, NULL, false},
        {" \t\r\n{ \"model\" : \"sql\" } \n", "sql", "\"sql\"", false},
        {"{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}],\"stream\":true,\"model\":\"sql\"}", "sql", "\"sql\"", true},
        {"{\"stream\":false,\"model\":\"a\"}", "a", "\"a\"", false},
        {"{\"stream\":true,\"stream\":false,\"model\":\"a\"}", "a", "\"a\"", false},
        {"{\"stream\":\"true\",\"model\":\"a\"}", "a", "\"a\"", false},
        {"{\"mod\\u0065l\":\"a\\u002db\"}", "a-b", "\"a\\u002db\"", false},
        {"{\"\\u006d\\u006F\\u0064\\u0065\\u006C\":\"x\"}", "x", "\"x\"", false},
        {"{\"model\":null}", NULL, NULL, false},
        {"{\"Model\":\"no\",\"models\":\"no\",\"mode\":\"no\"}", NULL, NULL, false},
        {"{\"x\":{\"model\":\"inner\"},\"y\":[{\"model\":\"inner\"}]}", NULL, NULL, false},
        {"{\"x\":\"\\\"model\\\":\\\"fake\\\"\",\"model\":\"real\"}", "real", "\"real\"", false},
        {"{\"x\":\"}\",\"y\":\"{[\",\"model\":\"a/b:c\"}", "a/b:c", "\"a/b:c\"", false},
        {"{\"model\":\"\xc3\xa9\\u00e9\\ud83d\\ude00\"}", "\xc3\xa9\xc3\xa9\xf0\x9f\x98\x80", "\"\xc3\xa9\\u00e9\\ud83d\\ude00\"",
         false},
        {"{\"model\":\"\\ud83d\"}", "\xef\xbf\xbd", "\"\\ud83d\"", false},
        {"{\"model\":\"\"}", "", "\"\"", false},
        {"{\"model\":\"a\\n\\t\\\\\\/\\\"\"}", "a\n\t\\/\"", "\"a\\n\\t\\\\\\/\\\"\"", false},
        {"{\"n\":[-0,0.5,1e9,1E+2,-12.25e-3],\"t\":[true,false,null],\"e\":[{},[],\"\"],\"model\":\"z\"}", "z", "\"z\"", false},
        {"{\"long\":\"0123456789abcdef0123456789abcdef0123456789abcdef\",\"model\":\"z\"}", "z", "\"z\"", false},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct json_scan scan;
        struct error err = {0};
        if (json_scan_body(rows[i].body, strlen(rows[i].body), &scan, &err) < 0) {
            fail_msg("%s: %s", rows[i].body, err.message);
        }
        if (rows[i].model == NULL) {
            assert_null(scan.model);
        } else {
            assert_string_equal(scan.model, rows[i].model);
            assert_int_equal(scan.model_end - scan.model_begin, strlen(rows[i].value));
            assert_memory_equal(rows[i].body + scan.model_begin, rows[i].value, strlen(rows[i].value));
        }
        assert_int_equal(scan.stream, rows[i].stream);
        json_scan_release(&scan);
    }
}

static void test_table_of_bad_bodies(void **state) {
    (void)state;
    static const struct {
        const char *body;
        const char *message; /* part of it */
    } rows[] = {
        {"", "it is empty: a JSON object was expected"},
        {"   ", "cut off: it ends at byte 3 (an opening brace was expected)"},
        {"[]", "opening brace"},
        {"\"model\"", "opening brace"},
        {"\xef\xbb\xbf{}", "opening brace"},
        {"{", "JSON is cut off: it ends at byte 1 (a member's name was expected)"},
        {"{\"model\":\"a\"", "JSON is cut off: it ends at byte 12"},
        {"{\"model\": ", "JSON is cut off: it ends at byte 10 (a value was expected)"},
        {"{\"model\":", "JSON is cut off: it ends at byte 9"},
        {"{\"model\"", "JSON is cut off: it ends at byte 8"},
        {"{\"mod", "JSON is cut off: it ends at byte 5 (in a string)"},
        {"{\"model\":\"sq", "JSON is cut off: it ends at byte 12 (in a string)"},
        {"{\"model\":\"s\\", "JSON is cut off: it ends at byte 12"},
        {"{\"model\":\"s\\u00", "JSON is cut off: it ends at byte 15"},
        {"{\"model\":nul", "JSON is cut off: it ends at byte 12 (in a word)"},
        {"{\"x\":fal", "JSON is cut off: it ends at byte 8 (in a word)"},
        {"{\"x\":[1,{\"y\":", "JSON is cut off: it ends at byte 13"},
        {"{\"x\":-", "JSON is cut off: it ends at byte 6"},
        {"{\"x\":1.", "JSON is cut off: it ends at byte 7"},
        {"{\"model\":\"a\"}x", "something follows the object at byte 13"},
        {"{\"model\":\"a\"}{\"model\":\"b\"}", "something follows"},
        {"{\"model\":\"a\",}", "a member's name was expected"},
        {"{\"model\" \"a\"}", "a colon was expected"},
        {"{model:\"a\"}", "a member's name was expected"},
        {"{'model':'a'}", "a member's name was expected"},
        {"{\"model\":\"a\",\"model\":\"a\"}", "\"model\" is given twice (byte 13)"},
        {"{\"model\":\"a\",\"m\\u006fdel\":\"b\"}", "given twice"},
        {"{\"model\":null,\"model\":\"b\"}", "given twice"},
        {"{\"model\":1}", "\"model\" must be a string"},
        {"{\"model\":[\"a\"]}", "\"model\" must be a string"},
        {"{\"model\":true}", "\"model\" must be a string"},
        {"{\"model\":\"a\\u0000b\"}", "not text in UTF-8"},
        {"{\"model\":\"\xff\"}", "not text in UTF-8"},
        {"{\"model\":\"\xed\xa0\x80\"}", "not text in UTF-8"},
        {"{\"model\":\"\xc0\xaf\"}", "not text in UTF-8"},
        {"{\"x\":01}", "a comma or a closing brace was expected"},
        {"{\"x\":1.}", "a bad number"},
        {"{\"x\":1e}", "a bad number"},
        {"{\"x\":.5}", "an unexpected character"},
        {"{\"x\":+1}", "an unexpected character"},
        {"{\"x\":NaN}", "an unexpected character"},
        {"{\"x\":tru}", "an unexpected character"},
        {"{\"x\":\"\\x\"}", "an unknown escape"},
        {"{\"x\":\"\\u12g4\"}", "a bad \\u escape"},
        {"{\"x\":\"a\nb\"}", "a control character in a string at byte 7"},
        {"{\"x\":\"abc", "cut off"},
        {"{\"x\":[1,2}", "a comma or a closing bracket"},
        {"{\"x\":[1,]}", "an unexpected character"},
        {"{\"x\":{\"y\":1]}", "a comma or a closing bracket"},
        {"{\"x\":1 \"model\":\"a\"}", "a comma or a closing brace"},
        {"{/* */\"model\":\"a\"}", "a member's name"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct json_scan scan;
        struct error err = {0};
        if (json_scan_body(rows[i].body, strlen(rows[i].body), &scan, &err) == 0) {
            fail_msg("accepted: %s", rows[i].body);
        }
        assert_int_equal(err.http_status, 400);
        if (strstr(err.message, rows[i].message) == NULL) {
            fail_msg("%s: \"%s\" lacks \"%s\"", rows[i].body, err.message, rows[i].message);
        }
    }
}

static int scan_nested(unsigned depth, const char *open, const char *middle, const char *close) {
    struct buffer body = {0};
    buffer_append_text(&body, "{\"x\":");
    for (unsigned i = 0; i < depth; i++) {
        buffer_append_text(&body, open);
    }
    buffer_append_text(&body, middle);
    for (unsigned i = 0; i < depth; i++) {
        buffer_append_text(&body, close);
    }
    buffer_append_text(&body, ",\"model\":\"deep\"}");
    struct json_scan scan;
    struct error err;
    int result = json_scan_body(body.data, body.len, &scan, &err);
    if (result == 0) {
        assert_string_equal(scan.model, "deep");
        json_scan_release(&scan);
    }
    buffer_release(&body);
    return result;
}

static void test_depth_is_bounded(void **state) {
    (void)state;
    assert_int_equal(scan_nested(JSON_SCAN_DEPTH_MAX - 1, "[", "", "]"), 0);
    assert_int_equal(scan_nested(JSON_SCAN_DEPTH_MAX, "[", "", "]"), -1);
    assert_int_equal(scan_nested(JSON_SCAN_DEPTH_MAX - 1, "{\"k\":", "1", "}"), 0);
    assert_int_equal(scan_nested(1000000, "[", "", "]"), -1);
    assert_int_equal(scan_nested(200, "[{\"a\":[", "{}", "]}]"), -1);
    assert_int_equal(scan_nested(170, "[{\"a\":[", "{}", "]}]"), 0);
}

static void test_long_model_is_refused(void **state) {
    (void)state;
    char body[JSON_SCAN_MODEL_BYTES_MAX + 64];
    for (size_t len = JSON_SCAN_MODEL_BYTES_MAX - 1; len <= JSON_SCAN_MODEL_BYTES_MAX + 1; len++) {
        int used = snprintf(body, sizeof(body), "{\"model\":\"%0*d\"}", (int)len, 0);
        struct json_scan scan;
        struct error err;
        int result = json_scan_body(body, (size_t)used, &scan, &err);
        assert_int_equal(result, len <= JSON_SCAN_MODEL_BYTES_MAX ? 0 : -1);
        if (result == 0) {
            assert_int_equal(strlen(scan.model), len);
            json_scan_release(&scan);
        }
    }
}

/* ---- random text, against jansson ---- */

static uint64_t random_state = 88172645463325252U;

static unsigned pick(unsigned below) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (unsigned)(random_state >> 33) % below;
}

static void random_value(struct buffer *out, unsigned depth) {
    static const char *const scalars[] = {"1",
                                          "-2.5",
                                          "3e4",
                                          "true",
                                          "false",
                                          "null",
                                          "\"\"",
                                          "\"model\"",
                                          "\"a\\\"b\"",
                                          "\"\\u0041\\n\"",
                                          "\"longer than eight bytes\""};
    static const char *const spaces[] = {"", "", "", " ", "\n\t"};
    unsigned kind = depth > 4 ? 0 : pick(4);
    if (kind < 2) {
        buffer_append_text(out, scalars[pick(ARRAY_LEN(scalars))]);
        return;
    }
    buffer_append_char(out, kind == 2 ? '[' : '{');
    unsigned count = pick(4);
    for (unsigned i = 0; i < count; i++) {
        buffer_append_text(out, i > 0 ? "," : "");
        buffer_append_text(out, spaces[pick(ARRAY_LEN(spaces))]);
        if (kind == 3) {
            static const char *const keys[] = {"\"k\":", "\"model\":", "\"stream\" : ", "\"mod\\u0065l\":", "\"\":"};
            buffer_append_text(out, keys[pick(ARRAY_LEN(keys))]);
        }
        random_value(out, depth + 1);
        buffer_append_text(out, spaces[pick(ARRAY_LEN(spaces))]);
    }
    buffer_append_char(out, kind == 2 ? ']' : '}');
}

static void mutate(struct buffer *text) {
    static const char bytes[] = "\"\\{}[]:,0e. truen\nu";
    for (unsigned changes = pick(3); changes > 0 && text->len > 0; changes--) {
        size_t at = pick((unsigned)text->len);
        if (pick(2) == 0) {
            text->data[at] = bytes[pick(sizeof(bytes) - 1)];
        } else {
            memmove(text->data + at, text->data + at + 1, text->len - at);
            text->len--;
        }
    }
}

/* What a full parser thinks: 1 an object whose "model" is absent, null or a string; 0 an object otherwise; -1 no object. */
static int judge(const struct buffer *text, char **ret_model) {
    json_error_t where;
    json_t *value = json_loadb(text->data, text->len, JSON_ALLOW_NUL | JSON_DECODE_ANY, &where);
    int verdict = -1;
    *ret_model = NULL;
    if (value == NULL && (json_error_code(&where) == json_error_numeric_overflow || strstr(where.text, "Unicode") != NULL)) {
        verdict = -2; /* syntax is fine */
    } else if (json_is_object(value)) {
        const json_t *model = json_object_get(value, "model");
        verdict = model == NULL || json_is_null(model) || json_is_string(model);
        *ret_model = json_is_string(model) ? xstrdup(json_string_value(model)) : NULL;
    }
    json_decref(value);
    return verdict;
}

static void test_agrees_with_a_parser_on_random_text(void **state) {
    (void)state;
    unsigned accepted = 0;
    for (int round = 0; round < 200000; round++) {
        cleanup_buffer struct buffer text = BUFFER_INIT;
        random_value(&text, 0);
        mutate(&text);
        cleanup_free char *expected = NULL;
        int verdict = judge(&text, &expected);
        struct json_scan scan;
        struct error err = {0};
        int result = json_scan_body(buffer_text(&text), text.len, &scan, &err);
        if (result == 0) {
            accepted++;
            if (verdict == -2) {
                json_scan_release(&scan);
                continue;
            }
            if (verdict != 1 || (scan.model == NULL) != (expected == NULL) ||
                (expected != NULL && strcmp(scan.model, expected) != 0)) {
                fail_msg("accepted with model %s, expected %s (%d): %.*s", scan.model, expected, verdict, (int)text.len, text.data);
            }
            json_scan_release(&scan);
        } else if (verdict == 1 && strstr(err.message, "twice") == NULL && strstr(err.message, "must be a string") == NULL &&
                   strstr(err.message, "UTF-8") == NULL) {
            fail_msg("refused (%s): %.*s", err.message, (int)text.len, text.data);
        }
    }
    assert_true(accepted > 10000);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table_of_good_bodies),
        cmocka_unit_test(test_table_of_bad_bodies),
        cmocka_unit_test(test_depth_is_bounded),
        cmocka_unit_test(test_long_model_is_refused),
        cmocka_unit_test(test_agrees_with_a_parser_on_random_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
