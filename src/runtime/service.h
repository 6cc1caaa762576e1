/* The sidecar's HTTP service, on a loop: lora_adapter/load and unload, models, health, readiness, metrics (its own, then the
 * engine's, see runtime/engine_metrics.h).
 *
 * The API refuses unknown members, so what a caller adds comes in header fields: X-Request-Id is logged, X-Davit-Revision (16
 * digits of hex) is kept with the adapter and shown in davit_runtime_adapter_info. */
#ifndef DAVIT_RUNTIME_SERVICE_H
#define DAVIT_RUNTIME_SERVICE_H

#include "io/http_server.h"
#include "io/metrics.h"
#include "runtime/loader.h"

#include <sys/queue.h>

struct service_call;

struct service {
    struct loop *loop;
    struct http_server *server;
    struct transfers *transfers;
    struct check_thread *checks;
    struct loader *loader;
    struct engine_client engine;
    struct metrics *page;
    struct metric *requests;  /* davit_runtime_requests_total{endpoint,code} */
    struct metric *durations; /* davit_runtime_load_seconds{outcome} */
    struct metric *running;   /* davit_runtime_loads_running */
    struct metric *adapters;  /* davit_runtime_adapter_info{lora_name,revision} */
    bool is_stopping;
    LIST_HEAD(call_list, service_call) calls;
};

/* `endpoint` and everything else is borrowed. */
void service_init(struct service *service, struct loop *loop, enum dialect dialect, const char *endpoint);
int service_listen(struct service *service, const char *address, int port, int *ret_port, struct error *err) DAVIT_MUST_USE;
void service_release(struct service *service); /* after loop_run returned for good: the check thread posts to the loop */

#endif
