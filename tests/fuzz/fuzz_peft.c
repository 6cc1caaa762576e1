/* libFuzzer target: adapter_config.json, and the same bytes as a tensor's name. */
#include "adapter/peft.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define MAX_RANK 16

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_config(const char *text, size_t len) {
    struct peft_config config;
    struct error err = {0};
    if (peft_config_parse(text, len, MAX_RANK, &config, &err) < 0) {
        if (err.message[0] == '\0') {
            abort(); /* a refusal says why */
        }
        return;
    }
    if (config.rank < 1 || config.rank > MAX_RANK || !isfinite(config.scaling) || config.base_model == NULL) {
        abort();
    }
    peft_config_release(&config);
}

/* A name that is accepted is the layer, the module and the ending, and nothing else. */
static void check_name(const char *name) {
    struct peft_tensor tensor;
    struct error err = {0};
    if (peft_tensor_parse(name, &tensor, &err) < 0) {
        return;
    }
    cleanup_free char *ending = xasprintf(".%s.lora_%c.weight", tensor.module, tensor.is_b ? 'B' : 'A');
    size_t len = strlen(name);
    if (tensor.layer < 0 || len < strlen(ending) || strcmp(name + len - strlen(ending), ending) != 0) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    cleanup_free char *name = xstrndup((const char *)data, size);
    check_config((const char *)data, size);
    check_name(name);
    return 0;
}
