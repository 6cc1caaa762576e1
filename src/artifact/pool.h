/* Fetches for callers on a loop: a few threads, each busy with one artifact_fetch.
 *
 * Whoever asks for the same thing (URL, revision, digest, version, limits, credentials) while it waits or runs joins it, so one
 * slow source keeps one thread. A fetch goes on when its callers have left: one that timed out and asks again finds it further on.
 */
#ifndef DAVIT_ARTIFACT_POOL_H
#define DAVIT_ARTIFACT_POOL_H

#include "artifact/artifact.h"
#include "io/loop.h"

#define ARTIFACT_POOL_WAITING_MAX 1024

struct artifact_pool;
struct artifact_ticket;

/* `cache` is borrowed. Threads start when they are first needed. */
struct artifact_pool *artifact_pool_new(struct loop *loop, struct artifact_cache *cache, unsigned threads_max);
/* Cancels what runs and waits for its threads; no callbacks. */
void artifact_pool_free(struct artifact_pool *pool);

/* err NULL: `found` is there for the length of the call. On the loop, never before artifact_pool_start returned. */
typedef void artifact_pool_done(void *arg, const struct artifact_found *found, const struct error *err);
/* Everything in `wanted` is copied. NULL with ERROR_BUSY past ARTIFACT_POOL_WAITING_MAX. */
struct artifact_ticket *artifact_pool_start(struct artifact_pool *pool, const struct artifact_wanted *wanted,
                                            artifact_pool_done *on_done, void *arg, struct error *err);
void artifact_ticket_leave(struct artifact_ticket *ticket); /* no callback follows */
/* How far it is. */
struct artifact_ticket_state {
    bool is_waiting; /* for a thread, while others download */
    enum artifact_stage stage;
    uint64_t bytes_done;
    uint64_t bytes_total; /* 0 = not known yet */
};
struct artifact_ticket_state artifact_ticket_state(struct artifact_ticket *ticket);
/* "downloading 41 % of 12.3 MB", "waiting for another process", ... Lives until the ticket does. */
const char *artifact_ticket_words(struct artifact_ticket *ticket);

#endif
