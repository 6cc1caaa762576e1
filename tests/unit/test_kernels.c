/* Every row of the kernel table against arithmetic in double precision, and against itself in other batches. */
#include "engine_support.h"

#include "engine/kernels/float16.h"

#include <math.h>

static const char *const rows[] = {"generic", "avx2"};
static const enum tensor_type types[] = {TENSOR_F32, TENSOR_Q4_1, TENSOR_Q8_0};

static uint64_t random_state = 1;

static uint32_t random_u32(void) {
    random_state = random_state * 6364136223846793005U + 1442695040888963407U;
    return (uint32_t)(random_state >> 33);
}

static float random_float(void) {
    return (float)random_u32() / (float)0x40000000 - 1.0f;
}

/* A half between about 2^-6 and 2^-4, of either sign. */
static uint16_t random_half(void) {
    return (uint16_t)((random_u32() & 0x83ff) | (9 + random_u32() % 3) << 10);
}

/* A random matrix; `out_values` is what it means, computed here from the format's definition. */
static struct matrix make_matrix(enum tensor_type type, size_t row_count, size_t columns, double *out_values) {
    struct matrix matrix = {.type = type, .rows = row_count, .columns = columns, .row_bytes = tensor_type_row_bytes(type, columns)};
    uint8_t *data = xmalloc(row_count * matrix.row_bytes + 1);
    uint8_t *at = data + 1; /* weights in a mapped file need not be aligned */
    for (size_t i = 0; i < row_count * columns; i += type == TENSOR_F32 ? 1 : 32) {
        uint16_t scale = random_half();
        uint16_t minimum = random_half();
        if (type == TENSOR_F32) {
            float value = random_float();
            memcpy(at, &value, sizeof(value));
            out_values[i] = (double)value;
            at += sizeof(value);
            continue;
        }
        size_t header = type == TENSOR_Q4_1 ? 4 : 2;
        memcpy(at, &scale, sizeof(scale));
        if (type == TENSOR_Q4_1) {
            memcpy(at + 2, &minimum, sizeof(minimum));
        }
        for (size_t j = 0; j < (type == TENSOR_Q4_1 ? 16 : 32); j++) {
            at[header + j] = (uint8_t)random_u32();
        }
        for (size_t j = 0; j < 32; j++) {
            if (type == TENSOR_Q4_1) {
                int quant = j < 16 ? at[4 + j] & 0x0f : at[4 + j - 16] >> 4;
                out_values[i + j] = quant * (double)float_from_half(scale) + (double)float_from_half(minimum);
            } else {
                out_values[i + j] = (int8_t)at[2 + j] * (double)float_from_half(scale);
            }
        }
        at += type == TENSOR_Q4_1 ? 20 : 34;
    }
    matrix.data = data + 1;
    return matrix;
}

static void matrix_release(struct matrix *matrix) {
    free((void *)((uintptr_t)matrix->data - 1));
}

static void check_matmul(const struct kernels *kernels, enum tensor_type type, size_t row_count, size_t columns, size_t batch) {
    cleanup_free double *values = xcalloc(row_count * columns, sizeof(*values));
    cleanup_free float *x = xcalloc(batch * columns, sizeof(*x));
    cleanup_free float *y = xcalloc(batch * row_count, sizeof(*y));
    cleanup_free float *alone = xcalloc(row_count, sizeof(*alone));
    cleanup_free float *scratch = xcalloc(KERNELS_TILE_ROWS * columns, sizeof(*scratch));
    struct matrix matrix = make_matrix(type, row_count, columns, values);
    for (size_t i = 0; i < batch * columns; i++) {
        x[i] = random_float();
    }
    struct matmul work = {.weights = &matrix, .x = x, .x_stride = columns, .count = batch, .y = y, .y_stride = row_count};
    kernels->matmul(&work, 0, row_count / 3, scratch);
    kernels->matmul(&work, row_count / 3, row_count, scratch);
    for (size_t b = 0; b < batch; b++) {
        struct matmul one = {
            .weights = &matrix, .x = x + b * columns, .x_stride = columns, .count = 1, .y = alone, .y_stride = row_count};
        kernels->matmul(&one, 0, row_count, scratch);
        assert_memory_equal(alone, y + b * row_count, row_count * sizeof(*y)); /* alone as in company */
        for (size_t row = 0; row < row_count; row++) {
            double sum = 0;
            double magnitude = 0;
            for (size_t i = 0; i < columns; i++) {
                double product = values[row * columns + i] * (double)x[b * columns + i];
                sum += product;
                magnitude += fabs(product);
            }
            assert_true(fabs((double)y[b * row_count + row] - sum) <= 1e-5 * magnitude + 1e-12);
        }
    }
    work.accumulate = true;
    memcpy(alone, y, row_count * sizeof(*y));
    work.count = 1;
    kernels->matmul(&work, 0, row_count, scratch);
    for (size_t row = 0; row < row_count; row++) {
        assert_true(y[row] == alone[row] + alone[row]);
    }
    matrix_release(&matrix);
}

