#include "adapter/verdict.h"

#include "adapter/peft.h"

#include <inttypes.h>
#include <string.h>

#define LISTED_MAX 3 /* of one kind of complaint; the rest is counted */

#define DAVIT (1u << ENGINE_DAVIT)
#define VLLM (1u << ENGINE_VLLM)
#define SGLANG (1u << ENGINE_SGLANG)
#define ALL (DAVIT | VLLM | SGLANG)

const char *engine_kind_name(enum engine_kind kind) {
    static const char *const names[ENGINE_KINDS] = {"davit", "vLLM", "SGLang"};
    return names[kind];
}

void verdict_release(struct verdict *verdict) {
    buffer_release(&verdict->refusals);
    buffer_release(&verdict->doubts);
}

static void say(struct verdict *verdicts, unsigned refusing, unsigned doubting, const char *text) {
    for (unsigned kind = 0; kind < ENGINE_KINDS; kind++) {
        if (refusing & (1u << kind)) {
            buffer_printf(&verdicts[kind].refusals, "%s\n", text);
        } else if (doubting & (1u << kind)) {
            buffer_printf(&verdicts[kind].doubts, "%s\n", text);
        }
    }
}

/* ---- adapter_config.json ---- */

/* Keys that make more of an adapter than B A x: who refuses them, and who may ignore them. davit's loader answers for itself. */
static const struct {
    const char *key;
    unsigned refusing;
    unsigned doubting;
    const char *text;
} special_keys[] = {
    {"modules_to_save", VLLM, SGLANG, "modules_to_save: whole modules were trained besides"},
    {"use_dora", VLLM, SGLANG, "use_dora: DoRA has magnitudes besides"},
    {"bias", VLLM, SGLANG, "bias: biases were trained besides"},
    {"lora_bias", 0, VLLM | SGLANG, "lora_bias: lora_B has biases"},
    {"rank_pattern", 0, VLLM | SGLANG, "rank_pattern: many releases scale as if every module had rank r"},
    {"alpha_pattern", 0, VLLM | SGLANG, "alpha_pattern: many releases scale every module by lora_alpha"},
    {"use_rslora", 0, SGLANG, "use_rslora: the scaling is lora_alpha / sqrt(r), not lora_alpha / r"},
    {"layer_replication", 0, VLLM | SGLANG, "layer_replication: layers of the base model are repeated"},
    {"alora_invocation_tokens", 0, VLLM | SGLANG, "alora_invocation_tokens: it is meant to be active only after these tokens"},
    {"trainable_token_indices", VLLM, SGLANG, "trainable_token_indices: tokens were trained besides"},
    {"target_parameters", 0, SGLANG, "target_parameters: parameters of experts were trained"},
};

static bool is_set(const json_t *value) {
    if (json_is_string(value)) {
        return json_string_length(value) > 0 && strcmp(json_string_value(value), "none") != 0;
    }
    return json_is_true(value) || json_is_number(value) || json_array_size(value) > 0 || json_object_size(value) > 0;
}

static void check_config(const json_t *config, int max_rank, struct verdict *verdicts) {
    cleanup_free char *text = json_text(config);
    struct peft_config parsed;
    struct error err = {0};
    if (peft_config_parse(text, strlen(text), max_rank, &parsed, &err) < 0) {
        say(verdicts, DAVIT, 0, err.message);
    } else {
        peft_config_release(&parsed);
    }
    const char *type = json_string_at(config, "peft_type", "missing");
    if (strcmp(type, "LORA") != 0) {
        cleanup_free char *complaint = xasprintf("peft_type is %s: only LORA is known", type);
        say(verdicts, VLLM | SGLANG, 0, complaint);
    }
    static const char *const required[] = {"r", "lora_alpha", "target_modules"};
    for (size_t i = 0; i < ARRAY_LEN(required); i++) {
        const json_t *value = json_object_get(config, required[i]);
        if (value == NULL || json_is_null(value)) {
            cleanup_free char *complaint = xasprintf("%s is missing", required[i]);
            say(verdicts, VLLM | SGLANG, 0, complaint);
        }
    }
    if (max_rank > 0 && json_int_at(config, "r", 0) > max_rank) {
        cleanup_free char *complaint =
            xasprintf("rank %" PRId64 " is greater than --max-lora-rank %d", json_int_at(config, "r", 0), max_rank);
        say(verdicts, VLLM | SGLANG, 0, complaint);
    }
    for (size_t i = 0; i < ARRAY_LEN(special_keys); i++) {
        if (is_set(json_object_get(config, special_keys[i].key))) {
            say(verdicts, special_keys[i].refusing, special_keys[i].doubting, special_keys[i].text);
        }
    }
}

