/* One loop of the gateway's data path: its listener, its route snapshot, its upstream connections and its load counters. Workers
 * share nothing but immutable snapshots and the metrics page; everything here is called on the worker's own loop. */
#ifndef DAVIT_GATEWAY_WORKER_H
#define DAVIT_GATEWAY_WORKER_H

#include "gateway/gateway_metrics.h"
#include "gateway/route.h"
#include "io/http_server.h"
#include "io/upstream.h"

#include <sys/queue.h>

#define GATEWAY_BODY_BYTES_MAX (32 * 1024 * 1024)

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
