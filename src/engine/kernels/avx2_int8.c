/* generic_int8.c, eight blocks at a time. */
#include "engine/kernels/rows.h"

#if defined(__x86_64__)

#include <immintrin.h>
#include <string.h>

#define AVX2 __attribute__((target("avx2,fma,f16c")))
#define INLINE AVX2 __attribute__((always_inline)) static inline
#define LANES KERNELS_QUANT_LANES
#define BLOCK KERNELS_QUANT_BLOCK
#define TILES_LEAST 8 /* batch rows for which putting weight rows side by side pays; with 4 it does not */

/* ---- activations ---- */

INLINE float largest_of(__m256 x) {
    __m128 half = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    half = _mm_max_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_max_ss(half, _mm_movehdup_ps(half)));
}

INLINE int sum_of(__m256i x) {
    __m128i half = _mm_add_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
    half = _mm_add_epi32(half, _mm_shuffle_epi32(half, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(half, _mm_shuffle_epi32(half, 0xb1)));
}

INLINE void quantise_block(const float *x, int8_t *quants, float *ret_scale, float *ret_sum) {
    const __m256 sign = _mm256_set1_ps(-0.0f);
    __m256 values[4];
    __m256i rounded[4];
    __m256 magnitude = _mm256_setzero_ps();
    for (size_t v = 0; v < 4; v++) {
        values[v] = _mm256_loadu_ps(x + 8 * v);
        magnitude = _mm256_max_ps(magnitude, _mm256_andnot_ps(sign, values[v]));
    }
    float largest = largest_of(magnitude);
    __m256 inverse = _mm256_set1_ps(largest > QUANTISE_LEAST ? 127.0f / largest : 0.0f);
    for (size_t v = 0; v < 4; v++) {
        rounded[v] = _mm256_cvtps_epi32(_mm256_mul_ps(values[v], inverse));
    }
    __m256i sums = _mm256_add_epi32(_mm256_add_epi32(rounded[0], rounded[1]), _mm256_add_epi32(rounded[2], rounded[3]));
    /* Packing works within halves of 128 bits; the permutation brings fours of bytes back into order. */
    __m256i bytes = _mm256_packs_epi16(_mm256_packs_epi32(rounded[0], rounded[1]), _mm256_packs_epi32(rounded[2], rounded[3]));
    bytes = _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
    _mm256_storeu_si256((__m256i *)(void *)quants, bytes);
    *ret_scale = largest / 127.0f;
    *ret_sum = *ret_scale * (float)sum_of(sums);
}

AVX2 void avx2_quantise(const float *x, size_t columns, const struct quantised *out, size_t row) {
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

/* ---- weights ---- */

/* A weight row taken apart: the quants of block k are the 32 bytes at `bytes` + k * `stride`. */
struct unpacked {
    const uint8_t *bytes;
    size_t stride;
    float *scales;   /* zeros behind the last block */
    float *minimums; /* of Q4_1 */
};

/* The 32 bits that hold scale and minimum of block `i`; 0 behind the last. Loaded so that they do not pass through memory again. */
INLINE __m128i both_of(const uint8_t *blocks, size_t i, size_t count) {
    int both = 0;
    if (i < count) {
        memcpy(&both, blocks + 20 * i, sizeof(both));
    }
    return _mm_cvtsi32_si128(both);
}

INLINE __m128i scale_of(const uint8_t *blocks, size_t i, size_t count) {
    uint16_t scale = 0;
    if (i < count) {
        memcpy(&scale, blocks + 34 * i, sizeof(scale));
    }
    return _mm_cvtsi32_si128(scale);
}

/* Of four blocks: the scales below, the minimums above. */
INLINE __m128i four_of(const uint8_t *blocks, size_t i, size_t count) {
    const __m128i apart = _mm_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15);
    __m128i low = _mm_unpacklo_epi32(both_of(blocks, i, count), both_of(blocks, i + 1, count));
    __m128i high = _mm_unpacklo_epi32(both_of(blocks, i + 2, count), both_of(blocks, i + 3, count));
    return _mm_shuffle_epi8(_mm_unpacklo_epi64(low, high), apart);
}

/* Of `count` blocks, at most eight. */
INLINE void unpack_factors_q4_1(const uint8_t *blocks, size_t count, float *scales, float *minimums) {
    __m128i low = four_of(blocks, 0, count);
    __m128i high = four_of(blocks, 4, count);
    _mm256_storeu_ps(scales, _mm256_cvtph_ps(_mm_unpacklo_epi64(low, high)));
    _mm256_storeu_ps(minimums, _mm256_cvtph_ps(_mm_unpackhi_epi64(low, high)));
}

INLINE void unpack_factors_q8_0(const uint8_t *blocks, size_t count, float *scales) {
    __m128i pairs[4];
    for (size_t i = 0; i < 4; i++) {
        pairs[i] = _mm_unpacklo_epi16(scale_of(blocks, 2 * i, count), scale_of(blocks, 2 * i + 1, count));
    }
    __m128i low = _mm_unpacklo_epi32(pairs[0], pairs[1]);
    _mm256_storeu_ps(scales, _mm256_cvtph_ps(_mm_unpacklo_epi64(low, _mm_unpacklo_epi32(pairs[2], pairs[3]))));
}

/* `scratch` holds `columns` floats. */
AVX2 static void unpack_q4_1(const uint8_t *block, size_t columns, float *scratch, struct unpacked *out) {
    const __m256i mask = _mm256_set1_epi8(0x0f);
    size_t blocks = columns / BLOCK;
    uint8_t *bytes = (uint8_t *)(scratch + 2 * kernels_scale_stride(columns));
    size_t k = 0;
    *out =
        (struct unpacked){.bytes = bytes, .stride = BLOCK, .scales = scratch, .minimums = scratch + kernels_scale_stride(columns)};
    for (; k + LANES <= blocks; k += LANES) {
        unpack_factors_q4_1(block + 20 * k, LANES, out->scales + k, out->minimums + k);
    }
    if (k < blocks) {
        unpack_factors_q4_1(block + 20 * k, blocks - k, out->scales + k, out->minimums + k);
    }
    for (k = 0; k < blocks; k++) {
        __m128i packed = _mm_loadu_si128((const __m128i *)(const void *)(block + 20 * k + 4));
        __m256i nibbles = _mm256_and_si256(_mm256_set_m128i(_mm_srli_epi16(packed, 4), packed), mask);
        _mm256_storeu_si256((__m256i *)(void *)(bytes + k * BLOCK), nibbles);
    }
}

AVX2 static void unpack_q8_0(const uint8_t *block, size_t columns, float *scratch, struct unpacked *out) {
    size_t blocks = columns / BLOCK;
    size_t k = 0;
    *out = (struct unpacked){.bytes = block + 2, .stride = 34, .scales = scratch};
    for (; k + LANES <= blocks; k += LANES) {
        unpack_factors_q8_0(block + 34 * k, LANES, scratch + k);
    }
    if (k < blocks) {
        unpack_factors_q8_0(block + 34 * k, blocks - k, scratch + k);
    }
}

/* ---- products ---- */

/* Eight sums of four products each. Two products of 8 bits fit in 16: at most 2 * 128 * 127. */
INLINE __m256i multiply(const uint8_t *weights, const int8_t *x, bool is_signed) {
    __m256i w = _mm256_loadu_si256((const __m256i *)(const void *)weights);
    __m256i quants = _mm256_loadu_si256((const __m256i *)(const void *)x);
    __m256i pairs =
        is_signed ? _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(quants, w)) : _mm256_maddubs_epi16(w, quants);
    return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
}

