/* Weights times activations of 8 bits: what the other rows of the table must do to the last bit.
 *
 * Each block of 32 is summed in integers, which is exact; its value in float goes to lane k % 8, k being the number of the block,
 * and the lanes are added pairwise at the end. */
#include "engine/kernels/float16.h"
#include "engine/kernels/rows.h"

#include <math.h>

#define LANES KERNELS_QUANT_LANES
#define BLOCK KERNELS_QUANT_BLOCK

static void quantise_block(const float *x, int8_t *quants, float *ret_scale, float *ret_sum) {
    float largest = 0;
    int sum = 0;
    for (size_t i = 0; i < BLOCK; i++) {
        float magnitude = fabsf(x[i]);
        largest = magnitude > largest ? magnitude : largest;
    }
    float inverse = largest > QUANTISE_LEAST ? 127.0f / largest : 0.0f;
    for (size_t i = 0; i < BLOCK; i++) {
        quants[i] = (int8_t)lrintf(x[i] * inverse); /* halves to even */
        sum += quants[i];
    }
    *ret_scale = largest / 127.0f;
    *ret_sum = *ret_scale * (float)sum;
}

void generic_quantise(const float *x, size_t columns, const struct quantised *out, size_t row) {
    size_t stride = kernels_scale_stride(columns);
    int8_t *quants = out->quants + row * columns;
    float *scales = out->scales + row * stride;
    float *sums = out->sums + row * stride;
    size_t blocks = columns / BLOCK;
    for (size_t k = 0; k < blocks; k++) {
        quantise_block(x + k * BLOCK, quants + k * BLOCK, &scales[k], &sums[k]);
    }
    for (size_t k = blocks; k < stride; k++) {
        scales[k] = sums[k] = 0;
    }
}

static float half_at(const uint8_t *bytes) {
    uint16_t half = 0;
    memcpy(&half, bytes, sizeof(half));
    return float_from_half(half);
}

static float block_q4_1(const uint8_t *block, const int8_t *quants, float scale, float sum) {
    int product = 0;
    for (size_t i = 0; i < 16; i++) {
        product += (block[4 + i] & 0x0f) * quants[i] + (block[4 + i] >> 4) * quants[i + 16];
    }
    return (float)product * (half_at(block) * scale) + half_at(block + 2) * sum;
}

static float block_q8_0(const uint8_t *block, const int8_t *quants, float scale) {
    int product = 0;
    for (size_t i = 0; i < BLOCK; i++) {
        product += (int8_t)block[2 + i] * quants[i];
    }
    return (float)product * (half_at(block) * scale);
}

static float dot(const struct matrix *weights, size_t row, const struct quantised *x, size_t b) {
    const uint8_t *blocks = (const uint8_t *)weights->data + row * weights->row_bytes;
    const int8_t *quants = x->quants + b * weights->columns;
    const float *scales = x->scales + b * kernels_scale_stride(weights->columns);
    const float *sums = x->sums + b * kernels_scale_stride(weights->columns);
    float lanes[LANES] = {0};
    for (size_t k = 0; k < weights->columns / BLOCK; k++, quants += BLOCK) {
        lanes[k % LANES] += weights->type == TENSOR_Q4_1 ? block_q4_1(blocks + 20 * k, quants, scales[k], sums[k])
                                                         : block_q8_0(blocks + 34 * k, quants, scales[k]);
    }
    for (size_t width = LANES / 2; width > 0; width /= 2) {
        for (size_t lane = 0; lane < width; lane++) {
            lanes[lane] += lanes[lane + width];
        }
    }
    return lanes[0];
}

void generic_matmul_quantised(const struct matmul *work, size_t first, size_t last) {
    for (size_t row = first; row < last; row++) {
        for (size_t b = 0; b < work->count; b++) {
            float sum = dot(work->weights, row, work->quantised, b);
            float *y = &work->y[b * work->y_stride + row];
            *y = work->accumulate ? *y + sum : sum;
        }
    }
}
