/* What rounding activations to 8 bits costs: the base model and every sample adapter are shown the same text with and without it,
 * token by token, and the Kullback-Leibler divergence of what they expect next is measured. The text: prompts and answers of all
 * goldens, those of other adapters too. */
#include "engine_support.h"

#include <math.h>

#define POSITIONS_MAX 8192
#define MEAN_LIMIT 0.01      /* nat */
#define POSITIONS_LEAST 2000 /* of the base model and of each adapter */

static const char *const goldens[] = {"base", "sql", "json", "pirate"};

struct pair {
    struct stepper exact;
    struct stepper rounded;
};

struct measured {
    double divergences[POSITIONS_MAX];
    size_t count;
    size_t same_best; /* positions where the likeliest token is the same */
};

/* ln of the sum of e^logits */
static double log_sum(const float *logits, size_t vocab) {
    float maximum = logits[best_of(logits, vocab)];
    double sum = 0;
    for (size_t i = 0; i < vocab; i++) {
        sum += (double)expf(logits[i] - maximum);
    }
    return (double)maximum + log(sum);
}

static double divergence(const float *exact, const float *rounded, size_t vocab) {
    double exact_sum = log_sum(exact, vocab);
    double rounded_sum = log_sum(rounded, vocab);
    double sum = 0;
    for (size_t i = 0; i < vocab; i++) {
        double log_probability = (double)exact[i] - exact_sum;
        if (log_probability > -40) { /* the others have less than 1e-17 each */
            sum += (double)expf((float)log_probability) * (log_probability - ((double)rounded[i] - rounded_sum));
        }
    }
    return sum;
}

/* A few neighbouring tokens in one step, with the logits of each. */
static void step(struct stepper *stepper, const struct lora_adapter *adapter, const int *blocks, const int *tokens, size_t first,
                 size_t count) {
    struct forward_row rows[STEPPER_LOGITS];
    for (size_t i = 0; i < count; i++) {
        rows[i] = (struct forward_row){
            .token = tokens[first + i], .position = first + i, .blocks = blocks, .adapter = adapter, .wants_logits = true};
    }
    forward_run(stepper->forward, rows, count);
}

static void measure_text(struct pair *pair, const struct lora_adapter *adapter, const int *tokens, size_t count,
                         struct measured *out) {
    size_t vocab = pair->exact.model->config.vocab;
    int blocks[STEPPER_CONTEXT / KV_BLOCK_TOKENS];
    for (size_t i = 0; i < ARRAY_LEN(blocks); i++) {
        blocks[i] = (int)i; /* both caches are this text's alone */
    }
    for (size_t first = 0; first < count; first += STEPPER_LOGITS) {
        size_t part = count - first < STEPPER_LOGITS ? count - first : STEPPER_LOGITS;
        step(&pair->exact, adapter, blocks, tokens, first, part);
        step(&pair->rounded, adapter, blocks, tokens, first, part);
        for (size_t i = 0; i < part; i++) {
            const float *exact = forward_logits(pair->exact.forward, i);
            const float *rounded = forward_logits(pair->rounded.forward, i);
            assert_true(out->count < POSITIONS_MAX);
            out->divergences[out->count++] = divergence(exact, rounded, vocab);
            out->same_best += best_of(exact, vocab) == best_of(rounded, vocab) ? 1 : 0;
        }
    }
}

/* Prompt and answer of each prompt of a golden. */
static void measure_golden(struct pair *pair, const struct lora_adapter *adapter, const char *golden, struct measured *out) {
    cleanup_free char *path = xasprintf("tests/goldens/%s.json", golden);
    cleanup_json json_t *root = load_json(path);
    const json_t *prompts = json_object_get(root, "prompts");
    assert_true(json_array_size(prompts) > 0);
    for (size_t i = 0; i < json_array_size(prompts); i++) {
        int tokens[STEPPER_CONTEXT];
        size_t prompt_len = 0;
        size_t answer_len = 0;
        cleanup_free int *prompt = int_array(json_object_get(json_array_get(prompts, i), "token_ids"), &prompt_len);
        cleanup_free int *answer = int_array(json_object_get(json_array_get(prompts, i), "greedy"), &answer_len);
        assert_true(prompt_len + answer_len <= STEPPER_CONTEXT);
        memcpy(tokens, prompt, prompt_len * sizeof(*tokens));
        memcpy(tokens + prompt_len, answer, answer_len * sizeof(*tokens));
        measure_text(pair, adapter, tokens, prompt_len + answer_len, out);
    }
}

static int ascending(const void *left, const void *right) {
    double a = *(const double *)left;
    double b = *(const double *)right;
    return (a > b) - (a < b);
}

static void report(const char *name, struct measured *measured) {
    double sum = 0;
    assert_true(measured->count >= POSITIONS_LEAST);
    for (size_t i = 0; i < measured->count; i++) {
        assert_true(isfinite(measured->divergences[i]));
        sum += measured->divergences[i];
    }
    qsort(measured->divergences, measured->count, sizeof(measured->divergences[0]), ascending);
    double mean = sum / (double)measured->count;
    print_message("%-7s %zu positions: mean %.5f nat, p99 %.4f, largest %.3f; same best token in %.1f %%\n", name, measured->count,
                  mean, measured->divergences[measured->count * 99 / 100], measured->divergences[measured->count - 1],
                  100.0 * (double)measured->same_best / (double)measured->count);
    assert_true(mean <= MEAN_LIMIT);
}

static void test_divergence(void **state) {
    const char *path = real_model_path();
    struct pair pair;
    (void)state;
    if (path == NULL) {
        skip();
    }
    struct measured *measured = xmalloc(sizeof(*measured));
    stepper_init_with(&pair.exact, path, 2, (struct arithmetic){0});
    stepper_init_with(&pair.rounded, path, 2, (struct arithmetic){.rounds_activations = true});
    print_message("kernels: %s\n", kernels_find(NULL)->name);
    for (size_t i = 0; i < ARRAY_LEN(goldens); i++) {
        cleanup_free char *folder = xasprintf("samples/adapters/%s", goldens[i]);
        struct lora_adapter *adapter = i > 0 ? stepper_load(&pair.exact, folder) : NULL;
        measured->count = measured->same_best = 0;
        for (size_t text = 0; text < ARRAY_LEN(goldens); text++) {
            measure_golden(&pair, adapter, goldens[text], measured);
        }
        report(goldens[i], measured);
        lora_unref(adapter);
    }
    stepper_release(&pair.rounded);
    stepper_release(&pair.exact);
    free(measured);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_divergence)};
    return cmocka_run_group_tests_name("activations", tests, NULL, NULL);
}
