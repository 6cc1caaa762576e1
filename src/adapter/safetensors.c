#include "adapter/safetensors.h"

#include "base/json.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    enum safetensors_type type;
    unsigned bytes;
} types[] = {
    {"F32", SAFETENSORS_F32, 4},    {"F16", SAFETENSORS_F16, 2},       {"BF16", SAFETENSORS_BF16, 2},
    {"F64", SAFETENSORS_OTHER, 8},  {"I64", SAFETENSORS_OTHER, 8},     {"U64", SAFETENSORS_OTHER, 8},
    {"I32", SAFETENSORS_OTHER, 4},  {"U32", SAFETENSORS_OTHER, 4},     {"I16", SAFETENSORS_OTHER, 2},
    {"U16", SAFETENSORS_OTHER, 2},  {"I8", SAFETENSORS_OTHER, 1},      {"U8", SAFETENSORS_OTHER, 1},
    {"BOOL", SAFETENSORS_OTHER, 1}, {"F8_E4M3", SAFETENSORS_OTHER, 1}, {"F8_E5M2", SAFETENSORS_OTHER, 1},
};

int safetensors_header_len(const void *bytes, size_t len, uint64_t file_len, size_t *ret_len, struct error *err) {
    uint64_t header_len = 0;
    if (len < SAFETENSORS_PREFIX_BYTES || file_len < SAFETENSORS_PREFIX_BYTES) {
        return error_set(err, ERROR_INVALID, "not a safetensors file: it has %" PRIu64 " bytes, its header alone takes more",
                         file_len);
    }
    memcpy(&header_len, bytes, sizeof(header_len));
    if (header_len > SAFETENSORS_HEADER_BYTES_MAX) {
        return error_set(err, ERROR_LIMIT, "the safetensors header claims %" PRIu64 " bytes, at most %u are accepted", header_len,
                         SAFETENSORS_HEADER_BYTES_MAX);
    }
    if (header_len > file_len - SAFETENSORS_PREFIX_BYTES) {
        return error_set(err, ERROR_INVALID, "the safetensors header claims %" PRIu64 " bytes, the file has %" PRIu64, header_len,
                         file_len);
    }
    *ret_len = (size_t)header_len;
    return 0;
}

static int read_type(const json_t *entry, struct safetensors_tensor *tensor, unsigned *ret_bytes, struct error *err) {
    const char *name = json_string_value(json_object_get(entry, "dtype"));
    for (size_t i = 0; name != NULL && i < ARRAY_LEN(types); i++) {
        if (strcmp(types[i].name, name) == 0) {
            tensor->type = types[i].type;
            tensor->type_name = types[i].name;
            *ret_bytes = types[i].bytes;
            return 0;
        }
    }
    return error_set(err, ERROR_INVALID, "dtype %s is not known", name != NULL ? name : "(missing)");
}

static int read_uint(const json_t *value, const char *what, uint64_t *ret_value, struct error *err) {
    if (!json_is_integer(value) || json_integer_value(value) < 0) {
        return error_set(err, ERROR_INVALID, "%s is not a list of non-negative integers", what);
    }
    *ret_value = (uint64_t)json_integer_value(value);
    return 0;
}

/* Shape and offsets; the range must hold exactly the elements of the shape. */
static int read_place(const json_t *entry, struct safetensors_tensor *tensor, unsigned element_bytes, struct error *err) {
    const json_t *shape = json_object_get(entry, "shape");
    const json_t *offsets = json_object_get(entry, "data_offsets");
    uint64_t end = 0;
    uint64_t bytes = element_bytes;
    if (!json_is_array(shape) || json_array_size(shape) > SAFETENSORS_DIMENSIONS_MAX) {
        return error_set(err, ERROR_INVALID, "shape is not a list of at most %d integers", SAFETENSORS_DIMENSIONS_MAX);
    }
    tensor->dimensions = (unsigned)json_array_size(shape);
    for (unsigned i = 0; i < tensor->dimensions; i++) {
        if (read_uint(json_array_get(shape, i), "shape", &tensor->shape[i], err) < 0) {
            return -1;
        }
        if (__builtin_mul_overflow(bytes, tensor->shape[i], &bytes)) {
            return error_set(err, ERROR_LIMIT, "the size of its shape overflows");
        }
    }
    if (json_array_size(offsets) != 2 || read_uint(json_array_get(offsets, 0), "data_offsets", &tensor->offset, err) < 0 ||
        read_uint(json_array_get(offsets, 1), "data_offsets", &end, err) < 0) {
        return error_set(err, ERROR_INVALID, "data_offsets is not a pair of non-negative integers");
    }
    if (end < tensor->offset || end - tensor->offset != bytes) {
        return error_set(err, ERROR_INVALID,
                         "data_offsets [%" PRIu64 ", %" PRIu64 "] do not hold the %" PRIu64 " bytes of its shape", tensor->offset,
                         end, bytes);
    }
    tensor->bytes = bytes;
    return 0;
}

