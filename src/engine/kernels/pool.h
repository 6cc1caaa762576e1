/* Compute threads that share one loop at a time. What a part computes never depends on who computes it. */
#ifndef DAVIT_ENGINE_KERNELS_POOL_H
#define DAVIT_ENGINE_KERNELS_POOL_H

#include "base/error.h"

#include <stddef.h>

#define POOL_THREADS_MAX 256

struct pool;

/* Computes items [first, last); `thread` is 0 (the caller of pool_run) .. threads - 1. */
typedef void pool_fn(void *arg, int thread, size_t first, size_t last);

/* Starts threads - 1 workers. */
int pool_new(int threads, struct pool **ret_pool, struct error *err) DAVIT_MUST_USE;
void pool_free(struct pool *pool);
int pool_threads(const struct pool *pool);

/* Calls `fn` for items [0, count) in parts of `grain`, on all threads, and returns when all are done. One caller at a time. */
void pool_run(struct pool *pool, size_t count, size_t grain, pool_fn *fn, void *arg);

#endif
