/* adapter_config.json and tensor names: what is served, and what is refused with which phrase. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "adapter/peft.h"
#include "base/buffer.h"

#include <math.h>
#include <string.h>

#define PLAIN "\"peft_type\":\"LORA\",\"r\":8,\"lora_alpha\":16,\"target_modules\":[\"q_proj\"]"

static void test_accepted(void **state) {
    static const struct {
        const char *text;
        double scaling;
    } cases[] = {
        {"{" PLAIN "}", 2},
        {"{" PLAIN ",\"use_rslora\":true}", 5.656854249492381},
        {"{" PLAIN ",\"bias\":\"none\",\"modules_to_save\":null,\"use_dora\":false,\"rank_pattern\":{},\"alpha_pattern\":{},"
         "\"layers_to_transform\":null,"
         "\"lora_bias\":false,\"fan_in_fan_out\":false,\"init_lora_weights\":true,\"a_key_of_tomorrow\":{\"x\":1}}",
         2},
        {"{" PLAIN ",\"init_lora_weights\":\"gaussian\",\"modules_to_save\":[]}", 2},
        {"{\"peft_type\":\"LORA\",\"r\":4,\"lora_alpha\":1.5,\"target_modules\":\"all-linear\"}", 0.375},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct peft_config config;
        struct error err = {0};
        if (peft_config_parse(cases[i].text, strlen(cases[i].text), 8, &config, &err) < 0) {
            fail_msg("case %zu: %s", i, err.message);
        }
        assert_true(fabs(config.scaling - cases[i].scaling) < 1e-12);
        peft_config_release(&config);
    }
}

static void test_refused(void **state) {
    static const struct {
        const char *text;
        const char *message;
    } cases[] = {
        {"{" PLAIN ",\"use_dora\":true}", "vLLM does not yet support DoRA."},
        {"{" PLAIN ",\"bias\":\"all\"}", "Adapter bias is not supported."},
        {"{" PLAIN ",\"bias\":\"lora_only\"}", "Adapter bias is not supported."},
        {"{" PLAIN ",\"modules_to_save\":[\"lm_head\"]}", "vLLM only supports modules_to_save being None."},
        {"{" PLAIN ",\"rank_pattern\":{\"q_proj\":4}}", "rank_pattern is not supported."},
        {"{" PLAIN ",\"alpha_pattern\":{\"q_proj\":4}}", "alpha_pattern is not supported."},
        {"{" PLAIN ",\"lora_bias\":true}", "lora_bias is not supported."},
        {"{" PLAIN ",\"fan_in_fan_out\":true}", "fan_in_fan_out is not supported."},
        {"{" PLAIN ",\"layers_to_transform\":[0,1]}", "layers_to_transform is not supported."},
        {"{" PLAIN ",\"layers_to_transform\":0}", "layers_to_transform is not supported."},
        {"{" PLAIN ",\"layer_replication\":[[0,4]]}", "layer_replication is not supported."},
        {"{" PLAIN ",\"alora_invocation_tokens\":[1]}", "alora_invocation_tokens is not supported."},
        {"{" PLAIN ",\"trainable_token_indices\":[1]}", "trainable_token_indices is not supported."},
        {"{" PLAIN ",\"target_parameters\":[\"x\"]}", "target_parameters is not supported."},
        {"{" PLAIN ",\"init_lora_weights\":\"pissa_niter_4\"}", "init_lora_weights that change the base model are not supported."},
        {"{" PLAIN ",\"use_dora\":true,\"bias\":\"all\"}", "vLLM does not yet support DoRA. Adapter bias is not supported."},
        {"{\"peft_type\":\"IA3\"}", "peft_type is IA3, only LORA is supported."},
        {"{}", "peft_type is missing, only LORA is supported."},
        {"{\"peft_type\":\"LORA\"}", "Missing required configuration fields: {'lora_alpha', 'r', 'target_modules'}"},
        {"{\"peft_type\":\"LORA\",\"lora_alpha\":1,\"target_modules\":[]}", "Missing required configuration fields: {'r'}"},
        {"{\"peft_type\":\"LORA\",\"r\":0,\"lora_alpha\":1,\"target_modules\":[]}",
         "LoRA rank `r` must be a positive integer, got 0."},
        {"{\"peft_type\":\"LORA\",\"r\":-3,\"lora_alpha\":1,\"target_modules\":[]}",
         "LoRA rank `r` must be a positive integer, got -3."},
        {"{\"peft_type\":\"LORA\",\"r\":64,\"lora_alpha\":1,\"target_modules\":[]}",
         "LoRA rank 64 is greater than max_lora_rank 8."},
        {"{\"peft_type\":\"LORA\",\"r\":8,\"lora_alpha\":\"x\",\"target_modules\":[]}", "lora_alpha must be a number."},
        {"[]", "adapter_config.json: not a JSON object"},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct peft_config config;
        struct error err = {0};
        assert_true(peft_config_parse(cases[i].text, strlen(cases[i].text), 8, &config, &err) < 0);
        assert_string_equal(err.message, cases[i].message);
    }
}

static void test_tensor_names(void **state) {
    static const struct {
        const char *name;
        int layer; /* -1: refused */
        const char *module;
        bool is_b;
    } cases[] = {
        {"base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight", 0, "self_attn.q_proj", false},
        {"base_model.model.model.layers.29.mlp.down_proj.lora_B.weight", 29, "mlp.down_proj", true},
        {"model.layers.3.mlp.up_proj.lora_A.weight", 3, "mlp.up_proj", false},
        {"base_model.model.model.layers.0.self_attn.q_proj.lora_A.default.weight", -1, NULL, false},
        {"base_model.model.model.layers.0.self_attn.q_proj.lora_B.bias", -1, NULL, false},
        {"base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector", -1, NULL, false},
        {"base_model.model.model.layers.x.self_attn.q_proj.lora_A.weight", -1, NULL, false},
        {"base_model.model.model.layers.99999999999.self_attn.q_proj.lora_A.weight", -1, NULL, false},
        {"base_model.model.model.layers.0..lora_A.weight.lora", -1, NULL, false},
        {"base_model.model.model.layers.0.lora_A.weight", -1, NULL, false},
        {"base_model.model.lm_head.lora_A.weight", -1, NULL, false},
        {"base_model.model.model.embed_tokens.lora_embedding_A", -1, NULL, false},
        {"", -1, NULL, false},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct peft_tensor tensor;
        struct error err = {0};
        if (cases[i].layer < 0) {
            cleanup_free char *expected = xasprintf("%s is unsupported LoRA weight", cases[i].name);
            assert_true(peft_tensor_parse(cases[i].name, &tensor, &err) < 0);
            assert_string_equal(err.message, expected);
            continue;
        }
        assert_int_equal(peft_tensor_parse(cases[i].name, &tensor, &err), 0);
        assert_int_equal(tensor.layer, cases[i].layer);
        assert_string_equal(tensor.module, cases[i].module);
        assert_int_equal(tensor.is_b, cases[i].is_b);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_accepted), cmocka_unit_test(test_refused),
                                       cmocka_unit_test(test_tensor_names)};
    return cmocka_run_group_tests_name("peft", tests, NULL, NULL);
}
