#include "engine/format/gguf.h"

#include "base/map.h"
#include "engine/format/tensor_type.h"

#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define MAGIC "GGUF"
#define ALIGNMENT_DEFAULT 32
#define ALIGNMENT_MAX 65536

struct value {
    enum gguf_type type;
    union {
        uint64_t bits; /* integers, sign-extended; bool */
        double number;
        struct gguf_string string;
        struct gguf_array array;
    };
};

struct gguf {
    const uint8_t *bytes;
    size_t len;
    bool is_mapped;
    struct value *values;
    struct gguf_tensor *tensors;
    size_t tensor_count;
    struct map values_by_key;
    struct map tensors_by_name; /* owns the names */
};

/* ---- bytes ---- */

struct reader {
    const uint8_t *bytes;
    size_t len;
    size_t at;
    struct error *err;
};

static int read_bytes(struct reader *reader, size_t len, const uint8_t **ret_bytes) {
    if (len > reader->len - reader->at) {
        return error_set(reader->err, ERROR_INVALID, "the file ends early: %zu bytes are needed at offset %zu, it has %zu", len,
                         reader->at, reader->len);
    }
    *ret_bytes = reader->bytes + reader->at;
    reader->at += len;
    return 0;
}

static int read_u32(struct reader *reader, uint32_t *ret_value) {
    const uint8_t *bytes = NULL;
    if (read_bytes(reader, sizeof(*ret_value), &bytes) < 0) {
        return -1;
    }
    memcpy(ret_value, bytes, sizeof(*ret_value));
    return 0;
}

static int read_u64(struct reader *reader, uint64_t *ret_value) {
    const uint8_t *bytes = NULL;
    if (read_bytes(reader, sizeof(*ret_value), &bytes) < 0) {
        return -1;
    }
    memcpy(ret_value, bytes, sizeof(*ret_value));
    return 0;
}

/* A count or length, checked against its stated limit. */
static int read_size(struct reader *reader, uint64_t maximum, const char *what, size_t *ret_value) {
    uint64_t value = 0;
    if (read_u64(reader, &value) < 0) {
        return -1;
    }
    if (value > maximum) {
        return error_set(reader->err, ERROR_LIMIT, "%s is %" PRIu64 ", at most %" PRIu64 " is accepted", what, value, maximum);
    }
    *ret_value = (size_t)value;
    return 0;
}

static int read_string(struct reader *reader, struct gguf_string *ret_string) {
    size_t len = 0;
    const uint8_t *bytes = NULL;
    if (read_size(reader, GGUF_STRING_BYTES_MAX, "the length of a string", &len) < 0 || read_bytes(reader, len, &bytes) < 0) {
        return -1;
    }
    *ret_string = (struct gguf_string){.bytes = (const char *)bytes, .len = len};
    return 0;
}

/* A key or tensor name as a string of the caller's. */
static int read_name(struct reader *reader, const char *what, char **ret_name) {
    size_t len = 0;
    const uint8_t *bytes = NULL;
    if (read_size(reader, GGUF_NAME_BYTES_MAX, what, &len) < 0 || read_bytes(reader, len, &bytes) < 0) {
        return -1;
    }
    if (len == 0 || memchr(bytes, 0, len) != NULL) {
        return error_set(reader->err, ERROR_INVALID, "a name at offset %zu is empty or holds a NUL", reader->at - len);
    }
    *ret_name = xstrndup((const char *)bytes, len);
    return 0;
}

/* ---- values ---- */

static const unsigned char fixed_bytes[GGUF_TYPE_COUNT] = {
    [GGUF_UINT8] = 1, [GGUF_INT8] = 1,    [GGUF_UINT16] = 2, [GGUF_INT16] = 2, [GGUF_UINT32] = 4,  [GGUF_INT32] = 4,
    [GGUF_BOOL] = 1,  [GGUF_FLOAT32] = 4, [GGUF_UINT64] = 8, [GGUF_INT64] = 8, [GGUF_FLOAT64] = 8,
};

static int read_type(struct reader *reader, enum gguf_type *ret_type) {
    uint32_t type = 0;
    if (read_u32(reader, &type) < 0) {
        return -1;
    }
    if (type >= GGUF_TYPE_COUNT) {
        return error_set(reader->err, ERROR_INVALID, "type %" PRIu32 " does not exist", type);
    }
    *ret_type = (enum gguf_type)type;
    return 0;
}

