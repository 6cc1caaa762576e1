/* The element types of GGUF tensors: how many elements a block holds and how many bytes it takes. Numbers, names and sizes are
 * ggml's (ggml/include/ggml.h, ggml/src/ggml-common.h). Knowing a type's size is not being able to compute with it: see kernels.h.
 */
#ifndef DAVIT_ENGINE_FORMAT_TENSOR_TYPE_H
#define DAVIT_ENGINE_FORMAT_TENSOR_TYPE_H

#include <stddef.h>
#include <stdint.h>

enum tensor_type {
    TENSOR_F32 = 0,
    TENSOR_F16 = 1,
    TENSOR_Q4_1 = 3, /* 32 elements: half scale, half minimum, 16 bytes of nibbles (low nibbles are elements 0..15) */
    TENSOR_Q8_0 = 8, /* 32 elements: half scale, 32 signed bytes */
};

struct tensor_type_info {
    uint32_t type;
    const char *name;
    unsigned block_elements;
    unsigned block_bytes;
};

/* NULL when the number is unknown. */
const struct tensor_type_info *tensor_type_info(uint32_t type);
/* Bytes of a row of `columns` elements; `columns` is a multiple of the block and the type is known. */
size_t tensor_type_row_bytes(uint32_t type, size_t columns);

#endif
