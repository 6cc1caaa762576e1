/* The tokenizer against Hugging Face's, on every golden. */
#include "engine_support.h"

#include "base/clock.h"
#include "engine/format/gguf.h"
#include "engine/tokenizer/split.h"
#include "engine/tokenizer/tokenizer.h"

#define ANY_NUMBER ((size_t)1 << 24)

struct fixture {
    struct gguf *gguf;
    struct tokenizer *tokenizer;
};

static void fixture_init(struct fixture *fixture, const char *path) {
    struct error err = {0};
    if (gguf_open(path, &fixture->gguf, &err) < 0 || tokenizer_new(fixture->gguf, &fixture->tokenizer, &err) < 0) {
        fail_msg("%s", err.message);
    }
}

static void fixture_release(struct fixture *fixture) {
    tokenizer_free(fixture->tokenizer);
    gguf_free(fixture->gguf);
}

/* What is no UTF-8 becomes U+FFFD, one for each longest beginning of a character, as Python's errors="replace" does. */
static void replace_invalid(const struct buffer *text, struct buffer *out) {
    for (size_t at = 0; at < text->len;) {
        int len = utf8_sequence_len(text->data + at, text->len - at);
        size_t skipped = 1;
        if (len > 0) {
            buffer_append(out, text->data + at, (size_t)len);
            at += (size_t)len;
            continue;
        }
        while (at + skipped < text->len && utf8_sequence_len(text->data + at, skipped + 1) < 0) {
            skipped++;
        }
        buffer_append_text(out, "\xef\xbf\xbd");
        at += skipped;
    }
}

static void assert_decodes(const struct tokenizer *tokenizer, const int *ids, size_t count, bool skip_special,
                           const json_t *expected) {
    cleanup_buffer struct buffer text = BUFFER_INIT;
    for (size_t i = 0; i < count; i++) {
        tokenizer_decode_append(tokenizer, ids[i], skip_special, &text);
    }
    cleanup_buffer struct buffer shown = BUFFER_INIT;
    replace_invalid(&text, &shown);
    assert_int_equal(shown.len, json_string_length(expected));
    assert_memory_equal(buffer_text(&shown), json_string_value(expected), shown.len);
}

static void check_case(const struct tokenizer *tokenizer, const json_t *item) {
    const json_t *text = json_object_get(item, "text");
    size_t count = 0;
    cleanup_free int *expected = int_array(json_object_get(item, "ids"), &count);
    struct token_list found = {0};
    struct error err = {0};
    assert_int_equal(tokenizer_encode(tokenizer, json_string_value(text), json_string_length(text), true, ANY_NUMBER, &found, &err),
                     0);
    if (found.count != count || (count > 0 && memcmp(found.ids, expected, count * sizeof(*expected)) != 0)) {
        fail_msg("\"%s\": other tokens than Hugging Face's", json_string_value(text));
    }
    assert_decodes(tokenizer, found.ids, found.count, false, json_object_get(item, "decoded"));
    assert_decodes(tokenizer, found.ids, found.count, true, json_object_get(item, "decoded_skip_special"));
    token_list_release(&found);
}

static void check_chat(const json_t *item) {
    const json_t *list = json_object_get(item, "messages");
    struct chat_message messages[64];
    cleanup_buffer struct buffer text = BUFFER_INIT;
    assert_true(json_array_size(list) <= ARRAY_LEN(messages));
    for (size_t i = 0; i < json_array_size(list); i++) {
        messages[i].role = json_string_value(json_object_get(json_array_get(list, i), "role"));
        messages[i].content = json_string_value(json_object_get(json_array_get(list, i), "content"));
        messages[i].content_len = json_string_length(json_object_get(json_array_get(list, i), "content"));
    }
    tokenizer_render_chat(messages, json_array_size(list), json_is_true(json_object_get(item, "add_generation_prompt")), &text);
    assert_string_equal(buffer_text(&text), json_string_value(json_object_get(item, "rendered")));
}

