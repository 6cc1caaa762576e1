#include "engine/model/forward.h"

#include <math.h>
#include <string.h>

/* Projections that read the same input and are computed together. */
#define INPUT_SHARERS 3
/* Output rows that a thread takes at a time: several tiles, so that the atomics do not show. */
#define GRAIN_ROWS 16
/* Rows that attend together. */
#define TILE_ROWS 4

struct forward {
    struct forward_options options;
    const struct model_config *config; /* of options.model */
    size_t query_width;
    size_t kv_width;
    /* of the step at hand */
    const struct forward_row *rows;
    size_t count;
    size_t layer;
    size_t logit_rows;
    bool has_adapters;
    struct tile *tiles; /* [max_rows] */
    size_t tile_count;
    /* activations, a row a token */
    float *memory;   /* owns all that follow */
    float *x;        /* [rows, hidden]: the residual stream */
    float *normed;   /* [rows, hidden] */
    float *query;    /* [rows, query_width] */
    float *key;      /* [rows, kv_width] */
    float *value;    /* [rows, kv_width] */
    float *attended; /* [rows, query_width] */
    float *gate;     /* [rows, inner] */
    float *up;       /* [rows, inner] */
    float *shrunk;   /* [rows, INPUT_SHARERS, max_rank]: A x */
    float *logits;   /* [max_logits, vocab] */
    float *cosines;  /* [max_context, head_size / 2] */
    float *sines;
    float *scratch; /* [threads, scratch_len]: dequantised weights or attention scores */
    size_t scratch_len;
    float *quants; /* [rows, widest] bytes */
    float *scales; /* [rows, kernels_scale_stride(widest)] */
    float *sums;
    struct quantised quantised; /* the three, of the projection at hand */
};

static float *scratch_of(const struct forward *forward, int thread) {
    return forward->scratch + (size_t)thread * forward->scratch_len;
}

/* ---- activations of 8 bits ---- */

struct rounding {
    const struct forward *forward;
    const float *x; /* [rows, columns] */
    size_t columns;
};

static void round_rows(void *arg, int thread, size_t first, size_t last) {
    const struct rounding *work = arg;
    (void)thread;
    for (size_t row = first; row < last; row++) {
        work->forward->options.kernels->quantise(work->x + row * work->columns, work->columns, &work->forward->quantised, row);
    }
}

/* What the weights are multiplied with, when it is not `x` itself. */
static const struct quantised *round_for(struct forward *forward, const struct matrix *weights, const float *x, size_t rows) {
    struct rounding work = {.forward = forward, .x = x, .columns = weights->columns};
    if (!forward->options.rounds_activations || !kernels_is_quantised(weights->type)) {
        return NULL;
    }
    pool_run(forward->options.pool, rows, 8, round_rows, &work);
    return &forward->quantised;
}

/* ---- projections with adapters ---- */

/* y = W x (+ B A x for rows with an adapter), for one or more projections of the same input. */
struct projecting {
    struct forward *forward;
    enum projection first;
    size_t projections;
    const float *x;
    size_t x_stride;
    const struct quantised *quantised; /* of x, filled in by project() */
    float *outputs[INPUT_SHARERS];
    bool accumulate;
};

static const struct lora_pair *pair_of(const struct forward *forward, size_t row, enum projection projection) {
    const struct lora_adapter *adapter = forward->rows[row].adapter;
    if (adapter == NULL) {
        return NULL;
    }
    const struct lora_pair *pair = &adapter->pairs[forward->layer * PROJECTION_COUNT + projection];
    return pair->b != NULL ? pair : NULL;
}

static float *shrunk_of(const struct forward *forward, size_t row, size_t at) {
    return forward->shrunk + (row * INPUT_SHARERS + at) * forward->options.max_rank;
}

/* Where the run of rows with the same adapter as `first` ends. */
static size_t adapter_run_end(const struct forward *forward, size_t first, size_t last) {
    size_t end = first + 1;
    while (end < last && forward->rows[end].adapter == forward->rows[first].adapter) {
        end++;
    }
    return end;
}

/* A x of batch rows [first, last): each adapter's A is read once for the run of its rows. */
static void shrink(void *arg, int thread, size_t first, size_t last) {
    const struct projecting *work = arg;
    const struct forward *forward = work->forward;
    for (size_t row = first, end = first; row < last; row = end) {
        end = adapter_run_end(forward, row, last);
        for (size_t i = 0; i < work->projections; i++) {
            const struct lora_pair *pair = pair_of(forward, row, work->first + (enum projection)i);
            if (pair == NULL) {
                continue;
            }
            const struct matmul matmul = {.weights = &pair->a,
                                          .x = work->x + row * work->x_stride,
                                          .x_stride = work->x_stride,
                                          .count = end - row,
                                          .y = shrunk_of(forward, row, i),
                                          .y_stride = INPUT_SHARERS * forward->options.max_rank};
            forward->options.kernels->matmul(&matmul, 0, pair->a.rows, scratch_of(forward, thread));
        }
    }
}

