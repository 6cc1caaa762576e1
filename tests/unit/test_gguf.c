/* GGUF files that are good, cut short or made up. */
#include "engine_support.h"

#include "engine/format/gguf.h"
#include "engine/format/tensor_type.h"

/* ---- writing small files ---- */

static void put_u32(struct buffer *out, uint32_t value) {
    buffer_append(out, &value, sizeof(value));
}

static void put_u64(struct buffer *out, uint64_t value) {
    buffer_append(out, &value, sizeof(value));
}

static void put_string(struct buffer *out, const char *text) {
    put_u64(out, strlen(text));
    buffer_append_text(out, text);
}

static void put_header(struct buffer *out, uint32_t version, uint64_t tensors, uint64_t entries) {
    buffer_append_text(out, "GGUF");
    put_u32(out, version);
    put_u64(out, tensors);
    put_u64(out, entries);
}

static void put_tensor(struct buffer *out, const char *name, uint32_t type, uint64_t columns, uint64_t rows, uint64_t offset) {
    put_string(out, name);
    put_u32(out, 2);
    put_u64(out, columns);
    put_u64(out, rows);
    put_u32(out, type);
    put_u64(out, offset);
}

static void put_padding(struct buffer *out, size_t data_bytes) {
    while (out->len % 32 != 0) {
        buffer_append_char(out, '\0');
    }
    for (size_t i = 0; i < data_bytes; i++) {
        buffer_append_char(out, '\0');
    }
}

static void assert_refused(const struct buffer *file, enum error_code code, const char *phrase) {
    struct gguf *gguf = NULL;
    struct error err = {0};
    assert_true(gguf_parse(file->data, file->len, &gguf, &err) < 0);
    if (strstr(err.message, phrase) == NULL || err.code != code) {
        fail_msg("error %d \"%s\", expected %d \"%s\"", (int)err.code, err.message, (int)code, phrase);
    }
}

/* ---- good files ---- */

static void test_values(void **state) {
    cleanup_buffer struct buffer file = BUFFER_INIT;
    struct gguf *gguf = NULL;
    struct error err = {0};
    struct gguf_string string;
    struct gguf_array array;
    uint64_t integer = 0;
    double number = 0;
    const float stored = 0.5f;
    (void)state;
    put_header(&file, 2, 1, 4);
    put_string(&file, "small");
    put_u32(&file, GGUF_INT8);
    buffer_append_char(&file, 7);
    put_string(&file, "half");
    put_u32(&file, GGUF_FLOAT32);
    buffer_append(&file, &stored, sizeof(stored));
    put_string(&file, "words");
    put_u32(&file, GGUF_ARRAY);
    put_u32(&file, GGUF_STRING);
    put_u64(&file, 2);
    put_string(&file, "one");
    put_string(&file, "");
    put_string(&file, "minus");
    put_u32(&file, GGUF_INT8);
    buffer_append_char(&file, (char)-1);
    put_tensor(&file, "t", TENSOR_F32, 3, 2, 0);
    put_padding(&file, 24);
    assert_int_equal(gguf_parse(file.data, file.len, &gguf, &err), 0);
    assert_int_equal(gguf_get_uint(gguf, "small", 7, &integer, &err), 0);
    assert_int_equal(integer, 7);
    assert_true(gguf_get_uint(gguf, "small", 6, &integer, &err) < 0);
    assert_true(gguf_get_uint(gguf, "minus", 1000, &integer, &err) < 0);
    assert_true(gguf_get_uint(gguf, "half", 1000, &integer, &err) < 0);
    assert_int_equal(gguf_get_float(gguf, "half", &number, &err), 0);
    assert_true(number == 0.5);
    assert_int_equal(gguf_get_array(gguf, "words", GGUF_STRING, &array, &err), 0);
    assert_int_equal(array.count, 2);
    string = gguf_array_next_string(&array);
    assert_int_equal(string.len, 3);
    assert_memory_equal(string.bytes, "one", 3);
    string = gguf_array_next_string(&array);
    assert_int_equal(string.len, 0);
    assert_true(gguf_get_string(gguf, "absent", &string, &err) < 0);
    assert_non_null(strstr(err.message, "\"absent\""));
    const struct gguf_tensor *tensor = gguf_tensor(gguf, "t");
    assert_non_null(tensor);
    assert_int_equal(tensor->shape[0], 3);
    assert_int_equal(tensor->shape[1], 2);
    assert_int_equal(tensor->bytes, 24);
    assert_null(gguf_tensor(gguf, "u"));
    gguf_free(gguf);
}

/* ---- bad ones ---- */

/* Every prefix of a real file gives an error, never a read beyond its end (the copy has exactly that size, so ASan would see it).
 */
static void test_truncated(void **state) {
    cleanup_free char *path = source_path("tests/fixtures/tiny/model.gguf");
    cleanup_buffer struct buffer file = BUFFER_INIT;
    struct error err = {0};
    (void)state;
    assert_int_equal(file_read(path, 1u << 20, &file, &err), 0);
    for (size_t len = 0; len < file.len; len += len < 8192 ? 7 : 997) {
        struct gguf *gguf = NULL;
        void *copy = malloc(len != 0 ? len : 1);
        memcpy(copy, file.data, len);
        assert_true(gguf_parse(copy, len, &gguf, &err) < 0);
        free(copy);
    }
}

