/* How many bytes the cache holds, for the page of metrics: counted on a thread of its own, since that reads a folder an adapter. */
#ifndef DAVIT_RUNTIME_CACHE_GAUGE_H
#define DAVIT_RUNTIME_CACHE_GAUGE_H

#include "artifact/cache/cache.h"
#include "io/loop.h"
#include "io/metrics.h"

#include <pthread.h>

struct cache_gauge {
    struct loop *loop;
    struct artifact_cache *cache;
    struct metric *bytes;
    pthread_t thread;
    bool is_counting;
    bool is_asked_again; /* meanwhile, or in the pause */
    int64_t started_ns;
    struct timer pause; /* before the next count */
    uint64_t found;     /* the thread's, until it is joined; UINT64_MAX = it could not be counted */
};

/* Everything is borrowed. */
void cache_gauge_init(struct cache_gauge *gauge, struct loop *loop, struct artifact_cache *cache, struct metric *bytes);
void cache_gauge_release(struct cache_gauge *gauge); /* waits for the thread; after the loop ended for good */
void cache_gauge_count(struct cache_gauge *gauge);   /* soon; the more there is, the less often */

#endif
