/* libFuzzer target: safetensors files. What is accepted has tensors that fill the data one after the other. */
#include "adapter/safetensors.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_tensors(const struct safetensors *found, uint64_t data_len) {
    uint64_t at = 0;
    for (size_t i = 0; i < found->count; i++) {
        const struct safetensors_tensor *tensor = &found->tensors[i];
        char shape[32];
        safetensors_format_shape(tensor, shape, sizeof(shape));
        if (tensor->offset != at || tensor->bytes > data_len - at || tensor->dimensions > SAFETENSORS_DIMENSIONS_MAX ||
            shape[0] != '[' || map_get(&found->by_name, tensor->name) != tensor) {
            abort();
        }
        at += tensor->bytes;
    }
    if (at != data_len) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct safetensors found;
    struct error err = {0};
    size_t header_len = 0;
    if (safetensors_header_len(data, size, size, &header_len, &err) < 0) {
        return 0;
    }
    uint64_t data_len = size - SAFETENSORS_PREFIX_BYTES - header_len;
    if (safetensors_parse((const char *)data + SAFETENSORS_PREFIX_BYTES, header_len, data_len, &found, &err) < 0) {
        if (err.message[0] == '\0') {
            abort(); /* a refusal says why */
        }
        return 0;
    }
    check_tensors(&found, data_len);
    safetensors_release(&found);
    return 0;
}
