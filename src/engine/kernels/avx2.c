#include "engine/kernels/rows.h"

#if defined(__x86_64__)

#include <immintrin.h>
#include <string.h>

#define AVX2 __attribute__((target("avx2,fma,f16c")))
#define INLINE AVX2 __attribute__((always_inline)) static inline

/* Order of additions of one dot product: element i goes to vector i / 8 % 4, lane i % 8; a last part of less than 32 elements goes
 * by eights to vector 0; then vectors and lanes are added pairwise, and what is left of less than 8 elements one by one. */
#define VECTORS 4
#define STEP (8 * VECTORS)

INLINE float reduce(__m256 a, __m256 b, __m256 c, __m256 d) {
    __m256 sum = _mm256_add_ps(_mm256_add_ps(a, b), _mm256_add_ps(c, d));
    __m128 half = _mm_add_ps(_mm256_castps256_ps128(sum), _mm256_extractf128_ps(sum, 1));
    half = _mm_add_ps(half, _mm_movehl_ps(half, half));
    half = _mm_add_ss(half, _mm_movehdup_ps(half));
    return _mm_cvtss_f32(half);
}

/* `rows` dot products of one weight row with neighbouring batch rows; `rows` is a constant after inlining. */
INLINE void dot_few(const float *weights, const float *x, size_t x_stride, size_t rows, size_t count, float *out) {
    __m256 sums[3][VECTORS];
    size_t i = 0;
    for (size_t b = 0; b < rows; b++) {
        for (size_t v = 0; v < VECTORS; v++) {
            sums[b][v] = _mm256_setzero_ps();
        }
    }
    for (; i + STEP <= count; i += STEP) {
        for (size_t v = 0; v < VECTORS; v++) {
            __m256 weight = _mm256_loadu_ps(weights + i + 8 * v);
            for (size_t b = 0; b < rows; b++) {
                sums[b][v] = _mm256_fmadd_ps(weight, _mm256_loadu_ps(x + b * x_stride + i + 8 * v), sums[b][v]);
            }
        }
    }
    for (; i + 8 <= count; i += 8) {
        __m256 weight = _mm256_loadu_ps(weights + i);
        for (size_t b = 0; b < rows; b++) {
            sums[b][0] = _mm256_fmadd_ps(weight, _mm256_loadu_ps(x + b * x_stride + i), sums[b][0]);
        }
    }
    for (size_t b = 0; b < rows; b++) {
        float sum = reduce(sums[b][0], sums[b][1], sums[b][2], sums[b][3]);
        for (size_t tail = i; tail < count; tail++) {
            sum = __builtin_fmaf(weights[tail], x[b * x_stride + tail], sum);
        }
        out[b] = sum;
    }
}

AVX2 static void dot_one(const float *weights, const float *x, size_t x_stride, size_t count, float *out) {
    dot_few(weights, x, x_stride, 1, count, out);
}

AVX2 static void dot_three(const float *weights, const float *x, size_t x_stride, size_t count, float *out) {
    dot_few(weights, x, x_stride, 3, count, out);
}

AVX2 static float dot(const float *a, const float *b, size_t count) {
    float sum = 0;
    dot_one(a, b, 0, count, &sum);
    return sum;
}

AVX2 static void add_scaled(float *y, float scale, const float *x, size_t count) {
    __m256 factor = _mm256_set1_ps(scale);
    size_t i = 0;
    for (; i + 8 <= count; i += 8) {
        _mm256_storeu_ps(y + i, _mm256_fmadd_ps(factor, _mm256_loadu_ps(x + i), _mm256_loadu_ps(y + i)));
    }
    for (; i < count; i++) {
        y[i] = __builtin_fmaf(scale, x[i], y[i]);
    }
}

AVX2 static void dot_rows(const float *x, const float *rows, size_t count, size_t size, float *out) {
    size_t i = 0;
    for (; i + 3 <= count; i += 3) {
        dot_few(x, rows + i * size, size, 3, size, out + i);
    }
    for (; i < count; i++) {
        dot_few(x, rows + i * size, size, 1, size, out + i);
    }
}

