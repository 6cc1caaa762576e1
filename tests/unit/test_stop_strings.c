/* engine/api/stop_strings: what is held back, which stop string wins, and that the cut into tokens does not matter. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/api/stop_strings.h"

#include <string.h>

struct row {
    const char *text;
    const char *stops[4];
    bool include;
    const char *expected; /* the text that is sent on */
    int found;
};

static const struct row rows[] = {
    {"hello world", {"wor"}, false, "hello ", 0},
    {"hello world", {"wor"}, true, "hello wor", 0},
    {"hello world", {"xyz"}, false, "hello world", -1},
    {"hello wo", {"world"}, false, "hello wo", -1},
    {"aaab", {"aab"}, false, "a", 0},
    {"abcdef", {"cde", "d"}, false, "abc", 1}, /* complete first */
    {"abcdef", {"d", "bcd"}, false, "a", 1},   /* complete together: the longest */
    {"one\n\nUser: two", {"User:", "\n\n"}, false, "one", 1},
    {"caf\xc3\xa9 \xf0\x9f\x98\x80!", {"\xf0\x9f\x98\x80"}, false, "caf\xc3\xa9 ", 0},
    {"", {"x"}, false, "", -1},
    {"x", {"x"}, false, "", 0},
};

static size_t stop_count(const struct row *row) {
    size_t count = 0;
    while (count < ARRAY_LEN(row->stops) && row->stops[count] != NULL) {
        count++;
    }
    return count;
}

/* Cuts the text after every bit that is set in `cuts`. */
static void check_cut(const struct row *row, unsigned cuts) {
    struct stop_strings stops;
    stop_strings_init(&stops, row->stops, stop_count(row), row->include);
    cleanup_buffer struct buffer out = BUFFER_INIT;
    int found = -1;
    size_t len = strlen(row->text);
    size_t start = 0;
    for (size_t end = 1; end <= len && found < 0; end++) {
        if (end == len || (cuts >> (end - 1) & 1) != 0) {
            found = stop_strings_push(&stops, row->text + start, end - start, true, &out);
            start = end;
            assert_true(strncmp(buffer_text(&out), row->expected, out.len) == 0); /* nothing was sent that must be taken back */
        }
    }
    if (found < 0) {
        stop_strings_flush(&stops, &out);
    }
    assert_int_equal(found, row->found);
    assert_string_equal(buffer_text(&out), row->expected);
    stop_strings_release(&stops);
}

static void test_every_cut(void **state) {
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        size_t len = strlen(rows[i].text);
        unsigned cuts = len > 1 ? 1u << (len - 1) : 1;
        for (unsigned cut = 0; cut<cuts; cut += len> 12 ? 7 : 1) {
            check_cut(&rows[i], cut);
        }
    }
}

static void test_unarmed_text_passes(void **state) {
    (void)state;
    static const char *const list[] = {"stop"};
    struct stop_strings stops;
    stop_strings_init(&stops, list, 1, false);
    cleanup_buffer struct buffer out = BUFFER_INIT;
    assert_int_equal(stop_strings_push(&stops, "a stop ", 7, false, &out), -1);
    assert_string_equal(buffer_text(&out), "a stop ");
    assert_int_equal(stop_strings_push(&stops, "b sto", 5, true, &out), -1);
    assert_string_equal(buffer_text(&out), "a stop b ");
    assert_int_equal(stop_strings_push(&stops, "p", 1, true, &out), 0);
    assert_string_equal(buffer_text(&out), "a stop b ");
    stop_strings_release(&stops);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_every_cut), cmocka_unit_test(test_unarmed_text_passes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
