/* What a PEFT LoRA adapter on disk says of itself, and whether it can be served: adapter_config.json and the names of the tensors
 * (https://huggingface.co/docs/peft, "PEFT checkpoint format").
 *
 * Pure. Refusals use vLLM's phrase where it has one, so that clients which look for it find it; several are joined by a space.
 * Anything that would change the arithmetic and is not done here is refused by the name of its key; unknown keys are ignored, since
 * PEFT adds some with each release. */
#ifndef DAVIT_ADAPTER_PEFT_H
#define DAVIT_ADAPTER_PEFT_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>

#define PEFT_CONFIG_FILE "adapter_config.json"
#define PEFT_WEIGHTS_FILE "adapter_model.safetensors"
#define PEFT_CONFIG_BYTES_MAX (1u << 20)
#define PEFT_RANK_MAX 4096

struct peft_config {
    int rank;
    double scaling;   /* lora_alpha / r, or / sqrt(r) with use_rslora */
    char *base_model; /* base_model_name_or_path, "" when absent; advisory */
};

/* Parses and checks adapter_config.json. `max_rank` is the engine's limit, 0 = none. ERROR_INVALID or ERROR_UNSUPPORTED. The caller
 * releases *ret on success. */
int peft_config_parse(const char *text, size_t len, int max_rank, struct peft_config *ret, struct error *err) DAVIT_MUST_USE;
void peft_config_release(struct peft_config *config);

/* A tensor's name taken apart: [base_model.model.]model.layers.<layer>.<module>.lora_{A,B}.weight */
struct peft_tensor {
    int layer;
    char module[64]; /* "self_attn.q_proj" */
    bool is_b;
};
/* ERROR_UNSUPPORTED, "<name> is unsupported LoRA weight", when it has another form. */
int peft_tensor_parse(const char *name, struct peft_tensor *ret, struct error *err) DAVIT_MUST_USE;

#endif