/* A byte changed anywhere gives an error or a file, never a crash. */
static void test_damaged(void **state) {
    cleanup_free char *path = source_path("tests/fixtures/tiny/model.gguf");
    cleanup_buffer struct buffer file = BUFFER_INIT;
    struct error err = {0};
    (void)state;
    assert_int_equal(file_read(path, 1u << 20, &file, &err), 0);
    for (size_t at = 0; at < file.len && at < 20000; at += 13) {
        struct gguf *gguf = NULL;
        char saved = file.data[at];
        file.data[at] = (char)(saved ^ 0xff);
        if (gguf_parse(file.data, file.len, &gguf, &err) == 0) {
            gguf_free(gguf);
        }
        file.data[at] = saved;
    }
}

static void test_hostile_header(void **state) {
    static const struct {
        uint32_t version;
        uint64_t tensors;
        uint64_t entries;
        enum error_code code;
        const char *phrase;
    } cases[] = {
        {1, 0, 0, ERROR_UNSUPPORTED, "version 1"},
        {0x03000000, 0, 0, ERROR_UNSUPPORTED, "little-endian"},
        {3, UINT64_MAX, 0, ERROR_LIMIT, "number of tensors"},
        {3, 0, UINT64_MAX, ERROR_LIMIT, "number of metadata entries"},
        {3, GGUF_TENSORS_MAX, 0, ERROR_INVALID, "ends early"},
        {3, 0, GGUF_METADATA_MAX, ERROR_INVALID, "ends early"},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        cleanup_buffer struct buffer file = BUFFER_INIT;
        put_header(&file, cases[i].version, cases[i].tensors, cases[i].entries);
        assert_refused(&file, cases[i].code, cases[i].phrase);
    }
}

static void test_hostile_metadata(void **state) {
    static const struct {
        uint32_t type;
        uint32_t element;
        uint64_t count;
        enum error_code code;
        const char *phrase;
    } cases[] = {
        {99, 0, 0, ERROR_INVALID, "type 99"},
        {GGUF_STRING, 0xffffffff, 0xffffffff, ERROR_LIMIT, "length of a string"},
        {GGUF_ARRAY, GGUF_ARRAY, 1, ERROR_UNSUPPORTED, "arrays of arrays"},
        {GGUF_ARRAY, GGUF_UINT64, UINT64_MAX / 8, ERROR_INVALID, "ends early"},
        {GGUF_ARRAY, GGUF_UINT64, UINT64_MAX, ERROR_LIMIT, "length of an array"},
        {GGUF_ARRAY, GGUF_STRING, UINT64_MAX / 16, ERROR_INVALID, "ends early"},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        cleanup_buffer struct buffer file = BUFFER_INIT;
        put_header(&file, 3, 0, 1);
        put_string(&file, "the-key");
        put_u32(&file, cases[i].type);
        put_u32(&file, cases[i].element);
        put_u64(&file, cases[i].count);
        assert_refused(&file, cases[i].code, cases[i].phrase);
        assert_refused(&file, cases[i].code, "\"the-key\"");
    }
}

static void test_hostile_tensors(void **state) {
    static const struct {
        uint32_t type;
        uint64_t columns;
        uint64_t rows;
        uint64_t offset;
        enum error_code code;
        const char *phrase;
    } cases[] = {
        {77, 32, 1, 0, ERROR_UNSUPPORTED, "type number 77"},      {TENSOR_Q4_1, 33, 1, 0, ERROR_INVALID, "not a multiple of 32"},
        {TENSOR_F32, 0, 1, 0, ERROR_INVALID, "dimension 0 is 0"}, {TENSOR_F32, UINT64_MAX / 2, 8, 0, ERROR_LIMIT, "overflows"},
        {TENSOR_F32, 8, 1, 1, ERROR_INVALID, "do not fit"},       {TENSOR_F32, 8, 1, UINT64_MAX, ERROR_INVALID, "do not fit"},
        {TENSOR_F32, 9, 1, 0, ERROR_INVALID, "do not fit"},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        cleanup_buffer struct buffer file = BUFFER_INIT;
        put_header(&file, 3, 1, 0);
        put_tensor(&file, "the-tensor", cases[i].type, cases[i].columns, cases[i].rows, cases[i].offset);
        put_padding(&file, 32);
        assert_refused(&file, cases[i].code, cases[i].phrase);
        assert_refused(&file, cases[i].code, "\"the-tensor\"");
    }
}

static void test_duplicates(void **state) {
    cleanup_buffer struct buffer entries = BUFFER_INIT;
    cleanup_buffer struct buffer tensors = BUFFER_INIT;
    (void)state;
    put_header(&entries, 3, 0, 2);
    put_header(&tensors, 3, 2, 0);
    for (int i = 0; i < 2; i++) {
        put_string(&entries, "twin");
        put_u32(&entries, GGUF_BOOL);
        buffer_append_char(&entries, 1);
        put_tensor(&tensors, "twin", TENSOR_F32, 1, 1, 0);
    }
    assert_refused(&entries, ERROR_INVALID, "\"twin\" is there twice");
    assert_refused(&tensors, ERROR_INVALID, "\"twin\" is there twice");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),         cmocka_unit_test(test_truncated),        cmocka_unit_test(test_damaged),
        cmocka_unit_test(test_hostile_header), cmocka_unit_test(test_hostile_metadata), cmocka_unit_test(test_hostile_tensors),
        cmocka_unit_test(test_duplicates),
    };
    return cmocka_run_group_tests_name("gguf", tests, NULL, NULL);
}
