/* Objects on disk: SQLite (WAL, synchronous=FULL) behind one thread, with group commit.
 *
 * store_submit queues a batch; the store thread writes every batch that is waiting in one transaction, syncs it, and posts on_done
 * of each to the loop in order of submission. So a batch is on disk when its on_done(NULL) runs, and batches become durable in
 * order. When a transaction fails (disk full, I/O error) all its batches fail, and so does everything submitted until store_resume:
 * what was computed on top of a lost write must not reach the disk without it. */
#ifndef DAVIT_CLUSTER_API_STORE_H
#define DAVIT_CLUSTER_API_STORE_H

#include "base/error.h"
#include "io/loop.h"

#include <stddef.h>

struct store;

struct store_write {
    const char *resource; /* "modeladapters.model.aibrix.ai" */
    const char *key;      /* "default/sql" */
    int64_t revision;
    const char *text; /* the object's JSON; NULL = delete */
    size_t len;
};

struct store_batch {
    struct store_write *writes;                          /* borrowed, with what they point at, until on_done */
    size_t count;                                        /* 0: a barrier, done when everything before it is */
    void (*on_done)(void *arg, const struct error *err); /* on the loop; err NULL = on disk */
    void *arg;
    /* the store's own */
    struct store *store;
    struct store_batch *next;
    struct error err;
    bool has_failed;
};

/* Opens or creates the file. ERROR_INVALID when a newer davit wrote it. The thread is not started yet. */
int store_open(const char *path, struct store **ret_store, struct error *err) DAVIT_MUST_USE;
/* Calls each(arg, resource, key, text, len) for every object, by resource and key. *ret_revision: the highest revision ever
 * written. */
int store_load(struct store *store,
               int (*each)(void *arg, const char *resource, const char *key, const char *text, size_t len, struct error *err),
               void *arg, int64_t *ret_revision, struct error *err) DAVIT_MUST_USE;
int store_start(struct store *store, struct loop *loop, struct error *err) DAVIT_MUST_USE;
/* The batch is borrowed until its on_done. Never calls back before it returns. */
void store_submit(struct store *store, struct store_batch *batch);
/* After a failure, once every submitted batch was answered: takes writes again. */
void store_resume(struct store *store);
/* Writes what is queued, stops the thread, closes the file. on_done of the last batches may never run (the loop's end drops posts).
 */
void store_close(struct store *store);

#endif
