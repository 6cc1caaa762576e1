/* Calls to the one engine that this sidecar stands beside. The caller's Authorization goes along with each call; none is kept. */
#ifndef DAVIT_RUNTIME_ENGINE_CLIENT_H
#define DAVIT_RUNTIME_ENGINE_CLIENT_H

#include "dialect/dialect.h"
#include "io/transfer.h"

#define ENGINE_LOAD_TIMEOUT_MS (120 * 1000)
#define ENGINE_LIST_TIMEOUT_MS (10 * 1000)
#define ENGINE_HEALTH_TIMEOUT_MS 2000
#define ENGINE_METRICS_TIMEOUT_MS 1000

struct engine_client {
    struct transfers *transfers;
    const char *endpoint; /* "http://127.0.0.1:8000", without a slash at the end */
    enum dialect dialect;
};

/* As transfer_request.on_done. */
typedef void engine_done(void *arg, const struct transfer_response *response, const struct error *err);

/* Starts `request` and releases it. authorization: NULL = none. */
struct transfer *engine_call(const struct engine_client *engine, struct dialect_request *request, const char *authorization,
                             int64_t timeout_ms, engine_done *on_done, void *arg);
struct transfer *engine_health(const struct engine_client *engine, engine_done *on_done, void *arg);

#endif