/* ---- tensors ---- */

/* Complaints of one kind: the first few by name, then how many more. */
struct listing {
    struct verdict *verdicts;
    unsigned refusing;
    unsigned doubting;
    size_t count;
};

static void list(struct listing *listing, const char *format, ...) DAVIT_PRINTF(2, 3);
static void list(struct listing *listing, const char *format, ...) {
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    if (listing->count++ < LISTED_MAX) {
        say(listing->verdicts, listing->refusing, listing->doubting, text);
    }
}

static void list_end(struct listing *listing) {
    if (listing->count > LISTED_MAX) {
        cleanup_free char *text = xasprintf("... and %zu more like these", listing->count - LISTED_MAX);
        say(listing->verdicts, listing->refusing, listing->doubting, text);
    }
}

struct module_shape {
    size_t in;
    size_t out;
};

/* False: not one of the seven projections that Llama, Mistral, Qwen and their kind have. */
static bool find_module(const struct base_shape *base, const char *module, struct module_shape *ret_shape) {
    const struct {
        const char *name;
        struct module_shape shape;
    } modules[] = {
        {"self_attn.q_proj", {base->hidden, base->attention}}, {"self_attn.k_proj", {base->hidden, base->key_value}},
        {"self_attn.v_proj", {base->hidden, base->key_value}}, {"self_attn.o_proj", {base->attention, base->hidden}},
        {"mlp.gate_proj", {base->hidden, base->inner}},        {"mlp.up_proj", {base->hidden, base->inner}},
        {"mlp.down_proj", {base->inner, base->hidden}},
    };
    for (size_t i = 0; i < ARRAY_LEN(modules); i++) {
        if (strcmp(modules[i].name, module) == 0) {
            *ret_shape = modules[i].shape;
            return true;
        }
    }
    return false;
}

struct complaints {
    struct listing names, modules, layers, shapes, halves, types;
};

static bool has_partner(const struct safetensors *weights, const char *name, bool is_b) {
    char partner[1024];
    const char *at = strstr(name, is_b ? ".lora_B." : ".lora_A.");
    if (at == NULL || strlen(name) >= sizeof(partner)) {
        return false;
    }
    snprintf(partner, sizeof(partner), "%s", name);
    partner[at - name + 6] = is_b ? 'A' : 'B'; /* ".lora_" and the letter */
    return map_get(&weights->by_name, partner) != NULL;
}

static void check_shape(const struct safetensors_tensor *tensor, const struct peft_tensor *name, const struct module_shape *shape,
                        int64_t rank, struct listing *shapes) {
    uint64_t rows = name->is_b ? shape->out : (uint64_t)rank;
    uint64_t columns = name->is_b ? (uint64_t)rank : shape->in;
    bool rows_fit = rows == 0 || (tensor->dimensions == 2 && tensor->shape[0] == rows);
    bool columns_fit = columns == 0 || (tensor->dimensions == 2 && tensor->shape[1] == columns);
    if (tensor->dimensions != 2 || !rows_fit || !columns_fit) {
        char found[128];
        safetensors_format_shape(tensor, found, sizeof(found));
        list(shapes, "%s: expected shape [%" PRIu64 ", %" PRIu64 "], found %s", tensor->name, rows, columns, found);
    }
}

