#include "engine/kernels/float16.h"
#include "engine/kernels/rows.h"

/* Sixteen partial sums, element i goes to sum i % 16; they are added pairwise at the end. Compilers vectorise this without being
 * allowed to reorder additions. */
#define LANES 16

static float dot(const float *a, const float *b, size_t count) {
    float lanes[LANES] = {0};
    size_t i = 0;
    for (; i + LANES <= count; i += LANES) {
        for (size_t lane = 0; lane < LANES; lane++) {
            lanes[lane] += a[i + lane] * b[i + lane];
        }
    }
    for (size_t lane = 0; i < count; i++, lane++) {
        lanes[lane] += a[i] * b[i];
    }
    for (size_t width = LANES / 2; width > 0; width /= 2) {
        for (size_t lane = 0; lane < width; lane++) {
            lanes[lane] += lanes[lane + width];
        }
    }
    return lanes[0];
}

static void add_scaled(float *y, float scale, const float *x, size_t count) {
    for (size_t i = 0; i < count; i++) {
        y[i] += scale * x[i];
    }
}

static void dot_rows(const float *x, const float *rows, size_t count, size_t size, float *out) {
    for (size_t i = 0; i < count; i++) {
        out[i] = dot(rows + i * size, x, size);
    }
}

static void add_rows(float *y, const float *scales, const float *rows, size_t count, size_t size) {
    for (size_t i = 0; i < count; i++) {
        add_scaled(y, scales[i], rows + i * size, size);
    }
}

static float half_at(const uint8_t *bytes) {
    uint16_t half = 0;
    memcpy(&half, bytes, sizeof(half));
    return float_from_half(half);
}

static void dequantise_q4_1(const uint8_t *block, size_t count, float *out) {
    for (; count > 0; count -= 32, block += 20, out += 32) {
        float scale = half_at(block);
        float minimum = half_at(block + 2);
        for (size_t i = 0; i < 16; i++) {
            out[i] = (float)(block[4 + i] & 0x0f) * scale + minimum;
            out[i + 16] = (float)(block[4 + i] >> 4) * scale + minimum;
        }
    }
}

static void dequantise_q8_0(const uint8_t *block, size_t count, float *out) {
    for (; count > 0; count -= 32, block += 34, out += 32) {
        float scale = half_at(block);
        for (size_t i = 0; i < 32; i++) {
            out[i] = (float)(int8_t)block[2 + i] * scale;
        }
    }
}

static void dequantise(enum tensor_type type, const void *blocks, size_t count, float *out) {
    switch (type) {
    case TENSOR_Q4_1:
        dequantise_q4_1(blocks, count, out);
        break;
    case TENSOR_Q8_0:
        dequantise_q8_0(blocks, count, out);
        break;
    case TENSOR_F16:
    case TENSOR_F32:
        memcpy(out, blocks, count * sizeof(*out));
        break;
    }
}

static void matmul(const struct matmul *work, size_t first, size_t last, float *scratch) {
    const struct matrix *weights = work->weights;
    if (work->quantised != NULL && kernels_is_quantised(weights->type)) {
        generic_matmul_quantised(work, first, last);
        return;
    }
    for (size_t row = first; row < last; row++) {
        dequantise(weights->type, (const uint8_t *)weights->data + row * weights->row_bytes, weights->columns, scratch);
        for (size_t b = 0; b < work->count; b++) {
            float sum = dot(scratch, work->x + b * work->x_stride, weights->columns);
            float *y = &work->y[b * work->y_stride + row];
            *y = work->accumulate ? *y + sum : sum;
        }
    }
}

const struct kernels kernels_generic = {
    .name = "generic",
    .matmul = matmul,
    .quantise = generic_quantise,
    .dequantise = dequantise,
    .add_scaled = add_scaled,
    .dot_rows = dot_rows,
    .add_rows = add_rows,
};
