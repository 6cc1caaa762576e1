/* The model against goldens of transformers and PEFT, and its rows against themselves in other company. */
#include "engine_support.h"

#include <math.h>

#define TOLERANCE 1e-3
#define TINY "tests/fixtures/tiny/model.gguf"

static double worst_error;

static void compare_logit(const char *prompt, size_t id, float found, double expected) {
    double error = fabs((double)found - expected);
    worst_error = error > worst_error ? error : worst_error;
    if (!(error <= TOLERANCE)) {
        fail_msg("prompt \"%s\": logit %zu is %.6f, expected %.6f", prompt, id, (double)found, expected);
    }
}

/* Either all logits, or some by id. */
static void compare_logits(const char *prompt, const json_t *golden, const float *logits) {
    static const char *const parts[] = {"logits_top", "logits_sample"};
    const json_t *all = json_object_get(golden, "logits");
    for (size_t i = 0; i < json_array_size(all); i++) {
        compare_logit(prompt, i, logits[i], json_number_value(json_array_get(all, i)));
    }
    for (size_t part = 0; part < ARRAY_LEN(parts); part++) {
        const json_t *ids = json_object_get(json_object_get(golden, parts[part]), "ids");
        const json_t *values = json_object_get(json_object_get(golden, parts[part]), "logits");
        for (size_t i = 0; i < json_array_size(ids); i++) {
            size_t id = (size_t)json_integer_value(json_array_get(ids, i));
            compare_logit(prompt, id, logits[id], json_number_value(json_array_get(values, i)));
        }
    }
}

/* Greedy tokens up to the first near-tie that went the other way. */
static void compare_greedy(struct stepper *stepper, const struct lora_adapter *adapter, const json_t *golden) {
    const char *prompt = json_string_value(json_object_get(golden, "prompt"));
    size_t prompt_len = 0;
    size_t expected_count = 0;
    cleanup_free int *prompt_ids = int_array(json_object_get(golden, "token_ids"), &prompt_len);
    cleanup_free int *expected = int_array(json_object_get(golden, "greedy"), &expected_count);
    int tokens[STEPPER_CONTEXT];
    int blocks[STEPPER_CONTEXT / KV_BLOCK_TOKENS];
    assert_true(kv_cache_take(&stepper->cache, ARRAY_LEN(blocks), blocks));
    assert_true(prompt_len + expected_count <= STEPPER_CONTEXT);
    memcpy(tokens, prompt_ids, prompt_len * sizeof(*tokens));
    const float *logits = stepper_run(stepper, adapter, blocks, tokens, 0, prompt_len);
    compare_logits(prompt, golden, logits);
    for (size_t i = 0; i < expected_count; i++) {
        int token = best_of(logits, stepper->model->config.vocab);
        if (token != expected[i]) {
            if (!has_int(json_object_get(golden, "close_positions"), i)) {
                fail_msg("prompt \"%s\": token %zu is %d, expected %d", prompt, i, token, expected[i]);
            }
            break;
        }
        tokens[prompt_len + i] = token;
        logits = stepper_run(stepper, adapter, blocks, tokens, prompt_len + i, 1);
    }
    kv_cache_give(&stepper->cache, blocks, ARRAY_LEN(blocks));
}

static void compare_prompts(struct stepper *stepper, const struct lora_adapter *adapter, const json_t *prompts) {
    assert_true(json_array_size(prompts) > 0);
    for (size_t i = 0; i < json_array_size(prompts); i++) {
        compare_greedy(stepper, adapter, json_array_get(prompts, i));
    }
}

static void check_tiny_goldens(const char *kernels) {
    cleanup_json json_t *root = load_json("tests/goldens/tiny.json");
    cleanup_free char *path = source_path(TINY);
    const json_t *cases = json_object_get(root, "cases");
    struct stepper stepper;
    worst_error = 0;
    stepper_init(&stepper, path, 2, kernels);
    for (size_t i = 0; i < json_array_size(cases); i++) {
        const json_t *item = json_array_get(cases, i);
        const char *name = json_string_value(json_object_get(json_object_get(item, "adapter"), "name"));
        cleanup_free char *folder = xasprintf("tests/fixtures/tiny/%s", name != NULL ? name : "");
        struct lora_adapter *adapter = name != NULL ? stepper_load(&stepper, folder) : NULL;
        compare_prompts(&stepper, adapter, json_object_get(item, "prompts"));
        lora_unref(adapter);
    }
    print_message("largest logit error: %.2g\n", worst_error);
    stepper_release(&stepper);
}

static void test_tiny_goldens_generic(void **state) {
    (void)state;
    check_tiny_goldens("generic");
}

static void test_tiny_goldens_fastest(void **state) {
    (void)state;
    check_tiny_goldens(NULL);
}

static void test_real_goldens(void **state) {
    static const struct {
        const char *golden;
        const char *adapter;
    } cases[] = {
        {"tests/goldens/base.json", NULL},
        {"tests/goldens/sql.json", "samples/adapters/sql"},
        {"tests/goldens/json.json", "samples/adapters/json"},
        {"tests/goldens/pirate.json", "samples/adapters/pirate"},
    };
    const char *path = real_model_path();
    (void)state;
    if (path == NULL) {
        skip();
    }
    struct stepper stepper;
    worst_error = 0;
    stepper_init(&stepper, path, 2, NULL);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        cleanup_json json_t *root = load_json(cases[i].golden);
        struct lora_adapter *adapter = cases[i].adapter != NULL ? stepper_load(&stepper, cases[i].adapter) : NULL;
        compare_prompts(&stepper, adapter, json_object_get(root, "prompts"));
        lora_unref(adapter);
    }
    print_message("largest logit error: %.2g\n", worst_error);
    stepper_release(&stepper);
}

