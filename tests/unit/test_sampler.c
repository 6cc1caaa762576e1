/* Choosing tokens: greedy, seeded, truncated, and the log-probabilities that are reported. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/batch/sampler.h"

#include <math.h>
#include <string.h>

#define VOCAB 5
#define DRAWS 20000

/* Probabilities at temperature 1: 0.4, 0.3, 0.15, 0.1, 0.05 of the ids 3, 0, 4, 1, 2. */
static const double probabilities[VOCAB] = {0.3, 0.1, 0.05, 0.4, 0.15};

static void fill_logits(float *logits) {
    for (size_t i = 0; i < VOCAB; i++) {
        logits[i] = (float)log(probabilities[i]) + 7.0f;
    }
}

static int pick(struct sampler *sampler, const float *logits) {
    float weights[VOCAB];
    int order[VOCAB];
    struct sampler_scratch scratch = {.weights = weights, .order = order};
    return sampler_pick(sampler, logits, VOCAB, &scratch);
}

static void test_greedy(void **state) {
    struct sampler sampler = {.top_p = 1};
    float logits[VOCAB] = {1, 5, 2, 5, 0};
    (void)state;
    assert_int_equal(pick(&sampler, logits), 1); /* the first of equals */
    logits[3] = 6;
    assert_int_equal(pick(&sampler, logits), 3);
}

static void test_distribution(void **state) {
    static const struct {
        struct sampler sampler;
        double expected[VOCAB];
    } cases[] = {
        {{.temperature = 1, .top_p = 1}, {0.3, 0.1, 0.05, 0.4, 0.15}},
        {{.temperature = 0.5, .top_p = 1}, {0.3103, 0.0345, 0.0086, 0.5517, 0.0776}}, /* squares, made to sum to 1 */
        {{.temperature = 1, .top_p = 1, .top_k = 2}, {0.4286, 0, 0, 0.5714, 0}},
        {{.temperature = 1, .top_p = 1, .top_k = 1}, {0, 0, 0, 1, 0}},
        {{.temperature = 1, .top_p = 1, .top_k = 50}, {0.3, 0.1, 0.05, 0.4, 0.15}},
        {{.temperature = 1, .top_p = 0.65}, {0.4286, 0, 0, 0.5714, 0}},
        {{.temperature = 1, .top_p = 0.75}, {0.3529, 0, 0, 0.4706, 0.1765}},
        {{.temperature = 1, .top_p = 0.01}, {0, 0, 0, 1, 0}},
        {{.temperature = 1, .top_p = 0.5, .top_k = 3}, {0.4286, 0, 0, 0.5714, 0}}, /* 0.4 of 0.85 is below a half */
        {{.temperature = 1, .top_p = 1, .min_p = 0.3}, {0.3529, 0, 0, 0.4706, 0.1765}},
    };
    float logits[VOCAB];
    (void)state;
    fill_logits(logits);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct sampler sampler = cases[i].sampler;
        int counts[VOCAB] = {0};
        sampler.state = 42 + i;
        for (int draw = 0; draw < DRAWS; draw++) {
            counts[pick(&sampler, logits)]++;
        }
        for (size_t id = 0; id < VOCAB; id++) {
            double found = (double)counts[id] / DRAWS;
            if (fabs(found - cases[i].expected[id]) > 0.015 || (cases[i].expected[id] == 0 && counts[id] > 0)) {
                fail_msg("case %zu: token %zu came with %.4f, expected %.4f", i, id, found, cases[i].expected[id]);
            }
        }
    }
}

static void test_seed(void **state) {
    struct sampler first = {.temperature = 1, .top_p = 1, .state = 7};
    struct sampler second = first;
    struct sampler other = {.temperature = 1, .top_p = 1, .state = 8};
    float logits[VOCAB];
    int differences = 0;
    (void)state;
    fill_logits(logits);
    for (int i = 0; i < 100; i++) {
        int token = pick(&first, logits);
        assert_int_equal(token, pick(&second, logits));
        differences += token != pick(&other, logits) ? 1 : 0;
    }
    assert_true(differences > 0);
}

static void test_logprobs(void **state) {
    float logits[VOCAB];
    struct engine_token_logprob top[VOCAB];
    float logprob = 0;
    (void)state;
    fill_logits(logits);
    sampler_logprobs(logits, VOCAB, 1, 3, &logprob, top);
    assert_true(fabs((double)logprob - log(0.1)) < 1e-5);
    assert_int_equal(top[0].token, 3);
    assert_int_equal(top[1].token, 0);
    assert_int_equal(top[2].token, 4);
    assert_true(fabs((double)top[2].logprob - log(0.15)) < 1e-5);
    sampler_logprobs(logits, VOCAB, 3, 0, &logprob, top);
    assert_true(fabs((double)logprob - log(0.4)) < 1e-5);
    sampler_logprobs(logits, VOCAB, 3, VOCAB, &logprob, top);
    assert_int_equal(top[4].token, 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_greedy),
        cmocka_unit_test(test_distribution),
        cmocka_unit_test(test_seed),
        cmocka_unit_test(test_logprobs),
    };
    return cmocka_run_group_tests_name("sampler", tests, NULL, NULL);
}
