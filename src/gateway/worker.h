/* One loop of the gateway's data path: its server, its route snapshot and its upstream connections. Workers share nothing but
 * immutable snapshots, the endpoints' load counters and the metrics page; everything here is called on the worker's own loop.
 * gateway/worker_threads.h runs several. */
#ifndef DAVIT_GATEWAY_WORKER_H
#define DAVIT_GATEWAY_WORKER_H

#include "gateway/gateway_metrics.h"
#include "gateway/route.h"
#include "io/http_server.h"
#include "io/upstream.h"

#include <sys/queue.h>

/* A request's body is held whole, since its model may come last and a retry needs it again. These bound what clients can make the
 * gateway hold; both of all workers together. Answers stream (out_bytes_max each), and heads have 60 s to come, bodies another 60.
 */
#define GATEWAY_BODY_BYTES_MAX (32 * 1024 * 1024)
#define GATEWAY_BODIES_BYTES_MAX (512UL * 1024 * 1024)
#define GATEWAY_CONNECTIONS_MAX 4096

struct proxy;

struct worker {
    struct loop *loop;
    struct http_server *server;
    struct upstream *upstream;
    struct route_snapshot *snapshot; /* NULL until the first one came */
    struct gateway_metrics *metrics; /* shared */
    uint64_t rotation;
    bool is_draining;
    LIST_HEAD(proxy_list, proxy) proxies;
};

struct worker_options {
    struct loop *loop;
    struct gateway_metrics *metrics;
    int64_t connect_timeout_ms;  /* 0 = 2 s */
    int64_t response_timeout_ms; /* to the head of an answer, and between its bytes; 0 = 10 min */
    int connections_max;         /* 0 = GATEWAY_CONNECTIONS_MAX */
    size_t bodies_bytes_max;     /* 0 = GATEWAY_BODIES_BYTES_MAX */
    size_t out_bytes_max;        /* unsent output per client before its engine is paused; 0 = 256 KiB */
};

void worker_init(struct worker *worker, const struct worker_options *options);
int worker_listen(struct worker *worker, const char *address, int port, int *ret_port, struct error *err) DAVIT_MUST_USE;
/* Takes the reference. Requests under way keep the snapshot they began with. */
void worker_swap_snapshot(struct worker *worker, struct route_snapshot *snapshot);
/* /readyz says no from now on. */
void worker_stop_being_ready(struct worker *worker);
void worker_release(struct worker *worker); /* cuts what is open */

#endif