/* ---- bit identity ---- */

#define MIX 4
#define MIX_TOKENS 37
#define MIX_BLOCKS ((MIX_TOKENS + KV_BLOCK_TOKENS - 1) / KV_BLOCK_TOKENS)

/* The last logits of each of four sequences, prefilled in chunks of `chunk` tokens, in one step together or one after the other. */
static void run_mix(int threads, struct arithmetic arithmetic, size_t chunk, bool is_together, float **ret_logits) {
    static const char *const folders[MIX] = {NULL, "tests/fixtures/tiny/adapter-a", "tests/fixtures/tiny/adapter-b",
                                             "tests/fixtures/tiny/adapter-a"};
    cleanup_free char *path = source_path(TINY);
    struct stepper stepper;
    struct lora_adapter *adapters[MIX] = {NULL};
    int blocks[MIX][MIX_BLOCKS];
    int tokens[MIX][MIX_TOKENS];
    stepper_init_with(&stepper, path, threads, arithmetic);
    size_t vocab = stepper.model->config.vocab;
    for (size_t i = 0; i < MIX; i++) {
        adapters[i] = folders[i] != NULL ? stepper_load(&stepper, folders[i]) : NULL;
        assert_true(kv_cache_take(&stepper.cache, ARRAY_LEN(blocks[i]), blocks[i]));
        for (size_t j = 0; j < MIX_TOKENS; j++) {
            tokens[i][j] = (int)((i * 131 + j * 29 + 7) % vocab);
        }
    }
    for (size_t first = 0; first < MIX_TOKENS; first += chunk) {
        size_t count = MIX_TOKENS - first < chunk ? MIX_TOKENS - first : chunk;
        struct forward_row rows[STEPPER_ROWS];
        for (size_t i = 0; i < MIX && !is_together; i++) {
            memcpy(ret_logits[i], stepper_run(&stepper, adapters[i], blocks[i], tokens[i], first, count), vocab * sizeof(float));
        }
        for (size_t row = 0; row < MIX * count && is_together; row++) {
            size_t i = row / count;
            size_t position = first + row % count;
            rows[row] = (struct forward_row){.token = tokens[i][position],
                                             .position = position,
                                             .blocks = blocks[i],
                                             .adapter = adapters[i],
                                             .wants_logits = row % count + 1 == count};
        }
        if (is_together) {
            forward_run(stepper.forward, rows, MIX * count);
            for (size_t i = 0; i < MIX; i++) {
                memcpy(ret_logits[i], forward_logits(stepper.forward, i), vocab * sizeof(float));
            }
        }
    }
    for (size_t i = 0; i < MIX; i++) {
        lora_unref(adapters[i]);
    }
    stepper_release(&stepper);
}

static void check_bit_identity(struct arithmetic arithmetic) {
    static const size_t chunks[] = {1, 2, 5, 16, MIX_TOKENS};
    enum { VOCAB_MAX = 4096 };
    float *expected[MIX];
    float *found[MIX];
    for (size_t i = 0; i < MIX; i++) {
        expected[i] = xcalloc(VOCAB_MAX, sizeof(float));
        found[i] = xcalloc(VOCAB_MAX, sizeof(float));
    }
    run_mix(1, arithmetic, MIX_TOKENS, false, expected);
    for (int threads = 1; threads <= 3; threads++) {
        for (size_t at = 0; at < ARRAY_LEN(chunks); at++) {
            for (int together = 0; together < 2; together++) {
                run_mix(threads, arithmetic, chunks[at], together == 1, found);
                for (size_t i = 0; i < MIX; i++) {
                    assert_memory_equal(found[i], expected[i], VOCAB_MAX * sizeof(float));
                }
            }
        }
    }
    for (size_t i = 0; i < MIX; i++) {
        free(expected[i]);
        free(found[i]);
    }
}

static void test_bit_identity_generic(void **state) {
    (void)state;
    check_bit_identity((struct arithmetic){.kernels = "generic"});
}

static void test_bit_identity_fastest(void **state) {
    (void)state;
    check_bit_identity((struct arithmetic){0});
}

static void test_bit_identity_int8_generic(void **state) {
    (void)state;
    check_bit_identity((struct arithmetic){.kernels = "generic", .rounds_activations = true});
}

static void test_bit_identity_int8_fastest(void **state) {
    (void)state;
    check_bit_identity((struct arithmetic){.rounds_activations = true});
}

/* ---- loading ---- */

static void test_model_refusals(void **state) {
    struct error err = {0};
    struct model *model = NULL;
    cleanup_free char *not_gguf = source_path("tests/fixtures/tiny/adapter-a/adapter_config.json");
    (void)state;
    assert_true(model_load("/nowhere/model.gguf", &model, &err) < 0);
    assert_int_equal(err.code, ERROR_NOT_FOUND);
    assert_non_null(strstr(err.message, "/nowhere/model.gguf"));
    assert_true(model_load(not_gguf, &model, &err) < 0);
    assert_int_equal(err.code, ERROR_INVALID);
    assert_non_null(strstr(err.message, "not a GGUF file"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tiny_goldens_generic),
        cmocka_unit_test(test_tiny_goldens_fastest),
        cmocka_unit_test(test_bit_identity_generic),
        cmocka_unit_test(test_bit_identity_fastest),
        cmocka_unit_test(test_bit_identity_int8_generic),
        cmocka_unit_test(test_bit_identity_int8_fastest),
        cmocka_unit_test(test_model_refusals),
        cmocka_unit_test(test_real_goldens),
    };
    return cmocka_run_group_tests_name("forward", tests, NULL, NULL);
}