/* Lane k is the sum of vector k. */
INLINE __m256i sum_each(const __m256i parts[LANES]) {
    __m256i low = _mm256_hadd_epi32(_mm256_hadd_epi32(parts[0], parts[1]), _mm256_hadd_epi32(parts[2], parts[3]));
    __m256i high = _mm256_hadd_epi32(_mm256_hadd_epi32(parts[4], parts[5]), _mm256_hadd_epi32(parts[6], parts[7]));
    return _mm256_add_epi32(_mm256_permute2x128_si256(low, high, 0x20), _mm256_permute2x128_si256(low, high, 0x31));
}

/* `count` of eight blocks; `count` and `is_signed` are constants after inlining, the former except in the last group. */
INLINE __m256 add_group(__m256 sum, const struct unpacked *weights, size_t k, const int8_t *quants, const float *scales,
                        const float *sums, size_t count, bool is_signed) {
    __m256i parts[LANES];
    for (size_t i = 0; i < LANES; i++) {
        parts[i] = i < count ? multiply(weights->bytes + (k + i) * weights->stride, quants + (k + i) * BLOCK, is_signed)
                             : _mm256_setzero_si256();
    }
    __m256 factors = _mm256_mul_ps(_mm256_loadu_ps(weights->scales + k), _mm256_loadu_ps(scales + k));
    __m256 products = _mm256_mul_ps(_mm256_cvtepi32_ps(sum_each(parts)), factors);
    if (!is_signed) {
        products = _mm256_add_ps(products, _mm256_mul_ps(_mm256_loadu_ps(weights->minimums + k), _mm256_loadu_ps(sums + k)));
    }
    return _mm256_add_ps(sum, products);
}