static int read_array(struct reader *reader, struct gguf_array *array) {
    if (read_type(reader, &array->type) < 0 || read_size(reader, SIZE_MAX / 8, "the length of an array", &array->count) < 0) {
        return -1;
    }
    if (array->type == GGUF_ARRAY) {
        return error_set(reader->err, ERROR_UNSUPPORTED, "arrays of arrays are not supported");
    }
    array->bytes = reader->bytes + reader->at;
    if (array->type != GGUF_STRING) {
        return read_bytes(reader, array->count * fixed_bytes[array->type], &array->bytes);
    }
    for (size_t i = 0; i < array->count; i++) {
        struct gguf_string unused;
        if (read_string(reader, &unused) < 0) {
            return -1;
        }
    }
    return 0;
}

static double float_value(enum gguf_type type, const uint8_t *bytes) {
    float single = 0;
    double value = 0;
    if (type == GGUF_FLOAT64) {
        memcpy(&value, bytes, sizeof(value));
        return value;
    }
    memcpy(&single, bytes, sizeof(single));
    return (double)single;
}

static uint64_t integer_value(enum gguf_type type, const uint8_t *bytes) {
    uint64_t bits = 0;
    unsigned shift = 64 - 8u * fixed_bytes[type];
    memcpy(&bits, bytes, fixed_bytes[type]);
    bool is_signed = type == GGUF_INT8 || type == GGUF_INT16 || type == GGUF_INT32;
    return is_signed ? (uint64_t)((int64_t)(bits << shift) >> shift) : bits;
}

static int read_value(struct reader *reader, struct value *value) {
    const uint8_t *bytes = NULL;
    if (read_type(reader, &value->type) < 0) {
        return -1;
    }
    if (value->type == GGUF_STRING) {
        return read_string(reader, &value->string);
    }
    if (value->type == GGUF_ARRAY) {
        return read_array(reader, &value->array);
    }
    if (read_bytes(reader, fixed_bytes[value->type], &bytes) < 0) {
        return -1;
    }
    if (value->type == GGUF_FLOAT32 || value->type == GGUF_FLOAT64) {
        value->number = float_value(value->type, bytes);
    } else {
        value->bits = integer_value(value->type, bytes);
    }
    return 0;
}

static int read_metadata(struct reader *reader, struct gguf *gguf, size_t count) {
    gguf->values = xcalloc(count, sizeof(*gguf->values));
    for (size_t i = 0; i < count; i++) {
        cleanup_free char *key = NULL;
        if (read_name(reader, "the length of a metadata key", &key) < 0) {
            return error_wrap(reader->err, "metadata entry %zu", i);
        }
        if (read_value(reader, &gguf->values[i]) < 0) {
            return error_wrap(reader->err, "metadata \"%s\"", key);
        }
        if (map_set(&gguf->values_by_key, key, &gguf->values[i]) != NULL) {
            return error_set(reader->err, ERROR_INVALID, "metadata \"%s\" is there twice", key);
        }
    }
    return 0;
}

/* ---- tensors ---- */

/* Bytes of the tensor, with every product checked. */
static int measure_tensor(struct gguf_tensor *tensor, struct error *err) {
    const struct tensor_type_info *info = tensor_type_info(tensor->type);
    if (info == NULL) {
        return error_set(err, ERROR_UNSUPPORTED, "type number %" PRIu32 " is not known", tensor->type);
    }
    if (tensor->shape[0] % info->block_elements != 0) {
        return error_set(err, ERROR_INVALID, "a row has %" PRIu64 " elements, not a multiple of %u as %s needs", tensor->shape[0],
                         info->block_elements, info->name);
    }
    uint64_t bytes = 0;
    bool overflows = __builtin_mul_overflow(tensor->shape[0] / info->block_elements, info->block_bytes, &bytes);
    for (unsigned i = 1; i < GGUF_DIMENSIONS_MAX; i++) {
        overflows |= __builtin_mul_overflow(bytes, tensor->shape[i], &bytes);
    }
    if (overflows || bytes > SIZE_MAX) {
        return error_set(err, ERROR_LIMIT, "its size overflows");
    }
    tensor->bytes = (size_t)bytes;
    return 0;
}

/* One row of the table; ret_offset is relative to the start of the data. */
static int read_tensor(struct reader *reader, struct gguf_tensor *tensor, uint64_t *ret_offset) {
    uint32_t dimensions = 0;
    if (read_u32(reader, &dimensions) < 0) {
        return -1;
    }
    if (dimensions == 0 || dimensions > GGUF_DIMENSIONS_MAX) {
        return error_set(reader->err, ERROR_INVALID, "%" PRIu32 " dimensions, 1 to %d are possible", dimensions,
                         GGUF_DIMENSIONS_MAX);
    }
    tensor->dimensions = dimensions;
    for (unsigned i = 0; i < GGUF_DIMENSIONS_MAX; i++) {
        tensor->shape[i] = 1;
        if (i < dimensions && read_u64(reader, &tensor->shape[i]) < 0) {
            return -1;
        }
        if (tensor->shape[i] == 0) {
            return error_set(reader->err, ERROR_INVALID, "dimension %u is 0", i);
        }
    }
    if (read_u32(reader, &tensor->type) < 0 || read_u64(reader, ret_offset) < 0) {
        return -1;
    }
    return measure_tensor(tensor, reader->err);
}

