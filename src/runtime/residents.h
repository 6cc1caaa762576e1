/* Which folders of the cache the engine may read: those of adapters that it has, and of loads under way. They are never evicted,
 * and an engine reads an adapter again whenever its own caches forgot it.
 *
 * What the engine has is what its list says; a load and an unload are known before the next list comes. */
#ifndef DAVIT_RUNTIME_RESIDENTS_H
#define DAVIT_RUNTIME_RESIDENTS_H

#include "artifact/cache/cache.h"
#include "base/map.h"
#include "dialect/dialect.h"

struct residents {
    struct artifact_cache *cache; /* borrowed */
    struct map names;             /* adapter -> struct resident */
    struct map folders;           /* folder -> struct holding */
    uint64_t changes;             /* loads and unloads so far */
};

void residents_init(struct residents *residents, struct artifact_cache *cache);
void residents_release(struct residents *residents);

/* A load has this folder in hand. */
void residents_hold(struct residents *residents, const char *folder);
void residents_let_go(struct residents *residents, const char *folder);

/* The engine has the adapter from here now; NULL = no more. Folders outside the cache are nobody's business. */
void residents_set(struct residents *residents, const char *name, const char *folder);
/* The engine's list. `changes_before`: residents.changes when it was asked for; what changed since is newer than the list. */
void residents_see(struct residents *residents, const struct dialect_models *models, uint64_t changes_before);

#endif
