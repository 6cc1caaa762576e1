/* Who runs: the queue, the running sequences and what the next step holds. Decides only; no threads, locks or arithmetic of its
 * own, so that it can be tested step by step.
 *
 * Admission is first come, first served, with blocks of the KV cache reserved for the whole lifetime of a request, so that what was
 * admitted always ends. Blocks that hold the beginning of its prompt already are used as they are. One exception to the order: a
 * request whose adapter finds `max_adapters` others running lets later ones pass, but only BATCH_OVERTAKES_MAX of them; then nobody
 * passes it until it runs. */
#ifndef DAVIT_ENGINE_BATCH_BATCH_H
#define DAVIT_ENGINE_BATCH_BATCH_H

#include "engine/batch/sequence.h"
#include "engine/model/kv_cache.h"

#define BATCH_OVERTAKES_MAX 64

struct batch {
    struct kv_cache *cache;
    struct sequence **running; /* in order of admission */
    size_t running_count;
    size_t max_running;
    struct sequence *first_waiting;
    struct sequence **last_waiting; /* where the next one is linked */
    size_t waiting_count;
    size_t max_adapters;
    uint64_t prefix_queries; /* prompt tokens of what was admitted */
    uint64_t prefix_hits;    /* of these, tokens found in the KV cache */
};

void batch_init(struct batch *batch, struct kv_cache *cache, size_t max_running, size_t max_adapters);
void batch_release(struct batch *batch); /* nothing runs or waits */

void batch_enqueue(struct batch *batch, struct sequence *sequence);
/* The running or waiting sequence of that id, or NULL. */
struct sequence *batch_find(const struct batch *batch, uint64_t id);
/* Takes out one cancelled sequence (any one with `all`) and gives its blocks back; NULL when there is none. */
struct sequence *batch_take_cancelled(struct batch *batch, bool all);
/* Takes a running sequence out and gives its blocks back. */
void batch_finish(struct batch *batch, struct sequence *sequence);
/* Counts what the step computed of a running sequence: full blocks become findable for others. */
void batch_advance(struct batch *batch, struct sequence *sequence);
/* Moves waiting sequences to the running ones as far as there is room. */
void batch_admit(struct batch *batch);

/* Sets `planned` of every running sequence: one token of each that decodes, then prompts in order of admission, `budget` tokens in
 * all. At least as many as max_running. Returns their sum. */
size_t batch_plan(struct batch *batch, size_t budget);
/* Distinct adapters among the running sequences with planned tokens. */
size_t batch_adapter_count(const struct batch *batch);

#endif
