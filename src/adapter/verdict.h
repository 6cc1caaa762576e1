/* What each kind of engine would say to an adapter, before it is asked: why it would refuse it, or load it and perhaps answer
 * wrongly. Pure: adapter_config.json and the header of the weights go in, with the shape of the base model.
 *
 * davit's own answers are those of its loader (adapter/peft.h). What vLLM refuses is from its PEFTHelper and LoRAModel
 * (vllm/lora/peft_helper.py, vllm/lora/lora_model.py, v0.32); SGLang says little before it tries (sglang, python/sglang/srt/lora/),
 * so what is not known to be honoured there is a doubt. */
#ifndef DAVIT_ADAPTER_VERDICT_H
#define DAVIT_ADAPTER_VERDICT_H

#include "adapter/safetensors.h"
#include "base/buffer.h"
#include "base/json.h"

enum engine_kind { ENGINE_DAVIT, ENGINE_VLLM, ENGINE_SGLANG, ENGINE_KINDS };

/* "davit", "vLLM", "SGLang". */
const char *engine_kind_name(enum engine_kind kind);

/* Of the base model; 0 where it is not known, and then nothing is compared with it. */
struct base_shape {
    size_t layers;
    size_t hidden;
    size_t inner;     /* of the feed-forward part */
    size_t attention; /* query heads times their size */
    size_t key_value; /* key-value heads times their size */
    size_t vocab;
};

struct adapter_description {
    const json_t *config; /* adapter_config.json, an object */
    const struct safetensors *weights;
};

struct verdict {
    struct buffer refusals; /* one a line; empty: it would be loaded */
    struct buffer doubts;   /* one a line: loaded, and perhaps not computed as it was trained */
};

/* Fills verdicts[ENGINE_KINDS]; release each. `max_rank`: what the engines are started with. */
void verdicts_of(const struct adapter_description *adapter, const struct base_shape *base, int max_rank, struct verdict *verdicts);
void verdict_release(struct verdict *verdict);

/* The modules that the weights touch, "q_proj, v_proj", and in how many layers. */
size_t adapter_modules(const struct safetensors *weights, struct buffer *ret_names);

#endif