static void test_goldens(void **state) {
    const char *path = real_model_path();
    (void)state;
    if (path == NULL) {
        skip();
    }
    cleanup_json json_t *root = load_json("tests/goldens/tokenizer.json");
    struct fixture fixture;
    fixture_init(&fixture, path);
    const json_t *cases = json_object_get(root, "cases");
    const json_t *decodes = json_object_get(root, "decode");
    for (size_t i = 0; i < json_array_size(cases); i++) {
        check_case(fixture.tokenizer, json_array_get(cases, i));
    }
    for (size_t i = 0; i < json_array_size(decodes); i++) {
        size_t count = 0;
        cleanup_free int *ids = int_array(json_object_get(json_array_get(decodes, i), "ids"), &count);
        assert_decodes(fixture.tokenizer, ids, count, false, json_object_get(json_array_get(decodes, i), "text"));
    }
    assert_int_equal(tokenizer_vocab_size(fixture.tokenizer), 49152);
    assert_int_equal(tokenizer_bos(fixture.tokenizer), 1);
    assert_int_equal(tokenizer_eos(fixture.tokenizer), 2);
    assert_false(tokenizer_adds_bos(fixture.tokenizer));
    fixture_release(&fixture);
}

static void test_chats(void **state) {
    cleanup_json json_t *root = load_json("tests/goldens/tokenizer.json");
    const json_t *chats = json_object_get(root, "chats");
    (void)state;
    assert_true(json_array_size(chats) > 0);
    for (size_t i = 0; i < json_array_size(chats); i++) {
        check_chat(json_array_get(chats, i));
    }
}

static void tiny_init(struct fixture *fixture) {
    cleanup_free char *path = source_path("tests/fixtures/tiny/model.gguf");
    fixture_init(fixture, path);
}

static void test_limit(void **state) {
    struct fixture fixture;
    struct token_list found = {0};
    struct error err = {0};
    (void)state;
    tiny_init(&fixture);
    assert_int_equal(tokenizer_encode(fixture.tokenizer, "1 2 3 4", 7, true, ANY_NUMBER, &found, &err), 0);
    size_t count = found.count;
    found.count = 0;
    assert_int_equal(tokenizer_encode(fixture.tokenizer, "1 2 3 4", 7, true, count, &found, &err), 0);
    found.count = 0;
    assert_true(tokenizer_encode(fixture.tokenizer, "1 2 3 4", 7, true, count - 1, &found, &err) < 0);
    assert_int_equal(err.code, ERROR_LIMIT);
    token_list_release(&found);
    fixture_release(&fixture);
}

/* Text that cannot fit is refused before it is merged, and nothing that fits is: the estimate never exceeds what comes of it. */
static void test_limit_before_work(void **state) {
    static const char *const patterns[] = {" ", "a", "=", "the ", "<|im_start|>", "\xff", "1<", "\xc3\xa9", "\n\n"};
    const size_t len = (size_t)8 << 20;
    cleanup_free char *text = xmalloc(len);
    struct fixture fixture;
    (void)state;
    tiny_init(&fixture);
    for (size_t i = 0; i < ARRAY_LEN(patterns); i++) {
        size_t pattern_len = strlen(patterns[i]);
        size_t short_len = 3000 / pattern_len * pattern_len;
        struct token_list found = {0};
        struct error err = {0};
        for (size_t at = 0; at < len; at++) {
            text[at] = patterns[i][at % pattern_len];
        }
        int64_t began_ns = clock_now_ns();
        assert_true(tokenizer_encode(fixture.tokenizer, text, len, true, 1000, &found, &err) < 0);
        assert_int_equal(err.code, ERROR_LIMIT);
        assert_true(found.capacity < 10000);
        assert_true(clock_now_ns() - began_ns < 500 * 1000000LL); /* a pass over the text; merging takes seconds */
        found.count = 0;
        assert_int_equal(tokenizer_encode(fixture.tokenizer, text, short_len, true, ANY_NUMBER, &found, &err), 0);
        size_t count = found.count;
        found.count = 0;
        assert_int_equal(tokenizer_encode(fixture.tokenizer, text, short_len, true, count, &found, &err), 0);
        token_list_release(&found);
    }
    fixture_release(&fixture);
}