static void check_tensor(const struct adapter_description *adapter, const struct base_shape *base,
                         const struct safetensors_tensor *tensor, struct complaints *complaints) {
    struct peft_tensor name;
    struct module_shape shape = {0};
    if (tensor->type == SAFETENSORS_OTHER) {
        list(&complaints->types, "%s is %s: expected F32, F16 or BF16", tensor->name, tensor->type_name);
    }
    if (peft_tensor_parse(tensor->name, &name, NULL) < 0) {
        list(&complaints->names, "%s is no LoRA weight of a layer", tensor->name);
        return;
    }
    if (!has_partner(adapter->weights, tensor->name, name.is_b)) {
        list(&complaints->halves, "%s has no lora_%c beside it", tensor->name, name.is_b ? 'A' : 'B');
    }
    if (base->layers > 0 && (size_t)name.layer >= base->layers) {
        list(&complaints->layers, "%s: the base model has %zu layers", tensor->name, base->layers);
    }
    if (find_module(base, name.module, &shape)) {
        check_shape(tensor, &name, &shape, json_int_at(adapter->config, "r", 0), &complaints->shapes);
    } else {
        list(&complaints->modules, "%s: none of the seven projections of a layer", tensor->name);
    }
}

static void check_tensors(const struct adapter_description *adapter, const struct base_shape *base, struct verdict *verdicts) {
    struct complaints complaints = {
        .names = {verdicts, DAVIT | VLLM, SGLANG, 0},
        .modules = {verdicts, DAVIT, VLLM | SGLANG, 0},
        .layers = {verdicts, DAVIT, VLLM | SGLANG, 0},
        .shapes = {verdicts, ALL, 0, 0},
        .halves = {verdicts, ALL, 0, 0},
        .types = {verdicts, DAVIT, VLLM | SGLANG, 0},
    };
    struct listing *const all[] = {&complaints.names,  &complaints.modules, &complaints.layers,
                                   &complaints.shapes, &complaints.halves,  &complaints.types};
    if (adapter->weights->count == 0) {
        say(verdicts, ALL, 0, PEFT_WEIGHTS_FILE " holds no tensors");
    }
    for (size_t i = 0; i < adapter->weights->count; i++) {
        check_tensor(adapter, base, &adapter->weights->tensors[i], &complaints);
    }
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        list_end(all[i]);
    }
}

void verdicts_of(const struct adapter_description *adapter, const struct base_shape *base, int max_rank, struct verdict *verdicts) {
    memset(verdicts, 0, ENGINE_KINDS * sizeof(*verdicts));
    check_config(adapter->config, max_rank, verdicts);
    check_tensors(adapter, base, verdicts);
}

size_t adapter_modules(const struct safetensors *weights, struct buffer *ret_names) {
    cleanup_buffer struct buffer listed = BUFFER_INIT; /* ", "-separated with one in front, so that a name is found as a whole */
    bool layers[1024] = {false};
    size_t count = 0;
    for (size_t i = 0; i < weights->count; i++) {
        struct peft_tensor name;
        if (peft_tensor_parse(weights->tensors[i].name, &name, NULL) < 0) {
            continue;
        }
        const char *dot = strrchr(name.module, '.');
        cleanup_free char *entry = xasprintf(", %s,", dot != NULL ? dot + 1 : name.module);
        if (strstr(buffer_text(&listed), entry) == NULL) {
            listed.len -= listed.len > 0; /* the comma at the end is the next one's at the front */
            buffer_append_text(&listed, entry);
        }
        if ((size_t)name.layer < ARRAY_LEN(layers) && !layers[name.layer]) {
            layers[name.layer] = true;
            count++;
        }
    }
    if (listed.len > 3) {
        buffer_append(ret_names, listed.data + 2, listed.len - 3);
    }
    return count;
}
