#include "engine/model/model.h"

#include "engine/model/config.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* A width of a matrix, by the hyperparameters. */
enum width { WIDTH_HIDDEN, WIDTH_QUERY, WIDTH_KV, WIDTH_INNER };

static const struct {
    const char *gguf_name;
    const char *module; /* of Hugging Face */
    enum width rows;
    enum width columns;
} projection_table[PROJECTION_COUNT] = {
    [PROJECTION_Q] = {"attn_q", "self_attn.q_proj", WIDTH_QUERY, WIDTH_HIDDEN},
    [PROJECTION_K] = {"attn_k", "self_attn.k_proj", WIDTH_KV, WIDTH_HIDDEN},
    [PROJECTION_V] = {"attn_v", "self_attn.v_proj", WIDTH_KV, WIDTH_HIDDEN},
    [PROJECTION_O] = {"attn_output", "self_attn.o_proj", WIDTH_HIDDEN, WIDTH_QUERY},
    [PROJECTION_GATE] = {"ffn_gate", "mlp.gate_proj", WIDTH_INNER, WIDTH_HIDDEN},
    [PROJECTION_UP] = {"ffn_up", "mlp.up_proj", WIDTH_INNER, WIDTH_HIDDEN},
    [PROJECTION_DOWN] = {"ffn_down", "mlp.down_proj", WIDTH_HIDDEN, WIDTH_INNER},
};

static size_t width_of(const struct model_config *config, enum width width) {
    switch (width) {
    case WIDTH_HIDDEN:
        return config->hidden;
    case WIDTH_QUERY:
        return config->heads * config->head_size;
    case WIDTH_KV:
        return config->kv_heads * config->head_size;
    case WIDTH_INNER:
        return config->inner;
    }
    return 0;
}

size_t model_rows(const struct model_config *config, enum projection projection) {
    return width_of(config, projection_table[projection].rows);
}

size_t model_columns(const struct model_config *config, enum projection projection) {
    return width_of(config, projection_table[projection].columns);
}

enum projection model_projection_find(const char *module) {
    enum projection projection = PROJECTION_Q;
    while (projection < PROJECTION_COUNT && strcmp(projection_table[projection].module, module) != 0) {
        projection++;
    }
    return projection;
}

/* ---- tensors ---- */

struct loader {
    struct model *model;
    size_t used; /* tensors that the architecture names; the file has no others */
    struct error *err;
};

/* The tensor of that name and shape; rows 1 and one dimension for a vector. */
static const struct gguf_tensor *take_tensor(struct loader *loader, const char *name, unsigned dimensions, size_t columns,
                                             size_t rows) {
    const struct gguf_tensor *tensor = gguf_tensor(loader->model->gguf, name);
    if (tensor == NULL) {
        (void)error_set(loader->err, ERROR_INVALID, "tensor \"%s\" is missing", name);
        return NULL;
    }
    if (tensor->dimensions != dimensions || tensor->shape[0] != columns || tensor->shape[1] != rows) {
        (void)error_set(loader->err, ERROR_INVALID,
                        "tensor \"%s\": expected shape [%zu, %zu], found [%" PRIu64 ", %" PRIu64 "] of %u dimensions", name,
                        columns, rows, tensor->shape[0], tensor->shape[1], tensor->dimensions);
        return NULL;
    }
    if (!kernels_supports(tensor->type)) {
        (void)error_set(loader->err, ERROR_UNSUPPORTED, "tensor \"%s\" is %s; F32, Q4_1 and Q8_0 are supported", name,
                        tensor_type_info(tensor->type)->name);
        return NULL;
    }
    loader->used++;
    loader->model->weight_bytes += tensor->bytes;
    return tensor;
}

static int take_matrix(struct loader *loader, const char *name, size_t columns, size_t rows, struct matrix *ret_matrix) {
    const struct gguf_tensor *tensor = take_tensor(loader, name, 2, columns, rows);
    if (tensor == NULL) {
        return -1;
    }
    *ret_matrix = (struct matrix){.type = (enum tensor_type)tensor->type,
                                  .rows = rows,
                                  .columns = columns,
                                  .row_bytes = tensor_type_row_bytes(tensor->type, columns),
                                  .data = tensor->data};
    return 0;
}

static int take_norm(struct loader *loader, const char *name, float *out) {
    size_t hidden = loader->model->config.hidden;
    const struct gguf_tensor *tensor = take_tensor(loader, name, 1, hidden, 1);
    if (tensor == NULL) {
        return -1;
    }
    if (tensor->type != TENSOR_F32) {
        return error_set(loader->err, ERROR_UNSUPPORTED, "tensor \"%s\" is %s; norms are F32", name,
                         tensor_type_info(tensor->type)->name);
    }
    memcpy(out, tensor->data, hidden * sizeof(*out));
    return 0;
}

