/* generic_int8.c for several batch rows: eight weight rows of Q4_1 side by side, one in each lane of a vector, so that nothing
 * needs to be added across lanes and each weight that was loaded serves up to four batch rows. */
#include "engine/kernels/rows.h"

#if defined(__x86_64__)

#include <immintrin.h>
#include <string.h>

#define AVX2 __attribute__((target("avx2,fma,f16c")))
#define INLINE AVX2 __attribute__((always_inline)) static inline
#define LANES KERNELS_QUANT_LANES
#define BLOCK KERNELS_QUANT_BLOCK
#define ROWS 8             /* weight rows, one a lane */
#define GROUPS (BLOCK / 4) /* of four neighbouring quants, which are multiplied by one instruction */
#define BATCH 4            /* batch rows at once */
#define BLOCK_BYTES 20     /* of Q4_1: scale and minimum in half precision, 32 nibbles */

/* ---- weights ---- */

struct tile {
    __m256i *quants;  /* [blocks, GROUPS], in each lane four quants of a row */
    __m256 *scales;   /* [blocks], in each lane that of a row */
    __m256 *minimums; /* [blocks] */
};

INLINE __m128i factors_at(const uint8_t *block) {
    int both = 0;
    memcpy(&both, block, sizeof(both));
    return _mm_cvtsi32_si128(both);
}

/* Of four rows: the scales below, the minimums above. */
INLINE __m128i four_factors(const uint8_t *block, size_t row_bytes) {
    const __m128i apart = _mm_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15);
    __m128i low = _mm_unpacklo_epi32(factors_at(block), factors_at(block + row_bytes));
    __m128i high = _mm_unpacklo_epi32(factors_at(block + 2 * row_bytes), factors_at(block + 3 * row_bytes));
    return _mm_shuffle_epi8(_mm_unpacklo_epi64(low, high), apart);
}

INLINE __m256i quants_at(const uint8_t *block) {
    __m128i packed = _mm_loadu_si128((const __m128i *)(const void *)(block + 4));
    return _mm256_and_si256(_mm256_set_m128i(_mm_srli_epi16(packed, 4), packed), _mm256_set1_epi8(0x0f));
}

/* Lane r of out[g] is lane g of in[r]. */
INLINE void transpose(const __m256i in[ROWS], __m256i out[GROUPS]) {
    __m256i pairs[ROWS];
    __m256i fours[ROWS];
    for (size_t i = 0; i < ROWS; i += 2) {
        pairs[i] = _mm256_unpacklo_epi32(in[i], in[i + 1]);
        pairs[i + 1] = _mm256_unpackhi_epi32(in[i], in[i + 1]);
    }
    for (size_t i = 0; i < ROWS; i += 4) {
        fours[i] = _mm256_unpacklo_epi64(pairs[i], pairs[i + 2]);
        fours[i + 1] = _mm256_unpackhi_epi64(pairs[i], pairs[i + 2]);
        fours[i + 2] = _mm256_unpacklo_epi64(pairs[i + 1], pairs[i + 3]);
        fours[i + 3] = _mm256_unpackhi_epi64(pairs[i + 1], pairs[i + 3]);
    }
    for (size_t i = 0; i < 4; i++) {
        out[i] = _mm256_permute2x128_si256(fours[i], fours[i + 4], 0x20);
        out[i + 4] = _mm256_permute2x128_si256(fours[i], fours[i + 4], 0x31);
    }
}

AVX2 static void unpack(const uint8_t *rows, size_t row_bytes, size_t blocks, const struct tile *out) {
    for (size_t k = 0; k < blocks; k++) {
        const uint8_t *block = rows + k * BLOCK_BYTES;
        __m128i low = four_factors(block, row_bytes);
        __m128i high = four_factors(block + 4 * row_bytes, row_bytes);
        __m256i quants[ROWS];
        out->scales[k] = _mm256_cvtph_ps(_mm_unpacklo_epi64(low, high));
        out->minimums[k] = _mm256_cvtph_ps(_mm_unpackhi_epi64(low, high));
        for (size_t row = 0; row < ROWS; row++) {
            quants[row] = quants_at(block + row * row_bytes);
        }
        transpose(quants, out->quants + k * GROUPS);
    }
}

/* ---- products ---- */

INLINE __m256i four_quants(const int8_t *quants) {
    int four = 0;
    memcpy(&four, quants, sizeof(four));
    return _mm256_set1_epi32(four);
}

/* The values of one block for `count` batch rows, a constant after inlining. Sixteen bits hold the sum of a lane's 16 products of
 * each half: 16 * 15 * 127. */
