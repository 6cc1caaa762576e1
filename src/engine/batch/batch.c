#include "engine/batch/batch.h"

#include <string.h>

void batch_init(struct batch *batch, struct kv_cache *cache, size_t max_running, size_t max_adapters) {
    *batch = (struct batch){.cache = cache,
                            .running = xcalloc(max_running, sizeof(struct sequence *)),
                            .max_running = max_running,
                            .max_adapters = max_adapters};
    batch->last_waiting = &batch->first_waiting;
}

void batch_release(struct batch *batch) {
    free(batch->running);
    batch->running = NULL;
}

/* ---- the queue ---- */

void batch_enqueue(struct batch *batch, struct sequence *sequence) {
    sequence->next = NULL;
    *batch->last_waiting = sequence;
    batch->last_waiting = &sequence->next;
    batch->waiting_count++;
    if (sequence->resident != NULL) {
        sequence->resident->waiting++;
    }
}

/* Unlinks the waiting sequence that `link` points to. */
static struct sequence *dequeue(struct batch *batch, struct sequence **link) {
    struct sequence *sequence = *link;
    *link = sequence->next;
    if (batch->last_waiting == &sequence->next) {
        batch->last_waiting = link;
    }
    batch->waiting_count--;
    if (sequence->resident != NULL) {
        sequence->resident->waiting--;
    }
    return sequence;
}

struct sequence *batch_find(const struct batch *batch, uint64_t id) {
    for (size_t i = 0; i < batch->running_count; i++) {
        if (batch->running[i]->id == id) {
            return batch->running[i];
        }
    }
    struct sequence *sequence = batch->first_waiting;
    while (sequence != NULL && sequence->id != id) {
        sequence = sequence->next;
    }
    return sequence;
}

struct sequence *batch_take_cancelled(struct batch *batch, bool all) {
    for (size_t i = 0; i < batch->running_count; i++) {
        if (all || batch->running[i]->is_cancelled) {
            struct sequence *sequence = batch->running[i];
            batch_finish(batch, sequence);
            return sequence;
        }
    }
    for (struct sequence **link = &batch->first_waiting; *link != NULL; link = &(*link)->next) {
        if (all || (*link)->is_cancelled) {
            return dequeue(batch, link);
        }
    }
    return NULL;
}

void batch_finish(struct batch *batch, struct sequence *sequence) {
    size_t at = 0;
    while (batch->running[at] != sequence) {
        at++;
    }
    batch->running_count--;
    memmove(&batch->running[at], &batch->running[at + 1], (batch->running_count - at) * sizeof(batch->running[0]));
    kv_cache_give(batch->cache, sequence->blocks, sequence->block_count);
    if (sequence->resident != NULL) {
        sequence->resident->running--;
    }
}

/* ---- admission ---- */

static bool is_first_of_adapter(const struct batch *batch, size_t at) {
    for (size_t i = 0; i < at; i++) {
        if (batch->running[i]->resident == batch->running[at]->resident) {
            return false;
        }
    }
    return batch->running[at]->resident != NULL;
}

static bool has_adapter_slot(const struct batch *batch, const struct resident *resident) {
    size_t distinct = 0;
    for (size_t i = 0; i < batch->running_count; i++) {
        if (batch->running[i]->resident == resident) {
            return true;
        }
        distinct += is_first_of_adapter(batch, i) ? 1 : 0;
    }
    return resident == NULL || distinct < batch->max_adapters;
}

/* Blocks of the prompt that are in the cache, in a row from its start. The last token is not looked for: it must be computed to
 * know what comes after it. */
static size_t reuse_blocks(struct batch *batch, struct sequence *sequence, int *ret_blocks) {
    size_t most = (sequence->prompt_len - 1) / KV_BLOCK_TOKENS;
    size_t count = 0;
    while (count < most && (ret_blocks[count] = kv_cache_reuse(batch->cache, sequence_block_key(sequence, count))) >= 0) {
        count++;
    }
    return count;
}

/* False when there are not enough free blocks. */
static bool admit(struct batch *batch, struct sequence **link) {
    struct sequence *sequence = *link;
    cleanup_free int *blocks = xcalloc(sequence->block_count, sizeof(*blocks));
    size_t reused = reuse_blocks(batch, sequence, blocks);
    if (!kv_cache_take(batch->cache, sequence->block_count - reused, blocks + reused)) {
        kv_cache_give(batch->cache, blocks, reused);
        return false;
    }
    (void)dequeue(batch, link);
    sequence->blocks = take_pointer(blocks);
    sequence->published = reused;
    sequence->computed = sequence->cached = reused * KV_BLOCK_TOKENS;
    batch->prefix_queries += sequence->prompt_len;
    batch->prefix_hits += sequence->cached;
    batch->running[batch->running_count++] = sequence;
    if (sequence->resident != NULL) {
        sequence->resident->running++;
    }
    return true;
}

/* A later request goes first; whoever was passed remembers. */
static void count_overtaking(struct batch *batch, const struct sequence *until) {
    for (struct sequence *sequence = batch->first_waiting; sequence != until; sequence = sequence->next) {
        sequence->overtaken++;
    }
}

void batch_admit(struct batch *batch) {
    struct sequence **link = &batch->first_waiting;
    while (*link != NULL && batch->running_count < batch->max_running) {
        struct sequence *sequence = *link;
        if (!has_adapter_slot(batch, sequence->resident)) {
            if (sequence->overtaken >= BATCH_OVERTAKES_MAX) {
                return;
            }
            link = &sequence->next;
            continue;
        }
        if (!admit(batch, link)) {
            return;
        }
        count_overtaking(batch, *link);
    }
}

/* ---- the step ---- */

size_t batch_plan(struct batch *batch, size_t budget) {
    size_t total = 0;
    for (size_t i = 0; i < batch->running_count; i++) {
        struct sequence *sequence = batch->running[i];
        sequence->planned = sequence->token_count - sequence->computed == 1 ? 1 : 0;
        total += sequence->planned;
    }
    for (size_t i = 0; i < batch->running_count && total < budget; i++) {
        struct sequence *sequence = batch->running[i];
        size_t left = sequence->token_count - sequence->computed;
        if (sequence->planned == 0) {
            sequence->planned = left < budget - total ? left : budget - total;
            total += sequence->planned;
        }
    }
    return total;
}

void batch_advance(struct batch *batch, struct sequence *sequence) {
    sequence->computed += sequence->planned;
    for (; sequence->published < sequence->computed / KV_BLOCK_TOKENS; sequence->published++) {
        kv_cache_publish(batch->cache, sequence->blocks[sequence->published], sequence_block_key(sequence, sequence->published));
    }
}

size_t batch_adapter_count(const struct batch *batch) {
    size_t distinct = 0;
    for (size_t i = 0; i < batch->running_count; i++) {
        bool is_counted = false;
        for (size_t j = 0; j < i && !is_counted; j++) {
            is_counted = batch->running[j]->planned > 0 && batch->running[j]->resident == batch->running[i]->resident;
        }
        distinct += batch->running[i]->planned > 0 && batch->running[i]->resident != NULL && !is_counted ? 1 : 0;
    }
    return distinct;
}
