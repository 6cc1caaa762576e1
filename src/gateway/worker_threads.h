/* N workers, each with a loop on a thread of its own, that serve one port. The owner's loop (the control loop) reads routes, hears
 * signals and hands snapshots out; requests never wait for it.
 *
 * The workers share one listening socket and not one each by SO_REUSEPORT: a second gateway that is started on the port by mistake
 * is told that it is in use, and nothing that waits to be accepted is lost with one socket of several.
 *
 * Everything here is called on the control loop's thread. */
#ifndef DAVIT_GATEWAY_WORKER_THREADS_H
#define DAVIT_GATEWAY_WORKER_THREADS_H

#include "gateway/worker.h"

#define WORKER_THREADS_MAX 64

struct worker_threads;

struct worker_threads_options {
    struct loop *control;
    struct gateway_metrics *metrics;
    int count; /* at least 1; the limits on connections and bodies are for all of them together */
};

struct worker_threads *worker_threads_new(const struct worker_threads_options *options);
/* Before the start. */
int worker_threads_listen(struct worker_threads *threads, const char *address, int port, int *ret_port,
                          struct error *err) DAVIT_MUST_USE;
int worker_threads_start(struct worker_threads *threads, struct error *err) DAVIT_MUST_USE;
/* Takes the reference. Each worker goes over to it at its next turn. */
void worker_threads_swap_snapshot(struct worker_threads *threads, struct route_snapshot *snapshot);
void worker_threads_stop_being_ready(struct worker_threads *threads);
/* Stops accepting; calls back once when every worker has answered what it had, or after drain_ms. */
void worker_threads_drain(struct worker_threads *threads, int64_t drain_ms, void (*on_drained)(void *arg, int open_requests),
                          void *arg);
/* Ends the threads; cuts what is open. After it, and before the control loop is freed, nothing calls back. */
void worker_threads_free(struct worker_threads *threads);

#endif
