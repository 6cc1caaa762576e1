/* The base model: hyperparameters and weights of a Llama-family GGUF, checked by name and shape when it is loaded. Immutable
 * afterwards; any thread may read it. Weights stay in the mapped file, except the rows of q and k, which are put back into Hugging
 * Face's order: GGUF files of architecture llama interleave the two halves of each head (llama.cpp, convert_hf_to_gguf.py,
 * permute), and PEFT tensors are made for the other order. */
#ifndef DAVIT_ENGINE_MODEL_MODEL_H
#define DAVIT_ENGINE_MODEL_MODEL_H

#include "base/error.h"
#include "engine/format/gguf.h"
#include "engine/kernels/kernels.h"

#include <stddef.h>

struct model_config {
    size_t layers;
    size_t hidden;    /* features of the residual stream */
    size_t inner;     /* features of the feed-forward part */
    size_t heads;     /* query heads */
    size_t kv_heads;  /* key and value heads; heads is a multiple */
    size_t head_size; /* even */
    size_t vocab;
    size_t context; /* tokens the model was made for */
    float norm_epsilon;
    double rope_base;
};

/* The weight matrices of a layer, which are also what adapters can change. */
enum projection {
    PROJECTION_Q,
    PROJECTION_K,
    PROJECTION_V,
    PROJECTION_O,
    PROJECTION_GATE,
    PROJECTION_UP,
    PROJECTION_DOWN,
    PROJECTION_COUNT,
};

struct model_layer {
    float *attention_norm; /* [hidden] */
    float *inner_norm;     /* [hidden] */
    struct matrix projections[PROJECTION_COUNT];
};

struct model {
    struct model_config config;
    struct gguf *gguf;
    struct model_layer *layers;
    struct matrix embedding; /* [vocab, hidden] */
    struct matrix output;    /* [vocab, hidden]; the embedding where they are tied */
    float *output_norm;      /* [hidden] */
    float *norms;            /* owns all norm weights */
    char *unpermuted;        /* owns the q and k weights */
    size_t weight_bytes;
};

int model_load(const char *path, struct model **ret_model, struct error *err) DAVIT_MUST_USE;
void model_free(struct model *model);

/* Shape of a projection, the same in every layer. */
size_t model_rows(const struct model_config *config, enum projection projection);
size_t model_columns(const struct model_config *config, enum projection projection);
/* The projection of Hugging Face's module name within a layer ("self_attn.q_proj"), PROJECTION_COUNT when it is none. */
enum projection model_projection_find(const char *module);

#endif