/* Output rows [first, last) of one projection for all batch rows. */
static void project_part(const struct projecting *work, size_t at, size_t first, size_t last, float *scratch) {
    const struct forward *forward = work->forward;
    enum projection projection = work->first + (enum projection)at;
    const struct matrix *weights = &forward->options.model->layers[forward->layer].projections[projection];
    const struct matmul matmul = {.weights = weights,
                                  .x = work->x,
                                  .x_stride = work->x_stride,
                                  .quantised = work->quantised,
                                  .count = forward->count,
                                  .y = work->outputs[at],
                                  .y_stride = weights->rows,
                                  .accumulate = work->accumulate};
    forward->options.kernels->matmul(&matmul, first, last, scratch);
    for (size_t row = 0; forward->has_adapters && row < forward->count; row++) {
        const struct lora_pair *pair = pair_of(forward, row, projection);
        for (size_t i = 0; pair != NULL && i < pair->a.rows; i++) {
            forward->options.kernels->add_scaled(work->outputs[at] + row * weights->rows + first, shrunk_of(forward, row, at)[i],
                                                 pair->b + i * weights->rows + first, last - first);
        }
    }
}

/* Items are the output rows of the projections one after the other. */
static void project_rows(void *arg, int thread, size_t first, size_t last) {
    const struct projecting *work = arg;
    size_t start = 0;
    for (size_t i = 0; i < work->projections && start < last; i++) {
        size_t rows = model_rows(work->forward->config, work->first + (enum projection)i);
        size_t from = first > start ? first - start : 0;
        size_t to = last - start < rows ? last - start : rows;
        if (from < to) {
            project_part(work, i, from, to, scratch_of(work->forward, thread));
        }
        start += rows;
    }
}

static void project(struct projecting *work) {
    struct forward *forward = work->forward;
    size_t total = 0;
    for (size_t i = 0; i < work->projections; i++) {
        enum projection projection = work->first + (enum projection)i;
        total += model_rows(forward->config, projection);
        if (work->quantised == NULL) {
            const struct matrix *weights = &forward->options.model->layers[forward->layer].projections[projection];
            work->quantised = round_for(forward, weights, work->x, forward->count);
        }
    }
    if (forward->has_adapters) {
        pool_run(forward->options.pool, forward->count, 1 + forward->count / (4 * (size_t)pool_threads(forward->options.pool)),
                 shrink, work);
    }
    pool_run(forward->options.pool, total, GRAIN_ROWS, project_rows, work);
}

/* ---- attention ---- */

static void store_keys_and_values(const struct forward *forward, size_t at) {
    const struct model_config *config = forward->config;
    const struct forward_row *row = &forward->rows[at];
    int block = row->blocks[row->position / KV_BLOCK_TOKENS];
    size_t offset = row->position % KV_BLOCK_TOKENS * config->head_size;
    for (size_t head = 0; head < config->kv_heads; head++) {
        const float *key = forward->key + at * forward->kv_width + head * config->head_size;
        const float *value = forward->value + at * forward->kv_width + head * config->head_size;
        memcpy(kv_cache_keys(forward->options.cache, forward->layer, block, head) + offset, key, config->head_size * sizeof(float));
        memcpy(kv_cache_values(forward->options.cache, forward->layer, block, head) + offset, value,
               config->head_size * sizeof(float));
    }
}

static void rotate_and_store(void *arg, int thread, size_t first, size_t last) {
    const struct forward *forward = arg;
    const struct model_config *config = forward->config;
    size_t half = config->head_size / 2;
    (void)thread;
    for (size_t at = first; at < last; at++) {
        const float *cosines = forward->cosines + forward->rows[at].position * half;
        const float *sines = forward->sines + forward->rows[at].position * half;
        kernels_rope(forward->query + at * forward->query_width, config->heads, config->head_size, cosines, sines);
        kernels_rope(forward->key + at * forward->kv_width, config->kv_heads, config->head_size, cosines, sines);
        store_keys_and_values(forward, at);
    }
}

/* Neighbouring rows of one sequence, which read the same keys and values. */
struct tile {
    size_t first;
    size_t count;
};

