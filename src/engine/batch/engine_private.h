/* What the engine's calls (engine.c) and its scheduler thread (scheduler.c) share.
 *
 * `lock` guards the fields below it and what sequence.h says. The scheduler alone changes who runs; it lets go of the lock while it
 * computes and while it calls back. */
#ifndef DAVIT_ENGINE_BATCH_ENGINE_PRIVATE_H
#define DAVIT_ENGINE_BATCH_ENGINE_PRIVATE_H

#include "engine/batch/batch.h"
#include "engine/engine.h"
#include "engine/model/forward.h"

#include <pthread.h>

struct tokenizer;

struct engine {
    struct engine_options options; /* with every default filled in */
    struct engine_model_info info;
    char *model_path;
    struct model *model;
    struct tokenizer *tokenizer;
    struct pool *pool;
    struct kv_cache cache;
    struct forward *forward;
    /* the scheduler's own */
    struct forward_row *rows; /* [max_num_batched_tokens] */
    struct sequence **step;   /* [max_num_seqs]: the sequences of the step in the order of their rows */
    struct sampler_scratch scratch;
    pthread_t thread;
    bool has_thread;

    pthread_mutex_t lock;
    pthread_cond_t wake; /* a request came, one was cancelled, or the engine stops */
    bool is_stopping;
    struct batch batch;
    struct registry registry;
    uint64_t last_id;
    struct engine_stats stats; /* the totals; the rest is counted when asked for */
};

/* The thread's main function; `arg` is the engine. */
void *scheduler_main(void *arg);

#endif