INLINE float dot(const struct unpacked *weights, const int8_t *quants, const float *scales, const float *sums, size_t blocks,
                 bool is_signed) {
    __m256 sum = _mm256_setzero_ps();
    size_t k = 0;
    for (; k + LANES <= blocks; k += LANES) {
        sum = add_group(sum, weights, k, quants, scales, sums, LANES, is_signed);
    }
    if (k < blocks) {
        sum = add_group(sum, weights, k, quants, scales, sums, blocks - k, is_signed);
    }
    __m128 half = _mm_add_ps(_mm256_castps256_ps128(sum), _mm256_extractf128_ps(sum, 1));
    half = _mm_add_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_add_ss(half, _mm_movehdup_ps(half)));
}

AVX2 static float dot_q4_1(const struct unpacked *weights, const int8_t *quants, const float *scales, const float *sums,
                           size_t blocks) {
    return dot(weights, quants, scales, sums, blocks, false);
}

AVX2 static float dot_q8_0(const struct unpacked *weights, const int8_t *quants, const float *scales, size_t blocks) {
    return dot(weights, quants, scales, NULL, blocks, true);
}

static float dot_row(const struct matmul *work, const struct unpacked *weights, size_t b) {
    size_t columns = work->weights->columns;
    size_t stride = kernels_scale_stride(columns);
    const int8_t *quants = work->quantised->quants + b * columns;
    const float *scales = work->quantised->scales + b * stride;
    return work->weights->type == TENSOR_Q4_1
               ? dot_q4_1(weights, quants, scales, work->quantised->sums + b * stride, columns / BLOCK)
               : dot_q8_0(weights, quants, scales, columns / BLOCK);
}

static void unpack(const struct matrix *weights, size_t row, float *scratch, struct unpacked *out) {
    const uint8_t *blocks = (const uint8_t *)weights->data + row * weights->row_bytes;
    if (weights->type == TENSOR_Q4_1) {
        unpack_q4_1(blocks, weights->columns, scratch, out);
    } else {
        unpack_q8_0(blocks, weights->columns, scratch, out);
    }
}

/* Tiles of weight rows stay in the first-level cache while all batch rows pass by. */
void avx2_matmul_quantised(const struct matmul *work, size_t first, size_t last, float *scratch) {
    struct unpacked tile[KERNELS_TILE_ROWS];
    if (work->weights->type == TENSOR_Q4_1 && work->count >= TILES_LEAST) {
        first = avx2_matmul_q4_1_tiles(work, first, last, scratch);
    }
    for (size_t row = first; row < last; row += KERNELS_TILE_ROWS) {
        size_t rows = last - row < KERNELS_TILE_ROWS ? last - row : KERNELS_TILE_ROWS;
        for (size_t i = 0; i < rows; i++) {
            unpack(work->weights, row + i, scratch + i * work->weights->columns, &tile[i]);
        }
        for (size_t b = 0; b < work->count; b++) {
            for (size_t i = 0; i < rows; i++) {
                float *y = &work->y[b * work->y_stride + row + i];
                float sum = dot_row(work, &tile[i], b);
                *y = work->accumulate ? *y + sum : sum;
            }
        }
    }
}

#endif
