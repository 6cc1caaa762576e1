#include "runtime/engine_client.h"

#include <string.h>

#define ANSWER_BYTES_MAX (32 * 1024 * 1024) /* a list of 100,000 adapters */

struct transfer *engine_call(const struct engine_client *engine, struct dialect_request *request, const char *authorization,
                             int64_t timeout_ms, engine_done *on_done, void *arg) {
    cleanup_free char *url = xasprintf("%s%s", engine->endpoint, request->path);
    cleanup_free char *key = authorization != NULL ? xasprintf("Authorization: %s", authorization) : NULL;
    const char *headers[3] = {"Content-Type: application/json", key, NULL};
    struct transfer *transfer = transfer_start(engine->transfers, &(struct transfer_request){
                                                                      .method = request->method,
                                                                      .url = url,
                                                                      .headers = request->body != NULL ? headers : headers + 1,
                                                                      .body = request->body,
                                                                      .body_len = request->body != NULL ? strlen(request->body) : 0,
                                                                      .timeout_ms = timeout_ms,
                                                                      .body_bytes_max = ANSWER_BYTES_MAX,
                                                                      .on_done = on_done,
                                                                      .arg = arg,
                                                                  });
    dialect_request_release(request);
    return transfer;
}

struct transfer *engine_health(const struct engine_client *engine, engine_done *on_done, void *arg) {
    struct dialect_request request = {.method = "GET", .path = "/health"};
    return engine_call(engine, &request, NULL, ENGINE_HEALTH_TIMEOUT_MS, on_done, arg);
}
