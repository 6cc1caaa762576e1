/* One generation: its tokens, its place in the KV cache and how it samples. After sequence_new the scheduler owns it;
 * `is_cancelled`, `next` and the resident's counters are guarded by the engine's lock. */
#ifndef DAVIT_ENGINE_BATCH_SEQUENCE_H
#define DAVIT_ENGINE_BATCH_SEQUENCE_H

#include "engine/batch/sampler.h"
#include "engine/engine.h"
#include "engine/lora/registry.h"
#include "engine/model/kv_cache.h"

#define SEQUENCE_STOP_TOKENS_MAX 64

struct sequence {
    struct sequence *next; /* in the queue */
    uint64_t id;
    struct resident *resident; /* a reference; NULL = the base model */
    int *tokens;               /* the prompt, then what was generated; room for all that may come */
    size_t token_count;
    size_t prompt_len;
    size_t computed; /* tokens whose keys and values are in the cache */
    size_t cached;   /* of these, what others had computed before it began */
    size_t planned;  /* tokens of the step at hand */
    int *blocks;     /* of the KV cache, for the whole lifetime; NULL while it waits */
    size_t block_count;
    struct hash *block_keys; /* of the first key_count blocks */
    size_t key_count;
    size_t published; /* full blocks that others may use */
    struct sampler sampler;
    int max_tokens;
    int min_tokens;
    int logprobs;
    bool ignores_eos;
    bool is_cancelled;
    unsigned overtaken; /* by later requests, because its adapter had no slot */
    int stop_tokens[SEQUENCE_STOP_TOKENS_MAX];
    size_t stop_token_count;
    engine_event_fn *on_event;
    void *arg;
};

/* What a request is checked against. */
struct sequence_limits {
    int vocab_size;
    int max_model_len;
};
/* ERROR_INVALID names the field. */
int sequence_check(const struct engine_request *request, const struct sequence_limits *limits, struct error *err) DAVIT_MUST_USE;
/* A checked request as a sequence without an adapter. `seed` is used when the request has none. */
struct sequence *sequence_new(const struct engine_request *request, uint64_t id, uint64_t seed);
void sequence_free(struct sequence *sequence); /* blocks and resident were given back */

/* Under what its at-th KV block, whose tokens must be known, is published: a chain of hashes over the content of the adapter and
 * all tokens up to the block's end. The name of an adapter is not in it, so new weights under an old name never meet old keys and
 * values. */
const struct hash *sequence_block_key(struct sequence *sequence, size_t at);

static inline int sequence_generated(const struct sequence *sequence) {
    return (int)(sequence->token_count - sequence->prompt_len);
}

/* Chooses the next token from the logits (which it changes for a while, under min_tokens), appends it and fills the event, finish
 * included. */
void sequence_advance(struct sequence *sequence, float *logits, size_t vocab, int eos, struct sampler_scratch *scratch,
                      struct engine_event *ret_event);
/* The event of a sequence that ends without a token. */
void sequence_abort_event(const struct sequence *sequence, struct engine_event *ret_event);

#endif
