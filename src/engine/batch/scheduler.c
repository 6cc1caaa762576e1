#include "engine/batch/engine_private.h"
#include "engine/tokenizer/tokenizer.h"

/* ---- one step ---- */

static const struct lora_adapter *weights_of(const struct sequence *sequence) {
    return sequence->resident != NULL ? sequence->resident->weights : NULL;
}

/* The running sequences of the step with those of one adapter next to each other. */
static size_t order_by_adapter(struct engine *engine) {
    const struct batch *batch = &engine->batch;
    size_t count = 0;
    for (size_t i = 0; i < batch->running_count; i++) {
        bool is_placed = false;
        for (size_t j = 0; j < i && !is_placed; j++) {
            is_placed = weights_of(batch->running[j]) == weights_of(batch->running[i]);
        }
        for (size_t j = i; j < batch->running_count && !is_placed; j++) {
            if (weights_of(batch->running[j]) == weights_of(batch->running[i]) && batch->running[j]->planned > 0) {
                engine->step[count++] = batch->running[j];
            }
        }
    }
    return count;
}

static bool completes(const struct sequence *sequence) {
    return sequence->computed + sequence->planned == sequence->token_count;
}

static size_t fill_rows(struct engine *engine, size_t sequence_count) {
    size_t count = 0;
    for (size_t i = 0; i < sequence_count; i++) {
        const struct sequence *sequence = engine->step[i];
        for (size_t j = 0; j < sequence->planned; j++) {
            size_t position = sequence->computed + j;
            engine->rows[count++] = (struct forward_row){.token = sequence->tokens[position],
                                                         .position = position,
                                                         .blocks = sequence->blocks,
                                                         .adapter = weights_of(sequence),
                                                         .wants_logits = completes(sequence) && j + 1 == sequence->planned};
        }
    }
    return count;
}

static void count_step(struct engine *engine) {
    size_t adapters = batch_adapter_count(&engine->batch);
    size_t last = ARRAY_LEN(engine->stats.step_adapters_total) - 1;
    engine->stats.steps_total++;
    engine->stats.step_adapters_total[adapters < last ? adapters : last]++;
}

/* A sequence that runs no more: gives everything back. Called with the lock. */
static void retire(struct sequence *sequence) {
    resident_unref(sequence->resident);
    sequence_free(sequence);
}

/* Prompt tokens that the step settled: those found in the cache count with the first that is computed. */
static size_t prompt_tokens_of(const struct sequence *sequence) {
    if (sequence->computed >= sequence->prompt_len) {
        return 0;
    }
    return sequence->planned + (sequence->computed == sequence->cached ? sequence->cached : 0);
}

/* Accounts for what was computed of one sequence, and for its next token when it has one; calls back. */
static void conclude(struct engine *engine, struct sequence *sequence, size_t *logits_at) {
    struct engine_event event = {0};
    bool has_token = completes(sequence);
    size_t prompt_tokens = prompt_tokens_of(sequence);
    if (has_token) {
        sequence_advance(sequence, forward_logits(engine->forward, (*logits_at)++), engine->model->config.vocab,
                         tokenizer_eos(engine->tokenizer), &engine->scratch, &event);
    }
    engine_event_fn *on_event = sequence->on_event;
    void *arg = sequence->arg;
    pthread_mutex_lock(&engine->lock);
    batch_advance(&engine->batch, sequence);
    engine->stats.prompt_tokens_total += prompt_tokens;
    engine->stats.generation_tokens_total += has_token ? 1 : 0;
    if (has_token && sequence->resident != NULL) {
        sequence->resident->generated_tokens_total++;
    }
    if (event.finish != ENGINE_FINISH_NONE) { /* before the last event, so that who got it sees the request gone */
        batch_finish(&engine->batch, sequence);
        retire(sequence);
    }
    pthread_mutex_unlock(&engine->lock);
    if (has_token) {
        on_event(arg, &event);
    }
}

static void run_step(struct engine *engine) {
    size_t sequence_count = order_by_adapter(engine);
    size_t row_count = fill_rows(engine, sequence_count);
    size_t logits_at = 0;
    forward_run(engine->forward, engine->rows, row_count);
    for (size_t i = 0; i < sequence_count; i++) {
        conclude(engine, engine->step[i], &logits_at);
    }
}

/* ---- the loop ---- */

/* Ends cancelled sequences, or all of them. Called with the lock, which it drops to call back. */
static void abort_sequences(struct engine *engine, bool all) {
    struct sequence *sequence = NULL;
    while ((sequence = batch_take_cancelled(&engine->batch, all)) != NULL) {
        struct engine_event event;
        engine_event_fn *on_event = sequence->on_event;
        void *arg = sequence->arg;
        sequence_abort_event(sequence, &event);
        retire(sequence);
        pthread_mutex_unlock(&engine->lock);
        on_event(arg, &event);
        pthread_mutex_lock(&engine->lock);
    }
}

/* Waits for work and plans a step; false when the engine stops. */
static bool prepare_step(struct engine *engine) {
    bool is_planned = false;
    pthread_mutex_lock(&engine->lock);
    while (!engine->is_stopping && !is_planned) {
        abort_sequences(engine, false);
        batch_admit(&engine->batch);
        is_planned = batch_plan(&engine->batch, (size_t)engine->options.max_num_batched_tokens) > 0;
        if (is_planned) {
            count_step(engine);
        } else if (!engine->is_stopping && engine->batch.waiting_count == 0) {
            pthread_cond_wait(&engine->wake, &engine->lock);
        }
    }
    if (!is_planned) {
        abort_sequences(engine, true);
    }
    pthread_mutex_unlock(&engine->lock);
    return is_planned;
}

void *scheduler_main(void *arg) {
    struct engine *engine = arg;
    while (prepare_step(engine)) {
        run_step(engine);
    }
    return NULL;
}