/* `width` vectors of y from `at` on stay in registers while all rows pass by; `width` is a constant after inlining. */
INLINE void add_part(float *y, const float *scales, const float *rows, size_t count, size_t size, size_t at, size_t width) {
    __m256 sums[8];
    for (size_t v = 0; v < width; v++) {
        sums[v] = _mm256_loadu_ps(y + at + 8 * v);
    }
    for (size_t i = 0; i < count; i++) {
        __m256 factor = _mm256_set1_ps(scales[i]);
        for (size_t v = 0; v < width; v++) {
            sums[v] = _mm256_fmadd_ps(factor, _mm256_loadu_ps(rows + i * size + at + 8 * v), sums[v]);
        }
    }
    for (size_t v = 0; v < width; v++) {
        _mm256_storeu_ps(y + at + 8 * v, sums[v]);
    }
}

AVX2 static void add_rows(float *y, const float *scales, const float *rows, size_t count, size_t size) {
    size_t at = 0;
    for (; at + 64 <= size; at += 64) {
        add_part(y, scales, rows, count, size, at, 8);
    }
    for (; at + 8 <= size; at += 8) {
        add_part(y, scales, rows, count, size, at, 1);
    }
    for (; at < size; at++) {
        for (size_t i = 0; i < count; i++) {
            y[at] = __builtin_fmaf(scales[i], rows[i * size + at], y[at]);
        }
    }
}

INLINE float half_at(const uint8_t *bytes) {
    uint16_t half = 0;
    memcpy(&half, bytes, sizeof(half));
    return _cvtsh_ss(half);
}

INLINE __m256 float_from_u8(__m128i bytes) {
    return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes));
}

/* A block of 32 elements as four vectors. */
INLINE void unpack_q4_1(const uint8_t *block, __m256 out[VECTORS]) {
    const __m128i mask = _mm_set1_epi8(0x0f);
    __m256 scale = _mm256_set1_ps(half_at(block));
    __m256 minimum = _mm256_set1_ps(half_at(block + 2));
    __m128i packed = _mm_loadu_si128((const __m128i *)(const void *)(block + 4));
    __m128i low = _mm_and_si128(packed, mask);
    __m128i high = _mm_and_si128(_mm_srli_epi16(packed, 4), mask);
    out[0] = _mm256_fmadd_ps(float_from_u8(low), scale, minimum);
    out[1] = _mm256_fmadd_ps(float_from_u8(_mm_srli_si128(low, 8)), scale, minimum);
    out[2] = _mm256_fmadd_ps(float_from_u8(high), scale, minimum);
    out[3] = _mm256_fmadd_ps(float_from_u8(_mm_srli_si128(high, 8)), scale, minimum);
}

INLINE void unpack_q8_0(const uint8_t *block, __m256 out[VECTORS]) {
    __m256 scale = _mm256_set1_ps(half_at(block));
    for (size_t v = 0; v < VECTORS; v++) {
        __m128i bytes = _mm_loadl_epi64((const __m128i *)(const void *)(block + 2 + 8 * v));
        out[v] = _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes)), scale);
    }
}

typedef void unpack_fn(const uint8_t *block, __m256 out[VECTORS]);

/* `unpack` and `block_bytes` are constants after inlining, here and below. */
INLINE void dequantise_blocks(unpack_fn *unpack, size_t block_bytes, const uint8_t *block, size_t count, float *out) {
    for (; count > 0; count -= STEP, block += block_bytes, out += STEP) {
        __m256 weights[VECTORS];
        unpack(block, weights);
        for (size_t v = 0; v < VECTORS; v++) {
            _mm256_storeu_ps(out + 8 * v, weights[v]);
        }
    }
}