static int read_tensors(struct reader *reader, struct gguf *gguf, size_t count) {
    cleanup_free uint64_t *offsets = xcalloc(count, sizeof(*offsets));
    gguf->tensors = xcalloc(count, sizeof(*gguf->tensors));
    for (size_t i = 0; i < count; i++) {
        cleanup_free char *name = NULL;
        if (read_name(reader, "the length of a tensor name", &name) < 0) {
            return error_wrap(reader->err, "tensor %zu", i);
        }
        if (map_set(&gguf->tensors_by_name, name, &gguf->tensors[i]) != NULL) {
            return error_set(reader->err, ERROR_INVALID, "tensor \"%s\" is there twice", name);
        }
        gguf->tensors[i].name = gguf->tensors_by_name.entries[i].key;
        gguf->tensor_count = i + 1;
        if (read_tensor(reader, &gguf->tensors[i], &offsets[i]) < 0) {
            return error_wrap(reader->err, "tensor \"%s\"", name);
        }
    }
    uint64_t alignment = ALIGNMENT_DEFAULT;
    if (gguf_has(gguf, "general.alignment") &&
        gguf_get_uint(gguf, "general.alignment", ALIGNMENT_MAX, &alignment, reader->err) < 0) {
        return -1;
    }
    if (alignment == 0 || (alignment & (alignment - 1)) != 0) {
        return error_set(reader->err, ERROR_INVALID, "general.alignment is %" PRIu64 ", not a power of two", alignment);
    }
    size_t data_start = (reader->at + (size_t)alignment - 1) & ~((size_t)alignment - 1);
    size_t data_len = data_start < reader->len ? reader->len - data_start : 0;
    for (size_t i = 0; i < count; i++) {
        struct gguf_tensor *tensor = &gguf->tensors[i];
        if (offsets[i] > data_len || tensor->bytes > data_len - offsets[i]) {
            return error_set(reader->err, ERROR_INVALID,
                             "tensor \"%s\": %zu bytes at offset %" PRIu64 " do not fit the %zu bytes of data", tensor->name,
                             tensor->bytes, offsets[i], data_len);
        }
        tensor->data = reader->bytes + data_start + offsets[i];
    }
    return 0;
}

static int parse(struct gguf *gguf, struct error *err) {
    struct reader reader = {.bytes = gguf->bytes, .len = gguf->len, .err = err};
    const uint8_t *magic = NULL;
    uint32_t version = 0;
    size_t tensor_count = 0;
    size_t metadata_count = 0;
    if (read_bytes(&reader, strlen(MAGIC), &magic) < 0 || memcmp(magic, MAGIC, strlen(MAGIC)) != 0) {
        return error_set(err, ERROR_INVALID, "not a GGUF file: it does not begin with \"%s\"", MAGIC);
    }
    if (read_u32(&reader, &version) < 0) {
        return -1;
    }
    if (version != 2 && version != 3) {
        return error_set(err, ERROR_UNSUPPORTED, "GGUF version %" PRIu32 " is not supported (2 and 3, little-endian, are)",
                         version);
    }
    if (read_size(&reader, GGUF_TENSORS_MAX, "the number of tensors", &tensor_count) < 0 ||
        read_size(&reader, GGUF_METADATA_MAX, "the number of metadata entries", &metadata_count) < 0 ||
        read_metadata(&reader, gguf, metadata_count) < 0) {
        return -1;
    }
    return read_tensors(&reader, gguf, tensor_count);
}

int gguf_parse(const void *bytes, size_t len, struct gguf **ret_gguf, struct error *err) {
    struct gguf *gguf = xcalloc(1, sizeof(*gguf));
    gguf->bytes = bytes;
    gguf->len = len;
    if (parse(gguf, err) < 0) {
        gguf_free(gguf);
        return -1;
    }
    *ret_gguf = gguf;
    return 0;
}

int gguf_open(const char *path, struct gguf **ret_gguf, struct error *err) {
    cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat status;
    if (fd < 0 || fstat(fd, &status) < 0) {
        return error_set_errno(err, "cannot open model %s", path);
    }
    if (!S_ISREG(status.st_mode) || status.st_size == 0) {
        return error_set(err, ERROR_INVALID, "model %s is not a regular file with content", path);
    }
    size_t len = (size_t)status.st_size;
    void *bytes = mmap(NULL, len, PROT_READ, MAP_PRIVATE, fd, 0);
    if (bytes == MAP_FAILED) {
        return error_set_errno(err, "cannot map model %s", path);
    }
    if (gguf_parse(bytes, len, ret_gguf, err) < 0) {
        (void)munmap(bytes, len);
        return error_wrap(err, "model %s", path);
    }
    (*ret_gguf)->is_mapped = true;
    return 0;
}