static int by_offset(const void *left, const void *right) {
    const struct safetensors_tensor *a = left;
    const struct safetensors_tensor *b = right;
    if (a->offset != b->offset) {
        return a->offset < b->offset ? -1 : 1;
    }
    return (a->bytes > b->bytes) - (a->bytes < b->bytes);
}

/* The ranges follow one another without hole or overlap and fill the data. */
static int check_coverage(const struct safetensors *found, uint64_t data_len, struct error *err) {
    uint64_t at = 0;
    for (size_t i = 0; i < found->count; i++) {
        const struct safetensors_tensor *tensor = &found->tensors[i];
        if (tensor->offset != at) {
            return error_set(err, ERROR_INVALID, "tensor \"%s\" begins at byte %" PRIu64 " of the data, expected %" PRIu64,
                             tensor->name, tensor->offset, at);
        }
        at += tensor->bytes;
    }
    if (at != data_len) {
        return error_set(err, ERROR_INVALID, "the tensors take %" PRIu64 " bytes, the file holds %" PRIu64, at, data_len);
    }
    return 0;
}

static int read_tensors(json_t *root, uint64_t data_len, struct safetensors *found, struct error *err) {
    const char *name = NULL;
    json_t *entry = NULL;
    json_object_foreach(root, name, entry) {
        struct safetensors_tensor *tensor = &found->tensors[found->count];
        unsigned element_bytes = 0;
        if (strcmp(name, "__metadata__") == 0) {
            continue;
        }
        if (read_type(entry, tensor, &element_bytes, err) < 0 || read_place(entry, tensor, element_bytes, err) < 0) {
            return error_wrap(err, "tensor \"%s\"", name);
        }
        (void)map_set(&found->by_name, name, tensor);
        tensor->name = found->by_name.entries[found->count++].key;
    }
    qsort(found->tensors, found->count, sizeof(*found->tensors), by_offset);
    for (size_t i = 0; i < found->count; i++) {
        (void)map_set(&found->by_name, found->tensors[i].name, &found->tensors[i]);
    }
    return check_coverage(found, data_len, err);
}

int safetensors_parse(const char *header, size_t len, uint64_t data_len, struct safetensors *ret, struct error *err) {
    cleanup_json json_t *root = json_parse(header, len, err);
    if (root == NULL) {
        return error_wrap(err, "safetensors header");
    }
    if (!json_is_object(root) || json_object_size(root) > SAFETENSORS_TENSORS_MAX) {
        return error_set(err, ERROR_INVALID, "safetensors header: not an object of at most %d tensors", SAFETENSORS_TENSORS_MAX);
    }
    struct safetensors found = {.tensors = xcalloc(json_object_size(root), sizeof(*found.tensors)), .by_name = MAP_INIT};
    if (read_tensors(root, data_len, &found, err) < 0) {
        safetensors_release(&found);
        return error_wrap(err, "safetensors header");
    }
    *ret = found;
    return 0;
}

void safetensors_release(struct safetensors *safetensors) {
    map_release(&safetensors->by_name);
    free(safetensors->tensors);
    *safetensors = (struct safetensors){.by_name = MAP_INIT};
}

void safetensors_format_shape(const struct safetensors_tensor *tensor, char *out, size_t len) {
    size_t at = 0;
    (void)snprintf(out, len, "[]");
    for (unsigned i = 0; i < tensor->dimensions && at < len; i++) {
        int written = snprintf(out + at, len - at, "%s%" PRIu64 "%s", i == 0 ? "[" : ", ", tensor->shape[i],
                               i + 1 == tensor->dimensions ? "]" : "");
        at += written > 0 ? (size_t)written : 0;
    }
}