INLINE void block_values(const struct matmul *work, const struct tile *tile, size_t b, size_t count, size_t k, __m256 out[BATCH]) {
    const struct quantised *x = work->quantised;
    size_t columns = work->weights->columns;
    size_t stride = kernels_scale_stride(columns);
    __m256i sums[BATCH];
    for (size_t i = 0; i < count; i++) {
        sums[i] = _mm256_setzero_si256();
    }
    for (size_t group = 0; group < GROUPS; group++) {
        __m256i weights = tile->quants[k * GROUPS + group];
        for (size_t i = 0; i < count; i++) {
            __m256i four = four_quants(x->quants + (b + i) * columns + k * BLOCK + group * 4);
            sums[i] = _mm256_add_epi16(sums[i], _mm256_maddubs_epi16(weights, four));
        }
    }
    for (size_t i = 0; i < count; i++) {
        __m256 product = _mm256_cvtepi32_ps(_mm256_madd_epi16(sums[i], _mm256_set1_epi16(1)));
        __m256 factor = _mm256_mul_ps(tile->scales[k], _mm256_set1_ps(x->scales[(b + i) * stride + k]));
        __m256 minimum = _mm256_mul_ps(tile->minimums[k], _mm256_set1_ps(x->sums[(b + i) * stride + k]));
        out[i] = _mm256_add_ps(_mm256_mul_ps(product, factor), minimum);
    }
}

/* Blocks k, k + LANES, ... are added in one order, and these sums pairwise: the order of generic_int8.c. */
INLINE void add_batch(const struct matmul *work, const struct tile *tile, size_t b, size_t count, size_t row) {
    size_t blocks = work->weights->columns / BLOCK;
    __m256 sums[LANES][BATCH];
    for (size_t lane = 0; lane < LANES; lane++) {
        __m256 sum[BATCH];
        for (size_t i = 0; i < count; i++) {
            sum[i] = _mm256_setzero_ps();
        }
        for (size_t k = lane; k < blocks; k += LANES) {
            __m256 values[BATCH];
            block_values(work, tile, b, count, k, values);
            for (size_t i = 0; i < count; i++) {
                sum[i] = _mm256_add_ps(sum[i], values[i]);
            }
        }
        for (size_t i = 0; i < count; i++) {
            sums[lane][i] = sum[i];
        }
    }
    for (size_t i = 0; i < count; i++) {
        float *y = &work->y[(b + i) * work->y_stride + row];
        __m256 even = _mm256_add_ps(_mm256_add_ps(sums[0][i], sums[4][i]), _mm256_add_ps(sums[2][i], sums[6][i]));
        __m256 odd = _mm256_add_ps(_mm256_add_ps(sums[1][i], sums[5][i]), _mm256_add_ps(sums[3][i], sums[7][i]));
        __m256 sum = _mm256_add_ps(even, odd);
        _mm256_storeu_ps(y, work->accumulate ? _mm256_add_ps(_mm256_loadu_ps(y), sum) : sum);
    }
}

AVX2 static void add_four(const struct matmul *work, const struct tile *tile, size_t b, size_t row) {
    add_batch(work, tile, b, 4, row);
}

AVX2 static void add_two(const struct matmul *work, const struct tile *tile, size_t b, size_t row) {
    add_batch(work, tile, b, 2, row);
}

AVX2 static void add_one(const struct matmul *work, const struct tile *tile, size_t b, size_t row) {
    add_batch(work, tile, b, 1, row);
}

size_t avx2_matmul_q4_1_tiles(const struct matmul *work, size_t first, size_t last, float *scratch) {
    const struct matrix *weights = work->weights;
    size_t blocks = weights->columns / BLOCK;
    /* Ten bytes a column and a little to be aligned, of four times KERNELS_TILE_ROWS. */
    __m256i *memory = (__m256i *)(((uintptr_t)scratch + sizeof(__m256i) - 1) / sizeof(__m256i) * sizeof(__m256i));
    struct tile tile = {.quants = memory,
                        .scales = (__m256 *)(memory + blocks * GROUPS),
                        .minimums = (__m256 *)(memory + blocks * GROUPS + blocks)};
    for (; first + ROWS <= last; first += ROWS) {
        unpack((const uint8_t *)weights->data + first * weights->row_bytes, weights->row_bytes, blocks, &tile);
        size_t b = 0;
        for (; b + 4 <= work->count; b += 4) {
            add_four(work, &tile, b, first);
        }
        for (; b + 2 <= work->count; b += 2) {
            add_two(work, &tile, b, first);
        }
        if (b < work->count) {
            add_one(work, &tile, b, first);
        }
    }
    return first;
}

#endif
