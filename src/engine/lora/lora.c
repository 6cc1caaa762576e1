#include "engine/lora/lora.h"

#include "adapter/peft.h"
#include "adapter/safetensors.h"
#include "base/file.h"
#include "engine/kernels/float16.h"

#include <inttypes.h>
#include <string.h>

#define PAD_FLOATS 16 /* every matrix begins on a cache line */

/* Everything about one load. */
struct load {
    const struct model *model;
    const char *path;
    struct error *err;
    struct peft_config config;
    struct buffer weights_file;
    struct safetensors header;
    const char *data; /* of the tensors */
    struct lora_adapter *adapter;
    const struct safetensors_tensor **stored; /* by slot: pair * 2 + is_b */
};

static size_t pair_count(const struct load *load) {
    return load->model->config.layers * PROJECTION_COUNT;
}

/* ---- files ---- */

static int read_config(struct load *load, int max_rank, struct hash *ret_hash) {
    cleanup_free char *path = path_join(load->path, PEFT_CONFIG_FILE);
    cleanup_buffer struct buffer text = BUFFER_INIT;
    struct error cause = {0};
    if (file_read(path, PEFT_CONFIG_BYTES_MAX, &text, &cause) < 0) {
        if (cause.code == ERROR_NOT_FOUND) {
            return error_set(load->err, ERROR_NOT_FOUND, "No adapter found for %s", load->path);
        }
        return error_set(load->err, cause.code, "%s", cause.message);
    }
    *ret_hash = hash_bytes(text.data, text.len);
    return peft_config_parse(text.data, text.len, max_rank, &load->config, load->err);
}

/* No adapter for this model can be larger: every projection at that rank in F32, and the longest header. */
static size_t weights_limit(const struct load *load) {
    size_t floats = 0;
    for (enum projection projection = PROJECTION_Q; projection < PROJECTION_COUNT; projection++) {
        floats += model_rows(&load->model->config, projection) + model_columns(&load->model->config, projection);
    }
    return floats * load->model->config.layers * (size_t)load->config.rank * sizeof(float) + SAFETENSORS_HEADER_BYTES_MAX;
}

static int read_weights(struct load *load, struct hash *ret_hash) {
    cleanup_free char *path = path_join(load->path, PEFT_WEIGHTS_FILE);
    struct error cause = {0};
    size_t header_len = 0;
    if (file_read(path, weights_limit(load), &load->weights_file, &cause) < 0) {
        if (cause.code == ERROR_NOT_FOUND) {
            return error_set(load->err, ERROR_INVALID, "%s doesn't contain tensors", load->path);
        }
        return error_set(load->err, cause.code, "%s", cause.message);
    }
    *ret_hash = hash_bytes(load->weights_file.data, load->weights_file.len);
    size_t len = load->weights_file.len;
    if (safetensors_header_len(load->weights_file.data, len, len, &header_len, load->err) < 0) {
        return error_wrap(load->err, "%s", path);
    }
    const char *header = load->weights_file.data + SAFETENSORS_PREFIX_BYTES;
    load->data = header + header_len;
    if (safetensors_parse(header, header_len, len - SAFETENSORS_PREFIX_BYTES - header_len, &load->header, load->err) < 0) {
        return error_wrap(load->err, "%s", path);
    }
    if (load->header.count == 0) {
        return error_set(load->err, ERROR_INVALID, "%s doesn't contain tensors", load->path);
    }
    return 0;
}

/* ---- tensors ---- */

static int refuse_module(const struct load *load, const char *module) {
    return error_set(load->err, ERROR_UNSUPPORTED,
                     "While loading %s, expected target modules in {'q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', "
                     "'up_proj', 'down_proj'} but "
                     "received ['%s']. Please verify that the loaded LoRA module is correct",
                     load->path, module);
}

