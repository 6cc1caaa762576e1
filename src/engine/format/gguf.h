/* Reader of GGUF files, versions 2 and 3, little-endian: metadata and the table of tensors
 * (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md).
 *
 * gguf_parse is pure: it checks every count, length, offset and name against the bytes before it trusts it, and a file that is cut
 * short or made up gives an error that says where. Everything handed out is borrowed and lives as long as the `struct gguf`, which
 * in turn borrows the bytes it was parsed from (gguf_open maps the file read-only and keeps the mapping). Immutable after parsing;
 * any thread may read it. */
#ifndef DAVIT_ENGINE_FORMAT_GGUF_H
#define DAVIT_ENGINE_FORMAT_GGUF_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GGUF_METADATA_MAX 65536
#define GGUF_TENSORS_MAX 65536
#define GGUF_NAME_BYTES_MAX 1024
#define GGUF_STRING_BYTES_MAX (16u << 20)
#define GGUF_DIMENSIONS_MAX 4

struct gguf;

enum gguf_type {
    GGUF_UINT8,
    GGUF_INT8,
    GGUF_UINT16,
    GGUF_INT16,
    GGUF_UINT32,
    GGUF_INT32,
    GGUF_FLOAT32,
    GGUF_BOOL,
    GGUF_STRING,
    GGUF_ARRAY,
    GGUF_UINT64,
    GGUF_INT64,
    GGUF_FLOAT64,
    GGUF_TYPE_COUNT,
};

struct gguf_string {
    const char *bytes; /* not NUL-terminated */
    size_t len;
};

/* A run of values of one type, packed as in the file. Strings are read one after the other with gguf_array_next_string. */
struct gguf_array {
    enum gguf_type type;
    size_t count;
    const uint8_t *bytes;
};

struct gguf_tensor {
    const char *name;
    uint32_t type; /* known to tensor_type_info */
    unsigned dimensions;
    uint64_t shape[GGUF_DIMENSIONS_MAX]; /* fastest first: a weight matrix is {columns, rows}; unused ones are 1 */
    const void *data;                    /* may be unaligned */
    size_t bytes;
};

int gguf_parse(const void *bytes, size_t len, struct gguf **ret_gguf, struct error *err) DAVIT_MUST_USE;
/* Maps and parses a file. It must not be truncated while it is in use. */
int gguf_open(const char *path, struct gguf **ret_gguf, struct error *err) DAVIT_MUST_USE;
void gguf_free(struct gguf *gguf);

/* Metadata by key. ERROR_INVALID when the key is missing or its value is of another kind or range; the message names the key. Any
 * integer type will do for an integer, either float type for a float. */
bool gguf_has(const struct gguf *gguf, const char *key);
int gguf_get_uint(const struct gguf *gguf, const char *key, uint64_t maximum, uint64_t *ret_value,
                  struct error *err) DAVIT_MUST_USE;
int gguf_get_float(const struct gguf *gguf, const char *key, double *ret_value, struct error *err) DAVIT_MUST_USE;
int gguf_get_bool(const struct gguf *gguf, const char *key, bool *ret_value, struct error *err) DAVIT_MUST_USE;
int gguf_get_string(const struct gguf *gguf, const char *key, struct gguf_string *ret_value, struct error *err) DAVIT_MUST_USE;
int gguf_get_array(const struct gguf *gguf, const char *key, enum gguf_type type, struct gguf_array *ret_value,
                   struct error *err) DAVIT_MUST_USE;
/* Takes the first string off the array; the array has one. */
struct gguf_string gguf_array_next_string(struct gguf_array *array);
/* Element `at` of an array of GGUF_INT32. */
int32_t gguf_array_int32(const struct gguf_array *array, size_t at);

size_t gguf_tensor_count(const struct gguf *gguf);
const struct gguf_tensor *gguf_tensor_at(const struct gguf *gguf, size_t at);
/* NULL when there is none. */
const struct gguf_tensor *gguf_tensor(const struct gguf *gguf, const char *name);

#endif