/* One batch row needs its weights once, so they stay in registers; the additions are those of dot_few. */
INLINE float dot_blocks(unpack_fn *unpack, size_t block_bytes, const uint8_t *block, const float *x, size_t count) {
    __m256 sums[VECTORS] = {_mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps()};
    for (; count > 0; count -= STEP, block += block_bytes, x += STEP) {
        __m256 weights[VECTORS];
        unpack(block, weights);
        for (size_t v = 0; v < VECTORS; v++) {
            sums[v] = _mm256_fmadd_ps(weights[v], _mm256_loadu_ps(x + 8 * v), sums[v]);
        }
    }
    return reduce(sums[0], sums[1], sums[2], sums[3]);
}

AVX2 static void dequantise_q4_1(const uint8_t *block, size_t count, float *out) {
    dequantise_blocks(unpack_q4_1, 20, block, count, out);
}

AVX2 static void dequantise_q8_0(const uint8_t *block, size_t count, float *out) {
    dequantise_blocks(unpack_q8_0, 34, block, count, out);
}

AVX2 static float dot_q4_1(const uint8_t *block, const float *x, size_t count) {
    return dot_blocks(unpack_q4_1, 20, block, x, count);
}

AVX2 static float dot_q8_0(const uint8_t *block, const float *x, size_t count) {
    return dot_blocks(unpack_q8_0, 34, block, x, count);
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

static void store(const struct matmul *work, size_t b, size_t row, float sum) {
    float *y = &work->y[b * work->y_stride + row];
    *y = work->accumulate ? *y + sum : sum;
}

/* One tile of dequantised weight rows with all batch rows: three of them at a time stay in the first-level cache with the tile. */
static void matmul_tile(const struct matmul *work, size_t first, size_t rows, const float *tile) {
    size_t columns = work->weights->columns;
    size_t b = 0;
    for (; b + 3 <= work->count; b += 3) {
        for (size_t row = 0; row < rows; row++) {
            float sums[3];
            dot_three(tile + row * columns, work->x + b * work->x_stride, work->x_stride, columns, sums);
            for (size_t i = 0; i < 3; i++) {
                store(work, b + i, first + row, sums[i]);
            }
        }
    }
    for (; b < work->count; b++) {
        for (size_t row = 0; row < rows; row++) {
            store(work, b, first + row, dot(tile + row * columns, work->x + b * work->x_stride, columns));
        }
    }
}

static void matmul_one(const struct matmul *work, size_t first, size_t last) {
    const struct matrix *weights = work->weights;
    for (size_t row = first; row < last; row++) {
        const uint8_t *blocks = (const uint8_t *)weights->data + row * weights->row_bytes;
        store(work, 0, row,
              weights->type == TENSOR_Q4_1 ? dot_q4_1(blocks, work->x, weights->columns)
                                           : dot_q8_0(blocks, work->x, weights->columns));
    }
}

static void matmul(const struct matmul *work, size_t first, size_t last, float *scratch) {
    const struct matrix *weights = work->weights;
    if (work->quantised != NULL && kernels_is_quantised(weights->type)) {
        avx2_matmul_quantised(work, first, last, scratch);
        return;
    }
    if (work->count == 1 && (weights->type == TENSOR_Q4_1 || weights->type == TENSOR_Q8_0)) {
        matmul_one(work, first, last);
        return;
    }
    for (size_t row = first; row < last; row += KERNELS_TILE_ROWS) {
        size_t rows = last - row < KERNELS_TILE_ROWS ? last - row : KERNELS_TILE_ROWS;
        for (size_t i = 0; i < rows; i++) {
            const uint8_t *blocks = (const uint8_t *)weights->data + (row + i) * weights->row_bytes;
            dequantise(weights->type, blocks, weights->columns, scratch + i * weights->columns);
        }
        matmul_tile(work, row, rows, scratch);
    }
}

const struct kernels kernels_avx2 = {
    .name = "avx2",
    .matmul = matmul,
    .quantise = avx2_quantise,
    .dequantise = dequantise,
    .add_scaled = add_scaled,
    .dot_rows = dot_rows,
    .add_rows = add_rows,
};

#endif
