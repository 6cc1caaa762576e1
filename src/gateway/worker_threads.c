#include "gateway/worker_threads.h"

#include "base/alloc.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>

#define DRAIN_LOOK_MS 20

struct worker_thread {
    struct worker_threads *all;
    struct loop *loop;
    struct worker worker;
    pthread_t thread;
    bool is_started;
    _Atomic(struct route_snapshot *) pending; /* the newest that it has not taken yet */
    struct timer look;                        /* whether it is drained */
    int64_t drain_until_ms;
    int open_requests; /* when it was drained */
};

struct worker_threads {
    struct loop *control;
    int64_t drain_ms; /* settled before the workers hear of it */
    int undrained;
    int open_requests;
    void (*on_drained)(void *arg, int open_requests);
    void *arg;
    int count;
    struct worker_thread workers[];
};

/* ---- on the workers' loops ---- */

static void take_pending(void *arg) {
    struct worker_thread *thread = arg;
    struct route_snapshot *snapshot = atomic_exchange(&thread->pending, NULL);
    if (snapshot != NULL) { /* else an earlier turn took it along */
        worker_swap_snapshot(&thread->worker, snapshot);
    }
}

static void stop_being_ready(void *arg) {
    struct worker_thread *thread = arg;
    worker_stop_being_ready(&thread->worker);
}

static void one_is_drained(void *arg);

static void on_look(void *arg) {
    struct worker_thread *thread = arg;
    int open = http_server_open_requests(thread->worker.server);
    if (open > 0 && loop_now_ms(thread->loop) < thread->drain_until_ms) {
        timer_set(&thread->look, DRAIN_LOOK_MS);
        return;
    }
    thread->open_requests = open;
    loop_post(thread->all->control, one_is_drained, thread);
}

static void begin_drain(void *arg) {
    struct worker_thread *thread = arg;
    thread->drain_until_ms = loop_now_ms(thread->loop) + thread->all->drain_ms;
    http_server_drain(thread->worker.server);
    on_look(thread);
}

static void *run(void *arg) {
    struct worker_thread *thread = arg;
    (void)pthread_setname_np(pthread_self(), "gateway-worker");
    loop_run(thread->loop);
    return NULL;
}

/* ---- on the control loop ---- */

static void one_is_drained(void *arg) {
    struct worker_thread *thread = arg;
    struct worker_threads *threads = thread->all;
    threads->open_requests += thread->open_requests;
    if (--threads->undrained == 0) {
        threads->on_drained(threads->arg, threads->open_requests);
    }
}

static void post_to_all(struct worker_threads *threads, void (*fn)(void *arg)) {
    for (int i = 0; i < threads->count; i++) {
        loop_post(threads->workers[i].loop, fn, &threads->workers[i]);
    }
}

void worker_threads_swap_snapshot(struct worker_threads *threads, struct route_snapshot *snapshot) {
    for (int i = 0; i < threads->count; i++) {
        route_snapshot_unref(atomic_exchange(&threads->workers[i].pending, route_snapshot_ref(snapshot)));
    }
    route_snapshot_unref(snapshot);
    post_to_all(threads, take_pending);
}

void worker_threads_stop_being_ready(struct worker_threads *threads) {
    post_to_all(threads, stop_being_ready);
}

void worker_threads_drain(struct worker_threads *threads, int64_t drain_ms, void (*on_drained)(void *arg, int open_requests),
                          void *arg) {
    threads->drain_ms = drain_ms;
    threads->undrained = threads->count;
    threads->on_drained = on_drained;
    threads->arg = arg;
    post_to_all(threads, begin_drain);
}

struct worker_threads *worker_threads_new(const struct worker_threads_options *options) {
    size_t count = (size_t)options->count;
    struct worker_threads *threads = xcalloc(1, sizeof(*threads) + count * sizeof(threads->workers[0]));
    threads->control = options->control;
    threads->count = options->count;
    for (size_t i = 0; i < count; i++) {
        struct worker_thread *thread = &threads->workers[i];
        thread->all = threads;
        thread->loop = loop_new();
        worker_init(&thread->worker, &(struct worker_options){
                                         .loop = thread->loop,
                                         .metrics = options->metrics,
                                         .connections_max = (int)((GATEWAY_CONNECTIONS_MAX + count - 1) / count),
                                         .bodies_bytes_max = GATEWAY_BODIES_BYTES_MAX / count,
                                     });
        timer_init(&thread->look, thread->loop, on_look, thread);
    }
    return threads;
}

int worker_threads_listen(struct worker_threads *threads, const char *address, int port, int *ret_port, struct error *err) {
    const struct worker *first = &threads->workers[0].worker;
    if (worker_listen(&threads->workers[0].worker, address, port, ret_port, err) < 0) {
        return -1;
    }
    for (int i = 1; i < threads->count; i++) {
        if (http_server_listen_like(threads->workers[i].worker.server, first->server, err) < 0) {
            return -1;
        }
    }
    return 0;
}

/* Signals are the control loop's. */
static int start_one(struct worker_thread *thread, struct error *err) {
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    int failure = pthread_create(&thread->thread, NULL, run, thread);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failure != 0) {
        return error_set(err, ERROR_IO, "cannot start a worker's thread: %s", strerror(failure));
    }
    thread->is_started = true;
    return 0;
}

int worker_threads_start(struct worker_threads *threads, struct error *err) {
    for (int i = 0; i < threads->count; i++) {
        if (start_one(&threads->workers[i], err) < 0) {
            return -1;
        }
    }
    return 0;
}

void worker_threads_free(struct worker_threads *threads) {
    for (int i = 0; i < threads->count; i++) {
        struct worker_thread *thread = &threads->workers[i];
        if (thread->is_started) {
            loop_stop(thread->loop);
            (void)pthread_join(thread->thread, NULL);
        }
        timer_release(&thread->look);
        worker_release(&thread->worker);
        loop_free(thread->loop);
        route_snapshot_unref(atomic_load(&thread->pending));
    }
    free(threads);
}
