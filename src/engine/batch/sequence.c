#include "engine/batch/sequence.h"

#include <math.h>
#include <string.h>

/* ---- checking ---- */

static int check_tokens(const struct engine_request *request, const struct sequence_limits *limits, struct error *err) {
    if (request->prompt_len == 0) {
        return error_set(err, ERROR_INVALID, "the prompt has no tokens");
    }
    if (request->max_tokens < 1) {
        return error_set(err, ERROR_INVALID, "max_tokens is %d, at least 1 is expected", request->max_tokens);
    }
    size_t room = (size_t)limits->max_model_len;
    if (request->prompt_len >= room || (size_t)request->max_tokens > room - request->prompt_len) {
        return error_set(err, ERROR_INVALID,
                         "This model's maximum context length is %d tokens. However, you requested %d output tokens and your "
                         "prompt contains %zu "
                         "input tokens.",
                         limits->max_model_len, request->max_tokens, request->prompt_len);
    }
    for (size_t i = 0; i < request->prompt_len; i++) {
        if (request->prompt[i] < 0 || request->prompt[i] >= limits->vocab_size) {
            return error_set(err, ERROR_INVALID, "prompt token %zu is %d, the vocabulary has %d", i, request->prompt[i],
                             limits->vocab_size);
        }
    }
    return 0;
}

static int check_stops(const struct engine_request *request, const struct sequence_limits *limits, struct error *err) {
    if (request->stop_token_count > SEQUENCE_STOP_TOKENS_MAX) {
        return error_set(err, ERROR_INVALID, "%zu stop tokens, at most %d are accepted", request->stop_token_count,
                         SEQUENCE_STOP_TOKENS_MAX);
    }
    for (size_t i = 0; i < request->stop_token_count; i++) {
        if (request->stop_tokens[i] < 0 || request->stop_tokens[i] >= limits->vocab_size) {
            return error_set(err, ERROR_INVALID, "stop token %d is not in the vocabulary of %d", request->stop_tokens[i],
                             limits->vocab_size);
        }
    }
    if (request->min_tokens < 0 || request->min_tokens > request->max_tokens) {
        return error_set(err, ERROR_INVALID, "min_tokens is %d, not within 0 and max_tokens %d", request->min_tokens,
                         request->max_tokens);
    }
    return 0;
}

int sequence_check(const struct engine_request *request, const struct sequence_limits *limits, struct error *err) {
    if (check_tokens(request, limits, err) < 0 || check_stops(request, limits, err) < 0) {
        return -1;
    }
    if (!(request->temperature >= 0) || !isfinite(request->temperature)) {
        return error_set(err, ERROR_INVALID, "temperature must be non-negative, got %g.", request->temperature);
    }
    if (!(request->top_p > 0 && request->top_p <= 1)) {
        return error_set(err, ERROR_INVALID, "top_p must be in (0, 1], got %g.", request->top_p);
    }
    if (!(request->min_p >= 0 && request->min_p <= 1)) {
        return error_set(err, ERROR_INVALID, "min_p must be in [0, 1], got %g.", request->min_p);
    }
    if (request->logprobs < -1 || request->logprobs > ENGINE_LOGPROBS_MAX) {
        return error_set(err, ERROR_INVALID, "logprobs is %d, at most %d are given", request->logprobs, ENGINE_LOGPROBS_MAX);
    }
    return 0;
}

/* ---- life ---- */

struct sequence *sequence_new(const struct engine_request *request, uint64_t id, uint64_t seed) {
    struct sequence *sequence = xcalloc(1, sizeof(*sequence));
    *sequence = (struct sequence){
        .id = id,
        .tokens = xcalloc(request->prompt_len + (size_t)request->max_tokens, sizeof(*sequence->tokens)),
        .token_count = request->prompt_len,
        .prompt_len = request->prompt_len,
        .block_count = kv_cache_blocks_for(request->prompt_len + (size_t)request->max_tokens),
        .sampler = {.temperature = request->temperature,
                    .top_p = request->top_p,
                    .min_p = request->min_p,
                    .top_k = request->top_k,
                    .state = request->has_seed ? request->seed : seed},
        .max_tokens = request->max_tokens,
        .min_tokens = request->min_tokens,
        .logprobs = request->logprobs,
        .ignores_eos = request->ignore_eos,
        .stop_token_count = request->stop_token_count,
        .on_event = request->on_event,
        .arg = request->arg,
    };
    memcpy(sequence->tokens, request->prompt, request->prompt_len * sizeof(*sequence->tokens));
    if (request->stop_token_count > 0) {
        memcpy(sequence->stop_tokens, request->stop_tokens, request->stop_token_count * sizeof(*sequence->stop_tokens));
    }
    return sequence;
}