static void fill_tiles(struct forward *forward) {
    forward->tile_count = 0;
    for (size_t row = 0; row < forward->count; row++) {
        struct tile *last = forward->tile_count > 0 ? &forward->tiles[forward->tile_count - 1] : NULL;
        if (last != NULL && last->count < TILE_ROWS && forward->rows[last->first].blocks == forward->rows[row].blocks) {
            last->count++;
        } else {
            forward->tiles[forward->tile_count++] = (struct tile){.first = row, .count = 1};
        }
    }
}

/* The query heads of a tile that share a key-value head. Whatever is computed together, each of them goes over its positions in
 * order. */
struct attending {
    const struct forward *forward;
    struct tile tile;
    size_t kv_head;
    size_t group;   /* query heads of one row */
    size_t longest; /* positions that the last of them sees */
    float *scores;  /* [tile rows, group, max_context] */
};

static float *head_of(const struct attending *work, float *activations, size_t row, size_t at) {
    const struct forward *forward = work->forward;
    size_t head = work->kv_head * work->group + at;
    return activations + (work->tile.first + row) * forward->query_width + head * forward->config->head_size;
}

static float *scores_of(const struct attending *work, size_t row, size_t at) {
    return work->scores + (row * work->group + at) * work->forward->options.max_context;
}

static size_t positions_of(const struct attending *work, size_t row) {
    return work->forward->rows[work->tile.first + row].position + 1;
}

/* How many of the block's positions, which begins at `start`, a row of the tile sees. */
static size_t visible(const struct attending *work, size_t row, size_t start) {
    size_t count = positions_of(work, row);
    size_t left = count > start ? count - start : 0;
    return left < KV_BLOCK_TOKENS ? left : KV_BLOCK_TOKENS;
}

static void score_block(const struct attending *work, size_t start, int block) {
    const struct forward *forward = work->forward;
    size_t size = forward->config->head_size;
    const float *keys = kv_cache_keys(forward->options.cache, forward->layer, block, work->kv_head);
    for (size_t row = 0; row < work->tile.count; row++) {
        size_t count = visible(work, row, start);
        for (size_t at = 0; at < work->group; at++) {
            forward->options.kernels->dot_rows(head_of(work, forward->query, row, at), keys, count, size,
                                               scores_of(work, row, at) + start);
        }
    }
}

static void add_block(const struct attending *work, size_t start, int block) {
    const struct forward *forward = work->forward;
    size_t size = forward->config->head_size;
    const float *values = kv_cache_values(forward->options.cache, forward->layer, block, work->kv_head);
    for (size_t row = 0; row < work->tile.count; row++) {
        size_t count = visible(work, row, start);
        for (size_t at = 0; at < work->group; at++) {
            forward->options.kernels->add_rows(head_of(work, forward->attended, row, at), scores_of(work, row, at) + start, values,
                                               count, size);
        }
    }
}

/* Scores become weights, and the outputs zeros. */
static void weigh(const struct attending *work) {
    size_t size = work->forward->config->head_size;
    float scale = 1.0f / sqrtf((float)size);
    for (size_t row = 0; row < work->tile.count; row++) {
        size_t count = positions_of(work, row);
        for (size_t at = 0; at < work->group; at++) {
            float *scores = scores_of(work, row, at);
            for (size_t i = 0; i < count; i++) {
                scores[i] *= scale;
            }
            kernels_softmax(scores, count);
            memset(head_of(work, work->forward->attended, row, at), 0, size * sizeof(float));
        }
    }
}

static void attend_tile(const struct attending *work) {
    const int *blocks = work->forward->rows[work->tile.first].blocks;
    for (size_t start = 0; start < work->longest; start += KV_BLOCK_TOKENS) {
        score_block(work, start, blocks[start / KV_BLOCK_TOKENS]);
    }
    weigh(work);
    for (size_t start = 0; start < work->longest; start += KV_BLOCK_TOKENS) {
        add_block(work, start, blocks[start / KV_BLOCK_TOKENS]);
    }
}

/* Items are key-value heads of tiles, the longest first: what is left at the end is short. */
static void attend(void *arg, int thread, size_t first, size_t last) {
    const struct forward *forward = arg;
    const struct model_config *config = forward->config;
    for (size_t item = first; item < last; item++) {
        struct attending work = {.forward = forward,
                                 .tile = forward->tiles[forward->tile_count - 1 - item / config->kv_heads],
                                 .kv_head = item % config->kv_heads,
                                 .group = config->heads / config->kv_heads,
                                 .scores = scratch_of(forward, thread)};
        for (size_t row = 0; row < work.tile.count; row++) {
            size_t count = positions_of(&work, row);
            work.longest = count > work.longest ? count : work.longest;
        }
        attend_tile(&work);
    }
}