static void test_matmul(void **state) {
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const struct kernels *kernels = kernels_find(rows[i]);
        if (kernels == NULL) {
            print_message("skipped: this processor cannot run %s\n", rows[i]);
            continue;
        }
        for (size_t type = 0; type < ARRAY_LEN(types); type++) {
            for (size_t batch = 1; batch <= 8; batch++) {
                check_matmul(kernels, types[type], 13, 96, batch);
            }
            check_matmul(kernels, types[type], 5, 576, 4);
        }
        for (size_t columns = 1; columns < 70; columns++) { /* A matrices and heads of any width */
            check_matmul(kernels, TENSOR_F32, 3, columns, 4);
        }
    }
}

/* The fastest row against the specification, in float. */
static void test_agrees_with_generic(void **state) {
    enum { ROWS = 9, COLUMNS = 576, BATCH = 4 };
    const struct kernels *both[] = {kernels_find("generic"), kernels_find(NULL)};
    cleanup_free double *values = xcalloc(ROWS * COLUMNS, sizeof(*values));
    cleanup_free float *scratch = xcalloc(KERNELS_TILE_ROWS * COLUMNS, sizeof(*scratch));
    float x[BATCH * COLUMNS];
    float y[2][BATCH * ROWS];
    double worst = 0;
    (void)state;
    for (size_t type = 0; type < ARRAY_LEN(types); type++) {
        struct matrix matrix = make_matrix(types[type], ROWS, COLUMNS, values);
        for (size_t i = 0; i < BATCH * COLUMNS; i++) {
            x[i] = random_float();
        }
        for (size_t i = 0; i < 2; i++) {
            const struct matmul work = {
                .weights = &matrix, .x = x, .x_stride = COLUMNS, .count = BATCH, .y = y[i], .y_stride = ROWS};
            both[i]->matmul(&work, 0, ROWS, scratch);
        }
        for (size_t at = 0; at < BATCH * ROWS; at++) {
            double magnitude = 0;
            for (size_t i = 0; i < COLUMNS; i++) {
                magnitude += fabs(values[at % ROWS * COLUMNS + i] * (double)x[at / ROWS * COLUMNS + i]);
            }
            double difference = fabs((double)y[0][at] - (double)y[1][at]) / magnitude;
            worst = difference > worst ? difference : worst;
        }
        matrix_release(&matrix);
    }
    print_message("kernels: %s; largest difference from generic: %.2g of what is added\n", both[1]->name, worst);
    assert_true(worst <= 1e-4);
}

/* ---- activations of 8 bits ---- */

struct rounded {
    struct quantised quantised;
    size_t quants_bytes;
    size_t scales_bytes;
};

static struct rounded round_rows(const struct kernels *kernels, const float *x, size_t batch, size_t columns) {
    size_t stride = kernels_scale_stride(columns);
    struct rounded out = {.quants_bytes = batch * columns, .scales_bytes = batch * stride * sizeof(float)};
    out.quantised = (struct quantised){
        .quants = xcalloc(1, out.quants_bytes), .scales = xcalloc(1, out.scales_bytes), .sums = xcalloc(1, out.scales_bytes)};
    for (size_t b = 0; b < batch; b++) {
        kernels->quantise(x + b * columns, columns, &out.quantised, b);
    }
    return out;
}

static void rounded_release(struct rounded *rounded) {
    free(rounded->quantised.quants);
    free(rounded->quantised.scales);
    free(rounded->quantised.sums);
}

/* What comes out is what the rounded activations mean, and these are near the others. */
static void check_quantised(const struct kernels *kernels, const struct matrix *matrix, const double *values, const float *x,
                            size_t batch, float *y) {
    size_t columns = matrix->columns;
    cleanup_free float *scratch = xcalloc(KERNELS_TILE_ROWS * columns, sizeof(*scratch));
    struct rounded rounded = round_rows(kernels, x, batch, columns);
    const struct matmul work = {.weights = matrix,
                                .x = x,
                                .x_stride = columns,
                                .quantised = &rounded.quantised,
                                .count = batch,
                                .y = y,
                                .y_stride = matrix->rows};
    kernels->matmul(&work, 0, matrix->rows / 3, scratch);
    kernels->matmul(&work, matrix->rows / 3, matrix->rows, scratch);
    for (size_t b = 0; b < batch; b++) {
        for (size_t row = 0; row < matrix->rows; row++) {
            double sum = 0;
            double magnitude = 0;
            for (size_t i = 0; i < columns; i++) {
                double scale = (double)rounded.quantised.scales[b * kernels_scale_stride(columns) + i / KERNELS_QUANT_BLOCK];
                double rounded_x = scale * rounded.quantised.quants[b * columns + i];
                assert_true(fabs(rounded_x - (double)x[b * columns + i]) <= 0.501 * scale);
                sum += values[row * columns + i] * rounded_x;
                magnitude += fabs(values[row * columns + i] * rounded_x);
            }
            /* Q4_1 adds products of nibbles and a minimum that may nearly cancel. */
            assert_true(fabs((double)y[b * matrix->rows + row] - sum) <= 1e-4 * magnitude + 1e-6);
        }
    }
    rounded_release(&rounded);
}