/* Lora_A is [rank, in], lora_B [out, rank]. */
static int check_shape(const struct load *load, const struct safetensors_tensor *tensor, enum projection projection, bool is_b) {
    uint64_t rank = (uint64_t)load->config.rank;
    uint64_t rows = is_b ? model_rows(&load->model->config, projection) : rank;
    uint64_t columns = is_b ? rank : model_columns(&load->model->config, projection);
    char found[128];
    if (tensor->type == SAFETENSORS_OTHER) {
        return error_set(load->err, ERROR_UNSUPPORTED, "tensor \"%s\" is %s; F32, F16 and BF16 are supported", tensor->name,
                         tensor->type_name);
    }
    if (tensor->dimensions != 2 || tensor->shape[0] != rows || tensor->shape[1] != columns) {
        safetensors_format_shape(tensor, found, sizeof(found));
        return error_set(load->err, ERROR_INVALID, "tensor \"%s\": expected shape [%" PRIu64 ", %" PRIu64 "], found %s",
                         tensor->name, rows, columns, found);
    }
    return 0;
}

static int place_tensor(struct load *load, const struct safetensors_tensor *tensor) {
    struct peft_tensor name;
    if (peft_tensor_parse(tensor->name, &name, load->err) < 0) {
        return -1;
    }
    enum projection projection = model_projection_find(name.module);
    if (projection == PROJECTION_COUNT) {
        return refuse_module(load, name.module);
    }
    if ((size_t)name.layer >= load->model->config.layers) {
        return error_set(load->err, ERROR_INVALID, "tensor \"%s\": the base model has %zu layers", tensor->name,
                         load->model->config.layers);
    }
    const struct safetensors_tensor **slot = &load->stored[2 * ((size_t)name.layer * PROJECTION_COUNT + projection) + name.is_b];
    if (*slot != NULL) {
        return error_set(load->err, ERROR_INVALID, "tensors \"%s\" and \"%s\" are the same", (*slot)->name, tensor->name);
    }
    *slot = tensor;
    return check_shape(load, tensor, projection, name.is_b);
}

static int place_tensors(struct load *load) {
    load->stored = xcalloc(2 * pair_count(load), sizeof(*load->stored));
    for (size_t i = 0; i < load->header.count; i++) {
        if (place_tensor(load, &load->header.tensors[i]) < 0) {
            return -1;
        }
    }
    for (size_t i = 0; i < pair_count(load); i++) {
        const struct safetensors_tensor *a = load->stored[2 * i];
        const struct safetensors_tensor *b = load->stored[2 * i + 1];
        if ((a == NULL) != (b == NULL)) {
            return error_set(load->err, ERROR_INVALID, "tensor \"%s\" has no lora_%c beside it", a != NULL ? a->name : b->name,
                             a != NULL ? 'B' : 'A');
        }
    }
    return 0;
}

/* ---- weights ---- */

static float element(const char *data, enum safetensors_type type, size_t at) {
    uint16_t half = 0;
    float value = 0;
    if (type == SAFETENSORS_F32) {
        memcpy(&value, data + at * sizeof(value), sizeof(value));
        return value;
    }
    memcpy(&half, data + at * sizeof(half), sizeof(half));
    return type == SAFETENSORS_F16 ? float_from_half(half) : float_from_bfloat16(half);
}

static int copy_a(const struct load *load, const struct safetensors_tensor *tensor, float *out) {
    size_t count = (size_t)(tensor->shape[0] * tensor->shape[1]);
    bool is_finite = true;
    for (size_t i = 0; i < count; i++) {
        out[i] = element(load->data + tensor->offset, tensor->type, i);
        is_finite &= __builtin_isfinite(out[i]) != 0;
    }
    return is_finite ? 0 : error_set(load->err, ERROR_INVALID, "tensor \"%s\" holds a value that is not finite", tensor->name);
}