/* Text is what special tokens look like only where they are asked for. */
static void test_special_text(void **state) {
    static const char text[] = "<|im_start|>";
    struct fixture fixture;
    struct token_list parsed = {0};
    struct token_list plain = {0};
    struct error err = {0};
    (void)state;
    tiny_init(&fixture);
    assert_int_equal(tokenizer_encode(fixture.tokenizer, text, strlen(text), true, ANY_NUMBER, &parsed, &err), 0);
    assert_int_equal(tokenizer_encode(fixture.tokenizer, text, strlen(text), false, ANY_NUMBER, &plain, &err), 0);
    assert_int_equal(parsed.count, 1);
    assert_int_equal(parsed.ids[0], tokenizer_bos(fixture.tokenizer));
    assert_true(plain.count > 1);
    token_list_release(&parsed);
    token_list_release(&plain);
    fixture_release(&fixture);
}

/* A megabyte of one piece, of white space, of special beginnings and of bytes that are no text takes a bounded time. */
static void test_hostile_text(void **state) {
    static const char *const patterns[] = {"a", "ab", " ", "\n ", "<", "<|im_", "\xff", "\xe2\x82", "the", "!", "'", "1"};
    const size_t len = (size_t)1 << 20;
    cleanup_free char *text = xmalloc(len);
    struct fixture fixture;
    (void)state;
    tiny_init(&fixture);
    int64_t began_ms = clock_now_ms();
    for (size_t i = 0; i < ARRAY_LEN(patterns); i++) {
        size_t pattern_len = strlen(patterns[i]);
        struct token_list found = {0};
        struct error err = {0};
        for (size_t at = 0; at < len; at++) {
            text[at] = patterns[i][at % pattern_len];
        }
        assert_int_equal(tokenizer_encode(fixture.tokenizer, text, len, true, ANY_NUMBER, &found, &err), 0);
        token_list_release(&found);
    }
    assert_true(clock_now_ms() - began_ms < 60000); /* quadratic work would take hours */
    fixture_release(&fixture);
}

static void test_complete_utf8(void **state) {
    static const struct {
        const char *text;
        size_t complete;
    } cases[] = {
        {"", 0},
        {"abc", 3},
        {"a\xc3", 1},
        {"a\xc3\xa9", 3},
        {"\xf0\x9f\x98", 0},
        {"\xf0\x9f\x98\x80", 4},
        {"\xff", 1},
        {"\xe0\x80", 2},
        {"\xed\xa0\x80", 3},
        {"\xf4\x90", 2},
        {"x\xe2\x82", 1},
        {"\xc0\xaf", 2},
        {"\xf5\x80\x80", 3},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        assert_int_equal(tokenizer_complete_utf8(cases[i].text, strlen(cases[i].text)), cases[i].complete);
    }
}

static void test_unknown_rule(void **state) {
    struct split *split = NULL;
    struct error err = {0};
    (void)state;
    assert_true(split_new("other", 5, &split, &err) < 0);
    assert_int_equal(err.code, ERROR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "\"other\""));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_goldens),           cmocka_unit_test(test_chats),        cmocka_unit_test(test_limit),
        cmocka_unit_test(test_limit_before_work), cmocka_unit_test(test_special_text), cmocka_unit_test(test_hostile_text),
        cmocka_unit_test(test_complete_utf8),     cmocka_unit_test(test_unknown_rule),
    };
    return cmocka_run_group_tests_name("tokenizer", tests, NULL, NULL);
}