static void fill(float *x, size_t count, int kind) {
    for (size_t i = 0; i < count; i++) {
        static const float edges[] = {1.0f, -1.0f, 0.5f, 0.0f, -0.0f, 1e-38f, 0.25f, -0.75f};
        x[i] = kind == 0 ? random_float() : kind == 1 ? edges[random_u32() % 8] : kind == 2 ? 0.0f : -1e4f;
    }
}

static void test_quantised_matmul(void **state) {
    static const size_t widths[] = {32, 64, 96, 256, 288, 576, 1536};
    enum { ROWS = 27, BATCH_MAX = 11 };
    float *x = xcalloc((size_t)BATCH_MAX * 1536, sizeof(*x));
    float expected[BATCH_MAX * ROWS];
    float found[BATCH_MAX * ROWS];
    (void)state;
    for (size_t at = 0; at < ARRAY_LEN(widths) * 2 * BATCH_MAX * 4; at++) {
        size_t columns = widths[at % ARRAY_LEN(widths)];
        enum tensor_type type = types[1 + at / ARRAY_LEN(widths) % 2];
        size_t batch = 1 + at / ARRAY_LEN(widths) / 2 % BATCH_MAX;
        cleanup_free double *values = xcalloc(ROWS * columns, sizeof(*values));
        struct matrix matrix = make_matrix(type, ROWS, columns, values);
        fill(x, batch * columns, (int)(at / ARRAY_LEN(widths) / 2 / BATCH_MAX));
        check_quantised(kernels_find("generic"), &matrix, values, x, batch, expected);
        for (size_t i = 1; i < ARRAY_LEN(rows); i++) {
            if (kernels_find(rows[i]) != NULL) {
                check_quantised(kernels_find(rows[i]), &matrix, values, x, batch, found);
                assert_memory_equal(found, expected, batch * ROWS * sizeof(*found)); /* to the last bit */
            }
        }
        matrix_release(&matrix);
    }
    free(x);
}

/* Bytes, scales and sums of every row of the table are the same, up to halves between two integers. */
static void test_quantise(void **state) {
    enum { COLUMNS = 96, BATCH = 50 };
    float x[BATCH * COLUMNS];
    (void)state;
    for (int kind = 0; kind < 4; kind++) {
        fill(x, BATCH * COLUMNS, kind);
        struct rounded expected = round_rows(kernels_find("generic"), x, BATCH, COLUMNS);
        for (size_t i = 1; i < ARRAY_LEN(rows) && kernels_find(rows[i]) != NULL; i++) {
            struct rounded found = round_rows(kernels_find(rows[i]), x, BATCH, COLUMNS);
            assert_memory_equal(found.quantised.quants, expected.quantised.quants, found.quants_bytes);
            assert_memory_equal(found.quantised.scales, expected.quantised.scales, found.scales_bytes);
            assert_memory_equal(found.quantised.sums, expected.quantised.sums, found.scales_bytes);
            rounded_release(&found);
        }
        rounded_release(&expected);
    }
}

static void test_add_scaled(void **state) {
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const struct kernels *kernels = kernels_find(rows[i]);
        for (size_t count = 0; kernels != NULL && count < 40; count++) {
            float x[40];
            float y[40];
            float before[40];
            for (size_t j = 0; j < 40; j++) {
                x[j] = random_float();
                before[j] = y[j] = random_float();
            }
            kernels->add_scaled(y, 0.75f, x, count);
            for (size_t j = 0; j < 40; j++) {
                double expected = (double)before[j] + (j < count ? 0.75 * (double)x[j] : 0);
                assert_true(fabs((double)y[j] - expected) < 1e-6);
            }
        }
    }
}

