#include "engine/model/config.h"

#include <inttypes.h>
#include <string.h>

#define LAYERS_MAX 1024
#define FEATURES_MAX (1u << 20)
#define CONTEXT_MAX (1u << 20)
#define VOCAB_MAX (1u << 22)

static int check_architecture(const struct gguf *gguf, struct error *err) {
    struct gguf_string name;
    if (gguf_get_string(gguf, "general.architecture", &name, err) < 0) {
        return -1;
    }
    if (name.len != 5 || memcmp(name.bytes, "llama", 5) != 0) {
        return error_set(err, ERROR_UNSUPPORTED, "architecture \"%.*s\" is not supported; \"llama\" is",
                         name.len < 64 ? (int)name.len : 64, name.bytes);
    }
    return 0;
}

static int check_rope(const struct gguf *gguf, struct error *err) {
    struct gguf_string scaling;
    if (!gguf_has(gguf, "llama.rope.scaling.type")) {
        return 0;
    }
    if (gguf_get_string(gguf, "llama.rope.scaling.type", &scaling, err) < 0) {
        return -1;
    }
    if (scaling.len != 4 || memcmp(scaling.bytes, "none", 4) != 0) {
        return error_set(err, ERROR_UNSUPPORTED, "rope scaling \"%.*s\" (llama.rope.scaling.type) is not supported",
                         scaling.len < 64 ? (int)scaling.len : 64, scaling.bytes);
    }
    return 0;
}

/* A positive integer; a `fallback` of 0 means that the key is required. */
static int read_size(const struct gguf *gguf, const char *key, uint64_t maximum, size_t fallback, size_t *ret_value,
                     struct error *err) {
    uint64_t value = fallback;
    if ((fallback == 0 || gguf_has(gguf, key)) && gguf_get_uint(gguf, key, maximum, &value, err) < 0) {
        return -1;
    }
    if (value == 0) {
        return error_set(err, ERROR_INVALID, "metadata \"%s\" is 0", key);
    }
    *ret_value = (size_t)value;
    return 0;
}

static int read_sizes(const struct gguf *gguf, struct model_config *config, struct error *err) {
    const struct {
        const char *key;
        uint64_t maximum;
        size_t *target;
    } required[] = {
        {"llama.block_count", LAYERS_MAX, &config->layers},          {"llama.embedding_length", FEATURES_MAX, &config->hidden},
        {"llama.feed_forward_length", FEATURES_MAX, &config->inner}, {"llama.attention.head_count", FEATURES_MAX, &config->heads},
        {"llama.context_length", CONTEXT_MAX, &config->context},
    };
    for (size_t i = 0; i < ARRAY_LEN(required); i++) {
        if (read_size(gguf, required[i].key, required[i].maximum, 0, required[i].target, err) < 0) {
            return -1;
        }
    }
    return 0;
}

static int read_heads(const struct gguf *gguf, struct model_config *config, struct error *err) {
    size_t rotated = 0;
    size_t by_division = config->hidden / config->heads;
    if (read_size(gguf, "llama.attention.head_count_kv", FEATURES_MAX, config->heads, &config->kv_heads, err) < 0 ||
        read_size(gguf, "llama.attention.key_length", FEATURES_MAX, by_division, &config->head_size, err) < 0 ||
        read_size(gguf, "llama.rope.dimension_count", FEATURES_MAX, config->head_size, &rotated, err) < 0) {
        return -1;
    }
    if (config->heads % config->kv_heads != 0 || config->head_size % 2 != 0 || rotated != config->head_size) {
        return error_set(err, ERROR_UNSUPPORTED,
                         "%zu query heads, %zu key-value heads of %zu elements of which %zu rotate: heads must be a multiple of "
                         "key-value heads, and "
                         "all elements, an even number, must rotate",
                         config->heads, config->kv_heads, config->head_size, rotated);
    }
    if (config->heads * config->head_size > FEATURES_MAX) {
        return error_set(err, ERROR_LIMIT, "%zu heads of %zu elements are more than %u features", config->heads, config->head_size,
                         FEATURES_MAX);
    }
    return 0;
}

int model_config_read(const struct gguf *gguf, struct model_config *ret_config, struct error *err) {
    struct model_config config = {.rope_base = 10000};
    struct gguf_array tokens;
    double epsilon = 0;
    if (check_architecture(gguf, err) < 0 || check_rope(gguf, err) < 0 || read_sizes(gguf, &config, err) < 0 ||
        read_heads(gguf, &config, err) < 0 || gguf_get_float(gguf, "llama.attention.layer_norm_rms_epsilon", &epsilon, err) < 0 ||
        gguf_get_array(gguf, "tokenizer.ggml.tokens", GGUF_STRING, &tokens, err) < 0) {
        return -1;
    }
    if (gguf_has(gguf, "llama.rope.freq_base") && gguf_get_float(gguf, "llama.rope.freq_base", &config.rope_base, err) < 0) {
        return -1;
    }
    if (!(epsilon > 0) || !(config.rope_base > 1) || tokens.count == 0 || tokens.count > VOCAB_MAX) {
        return error_set(err, ERROR_INVALID, "norm epsilon %g, rope base %g and %zu tokens: out of range", epsilon,
                         config.rope_base, tokens.count);
    }
    config.norm_epsilon = (float)epsilon;
    config.vocab = tokens.count;
    *ret_config = config;
    return 0;
}
