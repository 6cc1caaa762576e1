/* The header of a safetensors file: names, types, shapes and places of its tensors
 * (https://github.com/huggingface/safetensors, "Format": 8 bytes little-endian length, that many bytes of JSON, then the data).
 *
 * Pure: bytes in, table out. Only the header is needed, so a file can be judged before, or without, reading its data. What the
 * format forbids is refused: unknown types, sizes that disagree with the shape, ranges that overlap, leave holes or pass the end of
 * the file. */
#ifndef DAVIT_ADAPTER_SAFETENSORS_H
#define DAVIT_ADAPTER_SAFETENSORS_H

#include "base/error.h"
#include "base/map.h"

#include <stddef.h>
#include <stdint.h>

#define SAFETENSORS_PREFIX_BYTES 8
#define SAFETENSORS_HEADER_BYTES_MAX (16u << 20)
#define SAFETENSORS_TENSORS_MAX 65536
#define SAFETENSORS_DIMENSIONS_MAX 8

enum safetensors_type {
    SAFETENSORS_F32,
    SAFETENSORS_F16,
    SAFETENSORS_BF16,
    SAFETENSORS_OTHER, /* a type of the format that is of no use here: integers, booleans, F64, 8-bit floats */
};

struct safetensors_tensor {
    const char *name;
    const char *type_name; /* as in the file */
    enum safetensors_type type;
    unsigned dimensions;
    uint64_t shape[SAFETENSORS_DIMENSIONS_MAX]; /* slowest first, as in PyTorch */
    uint64_t offset;                            /* from the start of the data, which follows the header */
    uint64_t bytes;
};

struct safetensors {
    struct safetensors_tensor *tensors; /* in order of their offsets */
    size_t count;
    struct map by_name; /* owns the names; values are rows of `tensors` */
};

/* The length of the JSON that follows the first 8 bytes, checked against the file's length and the limit. */
int safetensors_header_len(const void *bytes, size_t len, uint64_t file_len, size_t *ret_len, struct error *err) DAVIT_MUST_USE;
/* Parses the JSON; `data_len` is what the file holds after it. The caller releases *ret on success. */
int safetensors_parse(const char *header, size_t len, uint64_t data_len, struct safetensors *ret, struct error *err) DAVIT_MUST_USE;
void safetensors_release(struct safetensors *safetensors);

/* "[8, 576]" of a shape, cut when it does not fit. */
void safetensors_format_shape(const struct safetensors_tensor *tensor, char *out, size_t len);

#endif
