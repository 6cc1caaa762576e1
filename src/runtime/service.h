/* The sidecar's HTTP service, on a loop: lora_adapter/load and unload, model/download and list, models, health, readiness, metrics
 * (its own, then the engine's, see runtime/engine_metrics.h).
 *
 * The API refuses unknown members, so what a caller adds comes in header fields:
 *   X-Request-Id             is logged
 *   X-Davit-Revision         16 digits of hex, kept with the adapter and shown in davit_runtime_adapter_info
 *   X-Davit-Source-Revision  which branch, tag or commit of the artifact is wanted
 *   X-Davit-Digest           SHA-256 of the weights file, which it must have
 *   X-Davit-Version          what an earlier answer said: just that is wanted; 412 when the source has another now
 *   Prefer: wait=N           (RFC 7240) a load that is not done after N seconds is answered with 202 and
 *                            {"status":"downloading","message":"downloading 41 % of 12.3 MB"}; it goes on, and asked for again it
 * is joined X-Davit-Authorization    see runtime/access.h and what an answer adds are members that clients of the reference pass
 * over: "version" and "digest". */
#ifndef DAVIT_RUNTIME_SERVICE_H
#define DAVIT_RUNTIME_SERVICE_H

#include "io/http_server.h"
#include "runtime/cache_gauge.h"
#include "runtime/loader.h"
#include "runtime/models.h"
#include "runtime/runtime_metrics.h"

#include <sys/queue.h>

struct service_options {
    enum dialect dialect;
    const char *endpoint;              /* the engine's */
    const char *engine;                /* as metrics name it; NULL = "" */
    const char *engine_version;        /* likewise */
    struct artifact_options artifacts; /* the cache among them */
    struct model_defaults models;      /* base models */
    int max_rank;                      /* the engine's limit; 0 = not known */
    const char *secrets_root;          /* NULL = LOAD_SECRETS_ROOT */
    const char *token;                 /* whoever asks must show it; NULL = anybody may ask */
    const char *metrics_path;          /* the engine's; NULL = "/metrics" */
    bool has_raw_metrics;              /* the engine's page as it is, without AIBrix's names */
};

struct service_call;

struct service {
    struct service_options options;
    struct loop *loop;
    struct http_server *server;
    struct transfers *transfers;
    struct artifact_cache *cache;
    struct artifact_pool *pool;
    struct residents residents;
    struct cache_gauge gauge;
    struct loader *loader;
    struct models *models;
    struct engine_client engine;
    struct runtime_metrics metrics;
    struct timer looking;     /* at what the engine has */
    struct transfer *listing; /* for that */
    uint64_t changes_before;  /* residents.changes when it was asked */
    struct timer progress;    /* of fetches, into the log */
    struct timer rest;        /* until nothing has happened for a while */
    bool is_stopping;
    LIST_HEAD(call_list, service_call) calls;
};

/* Strings are borrowed. ERROR_IO and the like: the cache cannot be made. */
int service_init(struct service *service, struct loop *loop, const struct service_options *options,
                 struct error *err) DAVIT_MUST_USE;
int service_listen(struct service *service, const char *address, int port, int *ret_port, struct error *err) DAVIT_MUST_USE;
void service_release(struct service *service); /* after loop_run returned for good: threads post to the loop */

#endif
