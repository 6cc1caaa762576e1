/* The engine's own name of a model in its answers becomes the public one, and nothing else changes. */
#include "gateway/model_rename.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static uint64_t random_state = 88172645463325252U;

static unsigned pick(unsigned below) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (unsigned)(random_state >> 33) % below;
}

struct row {
    enum model_rename_form form;
    const char *text;
    const char *expected; /* NULL = the text itself */
};

static const struct row rows[] = {
    {MODEL_RENAME_JSON, "{\"id\":\"x\",\"model\":\"sql-7f\",\"choices\":[]}", "{\"id\":\"x\",\"model\":\"sql\",\"choices\":[]}"},
    {MODEL_RENAME_JSON, " { \"model\" : \"sql-7f\" } \n", " { \"model\" : \"sql\" } \n"},
    {MODEL_RENAME_JSON, "{\"choices\":[{\"model\":\"sql-7f\"}],\"a\":{\"model\":\"sql-7f\"},\"model\":\"sql-7f\"}",
     "{\"choices\":[{\"model\":\"sql-7f\"}],\"a\":{\"model\":\"sql-7f\"},\"model\":\"sql\"}"},
    {MODEL_RENAME_JSON, "{\"text\":\"\\\"model\\\":\\\"sql-7f\\\", {[\",\"model\":\"sql-7f\"}",
     "{\"text\":\"\\\"model\\\":\\\"sql-7f\\\", {[\",\"model\":\"sql\"}"},
    {MODEL_RENAME_JSON, "{\"model\":\"sql\\u002d7f\"}", "{\"model\":\"sql\"}"},
    {MODEL_RENAME_JSON, "{\"model\":\"base\"}", NULL}, /* the engine says that another answered */
    {MODEL_RENAME_JSON, "{\"model\":\"sql-7f2\"}", NULL},
    {MODEL_RENAME_JSON, "{\"models\":\"sql-7f\",\"mode\":\"sql-7f\",\"x\":\"model\",\"y\":\"sql-7f\"}", NULL},
    {MODEL_RENAME_JSON, "{\"model\":[\"sql-7f\"],\"model\":{\"model\":\"sql-7f\"},\"model\":null}", NULL},
    {MODEL_RENAME_JSON, "[\"model\",\"sql-7f\",{\"model\":\"sql-7f\"}]", NULL},
    {MODEL_RENAME_JSON, "\"sql-7f\"", NULL},
    {MODEL_RENAME_JSON, "{\"model\":\"sql-7", NULL}, /* cut */
    {MODEL_RENAME_JSON, "{\"model\":\"sql-7f\\\"}", NULL},
    {MODEL_RENAME_JSON, "not JSON }}]] \"model\":\"sql-7f\"", NULL},
    {MODEL_RENAME_JSON, "[{\"model\":\"sql-7f\"},\"model\",\"sql-7f\"]", NULL},
    /* The events of /v1/responses have the answer in "response". */
    {MODEL_RENAME_EVENTS,
     "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"r\",\"tools\":[{\"model\":\"sql-7f\"}],"
     "\"model\":\"sql-7f\",\"x\":{\"model\":\"sql-7f\"}},\"model\":\"sql-7f\",\"sequence_number\":0}\n\n",
     "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"r\",\"tools\":[{\"model\":\"sql-7f\"}],"
     "\"model\":\"sql\",\"x\":{\"model\":\"sql-7f\"}},\"model\":\"sql\",\"sequence_number\":0}\n\n"},
    {MODEL_RENAME_JSON, "{\"response\":[{\"model\":\"sql-7f\"}],\"x\":{\"response\":{\"model\":\"sql-7f\"}},\"model\":\"sql-7f\"}",
     "{\"response\":[{\"model\":\"sql-7f\"}],\"x\":{\"response\":{\"model\":\"sql-7f\"}},\"model\":\"sql\"}"},
    {MODEL_RENAME_JSON, "{\"response\":\"x\",\"a\":{\"model\":\"sql-7f\"},\"responses\":{\"model\":\"sql-7f\"}}", NULL},
    {MODEL_RENAME_JSON, "{\"response\":{\"response\":{\"model\":\"sql-7f\"},\"model\":null},\"a\":{\"model\":\"sql-7f\"}}", NULL},
    {MODEL_RENAME_JSON, "{\"model\":{\"x\":1},\"response\":{\"a\":\"sql-7f\"},\"b\":[\"sql-7f\"]}", NULL},
    {MODEL_RENAME_EVENTS, "data: {\"response\":{\"x\":{\n\ndata: {\"a\":{\"model\":\"sql-7f\"},\"model\":\"sql-7f\"}\n\n",
     "data: {\"response\":{\"x\":{\n\ndata: {\"a\":{\"model\":\"sql-7f\"},\"model\":\"sql\"}\n\n"},
    {MODEL_RENAME_EVENTS, "data: {\"model\":\"sql-7f\"}\n\ndata: {\"a\":[\"model\"],\"model\":\"sql-7f\"}\r\n\r\ndata:[DONE]\n\n",
     "data: {\"model\":\"sql\"}\n\ndata: {\"a\":[\"model\"],\"model\":\"sql\"}\r\n\r\ndata:[DONE]\n\n"},
    {MODEL_RENAME_EVENTS, ": {\"model\":\"sql-7f\"}\nevent: {\"model\":\"sql-7f\"}\ndat: {\"model\":\"sql-7f\"}\n\n", NULL},
    /* JSON over several lines of data; an event that was broken does not reach into the next. */
    {MODEL_RENAME_EVENTS, "data: {\ndata: \"model\":\nid: 7\ndata: \"sql-7f\"}\n\n",
     "data: {\ndata: \"model\":\nid: 7\ndata: \"sql\"}\n\n"},
    {MODEL_RENAME_EVENTS, "data: {\"x\":{\"y\n\ndata: {\"model\":\"sql-7f\"}\n\n",
     "data: {\"x\":{\"y\n\ndata: {\"model\":\"sql\"}\n\n"},
    {MODEL_RENAME_EVENTS, "data: {\"model\":\"sql-\n\ndata: {\"model\":\"sql-7f\"}\n\n",
     "data: {\"model\":\"sql-\n\ndata: {\"model\":\"sql\"}\n\n"},
    {MODEL_RENAME_EVENTS, "data: {\"model\":\"sql-7f\"}", "data: {\"model\":\"sql\"}"},
};

