/* Safetensors headers that are good, and those that the format forbids. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "adapter/safetensors.h"

#include <string.h>

static void test_good(void **state) {
    static const char header[] =
        "{\"__metadata__\":{\"format\":\"pt\"},\"b\":{\"dtype\":\"BF16\",\"shape\":[2,3],\"data_offsets\":[8,20]},"
        "\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
        "\"none\":{\"dtype\":\"F16\",\"shape\":[0,4],\"data_offsets\":[20,20]},"
        "\"scalar\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[20,28]}}  ";
    struct safetensors found;
    struct error err = {0};
    char shape[32];
    (void)state;
    assert_int_equal(safetensors_parse(header, strlen(header), 28, &found, &err), 0);
    assert_int_equal(found.count, 4);
    assert_string_equal(found.tensors[0].name, "a");
    const struct safetensors_tensor *tensor = map_get(&found.by_name, "b");
    assert_non_null(tensor);
    assert_int_equal(tensor->type, SAFETENSORS_BF16);
    assert_int_equal(tensor->offset, 8);
    assert_int_equal(tensor->bytes, 12);
    safetensors_format_shape(tensor, shape, sizeof(shape));
    assert_string_equal(shape, "[2, 3]");
    safetensors_format_shape(map_get(&found.by_name, "scalar"), shape, sizeof(shape));
    assert_string_equal(shape, "[]");
    safetensors_release(&found);
}

#define TENSOR(type, shape, offsets) "{\"the-tensor\":{\"dtype\":\"" type "\",\"shape\":" shape ",\"data_offsets\":" offsets "}}"

static void test_bad(void **state) {
    static const struct {
        const char *header;
        uint64_t data_len;
        const char *phrase;
    } cases[] = {
        {"", 0, "safetensors header"},
        {"{", 0, "safetensors header"},
        {"[]", 0, "not an object"},
        {"{\"x\":1}", 0, "dtype (missing)"},
        {TENSOR("F99", "[1]", "[0,4]"), 4, "dtype F99 is not known"},
        {TENSOR("F32", "1", "[0,4]"), 4, "shape is not a list"},
        {TENSOR("F32", "[-1]", "[0,4]"), 4, "shape is not a list"},
        {TENSOR("F32", "[1.5]", "[0,4]"), 4, "shape is not a list"},
        {TENSOR("F32", "[1,1,1,1,1,1,1,1,1]", "[0,4]"), 4, "at most 8"},
        {TENSOR("F32", "[4611686018427387904,4]", "[0,4]"), 4, "overflows"},
        {TENSOR("F32", "[1]", "[0]"), 4, "data_offsets is not a pair"},
        {TENSOR("F32", "[1]", "[4,0]"), 4, "do not hold the 4 bytes"},
        {TENSOR("F32", "[2]", "[0,4]"), 4, "do not hold the 8 bytes"},
        {TENSOR("F32", "[1]", "[4,8]"), 8, "expected 0"},
        {TENSOR("F32", "[1]", "[0,4]"), 3, "the file holds 3"},
        {TENSOR("F32", "[1]", "[0,4]"), 9, "the file holds 9"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[2,"
         "6]}}",
         6, "expected 4"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]},\"a\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,"
         "0]}}",
         0, "safetensors header"},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct safetensors found;
        struct error err = {0};
        assert_true(safetensors_parse(cases[i].header, strlen(cases[i].header), cases[i].data_len, &found, &err) < 0);
        if (strstr(err.message, cases[i].phrase) == NULL) {
            fail_msg("case %zu: \"%s\" lacks \"%s\"", i, err.message, cases[i].phrase);
        }
    }
}

static void test_header_len(void **state) {
    static const struct {
        uint64_t claimed;
        uint64_t file_len;
        int result;
    } cases[] = {
        {10, 18, 0}, {10, 17, -1}, {0, 8, 0}, {UINT64_MAX, 1000, -1}, {SAFETENSORS_HEADER_BYTES_MAX + 1ull, UINT64_MAX, -1},
        {10, 7, -1},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct error err = {0};
        size_t len = 0;
        assert_int_equal(safetensors_header_len(&cases[i].claimed, 8, cases[i].file_len, &len, &err), cases[i].result);
        if (cases[i].result == 0) {
            assert_int_equal(len, cases[i].claimed);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_good), cmocka_unit_test(test_bad), cmocka_unit_test(test_header_len)};
    return cmocka_run_group_tests_name("safetensors", tests, NULL, NULL);
}