void sequence_free(struct sequence *sequence) {
    free(sequence->tokens);
    free(sequence->blocks);
    free(sequence->block_keys);
    free(sequence);
}

/* ---- what its KV blocks hold ---- */

/* Where the chain begins: the base model's is all zeros, which no SHA-256 is. */
static struct hash first_link(const struct sequence *sequence) {
    return sequence->resident != NULL ? sequence->resident->weights->content : (struct hash){{0}};
}

const struct hash *sequence_block_key(struct sequence *sequence, size_t at) {
    if (sequence->block_keys == NULL) {
        sequence->block_keys = xcalloc(sequence->block_count, sizeof(*sequence->block_keys));
    }
    for (; sequence->key_count <= at; sequence->key_count++) {
        size_t i = sequence->key_count;
        struct {
            struct hash before;
            int tokens[KV_BLOCK_TOKENS];
        } link = {.before = i > 0 ? sequence->block_keys[i - 1] : first_link(sequence)};
        memcpy(link.tokens, sequence->tokens + i * KV_BLOCK_TOKENS, sizeof(link.tokens));
        sequence->block_keys[i] = hash_bytes(&link, sizeof(link));
    }
    return &sequence->block_keys[at];
}

/* ---- generating ---- */

/* min_tokens: what would end the answer cannot be chosen yet. The logits are as before afterwards. */
static int pick_no_stop(struct sequence *sequence, float *logits, size_t vocab, int eos, struct sampler_scratch *scratch) {
    float saved[SEQUENCE_STOP_TOKENS_MAX];
    float saved_eos = logits[eos];
    for (size_t i = 0; i < sequence->stop_token_count; i++) {
        saved[i] = logits[sequence->stop_tokens[i]];
    }
    for (size_t i = 0; i < sequence->stop_token_count; i++) {
        logits[sequence->stop_tokens[i]] = -INFINITY;
    }
    logits[eos] = sequence->ignores_eos ? logits[eos] : -INFINITY;
    int token = sampler_pick(&sequence->sampler, logits, vocab, scratch);
    for (size_t i = 0; i < sequence->stop_token_count; i++) {
        logits[sequence->stop_tokens[i]] = saved[i];
    }
    logits[eos] = saved_eos;
    return token;
}

static bool is_stop_token(const struct sequence *sequence, int token) {
    for (size_t i = 0; i < sequence->stop_token_count; i++) {
        if (sequence->stop_tokens[i] == token) {
            return true;
        }
    }
    return false;
}

static void fill_counts(const struct sequence *sequence, struct engine_event *event) {
    event->stop_token = -1;
    event->prompt_tokens = (int)sequence->prompt_len;
    event->cached_tokens = (int)sequence->cached;
    event->generated_tokens = sequence_generated(sequence);
}

void sequence_advance(struct sequence *sequence, float *logits, size_t vocab, int eos, struct sampler_scratch *scratch,
                      struct engine_event *ret_event) {
    struct engine_event event = {0};
    bool may_stop = sequence_generated(sequence) >= sequence->min_tokens;
    int token =
        may_stop ? sampler_pick(&sequence->sampler, logits, vocab, scratch) : pick_no_stop(sequence, logits, vocab, eos, scratch);
    event.token = token;
    if (sequence->logprobs >= 0) {
        event.top_count = (size_t)sequence->logprobs < vocab ? sequence->logprobs : (int)vocab;
        sampler_logprobs(logits, vocab, token, event.top_count, &event.logprob, event.top);
    }
    sequence->tokens[sequence->token_count++] = token;
    fill_counts(sequence, &event);
    if (is_stop_token(sequence, token)) {
        event.finish = ENGINE_FINISH_STOP;
        event.stop_token = token;
    } else if (token == eos && !sequence->ignores_eos) {
        event.finish = ENGINE_FINISH_STOP;
    } else if (event.generated_tokens == sequence->max_tokens) {
        event.finish = ENGINE_FINISH_LENGTH;
    }
    *ret_event = event;
}

void sequence_abort_event(const struct sequence *sequence, struct engine_event *ret_event) {
    *ret_event = (struct engine_event){.token = -1, .finish = ENGINE_FINISH_ABORT};
    fill_counts(sequence, ret_event);
}