/* ---- the layers ---- */

struct norming {
    const struct forward *forward;
    const float *weight;
};

static void norm_rows(void *arg, int thread, size_t first, size_t last) {
    const struct norming *work = arg;
    size_t hidden = work->forward->config->hidden;
    (void)thread;
    for (size_t row = first; row < last; row++) {
        kernels_rmsnorm(work->forward->x + row * hidden, work->weight, hidden, work->forward->config->norm_epsilon,
                        work->forward->normed + row * hidden);
    }
}

static void swiglu_rows(void *arg, int thread, size_t first, size_t last) {
    const struct forward *forward = arg;
    size_t inner = forward->config->inner;
    (void)thread;
    kernels_swiglu(forward->gate + first * inner, forward->up + first * inner, (last - first) * inner);
}

static void norm(struct forward *forward, const float *weight) {
    struct norming work = {.forward = forward, .weight = weight};
    pool_run(forward->options.pool, forward->count, 8, norm_rows, &work);
}

static void run_attention(struct forward *forward, const struct model_layer *layer) {
    struct pool *pool = forward->options.pool;
    struct projecting in = {.forward = forward,
                            .first = PROJECTION_Q,
                            .projections = 3,
                            .x = forward->normed,
                            .x_stride = forward->config->hidden,
                            .outputs = {forward->query, forward->key, forward->value}};
    struct projecting out = {.forward = forward,
                             .first = PROJECTION_O,
                             .projections = 1,
                             .x = forward->attended,
                             .x_stride = forward->query_width,
                             .outputs = {forward->x},
                             .accumulate = true};
    norm(forward, layer->attention_norm);
    project(&in);
    pool_run(pool, forward->count, 8, rotate_and_store, forward);
    pool_run(pool, forward->tile_count * forward->config->kv_heads, 1, attend, forward);
    project(&out);
}

static void run_inner(struct forward *forward, const struct model_layer *layer) {
    struct projecting in = {.forward = forward,
                            .first = PROJECTION_GATE,
                            .projections = 2,
                            .x = forward->normed,
                            .x_stride = forward->config->hidden,
                            .outputs = {forward->gate, forward->up}};
    struct projecting out = {.forward = forward,
                             .first = PROJECTION_DOWN,
                             .projections = 1,
                             .x = forward->gate,
                             .x_stride = forward->config->inner,
                             .outputs = {forward->x},
                             .accumulate = true};
    norm(forward, layer->inner_norm);
    project(&in);
    pool_run(forward->options.pool, forward->count, 2, swiglu_rows, forward);
    project(&out);
}

static void embed(struct forward *forward) {
    const struct matrix *embedding = &forward->options.model->embedding;
    forward->has_adapters = false;
    forward->logit_rows = 0;
    for (size_t row = 0; row < forward->count; row++) {
        const char *blocks = (const char *)embedding->data + (size_t)forward->rows[row].token * embedding->row_bytes;
        forward->options.kernels->dequantise(embedding->type, blocks, embedding->columns, forward->x + row * embedding->columns);
        forward->has_adapters |= forward->rows[row].adapter != NULL;
    }
}

static void project_logits(void *arg, int thread, size_t first, size_t last) {
    const struct projecting *work = arg;
    const struct forward *forward = work->forward;
    const struct matmul matmul = {.weights = &forward->options.model->output,
                                  .x = forward->normed,
                                  .x_stride = forward->config->hidden,
                                  .quantised = work->quantised,
                                  .count = forward->logit_rows,
                                  .y = forward->logits,
                                  .y_stride = forward->config->vocab};
    forward->options.kernels->matmul(&matmul, first, last, scratch_of(forward, thread));
}

/* Only rows that want logits take part: they are gathered in `normed`. */
static void run_logits(struct forward *forward) {
    size_t hidden = forward->config->hidden;
    for (size_t row = 0; row < forward->count && forward->logit_rows < forward->options.max_logits; row++) {
        if (forward->rows[row].wants_logits) {
            kernels_rmsnorm(forward->x + row * hidden, forward->options.model->output_norm, hidden, forward->config->norm_epsilon,
                            forward->normed + forward->logit_rows++ * hidden);
        }
    }
    if (forward->logit_rows > 0) {
        struct projecting work = {.forward = forward};
        work.quantised = round_for(forward, &forward->options.model->output, forward->normed, forward->logit_rows);
        pool_run(forward->options.pool, forward->config->vocab, 4 * GRAIN_ROWS, project_logits, &work);
    }
}

