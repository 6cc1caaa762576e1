/* Garbage collection: whenever a committed change may have left something to collect, a pass comes soon after. It looks at the
 * dependents of owners that went (dependents.h); at everything when the process starts, while a namespace terminates and while an
 * owner waits for its dependents.
 *
 *  - dependents whose owners (by uid) are all gone are deleted in the background; references to owners that are gone beside living
 * ones are dropped. An owner of a kind that this server does not serve counts as alive.
 *  - foreground deletion: dependents first, then the owner's finalizer "foregroundDeletion" goes.
 *  - a terminating namespace: what is in it is deleted, then it goes.
 *  - events: an hour after they were last seen, and the oldest beyond EVENTS_MAX. */
#ifndef DAVIT_CLUSTER_API_GC_H
#define DAVIT_CLUSTER_API_GC_H

#include "cluster/api/state.h"

#define EVENTS_MAX 1000
#define EVENT_TTL_MS (60 * 60 * 1000)

struct gc;

struct gc *gc_new(struct loop *loop, struct state *state); /* the first pass runs at once: a crash may have left work */
void gc_free(struct gc *gc);

/* Takes the references to the owner out of all its dependents, in the transaction that deletes the owner. */
void gc_orphan_dependents(struct transaction *transaction, struct state *state, const char *owner_uid);

#endif
