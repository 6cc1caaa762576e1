/* Every object in memory, the changes on their way to disk, and the history that watches read. One thread: the loop's.
 *
 * An object has two states. *Committed* is on disk: reads, lists and watches see only that. *Latest* is what the writes accepted so
 * far lead to: writers compute on it and check resourceVersions against it, so two writers that race see each other although
 * neither is on disk yet. A transaction moves latest at once and gets the next revisions; its batch goes to the store; when it is
 * on disk its changes become committed in order of revision, listeners (watches, garbage collection) hear of them, and then on_done
 * runs, which sends the reply. A client therefore never holds a revision or an object that a crash can take back. When the store
 * fails, every transaction in flight fails and latest falls back to committed.
 *
 * A writer that finds nothing to change still submits an (empty) transaction, so that its reply does not show what is not on disk
 * yet. */
#ifndef DAVIT_CLUSTER_API_STATE_H
#define DAVIT_CLUSTER_API_STATE_H

#include "base/error.h"
#include "base/json.h"
#include "cluster/api/resources.h"
#include "io/loop.h"

/* History of one resource: changes older than these bounds are forgotten, and a watch that would need them gets 410 Expired. */
#define HISTORY_CHANGES_MAX 4096
#define HISTORY_BYTES_MAX (16 * 1024 * 1024)

struct state;
struct transaction;

/* One committed change. */
struct change {
    int64_t revision;
    const struct resource *resource;
    const char *key;
    const json_t *old_object; /* NULL = created */
    const json_t *new_object; /* NULL = deleted */
    const json_t *tombstone;  /* deleted: the old object with the revision of its deletion */
    const char *text;         /* JSON of new_object or tombstone; only while listeners are called, else NULL */
    size_t text_len;
};

/* Loads <path>. Resources that this program no longer serves stay on disk, unseen. */
int state_open(struct loop *loop, const char *path, struct state **ret_state, struct error *err) DAVIT_MUST_USE;
void state_close(struct state *state); /* what was submitted reaches the disk first; replies of it are not sent */

/* ---- reading ---- */
int64_t state_revision(const struct state *state); /* of the last committed change */
const json_t *state_get(const struct state *state, const struct resource *resource,
                        const char *key);                                       /* committed; borrowed, NULL when missing */
size_t state_count(const struct state *state, const struct resource *resource); /* committed */

/* Committed objects in order of their keys: for (it = state_iterate(...); (object = state_next(&it)) != NULL;). `namespace` NULL or
 * "" = all; `after` (may be NULL): only keys behind it. Nothing may change the state meanwhile. */
struct state_iterator {
    const struct state *state;
    const struct resource *resource;
    const char *namespace;
    size_t namespace_len;
    size_t at;
    const char *key; /* of the object just returned */
};
struct state_iterator state_iterate(struct state *state, const struct resource *resource, const char *namespace, const char *after);
const json_t *state_next(struct state_iterator *it);

/* Changes of a resource after a revision, oldest first: index from state_history_find, then state_history_at(index++) until NULL.
 * Index -1: that far back is forgotten. */
int64_t state_history_find(const struct state *state, const struct resource *resource, int64_t after_revision);
const struct change *state_history_at(const struct state *state, const struct resource *resource, int64_t index);

/* ---- writing ---- */
bool state_is_writable(const struct state *state); /* false between a failure of the store and its recovery */
const json_t *state_latest(const struct state *state, const struct resource *resource, const char *key);
/* The same iteration over latest objects, in no order; calls each until it returns false. `each` must not write. */
void state_each_latest(const struct state *state, const struct resource *resource,
                       bool (*each)(void *arg, const char *key, const json_t *object), void *arg);

/* A transaction must be submitted. Objects given to it are visible as latest at once. */
struct transaction *transaction_new(struct state *state);
/* Takes the object, sets its resourceVersion (its metadata must not be shared: object_touch) and returns it, borrowed. */
const json_t *transaction_put(struct transaction *transaction, const struct resource *resource, const char *key, json_t *object);
/* Returns the tombstone, borrowed; NULL when there is no such object. */
const json_t *transaction_delete(struct transaction *transaction, const struct resource *resource, const char *key);
size_t transaction_count(const struct transaction *transaction);
/* Within on_done: the JSON of an object that the transaction wrote last, which is at hand since the disk has it; NULL for any other
 * object. Borrowed until on_done returns. */
const char *transaction_text(const struct transaction *transaction, const json_t *object, size_t *ret_len);
/* on_done (may be NULL) runs on the loop, never before this returns. err NULL = on disk and committed. */
void transaction_submit(struct transaction *transaction, void (*on_done)(void *arg, const struct error *err), void *arg);
size_t state_in_flight(const struct state *state); /* transactions not answered yet */

/* ---- listening ---- */
/* Called for every committed change, in order. Listeners must not submit from within: they arm a timer. At most 4. */
void state_listen(struct state *state, void (*on_change)(void *arg, const struct change *change), void *arg);

#endif
