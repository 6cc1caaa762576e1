#include "cli/check_base.h"

#include "base/file.h"
#include "engine/format/gguf.h"
#include "engine/model/config.h"

#include <sys/stat.h>

#define CONFIG_BYTES_MAX (4u << 20)

void check_base_release(struct check_base *base) {
    free(base->architecture);
    free(base->refusal);
    *base = (struct check_base){0};
}

/* ---- GGUF ---- */

static size_t gguf_size(const struct gguf *gguf, const char *architecture, const char *key, size_t fallback) {
    cleanup_free char *full = xasprintf("%s.%s", architecture, key);
    uint64_t value = 0;
    return gguf_get_uint(gguf, full, UINT32_MAX, &value, NULL) == 0 ? (size_t)value : fallback;
}

static int read_gguf(const char *path, struct check_base *base, struct error *err) {
    struct gguf *gguf = NULL;
    struct gguf_string name;
    struct gguf_array tokens = {0};
    struct model_config config;
    struct error refusal = {0};
    if (gguf_open(path, &gguf, err) < 0) {
        return -1;
    }
    if (gguf_get_string(gguf, "general.architecture", &name, err) < 0) {
        gguf_free(gguf);
        return error_wrap(err, "%s", path);
    }
    base->format = "GGUF";
    base->architecture = xstrndup(name.bytes, name.len < 64 ? name.len : 64);
    size_t heads = gguf_size(gguf, base->architecture, "attention.head_count", 0);
    size_t hidden = gguf_size(gguf, base->architecture, "embedding_length", 0);
    size_t head_size = gguf_size(gguf, base->architecture, "attention.key_length", heads > 0 ? hidden / heads : 0);
    bool has_tokens = gguf_get_array(gguf, "tokenizer.ggml.tokens", GGUF_STRING, &tokens, NULL) == 0;
    base->shape = (struct base_shape){
        .layers = gguf_size(gguf, base->architecture, "block_count", 0),
        .hidden = hidden,
        .inner = gguf_size(gguf, base->architecture, "feed_forward_length", 0),
        .attention = heads * head_size,
        .key_value = gguf_size(gguf, base->architecture, "attention.head_count_kv", heads) * head_size,
        .vocab = has_tokens ? tokens.count : 0,
    };
    if (model_config_read(gguf, &config, &refusal) < 0) {
        base->refusal = xstrdup(refusal.message);
    }
    gguf_free(gguf);
    return 0;
}

/* ---- Hugging Face ---- */

static size_t json_size(const json_t *config, const char *key, size_t fallback) {
    int64_t value = json_int_at(config, key, 0);
    return value > 0 && value <= UINT32_MAX ? (size_t)value : fallback;
}

static int read_folder(const char *path, struct check_base *base, struct error *err) {
    cleanup_free char *file = path_join(path, "config.json");
    cleanup_buffer struct buffer text = BUFFER_INIT;
    if (file_read(file, CONFIG_BYTES_MAX, &text, err) < 0) {
        return -1;
    }
    cleanup_json json_t *config = json_parse(buffer_text(&text), text.len, err);
    if (config == NULL) {
        return error_wrap(err, "%s", file);
    }
    size_t heads = json_size(config, "num_attention_heads", 0);
    size_t hidden = json_size(config, "hidden_size", 0);
    size_t head_size = json_size(config, "head_dim", heads > 0 ? hidden / heads : 0);
    if (hidden == 0 || heads == 0) {
        return error_set(err, ERROR_INVALID, "%s: expected the numbers hidden_size and num_attention_heads", file);
    }
    base->format = "Hugging Face";
    base->architecture = xstrdup(json_string_at(config, "model_type", "unknown"));
    base->refusal = xstrdup("the base model is a folder; davit engine reads GGUF files");
    base->shape = (struct base_shape){
        .layers = json_size(config, "num_hidden_layers", 0),
        .hidden = hidden,
        .inner = json_size(config, "intermediate_size", 0),
        .attention = heads * head_size,
        .key_value = json_size(config, "num_key_value_heads", heads) * head_size,
        .vocab = json_size(config, "vocab_size", 0),
    };
    return 0;
}

int check_base_read(const char *path, struct check_base *ret_base, struct error *err) {
    struct stat status;
    struct check_base base = {0};
    if (stat(path, &status) < 0) {
        return error_set_errno(err, "%s", path);
    }
    if ((S_ISDIR(status.st_mode) ? read_folder(path, &base, err) : read_gguf(path, &base, err)) < 0) {
        check_base_release(&base);
        return -1;
    }
    *ret_base = base;
    return 0;
}
