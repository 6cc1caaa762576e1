/* davit check: what it says of davit's engine is what the engine's loader says, for every adapter among the fixtures; and what it
 * says of the others. */
#include "adapter/verdict.h"
#include "base/file.h"
#include "cli/check_base.h"
#include "engine/lora/lora.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <dirent.h>
#include <stdlib.h>
#include <string.h>

#define MAX_RANK 16

static char *fixture(const char *name) {
    const char *root = getenv("DAVIT_SOURCE_DIR");
    return xasprintf("%s/tests/fixtures/tiny%s%s", root != NULL ? root : ".", *name != '\0' ? "/" : "", name);
}

/* False when there is nothing to judge: a file that is missing or broken. */
static bool judge(const char *folder, const struct base_shape *base, struct verdict *verdicts) {
    cleanup_free char *config_path = path_join(folder, "adapter_config.json");
    cleanup_free char *weights_path = path_join(folder, "adapter_model.safetensors");
    cleanup_buffer struct buffer config_text = BUFFER_INIT;
    cleanup_buffer struct buffer file = BUFFER_INIT;
    size_t header = 0;
    struct safetensors weights;
    if (file_read(config_path, 1 << 20, &config_text, NULL) < 0 || file_read(weights_path, 1 << 20, &file, NULL) < 0) {
        return false;
    }
    cleanup_json json_t *config = json_parse(config_text.data, config_text.len, NULL);
    if (config == NULL || safetensors_header_len(file.data, file.len, file.len, &header, NULL) < 0 ||
        safetensors_parse(file.data + 8, header, file.len - 8 - header, &weights, NULL) < 0) {
        return false;
    }
    const struct adapter_description adapter = {.config = config, .weights = &weights};
    verdicts_of(&adapter, base, MAX_RANK, verdicts);
    safetensors_release(&weights);
    return true;
}

static void release(struct verdict *verdicts) {
    for (size_t i = 0; i < ENGINE_KINDS; i++) {
        verdict_release(&verdicts[i]);
    }
}

static int compare_folder(const struct model *model, const struct base_shape *base, const char *folder) {
    struct verdict verdicts[ENGINE_KINDS];
    struct lora_adapter *adapter = NULL;
    struct error err = {0};
    bool is_loaded = lora_load(model, folder, MAX_RANK, &adapter, &err) == 0;
    lora_unref(adapter);
    bool is_judged = judge(folder, base, verdicts);
    bool is_refused = !is_judged || verdicts[ENGINE_DAVIT].refusals.len > 0;
    if (is_refused == is_loaded) {
        fail_msg("%s: the loader says %s, davit check says %s", folder, is_loaded ? "yes" : err.message,
                 is_refused ? buffer_text(&verdicts[ENGINE_DAVIT].refusals) : "yes");
    }
    if (is_judged) {
        release(verdicts);
    }
    return is_loaded;
}

static void test_agrees_with_the_loader(void **state) {
    (void)state;
    cleanup_free char *model_path = fixture("model.gguf");
    struct model *model = NULL;
    struct check_base base;
    struct error err = {0};
    assert_int_equal(model_load(model_path, &model, &err), 0);
    assert_int_equal(check_base_read(model_path, &base, &err), 0);
    assert_null(base.refusal);
    assert_int_equal(base.shape.layers, model->config.layers);
    assert_int_equal(base.shape.vocab, model->config.vocab);
    int good = 0, bad = 0;
    static const char *const folders[] = {"", "bad"};
    for (size_t i = 0; i < ARRAY_LEN(folders); i++) {
        cleanup_free char *parent = fixture(folders[i]);
        DIR *listing = opendir(parent);
        assert_non_null(listing);
        for (struct dirent *entry; (entry = readdir(listing)) != NULL;) {
            if (entry->d_name[0] != '.' && entry->d_type == DT_DIR && strcmp(entry->d_name, "bad") != 0) {
                cleanup_free char *folder = path_join(parent, entry->d_name);
                *(compare_folder(model, &base.shape, folder) ? &good : &bad) += 1;
            }
        }
        closedir(listing);
    }
    assert_true(good >= 4 && bad >= 10);
    check_base_release(&base);
    model_free(model);
}

static void test_other_engines(void **state) {
    (void)state;
    static const struct {
        const char *folder;
        bool vllm_refuses, sglang_refuses;
        const char *in_vllm; /* part of what is said about it */
    } cases[] = {
        {"adapter-a", false, false, NULL},
        {"bad/dora", true, false, "use_dora"},
        {"bad/rank64", true, true, "rank 64 is greater than --max-lora-rank 16"},
        {"bad/wrong-base-shapes", true, true, "expected shape"},
        {"bad/missing-half", true, true, "no lora_B beside it"},
        {"bad/wrong-peft-type", true, true, "peft_type"},
    };
    cleanup_free char *model_path = fixture("model.gguf");
    struct check_base base;
    assert_int_equal(check_base_read(model_path, &base, NULL), 0);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct verdict verdicts[ENGINE_KINDS];
        cleanup_free char *folder = fixture(cases[i].folder);
        assert_true(judge(folder, &base.shape, verdicts));
        assert_int_equal(verdicts[ENGINE_VLLM].refusals.len > 0, cases[i].vllm_refuses);
        assert_int_equal(verdicts[ENGINE_SGLANG].refusals.len > 0, cases[i].sglang_refuses);
        assert_true(cases[i].in_vllm == NULL || strstr(buffer_text(&verdicts[ENGINE_VLLM].refusals), cases[i].in_vllm) != NULL);
        release(verdicts);
    }
    check_base_release(&base);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_agrees_with_the_loader),
        cmocka_unit_test(test_other_engines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
