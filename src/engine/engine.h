/* The engine without HTTP: one base model, many LoRA adapters, requests for all of them in one batch.
 *
 * Threads: engine_new starts one scheduler thread and `threads - 1` compute threads. Everything below may be called from any
 * thread unless said otherwise. Events of a generation are delivered on the scheduler thread, in order, exactly one with
 * `finish_reason` set, and none after that; the callback must not block (post it to a loop).
 *
 * A row's arithmetic never depends on its neighbours: the tokens and logits of a request are bit-identical alone or in any mix. */
#ifndef DAVIT_ENGINE_ENGINE_H
#define DAVIT_ENGINE_ENGINE_H

#include "base/error.h"
#include "base/hash.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct engine;
struct tokenizer; /* engine/tokenizer/tokenizer.h */

struct engine_options {
    const char *model_path;     /* a GGUF file of the Llama family */
    int threads;                /* compute threads, the scheduler's own included; >= 1 */
    int max_model_len;          /* tokens, prompt and answer; 0 = what the model says */
    int max_num_seqs;           /* requests that run at once; more wait */
    int max_num_queued;         /* requests that wait; more are refused with ERROR_BUSY */
    int max_num_batched_tokens; /* tokens of one step; prompts are prefilled in chunks of at most this */
    size_t kv_cache_bytes; /* bound of the KV cache; 0 = max_num_seqs requests of 1,024 tokens, at least one of max_model_len */
    int max_loras;         /* distinct adapters in one step; a request for a further one waits */
    int max_cpu_loras;     /* adapters that are resident; a further load is refused with ERROR_LIMIT */
    int max_lora_rank;
    const char *activations; /* "f32", or "int8": weights are multiplied with activations of 8 bits, faster and a little less exact;
                                NULL = "f32" */
};

/* What is fixed once the model is loaded. Borrowed, lives as long as the engine. */
struct engine_model_info {
    const char *path;
    const char *architecture; /* "llama" */
    int max_model_len;
    int vocab_size;
    size_t weight_bytes;
    const char *kernels;     /* "generic" or "avx2" */
    const char *activations; /* "f32" or "int8" */
};

/* Loads the model (progress on the log) and starts the threads. */
int engine_new(const struct engine_options *options, struct engine **ret_engine, struct error *err) DAVIT_MUST_USE;
/* Ends running generations with ENGINE_FINISH_ABORT, stops and joins the threads. */
void engine_free(struct engine *engine);
const struct engine_model_info *engine_model_info(const struct engine *engine);
const struct tokenizer *engine_tokenizer(const struct engine *engine); /* immutable, for any thread */

/* ---- adapters ---- */

/* Reads, checks and registers the PEFT adapter in `folder` under `name`; `path` is where it is said to be from, and the folder when
 * that is NULL. Blocks on the disk: not for a loop. Running requests go on meanwhile. With `in_place`, a resident adapter of that
 * name is replaced; requests that run keep the weights they began with. ERROR_EXISTS: the name is taken. ERROR_NOT_FOUND: no
 * adapter at `path`. ERROR_LIMIT: no room. ERROR_INVALID and ERROR_UNSUPPORTED: the adapter cannot serve here; the message uses
 * vLLM's phrase where there is one. Nothing changes on failure.
 */
int engine_load_adapter(struct engine *engine, const char *name, const char *path, const char *folder, bool in_place,
                        struct error *err) DAVIT_MUST_USE;
/* Drops the name at once and the memory when its last request ends. ERROR_NOT_FOUND. */
int engine_unload_adapter(struct engine *engine, const char *name, struct error *err) DAVIT_MUST_USE;

struct engine_adapter_info {
    char *name;
    char *path;          /* as given to engine_load_adapter */
    struct hash content; /* SHA-256 over the hashes of adapter_config.json and adapter_model.safetensors */
    int rank;
    size_t bytes;
    double load_seconds;
    int64_t loaded_wall_ms;
    uint64_t requests_total;
    uint64_t generated_tokens_total;
    int running; /* requests */
    int waiting;
};

/* In order of registration. The caller frees with engine_adapters_free. */
struct engine_adapter_info *engine_adapters(struct engine *engine, size_t *ret_count);
void engine_adapters_free(struct engine_adapter_info *list, size_t count);
bool engine_has_adapter(struct engine *engine, const char *name);

/* ---- generation ---- */

enum engine_finish {
    ENGINE_FINISH_NONE = 0,
    ENGINE_FINISH_STOP,   /* end-of-sequence token, a stop string or a stop token */
    ENGINE_FINISH_LENGTH, /* max_tokens or max_model_len */
    ENGINE_FINISH_ABORT,  /* cancelled, or the engine stops */
};

#define ENGINE_LOGPROBS_MAX 20

struct engine_token_logprob {
    int token;
    float logprob;
};

struct engine_event {
    int token;                                            /* -1 in an event that only finishes */
    float logprob;                                        /* of `token`, natural logarithm, when asked for */
    struct engine_token_logprob top[ENGINE_LOGPROBS_MAX]; /* best first */
    int top_count;
    enum engine_finish finish;
    int stop_token; /* the token that ended it when finish is STOP by a token of stop_tokens; -1 otherwise */
    int prompt_tokens;
    int cached_tokens;    /* of the prompt, whose keys and values were in the KV cache */
    int generated_tokens; /* so far */
};

typedef void engine_event_fn(void *arg, const struct engine_event *event);

struct engine_request {
    const char *adapter; /* NULL or "" = the base model; copied */
    const int *prompt;   /* token ids; copied; at least one */
    size_t prompt_len;
    int max_tokens;     /* >= 1; prompt_len + max_tokens <= max_model_len */
    double temperature; /* 0 = greedy */
    double top_p;       /* 1 = off */
    int top_k;          /* <= 0 = off */
    double min_p;       /* 0 = off */
    bool has_seed;
    uint64_t seed;
    int logprobs; /* -1 = none, else how many of the best, <= ENGINE_LOGPROBS_MAX */
    bool ignore_eos;
    int min_tokens;
    const int *stop_tokens; /* copied; at most 64 */
    size_t stop_token_count;
    engine_event_fn *on_event;
    void *arg;
};

/* Queues a generation and gives its id. ERROR_NOT_FOUND: no such adapter; ERROR_BUSY: the queue is full; ERROR_INVALID: the
 * request. Nothing is called back on failure. Stop strings are the caller's: it cancels when it saw one. */
int engine_submit(struct engine *engine, const struct engine_request *request, uint64_t *ret_id, struct error *err) DAVIT_MUST_USE;
/* The generation ends with ENGINE_FINISH_ABORT soon. Unknown or finished ids are ignored. */
void engine_cancel(struct engine *engine, uint64_t id);

/* ---- numbers ---- */

struct engine_stats {
    int requests_running;
    int requests_waiting;
    double kv_cache_usage; /* 0..1 */
    uint64_t prompt_tokens_total;
    uint64_t generation_tokens_total;
    uint64_t prefix_cache_queries_total; /* tokens */
    uint64_t prefix_cache_hits_total;    /* tokens */
    uint64_t steps_total;
    uint64_t step_adapters_total[9]; /* steps that held 0, 1, .. 7, 8 or more distinct adapters */
    uint64_t adapter_load_failures_total;
    size_t adapter_bytes; /* resident */
    size_t kv_cache_bytes;
};
void engine_stats(struct engine *engine, struct engine_stats *ret_stats);

#endif
