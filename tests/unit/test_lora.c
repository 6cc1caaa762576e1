/* Loading adapters from folders: the good ones, and each bad one with the message that names what is wrong. */
#include "engine_support.h"

static void test_bad_adapters(void **state) {
    static const struct {
        const char *folder;
        enum error_code code;
        const char *phrases[3];
    } cases[] = {
        {"no-such-folder", ERROR_NOT_FOUND, {"No adapter found for ", "no-such-folder"}},
        {"no-config", ERROR_NOT_FOUND, {"No adapter found for "}},
        {"no-weights", ERROR_INVALID, {"doesn't contain tensors"}},
        {"bad-json", ERROR_INVALID, {"adapter_config.json"}},
        {"bias", ERROR_UNSUPPORTED, {"Adapter bias is not supported."}},
        {"dora", ERROR_UNSUPPORTED, {"vLLM does not yet support DoRA."}},
        {"integer-tensors", ERROR_UNSUPPORTED, {"tensor \"", "F32, F16 and BF16 are supported"}},
        {"layer-out-of-range", ERROR_INVALID, {"tensor \"", "the base model has "}},
        {"missing-half", ERROR_INVALID, {"tensor \"", " beside it"}},
        {"missing-r", ERROR_INVALID, {"Missing required configuration fields: {'r'}"}},
        {"modules-to-save", ERROR_UNSUPPORTED, {"vLLM only supports modules_to_save being None."}},
        {"rank-mismatch", ERROR_INVALID, {"tensor \"", "expected shape [", "found ["}},
        {"rank64", ERROR_UNSUPPORTED, {"LoRA rank 64 is greater than max_lora_rank 16."}},
        {"truncated", ERROR_INVALID, {"adapter_model.safetensors"}},
        {"unknown-tensor", ERROR_UNSUPPORTED, {""}},
        {"wrong-base-shapes", ERROR_INVALID, {"tensor \"", "expected shape [", "found ["}},
        {"wrong-peft-type", ERROR_UNSUPPORTED, {"peft_type is "}},
    };
    cleanup_free char *model_path = source_path("tests/fixtures/tiny/model.gguf");
    struct model *model = NULL;
    struct error err = {0};
    (void)state;
    assert_int_equal(model_load(model_path, &model, &err), 0);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        cleanup_free char *bad = source_path("tests/fixtures/tiny/bad");
        cleanup_free char *path = path_join(bad, cases[i].folder);
        struct lora_adapter *adapter = NULL;
        assert_true(lora_load(model, path, 16, &adapter, &err) < 0);
        assert_null(adapter);
        for (size_t j = 0; j < ARRAY_LEN(cases[i].phrases) && cases[i].phrases[j] != NULL; j++) {
            if (err.code != cases[i].code || strstr(err.message, cases[i].phrases[j]) == NULL) {
                fail_msg("%s: error %d \"%s\", expected %d \"%s\"", cases[i].folder, (int)err.code, err.message, (int)cases[i].code,
                         cases[i].phrases[j]);
            }
        }
    }
    model_free(model);
}

static void test_content_hash(void **state) {
    static const char *const folders[] = {"tests/fixtures/tiny/adapter-a", "tests/fixtures/tiny/adapter-a",
                                          "tests/fixtures/tiny/adapter-b"};
    cleanup_free char *model_path = source_path("tests/fixtures/tiny/model.gguf");
    struct lora_adapter *adapters[ARRAY_LEN(folders)];
    struct model *model = NULL;
    struct error err = {0};
    (void)state;
    assert_int_equal(model_load(model_path, &model, &err), 0);
    for (size_t i = 0; i < ARRAY_LEN(folders); i++) {
        cleanup_free char *path = source_path(folders[i]);
        assert_int_equal(lora_load(model, path, 16, &adapters[i], &err), 0);
    }
    assert_memory_equal(&adapters[0]->content, &adapters[1]->content, sizeof(struct hash));
    assert_memory_not_equal(&adapters[0]->content, &adapters[2]->content, sizeof(struct hash));
    assert_int_equal(adapters[0]->rank, 4);
    for (size_t i = 0; i < ARRAY_LEN(folders); i++) {
        lora_unref(adapters[i]);
    }
    model_free(model);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_bad_adapters), cmocka_unit_test(test_content_hash)};
    return cmocka_run_group_tests_name("lora", tests, NULL, NULL);
}
