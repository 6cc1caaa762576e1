/* libFuzzer target: GGUF files, and what is read from their metadata. Whatever is accepted lies within the bytes. */
#include "engine/format/gguf.h"
#include "engine/format/tensor_type.h"
#include "engine/model/config.h"
#include "engine/tokenizer/tokenizer.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_within(const void *part, size_t len, const uint8_t *data, size_t size) {
    const uint8_t *at = part;
    if (at < data || at > data + size || len > (size_t)(data + size - at)) {
        abort();
    }
}

static void check_tensors(const struct gguf *gguf, const uint8_t *data, size_t size) {
    for (size_t i = 0; i < gguf_tensor_count(gguf); i++) {
        const struct gguf_tensor *tensor = gguf_tensor_at(gguf, i);
        check_within(tensor->data, tensor->bytes, data, size);
        if (gguf_tensor(gguf, tensor->name) != tensor || tensor_type_info(tensor->type) == NULL) {
            abort();
        }
        size_t rows = (size_t)(tensor->shape[1] * tensor->shape[2] * tensor->shape[3]);
        if (tensor_type_row_bytes(tensor->type, (size_t)tensor->shape[0]) * rows != tensor->bytes) {
            abort();
        }
    }
}

static void check_strings(const struct gguf *gguf, const char *key, const uint8_t *data, size_t size) {
    struct gguf_array array;
    struct error err;
    if (gguf_get_array(gguf, key, GGUF_STRING, &array, &err) == 0) {
        while (array.count > 0) {
            struct gguf_string string = gguf_array_next_string(&array);
            check_within(string.bytes, string.len, data, size);
        }
    }
}

/* Ids and bytes that a tokenizer of any vocabulary gives for some text. */
static void check_tokenizer(const struct tokenizer *tokenizer) {
    static const char text[] = "<|im_start|>The cat's 12 \xc3\xa9\n\n\xff";
    struct token_list found = {0};
    cleanup_buffer struct buffer decoded = BUFFER_INIT;
    struct error err;
    if (tokenizer_encode(tokenizer, text, strlen(text), true, strlen(text), &found, &err) < 0) {
        abort(); /* there are never more tokens than bytes */
    }
    for (size_t i = 0; i < found.count; i++) {
        if (found.ids[i] < 0 || found.ids[i] >= tokenizer_vocab_size(tokenizer)) {
            abort();
        }
        tokenizer_decode_append(tokenizer, found.ids[i], false, &decoded);
    }
    token_list_release(&found);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct gguf *gguf = NULL;
    struct tokenizer *tokenizer = NULL;
    struct model_config config;
    struct error err = {0};
    if (gguf_parse(data, size, &gguf, &err) < 0) {
        if (err.message[0] == '\0') {
            abort(); /* a refusal says why */
        }
        return 0;
    }
    check_tensors(gguf, data, size);
    check_strings(gguf, "tokenizer.ggml.tokens", data, size);
    check_strings(gguf, "tokenizer.ggml.merges", data, size);
    if (model_config_read(gguf, &config, &err) == 0 && (config.heads % config.kv_heads != 0 || config.head_size == 0)) {
        abort();
    }
    if (tokenizer_new(gguf, &tokenizer, &err) == 0) {
        check_tokenizer(tokenizer);
        tokenizer_free(tokenizer);
    }
    gguf_free(gguf);
    return 0;
}
