#include "adapter/peft.h"

#include "base/json.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- configuration ---- */

/* What a key must be for the adapter to be a plain LoRA. */
enum expectation {
    EXPECT_FALSE, /* absent, null or false */
    EXPECT_EMPTY, /* absent, null, or an empty list, object or string */
    EXPECT_NONE,  /* absent, null or "none" */
    EXPECT_PLAIN, /* not an initialisation that changed the base weights */
};

static const struct {
    const char *key;
    enum expectation expectation;
    const char *refusal;
} refusals[] = {
    {"modules_to_save", EXPECT_EMPTY, "vLLM only supports modules_to_save being None."},
    {"use_dora", EXPECT_FALSE, "vLLM does not yet support DoRA."},
    {"bias", EXPECT_NONE, "Adapter bias is not supported."},
    {"lora_bias", EXPECT_FALSE, "lora_bias is not supported."},
    {"rank_pattern", EXPECT_EMPTY, "rank_pattern is not supported."},
    {"alpha_pattern", EXPECT_EMPTY, "alpha_pattern is not supported."},
    {"fan_in_fan_out", EXPECT_FALSE, "fan_in_fan_out is not supported."},
    {"layers_to_transform", EXPECT_EMPTY, "layers_to_transform is not supported."},
    {"layer_replication", EXPECT_EMPTY, "layer_replication is not supported."},
    {"alora_invocation_tokens", EXPECT_EMPTY, "alora_invocation_tokens is not supported."},
    {"trainable_token_indices", EXPECT_EMPTY, "trainable_token_indices is not supported."},
    {"target_parameters", EXPECT_EMPTY, "target_parameters is not supported."},
    {"use_qalora", EXPECT_FALSE, "use_qalora is not supported."},
    {"use_bdlora", EXPECT_FALSE, "use_bdlora is not supported."},
    {"arrow_config", EXPECT_EMPTY, "arrow_config is not supported."},
    {"kasa_config", EXPECT_EMPTY, "kasa_config is not supported."},
    {"monteclora_config", EXPECT_EMPTY, "monteclora_config is not supported."},
    {"velora_config", EXPECT_EMPTY, "velora_config is not supported."},
    {"init_lora_weights", EXPECT_PLAIN, "init_lora_weights that change the base model are not supported."},
};

/* PEFT, src/peft/tuners/lora/layer.py: these replace the base weight by a residual when training begins. */
static const char *const base_changing_inits[] = {"pissa", "olora", "corda", "loftq", "lora_ga"};

static bool is_empty(const json_t *value) {
    if (json_is_array(value)) {
        return json_array_size(value) == 0;
    }
    if (json_is_object(value)) {
        return json_object_size(value) == 0;
    }
    return json_is_string(value) && json_string_length(value) == 0;
}

static bool is_plain_init(const json_t *value) {
    const char *init = json_string_value(value);
    for (size_t i = 0; init != NULL && i < ARRAY_LEN(base_changing_inits); i++) {
        if (strncasecmp(init, base_changing_inits[i], strlen(base_changing_inits[i])) == 0) {
            return false;
        }
    }
    return true;
}

static bool is_expected(const json_t *value, enum expectation expectation) {
    if (value == NULL || json_is_null(value)) {
        return true;
    }
    switch (expectation) {
    case EXPECT_FALSE:
        return json_is_false(value);
    case EXPECT_EMPTY:
        return is_empty(value);
    case EXPECT_NONE:
        return json_is_string(value) && strcmp(json_string_value(value), "none") == 0;
    case EXPECT_PLAIN:
        return is_plain_init(value);
    }
    return false;
}

static int check_type(const json_t *root, struct error *err) {
    const char *type = json_string_value(json_object_get(root, "peft_type"));
    if (type == NULL || strcmp(type, "LORA") != 0) {
        return error_set(err, ERROR_UNSUPPORTED, "peft_type is %s, only LORA is supported.", type != NULL ? type : "missing");
    }
    return 0;
}

static int check_required(const json_t *root, struct error *err) {
    static const char *const required[] = {"lora_alpha", "r", "target_modules"};
    cleanup_buffer struct buffer missing = BUFFER_INIT;
    for (size_t i = 0; i < ARRAY_LEN(required); i++) {
        const json_t *value = json_object_get(root, required[i]);
        if (value == NULL || json_is_null(value)) {
            buffer_printf(&missing, "%s'%s'", missing.len != 0 ? ", " : "", required[i]);
        }
    }
    if (missing.len != 0) {
        return error_set(err, ERROR_INVALID, "Missing required configuration fields: {%s}", buffer_text(&missing));
    }
    return 0;
}

