/* One step of the model: any number of tokens of any sequences, each with the adapter of its request, through all layers at once.
 * The base weights are read once for all rows, an adapter's A and B only for its own.
 *
 * What comes out for a row depends on its token, position, adapter and the KV cache alone, bit for bit: never on the other rows,
 * their number or order, or on the number of threads. */
#ifndef DAVIT_ENGINE_MODEL_FORWARD_H
#define DAVIT_ENGINE_MODEL_FORWARD_H

#include "base/error.h"
#include "engine/kernels/kernels.h"
#include "engine/kernels/pool.h"
#include "engine/lora/lora.h"
#include "engine/model/kv_cache.h"
#include "engine/model/model.h"

#include <stdbool.h>

/* A token to be computed. Rows of one adapter should be neighbours, for speed; rows of one sequence in one step may attend to each
 * other. */
struct forward_row {
    int token;
    size_t position;
    const int *blocks;                  /* of the sequence: cover position and all before it */
    const struct lora_adapter *adapter; /* NULL = the base model */
    bool wants_logits;
};

struct forward_options {
    const struct model *model;
    const struct kernels *kernels;
    struct pool *pool;
    struct kv_cache *cache;
    size_t max_rows;         /* of a step */
    size_t max_logits;       /* rows of a step that want logits */
    size_t max_context;      /* positions */
    size_t max_rank;         /* of an adapter */
    bool rounds_activations; /* multiply weights of a quantised type with activations of 8 bits; adapters and attention stay in
                                float */
};

struct forward;

int forward_new(const struct forward_options *options, struct forward **ret_forward, struct error *err) DAVIT_MUST_USE;
void forward_free(struct forward *forward);

/* Computes 1..max_rows rows. Not for several threads. */
void forward_run(struct forward *forward, const struct forward_row *rows, size_t count);
/* The logits [vocab] of the at-th row that wanted them in the last step. Borrowed until the next. */
float *forward_logits(struct forward *forward, size_t at);

#endif
