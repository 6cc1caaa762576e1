/* Server-sent events pass whole, however they are cut on the way. */
#include "gateway/sse_gate.h"

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

static bool ends_with_blank_line(const struct buffer *text) {
    return (text->len >= 2 && memcmp(text->data + text->len - 2, "\n\n", 2) == 0) ||
           (text->len >= 3 && memcmp(text->data + text->len - 3, "\n\r\n", 3) == 0);
}

static void test_any_cut(void **state) {
    (void)state;
    static const char text[] =
        "data: one\n\n: note\n\ndata: two\r\n\r\nevent: x\ndata: a\ndata: b\n\n\n\r\n\r\ndata: [DONE]\n\ndata: half";
    static const size_t whole = sizeof(text) - 1 - 10;
    for (int round = 0; round < 20000; round++) {
        struct sse_gate gate = {.held = BUFFER_INIT};
        struct buffer out = BUFFER_INIT;
        for (size_t at = 0; at < sizeof(text) - 1;) {
            size_t len = 1 + pick(12);
            len = len < sizeof(text) - 1 - at ? len : sizeof(text) - 1 - at;
            size_t before = out.len;
            sse_gate_push(&gate, text + at, len, &out);
            assert_true(out.len == before || ends_with_blank_line(&out));
            at += len;
        }
        assert_int_equal(out.len, whole);
        assert_memory_equal(out.data, text, whole);
        sse_gate_finish(&gate, &out);
        assert_string_equal(out.data, text);
        sse_gate_release(&gate);
        buffer_release(&out);
    }
}

static void test_an_endless_event_is_let_through(void **state) {
    (void)state;
    static char piece[64 * 1024];
    memset(piece, 'a', sizeof(piece));
    struct sse_gate gate = {.held = BUFFER_INIT};
    struct buffer out = BUFFER_INIT;
    for (int i = 0; i < 100; i++) {
        sse_gate_push(&gate, piece, sizeof(piece), &out);
        assert_true(gate.held.len <= SSE_GATE_HELD_BYTES_MAX);
    }
    sse_gate_finish(&gate, &out);
    assert_int_equal(out.len, 100 * sizeof(piece));
    sse_gate_release(&gate);
    buffer_release(&out);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_any_cut), cmocka_unit_test(test_an_endless_event_is_let_through)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