/* Attention's two halves: every row of keys with one query, and every row of values with its weight, each in its order. */
static void test_rows(void **state) {
    static const size_t sizes[] = {1, 7, 8, 16, 20, 64, 80, 128};
    enum { COUNT = 16, WIDEST = 128 };
    float values[COUNT * WIDEST];
    float x[WIDEST];
    float weights[COUNT];
    (void)state;
    fill(values, ARRAY_LEN(values), 0);
    fill(x, ARRAY_LEN(x), 0);
    fill(weights, COUNT, 0);
    for (size_t at = 0; at < ARRAY_LEN(rows) * ARRAY_LEN(sizes) * (COUNT + 1); at++) {
        const struct kernels *kernels = kernels_find(rows[at % ARRAY_LEN(rows)]);
        size_t size = sizes[at / ARRAY_LEN(rows) % ARRAY_LEN(sizes)];
        size_t count = at / ARRAY_LEN(rows) / ARRAY_LEN(sizes);
        float together[COUNT];
        float sums[2][WIDEST] = {{0}};
        if (kernels == NULL) {
            continue;
        }
        kernels->dot_rows(x, values, count, size, together);
        kernels->add_rows(sums[0], weights, values, count, size);
        for (size_t i = 0; i < count; i++) {
            float alone = 0;
            double expected = 0;
            kernels->dot_rows(x, values + i * size, 1, size, &alone);
            kernels->add_scaled(sums[1], weights[i], values + i * size, size);
            assert_memory_equal(&alone, &together[i], sizeof(alone));
            for (size_t c = 0; c < size; c++) {
                expected += (double)x[c] * (double)values[i * size + c];
            }
            assert_true(fabs((double)alone - expected) < 1e-5 * (double)size);
        }
        assert_memory_equal(sums[0], sums[1], sizeof(sums[0]));
    }
}

static void test_half(void **state) {
    static const struct {
        uint16_t half;
        float value;
    } cases[] = {
        {0x0000, 0.0f},     {0x3c00, 1.0f},          {0xc000, -2.0f},    {0x3555, 0x1.554p-2f},
        {0x0001, 0x1p-24f}, {0x83ff, -0x1.ff8p-15f}, {0x7bff, 65504.0f},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        assert_true(float_from_half(cases[i].half) == cases[i].value);
    }
    assert_true(isinf(float_from_half(0x7c00)) && float_from_half(0xfc00) < 0 && isnan(float_from_half(0x7e00)));
    assert_true(float_from_bfloat16(0xbf80) == -1.0f);
}

static void test_softmax(void **state) {
    float x[] = {1000.0f, 1001.0f, 999.0f}; /* would overflow without the maximum taken off */
    (void)state;
    kernels_softmax(x, 3);
    assert_true(fabs((double)x[0] - 0.24472847) < 1e-6);
    assert_true(fabs((double)x[0] + (double)x[1] + (double)x[2] - 1) < 1e-6);
}

static void test_rope_and_norm(void **state) {
    float x[] = {1, 2, 3, 4, 10, 20, 30, 40}; /* two heads of four */
    const float cosines[] = {0, 1};
    const float sines[] = {1, 0};
    const float expected[] = {-3, 2, 1, 4, -30, 20, 10, 40};
    const float weight[] = {1, 2};
    const float values[] = {3, 4};
    float out[2];
    (void)state;
    kernels_rope(x, 2, 4, cosines, sines);
    assert_memory_equal(x, expected, sizeof(expected));
    kernels_rmsnorm(values, weight, 2, 0, out);
    assert_true(fabs((double)out[0] - 3 / sqrt(12.5)) < 1e-6 && fabs((double)out[1] - 8 / sqrt(12.5)) < 1e-6);
}

static void count_visits(void *arg, int thread, size_t first, size_t last) {
    unsigned char *visits = arg;
    (void)thread;
    for (size_t i = first; i < last; i++) {
        visits[i]++;
    }
}

static void test_pool(void **state) {
    (void)state;
    for (int threads = 1; threads <= 4; threads++) {
        struct pool *pool = NULL;
        struct error err = {0};
        assert_int_equal(pool_new(threads, &pool, &err), 0);
        for (size_t count = 0; count < 200; count++) {
            unsigned char visits[200] = {0};
            pool_run(pool, count, 1 + count % 7, count_visits, visits);
            for (size_t i = 0; i < 200; i++) {
                assert_int_equal(visits[i], i < count ? 1 : 0);
            }
        }
        pool_free(pool);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_agrees_with_generic),
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_quantise),
        cmocka_unit_test(test_quantised_matmul),
        cmocka_unit_test(test_matmul),
        cmocka_unit_test(test_add_scaled),
        cmocka_unit_test(test_half),
        cmocka_unit_test(test_softmax),
        cmocka_unit_test(test_rope_and_norm),
        cmocka_unit_test(test_pool),
    };
    return cmocka_run_group_tests_name("kernels", tests, NULL, NULL);
}