static void check(const struct row *row, unsigned piece_max) {
    struct model_rename rename;
    struct buffer out = BUFFER_INIT;
    size_t len = strlen(row->text);
    model_rename_init(&rename, row->form, "sql-7f", "sql");
    for (size_t at = 0; at < len;) {
        size_t piece = 1 + pick(piece_max);
        piece = piece < len - at ? piece : len - at;
        model_rename_push(&rename, row->text + at, piece, &out);
        at += piece;
    }
    model_rename_finish(&rename, &out);
    assert_string_equal(buffer_text(&out), row->expected != NULL ? row->expected : row->text);
    model_rename_release(&rename);
    buffer_release(&out);
}

static void test_any_cut(void **state) {
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        check(&rows[i], 1);
        for (int round = 0; round < 500; round++) {
            check(&rows[i], 1 + pick(40));
        }
    }
}

static void test_a_name_that_needs_escapes(void **state) {
    (void)state;
    struct model_rename rename;
    struct buffer out = BUFFER_INIT;
    static const char text[] = "{\"model\":\"a\\\"b\"}";
    model_rename_init(&rename, MODEL_RENAME_JSON, "a\"b", "c\\d");
    model_rename_push(&rename, text, sizeof(text) - 1, &out);
    assert_string_equal(buffer_text(&out), "{\"model\":\"c\\\\d\"}");
    model_rename_release(&rename);
    buffer_release(&out);
}

static void test_everything_else_passes_at_once(void **state) {
    (void)state;
    static char piece[64 * 1024];
    static const char begin[] = "{\"x\":\"";
    struct model_rename rename;
    struct buffer out = BUFFER_INIT;
    memset(piece, 'a', sizeof(piece));
    model_rename_init(&rename, MODEL_RENAME_JSON, "sql-7f", "sql");
    model_rename_push(&rename, begin, sizeof(begin) - 1, &out);
    model_rename_push(&rename, piece, sizeof(piece), &out);
    assert_int_equal(out.len, sizeof(begin) - 1 + sizeof(piece));
    /* Also a model that never ends is not collected. */
    static const char model[] = "\",\"model\":\"";
    model_rename_push(&rename, model, sizeof(model) - 1, &out);
    for (int i = 0; i < 4; i++) {
        model_rename_push(&rename, piece, sizeof(piece), &out);
        assert_true(rename.held.len < MODEL_RENAME_HELD_BYTES_MAX);
    }
    assert_int_equal(out.len, sizeof(begin) - 1 + sizeof(model) - 1 + 5 * sizeof(piece));
    model_rename_release(&rename);
    buffer_release(&out);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_any_cut),
        cmocka_unit_test(test_a_name_that_needs_escapes),
        cmocka_unit_test(test_everything_else_passes_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
