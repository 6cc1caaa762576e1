/* The arithmetic of the engine behind a table that is chosen once by the processor. `generic` is the specification: plain C that
 * every other row agrees with to 1e-4, relative to the sum of the magnitudes that are added, and bit for bit where integers are
 * multiplied.
 *
 * Determinism: with one row of the table each output element is computed with one order of additions, which depends on the number
 * of columns alone: not on how many batch rows are computed together, how the work is cut or which thread does it. All functions
 * are pure and may be called from any thread. Arrays are row-major; a stride counts floats from one batch row to the next. */
#ifndef DAVIT_ENGINE_KERNELS_KERNELS_H
#define DAVIT_ENGINE_KERNELS_KERNELS_H

#include "engine/format/tensor_type.h"

#include <stdbool.h>
#include <stddef.h>

/* A weight matrix [rows, columns] as it lies in memory. */
struct matrix {
    enum tensor_type type; /* one that kernels_supports */
    size_t rows;           /* output features */
    size_t columns;        /* input features */
    size_t row_bytes;
    const void *data; /* any alignment */
};

/* Rows of activations rounded to signed bytes: of each 32 neighbours, x ~ scale * quant with |quant| <= 127. What a block of 32 of
 * weights means can then be summed in integers; `sums`, scale times the sum of the quants, is what a block's minimum is multiplied
 * with. These are ggml's Q8_1 (ggml/src/ggml-common.h) with the scale in float. */
struct quantised {
    int8_t *quants; /* [rows, columns] */
    float *scales;  /* [rows, kernels_scale_stride(columns)]; zeros behind columns / 32 */
    float *sums;    /* the same */
};
#define KERNELS_QUANT_BLOCK 32
#define KERNELS_QUANT_LANES 8
static inline size_t kernels_scale_stride(size_t columns) {
    size_t blocks = columns / KERNELS_QUANT_BLOCK;
    return (blocks + KERNELS_QUANT_LANES - 1) / KERNELS_QUANT_LANES * KERNELS_QUANT_LANES;
}

/* y[b][r] = sum over c of weights[r][c] * x[b][c], or += with `accumulate` */
struct matmul {
    const struct matrix *weights;
    const float *x;
    size_t x_stride;
    const struct quantised *quantised; /* of x; used instead of it with weights of a quantised type. NULL = compute in float */
    size_t count;                      /* batch rows */
    float *y;
    size_t y_stride;
    bool accumulate;
};

/* Weight rows are dequantised so many at a time, once for all batch rows. */
#define KERNELS_TILE_ROWS 4

struct kernels {
    const char *name;
    /* Weight rows [first, last). `scratch` holds KERNELS_TILE_ROWS * columns floats and belongs to the calling thread. */
    void (*matmul)(const struct matmul *work, size_t first, size_t last, float *scratch);
    /* Row `row` of `out` from `columns` floats, a multiple of KERNELS_QUANT_BLOCK. */
    void (*quantise)(const float *x, size_t columns, const struct quantised *out, size_t row);
    void (*dequantise)(enum tensor_type type, const void *blocks, size_t count, float *out);
    /* y += scale * x */
    void (*add_scaled)(float *y, float scale, const float *x, size_t count);
    /* out[i] = sum over c of rows[i][c] * x[c], for `count` rows of `size` floats one after the other */
    void (*dot_rows)(const float *x, const float *rows, size_t count, size_t size, float *out);
    /* y += scales[i] * rows[i], row after row */
    void (*add_rows)(float *y, const float *scales, const float *rows, size_t count, size_t size);
};

/* By name, or for a NULL name the fastest that this processor can run. NULL when there is none of that name here. */
const struct kernels *kernels_find(const char *name);
bool kernels_supports(unsigned type);
/* Whether weights of that type can be multiplied with quantised activations. */
bool kernels_is_quantised(enum tensor_type type);

/* ---- the same for every row of the table ---- */

/* out = x / sqrt(mean(x^2) + epsilon) * weight */
void kernels_rmsnorm(const float *x, const float *weight, size_t count, float epsilon, float *out);
/* Rotates each of `heads` heads of `head_size` in place by the angles of one position: element i with element i + head_size / 2, as
 * Hugging Face does ("NEOX"). `cosines` and `sines` hold head_size / 2 values. */
void kernels_rope(float *x, size_t heads, size_t head_size, const float *cosines, const float *sines);
/* x = exp(x - max(x)) / sum */
void kernels_softmax(float *x, size_t count);
/* gate = gate / (1 + exp(-gate)) * up */
void kernels_swiglu(float *gate, const float *up, size_t count);

#endif