static int take_layer(struct loader *loader, size_t at) {
    struct model *model = loader->model;
    struct model_layer *layer = &model->layers[at];
    char name[64];
    layer->attention_norm = model->norms + (2 * at + 1) * model->config.hidden;
    layer->inner_norm = model->norms + (2 * at + 2) * model->config.hidden;
    for (enum projection projection = PROJECTION_Q; projection < PROJECTION_COUNT; projection++) {
        (void)snprintf(name, sizeof(name), "blk.%zu.%s.weight", at, projection_table[projection].gguf_name);
        if (take_matrix(loader, name, model_columns(&model->config, projection), model_rows(&model->config, projection),
                        &layer->projections[projection]) < 0) {
            return -1;
        }
    }
    (void)snprintf(name, sizeof(name), "blk.%zu.attn_norm.weight", at);
    if (take_norm(loader, name, layer->attention_norm) < 0) {
        return -1;
    }
    (void)snprintf(name, sizeof(name), "blk.%zu.ffn_norm.weight", at);
    return take_norm(loader, name, layer->inner_norm);
}

static int refuse_unused(const struct loader *loader) {
    const struct gguf *gguf = loader->model->gguf;
    if (loader->used == gguf_tensor_count(gguf)) {
        return 0;
    }
    return error_set(
        loader->err, ERROR_UNSUPPORTED,
        "the file has %zu tensors, a plain llama of %zu layers has %zu: biases, experts or rope factors are not supported",
        gguf_tensor_count(gguf), loader->model->config.layers, loader->used);
}

/* ---- q and k ---- */

/* Row 2i + h of a head in the file is row h * size/2 + i of Hugging Face's. */
static void unpermute(struct matrix *matrix, size_t head_size, char *out) {
    for (size_t row = 0; row < matrix->rows; row++) {
        size_t within = row % head_size;
        size_t source = row - within + 2 * (within % (head_size / 2)) + within / (head_size / 2);
        memcpy(out + row * matrix->row_bytes, (const char *)matrix->data + source * matrix->row_bytes, matrix->row_bytes);
    }
    matrix->data = out;
}

static int unpermute_all(struct model *model, struct error *err) {
    size_t bytes = 0;
    for (size_t i = 0; i < model->config.layers; i++) {
        for (enum projection projection = PROJECTION_Q; projection <= PROJECTION_K; projection++) {
            bytes += model->layers[i].projections[projection].rows * model->layers[i].projections[projection].row_bytes;
        }
    }
    char *out = model->unpermuted = try_alloc(bytes, 1);
    if (out == NULL) {
        return error_set(err, ERROR_LIMIT, "no memory for %zu bytes of attention weights", bytes);
    }
    for (size_t i = 0; i < model->config.layers; i++) {
        for (enum projection projection = PROJECTION_Q; projection <= PROJECTION_K; projection++) {
            struct matrix *matrix = &model->layers[i].projections[projection];
            unpermute(matrix, model->config.head_size, out);
            out += matrix->rows * matrix->row_bytes;
        }
    }
    return 0;
}

/* ---- the whole ---- */

static int load(struct model *model, struct error *err) {
    struct loader loader = {.model = model, .err = err};
    struct model_config *config = &model->config;
    if (model_config_read(model->gguf, config, err) < 0) {
        return -1;
    }
    model->layers = xcalloc(config->layers, sizeof(*model->layers));
    model->norms = try_alloc((2 * config->layers + 1) * config->hidden, sizeof(*model->norms));
    if (model->norms == NULL) {
        return error_set(err, ERROR_LIMIT, "no memory for the norms of %zu layers", config->layers);
    }
    model->output_norm = model->norms;
    for (size_t i = 0; i < config->layers; i++) {
        if (take_layer(&loader, i) < 0) {
            return -1;
        }
    }
    if (take_norm(&loader, "output_norm.weight", model->output_norm) < 0 ||
        take_matrix(&loader, "token_embd.weight", config->hidden, config->vocab, &model->embedding) < 0) {
        return -1;
    }
    model->output = model->embedding;
    if (gguf_tensor(model->gguf, "output.weight") != NULL &&
        take_matrix(&loader, "output.weight", config->hidden, config->vocab, &model->output) < 0) {
        return -1;
    }
    return refuse_unused(&loader) < 0 ? -1 : unpermute_all(model, err);
}

int model_load(const char *path, struct model **ret_model, struct error *err) {
    struct model *model = xcalloc(1, sizeof(*model));
    if (gguf_open(path, &model->gguf, err) < 0) {
        model_free(model);
        return -1;
    }
    if (load(model, err) < 0) {
        model_free(model);
        return error_wrap(err, "model %s", path);
    }
    *ret_model = model;
    return 0;
}

void model_free(struct model *model) {
    if (model == NULL) {
        return;
    }
    gguf_free(model->gguf);
    free(model->unpermuted);
    free(model->norms);
    free(model->layers);
    free(model);
}
