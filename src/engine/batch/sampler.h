/* From logits to a token: a pure function of the logits, the parameters and the state of the request's random numbers. */
#ifndef DAVIT_ENGINE_BATCH_SAMPLER_H
#define DAVIT_ENGINE_BATCH_SAMPLER_H

#include "engine/engine.h"

#include <stddef.h>
#include <stdint.h>

struct sampler {
    double temperature; /* 0 = greedy */
    double top_p;       /* 1 = off */
    double min_p;       /* 0 = off */
    int top_k;          /* <= 0 = off */
    uint64_t state;     /* splitmix64; seeded per request */
};

/* Room for the work of one choice; the caller keeps one for all requests. */
struct sampler_scratch {
    float *weights; /* [vocab] */
    int *order;     /* [vocab] */
};

/* The next token. Greedy takes the first of equals. Otherwise, as vLLM does: temperature, then min_p, top_k and top_p in this
 * order. */
int sampler_pick(struct sampler *sampler, const float *logits, size_t vocab, struct sampler_scratch *scratch);

/* Natural logarithms of the probabilities that the logits mean, untouched by sampling parameters: of `token`, and of the
 * `top_count` best, best first. */
void sampler_logprobs(const float *logits, size_t vocab, int token, int top_count, float *ret_logprob,
                      struct engine_token_logprob *ret_top);

#endif
