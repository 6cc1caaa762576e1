/* libFuzzer target: text to tokens on the vocabulary of the tiny model, which has all bytes: what is decoded is what was encoded.
 * The first byte says whether special tokens are looked for. */
#include "base/file.h"
#include "engine/format/gguf.h"
#include "engine/tokenizer/split.h"
#include "engine/tokenizer/tokenizer.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Loaded once; the repository's root is DAVIT_SOURCE_DIR or the working directory. */
static const struct tokenizer *tiny_tokenizer(void) {
    static struct gguf *gguf;
    static struct tokenizer *tokenizer;
    const char *root = getenv("DAVIT_SOURCE_DIR");
    cleanup_free char *path = path_join(root != NULL ? root : ".", "tests/fixtures/tiny/model.gguf");
    struct error err;
    if (tokenizer == NULL && (gguf_open(path, &gguf, &err) < 0 || tokenizer_new(gguf, &tokenizer, &err) < 0)) {
        (void)fprintf(stderr, "%s (run it in the repository's root)\n", err.message);
        exit(1);
    }
    return tokenizer;
}

static void check_encoding(const struct tokenizer *tokenizer, const char *text, size_t len, bool parse_special) {
    struct token_list found = {0};
    struct token_list limited = {0};
    cleanup_buffer struct buffer decoded = BUFFER_INIT;
    struct error err = {0};
    if (tokenizer_encode(tokenizer, text, len, parse_special, len, &found, &err) < 0) {
        abort(); /* there are never more tokens than bytes */
    }
    for (size_t i = 0; i < found.count; i++) {
        tokenizer_decode_append(tokenizer, found.ids[i], false, &decoded);
    }
    if (decoded.len != len || memcmp(buffer_text(&decoded), text, len) != 0) {
        abort();
    }
    if (found.count > 0 &&
        (tokenizer_encode(tokenizer, text, len, parse_special, found.count - 1, &limited, &err) >= 0 || err.code != ERROR_LIMIT)) {
        abort();
    }
    token_list_release(&found);
    token_list_release(&limited);
}

/* What is complete stays so with more bytes, and at most three bytes wait. */
static void check_utf8(const char *text, size_t len) {
    size_t complete = tokenizer_complete_utf8(text, len);
    if (complete > len || len - complete > 3 || (complete < len && utf8_sequence_len(text + complete, len - complete) >= 0)) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size > 0) {
        check_encoding(tiny_tokenizer(), (const char *)data + 1, size - 1, data[0] % 2 == 1);
        check_utf8((const char *)data + 1, size - 1);
    }
    return 0;
}
