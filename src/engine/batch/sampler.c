#include "engine/batch/sampler.h"

#include <math.h>

/* A number in [0, 1). splitmix64: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014. */
static double next_uniform(struct sampler *sampler) {
    uint64_t value = sampler->state += 0x9e3779b97f4a7c15U;
    value = (value ^ value >> 30) * 0xbf58476d1ce4e5b9U;
    value = (value ^ value >> 27) * 0x94d049bb133111ebU;
    value ^= value >> 31;
    return (double)(value >> 11) * 0x1p-53;
}

static int largest(const float *logits, size_t vocab) {
    size_t best = 0;
    for (size_t i = 1; i < vocab; i++) {
        best = logits[i] > logits[best] ? i : best;
    }
    return (int)best;
}

/* Weights relative to the best token's, which has 1; those below min_p are 0. Returns their sum. */
static double fill_weights(const struct sampler *sampler, const float *logits, size_t vocab, float *weights) {
    float maximum = logits[largest(logits, vocab)];
    double sum = 0;
    for (size_t i = 0; i < vocab; i++) {
        weights[i] = expf((float)((double)(logits[i] - maximum) / sampler->temperature));
        weights[i] = (double)weights[i] < sampler->min_p ? 0.0f : weights[i];
        sum += (double)weights[i];
    }
    return sum;
}

/* ---- the best first, as many as are asked for: a heap of token ids ---- */

static bool is_better(const float *weights, int a, int b) {
    return weights[a] != weights[b] ? weights[a] > weights[b] : a < b;
}

static void sift_down(const float *weights, int *heap, size_t count, size_t at) {
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= count) {
            return;
        }
        if (child + 1 < count && is_better(weights, heap[child + 1], heap[child])) {
            child++;
        }
        if (!is_better(weights, heap[child], heap[at])) {
            return;
        }
        int id = heap[at];
        heap[at] = heap[child];
        heap[child] = id;
        at = child;
    }
}

/* Takes the best off the heap and puts it behind the others; returns it. */
static int pop_best(const float *weights, int *heap, size_t *count) {
    int best = heap[0];
    heap[0] = heap[--*count];
    heap[*count] = best;
    sift_down(weights, heap, *count, 0);
    return best;
}

/* Draws from the `kept` ids that lie, best first, backwards from the end of `order`. */
static int draw(struct sampler *sampler, const struct sampler_scratch *scratch, size_t vocab, size_t kept, double sum) {
    double target = next_uniform(sampler) * sum;
    size_t i = 0;
    for (; i + 1 < kept; i++) {
        target -= (double)scratch->weights[scratch->order[vocab - 1 - i]];
        if (target < 0) {
            break;
        }
    }
    return scratch->order[vocab - 1 - i];
}

static int pick_truncated(struct sampler *sampler, size_t vocab, double sum, struct sampler_scratch *scratch) {
    size_t heap_count = vocab;
    size_t limit = sampler->top_k > 0 && (size_t)sampler->top_k < vocab ? (size_t)sampler->top_k : vocab;
    for (size_t i = 0; i < vocab; i++) {
        scratch->order[i] = (int)i;
    }
    for (size_t i = vocab / 2; i > 0; i--) {
        sift_down(scratch->weights, scratch->order, vocab, i - 1);
    }
    if (limit < vocab) { /* top_p is a part of what top_k leaves */
        sum = 0;
        for (size_t i = 0; i < limit; i++) {
            sum += (double)scratch->weights[pop_best(scratch->weights, scratch->order, &heap_count)];
        }
    }
    double kept_sum = 0;
    size_t kept = 0;
    while (kept < limit && (kept == 0 || kept_sum < sampler->top_p * sum)) {
        if (kept == vocab - heap_count) {
            (void)pop_best(scratch->weights, scratch->order, &heap_count);
        }
        kept_sum += (double)scratch->weights[scratch->order[vocab - 1 - kept]];
        kept++;
    }
    return draw(sampler, scratch, vocab, kept, kept_sum);
}

static int pick_any(struct sampler *sampler, size_t vocab, double sum, const float *weights) {
    double target = next_uniform(sampler) * sum;
    size_t last = 0;
    for (size_t i = 0; i < vocab; i++) {
        if (weights[i] > 0) {
            last = i;
            target -= (double)weights[i];
            if (target < 0) {
                break;
            }
        }
    }
    return (int)last;
}

int sampler_pick(struct sampler *sampler, const float *logits, size_t vocab, struct sampler_scratch *scratch) {
    if (sampler->temperature <= 0) {
        return largest(logits, vocab);
    }
    double sum = fill_weights(sampler, logits, vocab, scratch->weights);
    if (sampler->top_k > 0 || sampler->top_p < 1) {
        return pick_truncated(sampler, vocab, sum, scratch);
    }
    return pick_any(sampler, vocab, sum, scratch->weights);
}

void sampler_logprobs(const float *logits, size_t vocab, int token, int top_count, float *ret_logprob,
                      struct engine_token_logprob *ret_top) {
    double maximum = (double)logits[largest(logits, vocab)];
    double sum = 0;
    int count = 0;
    for (size_t i = 0; i < vocab; i++) {
        sum += exp((double)logits[i] - maximum);
        if (count == top_count && (count == 0 || logits[i] <= ret_top[count - 1].logprob)) {
            continue;
        }
        int at = count < top_count ? count++ : count - 1;
        for (; at > 0 && ret_top[at - 1].logprob < logits[i]; at--) {
            ret_top[at] = ret_top[at - 1];
        }
        ret_top[at] = (struct engine_token_logprob){.token = (int)i, .logprob = logits[i]};
    }
    double log_sum = maximum + log(sum);
    for (int i = 0; i < count; i++) {
        ret_top[i].logprob = (float)((double)ret_top[i].logprob - log_sum);
    }
    *ret_logprob = (float)((double)logits[token] - log_sum);
}