void forward_run(struct forward *forward, const struct forward_row *rows, size_t count) {
    forward->rows = rows;
    forward->count = count;
    fill_tiles(forward);
    embed(forward);
    for (forward->layer = 0; forward->layer < forward->config->layers; forward->layer++) {
        const struct model_layer *layer = &forward->options.model->layers[forward->layer];
        run_attention(forward, layer);
        run_inner(forward, layer);
    }
    run_logits(forward);
}

float *forward_logits(struct forward *forward, size_t at) {
    return forward->logits + at * forward->config->vocab;
}

/* ---- memory ---- */

static void fill_angles(struct forward *forward) {
    size_t half = forward->config->head_size / 2;
    for (size_t i = 0; i < half; i++) {
        /* In float where Hugging Face's LlamaRotaryEmbedding computes in float. */
        float frequency = (float)(1.0 / pow(forward->config->rope_base, 2.0 * (double)i / (double)forward->config->head_size));
        for (size_t position = 0; position < forward->options.max_context; position++) {
            float angle = (float)position * frequency;
            forward->cosines[position * half + i] = (float)cos((double)angle);
            forward->sines[position * half + i] = (float)sin((double)angle);
        }
    }
}

static size_t larger(size_t a, size_t b) {
    return a > b ? a : b;
}

static int allocate(struct forward *forward, struct error *err) {
    const struct forward_options *options = &forward->options;
    const struct model_config *config = forward->config;
    size_t rows = options->max_rows;
    size_t half = config->head_size / 2;
    size_t widest = larger(larger(config->hidden, config->inner), forward->query_width);
    size_t rounded = options->rounds_activations ? rows : 0;
    size_t scores = TILE_ROWS * (config->heads / config->kv_heads) * options->max_context;
    forward->scratch_len = larger(KERNELS_TILE_ROWS * widest, scores);
    const struct {
        float **target;
        size_t rows;
        size_t columns;
    } parts[] = {
        {&forward->x, rows, config->hidden},
        {&forward->normed, rows, config->hidden},
        {&forward->query, rows, forward->query_width},
        {&forward->key, rows, forward->kv_width},
        {&forward->value, rows, forward->kv_width},
        {&forward->attended, rows, forward->query_width},
        {&forward->gate, rows, config->inner},
        {&forward->up, rows, config->inner},
        {&forward->shrunk, rows, INPUT_SHARERS * options->max_rank},
        {&forward->logits, options->max_logits, config->vocab},
        {&forward->cosines, options->max_context, half},
        {&forward->sines, options->max_context, half},
        {&forward->scratch, (size_t)pool_threads(options->pool), forward->scratch_len},
        {&forward->quants, rounded, (widest + sizeof(float) - 1) / sizeof(float)},
        {&forward->scales, rounded, kernels_scale_stride(widest)},
        {&forward->sums, rounded, kernels_scale_stride(widest)},
    };
    size_t total = 0;
    bool overflows = false;
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        size_t floats = 0;
        overflows |=
            __builtin_mul_overflow(parts[i].rows, parts[i].columns, &floats) || __builtin_add_overflow(total, floats + 16, &total);
    }
    forward->memory = overflows ? NULL : try_alloc(total, sizeof(float));
    if (forward->memory == NULL) {
        return error_set(err, ERROR_LIMIT, "no memory for the activations of %zu rows", rows);
    }
    float *at = forward->memory;
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        *parts[i].target = at;
        at += (parts[i].rows * parts[i].columns + 15) / 16 * 16; /* each on a cache line of its own */
    }
    return 0;
}

int forward_new(const struct forward_options *options, struct forward **ret_forward, struct error *err) {
    struct forward *forward = xcalloc(1, sizeof(*forward));
    forward->options = *options;
    forward->config = &options->model->config;
    forward->query_width = forward->config->heads * forward->config->head_size;
    forward->kv_width = forward->config->kv_heads * forward->config->head_size;
    forward->tiles = xcalloc(options->max_rows, sizeof(*forward->tiles));
    if (allocate(forward, err) < 0) {
        forward_free(forward);
        return -1;
    }
    forward->quantised = (struct quantised){.quants = (int8_t *)forward->quants, .scales = forward->scales, .sums = forward->sums};
    fill_angles(forward);
    *ret_forward = forward;
    return 0;
}

void forward_free(struct forward *forward) {
    if (forward != NULL) {
        free(forward->memory);
        free(forward->tiles);
        free(forward);
    }
}
