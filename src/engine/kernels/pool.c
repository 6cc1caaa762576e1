#include "engine/kernels/pool.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>

/* How often a thread looks before it sleeps: some 10 to 20 microseconds, about the time between two loops of one step. */
#define SPINS 2000

struct worker {
    struct pool *pool;
    int index;
    pthread_t thread;
};

/* Nobody may enter the loop any more. */
#define CLOSED (1u << 31)

struct pool {
    int threads;
    struct worker *workers; /* threads - 1 */
    /* The loop at hand; written by the caller while it is closed and empty, read by workers that have entered. */
    pool_fn *fn;
    void *arg;
    size_t count;
    size_t grain;
    atomic_size_t next;  /* first item nobody has taken */
    atomic_uint entered; /* workers in the loop, and CLOSED */
    atomic_uint turn;    /* counts loops */
    atomic_bool stopping;
    atomic_int sleepers;
    pthread_mutex_t lock; /* for sleeping only */
    pthread_cond_t begin;
    pthread_cond_t end;
};

static void relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

static void take_parts(struct pool *pool, int thread) {
    for (;;) {
        size_t first = atomic_fetch_add(&pool->next, pool->grain);
        if (first >= pool->count) {
            return;
        }
        pool->fn(pool->arg, thread, first, pool->count - first < pool->grain ? pool->count : first + pool->grain);
    }
}

static void wait_for_turn(struct pool *pool, unsigned seen) {
    for (int i = 0; i < SPINS; i++) {
        if (atomic_load(&pool->turn) != seen) {
            return;
        }
        relax();
    }
    pthread_mutex_lock(&pool->lock);
    atomic_fetch_add(&pool->sleepers, 1);
    while (atomic_load(&pool->turn) == seen) {
        pthread_cond_wait(&pool->begin, &pool->lock);
    }
    atomic_fetch_sub(&pool->sleepers, 1);
    pthread_mutex_unlock(&pool->lock);
}

static void begin_turn(struct pool *pool) {
    atomic_fetch_add(&pool->turn, 1);
    if (atomic_load(&pool->sleepers) > 0) {
        pthread_mutex_lock(&pool->lock);
        pthread_cond_broadcast(&pool->begin);
        pthread_mutex_unlock(&pool->lock);
    }
}

/* Workers that did not come in time (asleep, or another process has their processor) are not waited for: the caller did their
 * share. */
static void close_loop(struct pool *pool) {
    atomic_fetch_or(&pool->entered, CLOSED);
    for (int i = 0; i < SPINS; i++) {
        if (atomic_load(&pool->entered) == CLOSED) {
            return;
        }
        relax();
    }
    pthread_mutex_lock(&pool->lock);
    while (atomic_load(&pool->entered) != CLOSED) {
        pthread_cond_wait(&pool->end, &pool->lock);
    }
    pthread_mutex_unlock(&pool->lock);
}

static bool enter_loop(struct pool *pool) {
    unsigned entered = atomic_load(&pool->entered);
    while ((entered & CLOSED) == 0) {
        if (atomic_compare_exchange_weak(&pool->entered, &entered, entered + 1)) {
            return true;
        }
    }
    return false;
}

static void leave_loop(struct pool *pool) {
    if (atomic_fetch_sub(&pool->entered, 1) == (CLOSED | 1)) {
        pthread_mutex_lock(&pool->lock);
        pthread_cond_signal(&pool->end);
        pthread_mutex_unlock(&pool->lock);
    }
}

static void *worker_main(void *arg) {
    struct worker *worker = arg;
    struct pool *pool = worker->pool;
    unsigned seen = 0;
    for (;;) {
        wait_for_turn(pool, seen);
        seen = atomic_load(&pool->turn);
        if (atomic_load(&pool->stopping)) {
            return NULL;
        }
        if (enter_loop(pool)) {
            take_parts(pool, worker->index);
            leave_loop(pool);
        }
    }
}

void pool_run(struct pool *pool, size_t count, size_t grain, pool_fn *fn, void *arg) {
    if (pool->threads == 1 || count <= grain) {
        if (count > 0) {
            fn(arg, 0, 0, count);
        }
        return;
    }
    pool->fn = fn;
    pool->arg = arg;
    pool->count = count;
    pool->grain = grain;
    atomic_store(&pool->next, 0);
    atomic_store(&pool->entered, 0);
    begin_turn(pool);
    take_parts(pool, 0);
    close_loop(pool);
}

int pool_new(int threads, struct pool **ret_pool, struct error *err) {
    if (threads < 1 || threads > POOL_THREADS_MAX) {
        return error_set(err, ERROR_INVALID, "%d compute threads, 1 to %d are possible", threads, POOL_THREADS_MAX);
    }
    struct pool *pool = xcalloc(1, sizeof(*pool));
    pool->threads = 1;
    atomic_init(&pool->entered, CLOSED);
    pool->workers = xcalloc((size_t)threads, sizeof(*pool->workers));
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->begin, NULL);
    pthread_cond_init(&pool->end, NULL);
    for (; pool->threads < threads; pool->threads++) {
        struct worker *worker = &pool->workers[pool->threads - 1];
        char name[16];
        *worker = (struct worker){.pool = pool, .index = pool->threads};
        if (pthread_create(&worker->thread, NULL, worker_main, worker) != 0) {
            int failed = pool->threads;
            pool_free(pool);
            return error_set(err, ERROR_IO, "cannot start compute thread %d", failed);
        }
        (void)snprintf(name, sizeof(name), "compute-%d", worker->index);
        (void)pthread_setname_np(worker->thread, name);
    }
    *ret_pool = pool;
    return 0;
}

void pool_free(struct pool *pool) {
    if (pool == NULL) {
        return;
    }
    atomic_store(&pool->stopping, true);
    begin_turn(pool);
    for (int i = 0; i + 1 < pool->threads; i++) {
        pthread_join(pool->workers[i].thread, NULL);
    }
    pthread_cond_destroy(&pool->end);
    pthread_cond_destroy(&pool->begin);
    pthread_mutex_destroy(&pool->lock);
    free(pool->workers);
    free(pool);
}

int pool_threads(const struct pool *pool) {
    return pool->threads;
}