void gguf_free(struct gguf *gguf) {
    if (gguf == NULL) {
        return;
    }
    if (gguf->is_mapped) {
        (void)munmap((void *)(uintptr_t)gguf->bytes, gguf->len);
    }
    map_release(&gguf->values_by_key);
    map_release(&gguf->tensors_by_name);
    free(gguf->values);
    free(gguf->tensors);
    free(gguf);
}

/* ---- access ---- */

static const struct value *find(const struct gguf *gguf, const char *key, struct error *err) {
    const struct value *value = map_get(&gguf->values_by_key, key);
    if (value == NULL) {
        (void)error_set(err, ERROR_INVALID, "metadata \"%s\" is missing", key);
    }
    return value;
}

static int wrong_kind(const char *key, const char *expected, struct error *err) {
    return error_set(err, ERROR_INVALID, "metadata \"%s\" is not %s", key, expected);
}

bool gguf_has(const struct gguf *gguf, const char *key) {
    return map_get(&gguf->values_by_key, key) != NULL;
}

int gguf_get_uint(const struct gguf *gguf, const char *key, uint64_t maximum, uint64_t *ret_value, struct error *err) {
    const struct value *value = find(gguf, key, err);
    if (value == NULL) {
        return -1;
    }
    if (value->type == GGUF_BOOL || fixed_bytes[value->type] == 0 || value->type == GGUF_FLOAT32 || value->type == GGUF_FLOAT64) {
        return wrong_kind(key, "an integer", err);
    }
    if (value->bits > maximum) {
        return error_set(err, ERROR_INVALID, "metadata \"%s\" is %" PRIu64 ", not within 0 and %" PRIu64, key, value->bits,
                         maximum);
    }
    *ret_value = value->bits;
    return 0;
}

int gguf_get_float(const struct gguf *gguf, const char *key, double *ret_value, struct error *err) {
    const struct value *value = find(gguf, key, err);
    if (value == NULL) {
        return -1;
    }
    if (value->type != GGUF_FLOAT32 && value->type != GGUF_FLOAT64) {
        return wrong_kind(key, "a float", err);
    }
    *ret_value = value->number;
    return 0;
}

int gguf_get_bool(const struct gguf *gguf, const char *key, bool *ret_value, struct error *err) {
    const struct value *value = find(gguf, key, err);
    if (value == NULL) {
        return -1;
    }
    if (value->type != GGUF_BOOL) {
        return wrong_kind(key, "a boolean", err);
    }
    *ret_value = value->bits != 0;
    return 0;
}

int gguf_get_string(const struct gguf *gguf, const char *key, struct gguf_string *ret_value, struct error *err) {
    const struct value *value = find(gguf, key, err);
    if (value == NULL) {
        return -1;
    }
    if (value->type != GGUF_STRING) {
        return wrong_kind(key, "a string", err);
    }
    *ret_value = value->string;
    return 0;
}

int gguf_get_array(const struct gguf *gguf, const char *key, enum gguf_type type, struct gguf_array *ret_value, struct error *err) {
    const struct value *value = find(gguf, key, err);
    if (value == NULL) {
        return -1;
    }
    if (value->type != GGUF_ARRAY || value->array.type != type) {
        return wrong_kind(key, "an array of the expected type", err);
    }
    *ret_value = value->array;
    return 0;
}

struct gguf_string gguf_array_next_string(struct gguf_array *array) {
    uint64_t len = 0;
    memcpy(&len, array->bytes, sizeof(len));
    struct gguf_string string = {.bytes = (const char *)array->bytes + sizeof(len), .len = (size_t)len};
    array->bytes += sizeof(len) + len;
    array->count--;
    return string;
}

int32_t gguf_array_int32(const struct gguf_array *array, size_t at) {
    int32_t value = 0;
    memcpy(&value, array->bytes + at * sizeof(value), sizeof(value));
    return value;
}

size_t gguf_tensor_count(const struct gguf *gguf) {
    return gguf->tensor_count;
}

const struct gguf_tensor *gguf_tensor_at(const struct gguf *gguf, size_t at) {
    return &gguf->tensors[at];
}

const struct gguf_tensor *gguf_tensor(const struct gguf *gguf, const char *name) {
    return map_get(&gguf->tensors_by_name, name);
}