static int check_numbers(const json_t *root, struct peft_config *config, struct error *err) {
    const json_t *rank = json_object_get(root, "r");
    const json_t *alpha = json_object_get(root, "lora_alpha");
    const json_t *modules = json_object_get(root, "target_modules");
    if (!json_is_integer(rank) || json_integer_value(rank) <= 0) {
        cleanup_free char *found = json_text(rank);
        return error_set(err, ERROR_INVALID, "LoRA rank `r` must be a positive integer, got %s.", found != NULL ? found : "?");
    }
    if (json_integer_value(rank) > PEFT_RANK_MAX) {
        return error_set(err, ERROR_LIMIT, "LoRA rank %lld is greater than the largest that is accepted, %d.",
                         (long long)json_integer_value(rank), PEFT_RANK_MAX);
    }
    if (!json_is_number(alpha) || !isfinite(json_number_value(alpha))) {
        return error_set(err, ERROR_INVALID, "lora_alpha must be a number.");
    }
    if (!json_is_array(modules) && !json_is_string(modules)) {
        return error_set(err, ERROR_INVALID, "target_modules must be a list of names or one pattern.");
    }
    config->rank = (int)json_integer_value(rank);
    bool is_rank_stabilised = json_is_true(json_object_get(root, "use_rslora"));
    config->scaling = json_number_value(alpha) / (is_rank_stabilised ? sqrt(config->rank) : config->rank);
    return 0;
}

/* Everything that is wrong with it in one message. */
static int check_supported(const json_t *root, const struct peft_config *config, int max_rank, struct error *err) {
    cleanup_buffer struct buffer message = BUFFER_INIT;
    if (max_rank > 0 && config->rank > max_rank) {
        buffer_printf(&message, "LoRA rank %d is greater than max_lora_rank %d.", config->rank, max_rank);
    }
    for (size_t i = 0; i < ARRAY_LEN(refusals); i++) {
        if (!is_expected(json_object_get(root, refusals[i].key), refusals[i].expectation)) {
            buffer_printf(&message, "%s%s", message.len != 0 ? " " : "", refusals[i].refusal);
        }
    }
    if (message.len != 0) {
        return error_set(err, ERROR_UNSUPPORTED, "%s", buffer_text(&message));
    }
    return 0;
}

int peft_config_parse(const char *text, size_t len, int max_rank, struct peft_config *ret, struct error *err) {
    struct peft_config config = {0};
    cleanup_json json_t *root = json_parse(text, len, err);
    if (root == NULL) {
        return error_wrap(err, PEFT_CONFIG_FILE);
    }
    if (!json_is_object(root)) {
        return error_set(err, ERROR_INVALID, PEFT_CONFIG_FILE ": not a JSON object");
    }
    if (check_type(root, err) < 0 || check_required(root, err) < 0 || check_numbers(root, &config, err) < 0 ||
        check_supported(root, &config, max_rank, err) < 0) {
        return -1;
    }
    config.base_model = xstrdup(json_string_at(root, "base_model_name_or_path", ""));
    *ret = config;
    return 0;
}

void peft_config_release(struct peft_config *config) {
    free(config->base_model);
    *config = (struct peft_config){0};
}

/* ---- tensor names ---- */

static bool skip_prefix(const char **text, const char *prefix) {
    size_t len = strlen(prefix);
    if (strncmp(*text, prefix, len) != 0) {
        return false;
    }
    *text += len;
    return true;
}

static bool read_layer(const char **text, int *ret_layer) {
    int layer = 0;
    const char *at = *text;
    for (; *at >= '0' && *at <= '9' && at - *text < 6; at++) {
        layer = layer * 10 + (*at - '0');
    }
    if (at == *text || *at != '.') {
        return false;
    }
    *text = at + 1;
    *ret_layer = layer;
    return true;
}

int peft_tensor_parse(const char *name, struct peft_tensor *ret, struct error *err) {
    static const char *const endings[] = {".lora_A.weight", ".lora_B.weight"};
    const char *at = name;
    struct peft_tensor tensor = {0};
    (void)skip_prefix(&at, "base_model.model.");
    size_t module_len = 0;
    if (skip_prefix(&at, "model.layers.") && read_layer(&at, &tensor.layer)) {
        size_t len = strlen(at);
        for (size_t i = 0; i < ARRAY_LEN(endings); i++) {
            size_t ending_len = strlen(endings[i]);
            if (len > ending_len && strcmp(at + len - ending_len, endings[i]) == 0) {
                module_len = len - ending_len;
                tensor.is_b = i == 1;
            }
        }
    }
    if (module_len == 0 || module_len >= sizeof(tensor.module)) {
        return error_set(err, ERROR_UNSUPPORTED, "%s is unsupported LoRA weight", name);
    }
    memcpy(tensor.module, at, module_len);
    *ret = tensor;
    return 0;
}
