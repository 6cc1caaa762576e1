#include "engine/format/tensor_type.h"

#include "base/alloc.h"

static const struct tensor_type_info table[] = {
    {TENSOR_F32, "F32", 1, 4}, {TENSOR_F16, "F16", 1, 2}, {2, "Q4_0", 32, 18},           {TENSOR_Q4_1, "Q4_1", 32, 20},
    {6, "Q5_0", 32, 22},       {7, "Q5_1", 32, 24},       {TENSOR_Q8_0, "Q8_0", 32, 34}, {10, "Q2_K", 256, 84},
    {11, "Q3_K", 256, 110},    {12, "Q4_K", 256, 144},    {13, "Q5_K", 256, 176},        {14, "Q6_K", 256, 210},
    {30, "BF16", 1, 2},
};

const struct tensor_type_info *tensor_type_info(uint32_t type) {
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        if (table[i].type == type) {
            return &table[i];
        }
    }
    return NULL;
}

size_t tensor_type_row_bytes(uint32_t type, size_t columns) {
    const struct tensor_type_info *info = tensor_type_info(type);
    return columns / info->block_elements * info->block_bytes;
}