static int copy_b(const struct load *load, const struct safetensors_tensor *tensor, float *out) {
    size_t rows = (size_t)tensor->shape[0];
    size_t rank = (size_t)tensor->shape[1];
    bool is_finite = true;
    for (size_t row = 0; row < rows; row++) {
        for (size_t i = 0; i < rank; i++) {
            float value = element(load->data + tensor->offset, tensor->type, row * rank + i) * (float)load->config.scaling;
            out[i * rows + row] = value;
            is_finite &= __builtin_isfinite(value) != 0;
        }
    }
    return is_finite ? 0 : error_set(load->err, ERROR_INVALID, "tensor \"%s\" holds a value that is not finite", tensor->name);
}

static size_t padded(size_t floats) {
    return (floats + PAD_FLOATS - 1) / PAD_FLOATS * PAD_FLOATS;
}

static int copy_pairs(struct load *load) {
    struct lora_adapter *adapter = load->adapter;
    size_t floats = 0;
    for (size_t i = 0; i < 2 * pair_count(load); i++) {
        const struct safetensors_tensor *tensor = load->stored[i];
        floats += tensor != NULL ? padded((size_t)(tensor->shape[0] * tensor->shape[1])) : 0;
    }
    float *at = adapter->weights = try_alloc(floats, sizeof(*at));
    if (at == NULL) {
        return error_set(load->err, ERROR_LIMIT, "no memory for %zu bytes of adapter weights", floats * sizeof(*at));
    }
    adapter->bytes = floats * sizeof(*at) + sizeof(*adapter) + pair_count(load) * sizeof(adapter->pairs[0]);
    for (size_t i = 0; i < pair_count(load); i++) {
        const struct safetensors_tensor *a = load->stored[2 * i];
        const struct safetensors_tensor *b = load->stored[2 * i + 1];
        if (a == NULL) {
            continue;
        }
        float *a_out = at;
        float *b_out = at + padded((size_t)(a->shape[0] * a->shape[1]));
        at = b_out + padded((size_t)(b->shape[0] * b->shape[1]));
        if (copy_a(load, a, a_out) < 0 || copy_b(load, b, b_out) < 0) {
            return -1;
        }
        adapter->pairs[i] = (struct lora_pair){.a = {.type = TENSOR_F32,
                                                     .rows = (size_t)a->shape[0],
                                                     .columns = (size_t)a->shape[1],
                                                     .row_bytes = (size_t)a->shape[1] * sizeof(float),
                                                     .data = a_out},
                                               .b = b_out};
    }
    return 0;
}

/* ---- the whole ---- */

static int load_all(struct load *load, int max_rank) {
    struct hash hashes[2];
    if (read_config(load, max_rank, &hashes[0]) < 0 || read_weights(load, &hashes[1]) < 0 || place_tensors(load) < 0) {
        return -1;
    }
    load->adapter = xcalloc(1, sizeof(*load->adapter) + pair_count(load) * sizeof(load->adapter->pairs[0]));
    atomic_init(&load->adapter->references, 1);
    load->adapter->rank = load->config.rank;
    load->adapter->content = hash_bytes(hashes, sizeof(hashes));
    return copy_pairs(load);
}

int lora_load(const struct model *model, const char *path, int max_rank, struct lora_adapter **ret_adapter, struct error *err) {
    struct load load = {.model = model, .path = path, .err = err, .weights_file = BUFFER_INIT};
    int result = load_all(&load, max_rank);
    peft_config_release(&load.config);
    safetensors_release(&load.header);
    buffer_release(&load.weights_file);
    free(load.stored);
    if (result < 0) {
        lora_unref(load.adapter);
        return -1;
    }
    *ret_adapter = load.adapter;
    return 0;
}

struct lora_adapter *lora_ref(struct lora_adapter *adapter) {
    atomic_fetch_add(&adapter->references, 1);
    return adapter;
}

void lora_unref(struct lora_adapter *adapter) {
    if (adapter != NULL && atomic_fetch_sub(&adapter->references, 1) == 1) {
        free(adapter->weights);
        free(adapter);
    }
}
