#include "runtime/service_call.h"

#include <string.h>
#include <strings.h>

#define WAIT_S_MAX 3600

void service_call_end(struct service_call *call) {
    LIST_REMOVE(call, next);
    lora_request_release(&call->lora);
    if (call->has_patience) {
        timer_release(&call->patience);
    }
    json_decref(call->model.cards);
    free(call->model.folder);
    free(call->model.name);
    free(call);
}

static void on_gone(void *arg) {
    struct service_call *call = arg;
    if (call->transfer != NULL) {
        transfer_cancel(call->transfer);
    }
    if (call->waiter != NULL) {
        loader_leave(call->waiter);
    }
    if (call->model.listing != NULL) {
        models_listing_leave(call->model.listing);
    }
    service_call_end(call);
}

struct service_call *service_call_begin(struct service *service, struct http_request *request, const char *endpoint,
                                        const char *authorization) {
    struct service_call *call = xcalloc(1, sizeof(*call));
    *call = (struct service_call){.service = service,
                                  .request = request,
                                  .endpoint = endpoint,
                                  .authorization = authorization,
                                  .begun_ms = loop_now_ms(service->loop)};
    LIST_INSERT_HEAD(&service->calls, call, next);
    http_request_on_gone(request, on_gone, call);
    return call;
}

int64_t service_wanted_wait_ms(const struct http_request *request) {
    const char *at = http_fields_get(&http_request_head(request)->fields, "Prefer");
    while (at != NULL && *at != '\0') {
        at += strspn(at, " \t,;");
        if (strncasecmp(at, "wait=", 5) == 0) {
            const char *digits = at + 5 + (at[5] == '"' ? 1 : 0);
            size_t len = strspn(digits, "0123456789");
            int64_t seconds = len > 0 && len <= 9 ? strtoll(digits, NULL, 10) : len > 0 ? WAIT_S_MAX : -1;
            return seconds < 0 ? -1 : (seconds > WAIT_S_MAX ? WAIT_S_MAX : seconds) * 1000;
        }
        at += strcspn(at, ",;");
    }
    return -1;
}

static void reply(struct service *service, struct http_request *request, const char *endpoint, int64_t took_ms, int status,
                  const char *content_type, const char *body, size_t len) {
    runtime_metrics_answered(&service->metrics, http_request_head(request)->method, endpoint, status, took_ms);
    http_reply(request, status, content_type, body, len);
}

void service_reply(struct service *service, struct http_request *request, const char *endpoint, int status,
                   const char *content_type, const char *body, size_t len) {
    reply(service, request, endpoint, 0, status, content_type, body, len);
}

void service_reply_json(struct service *service, struct http_request *request, const char *endpoint, int status, const char *text) {
    service_reply(service, request, endpoint, status, "application/json", text, strlen(text));
}

void service_call_end_with(struct service_call *call, int status, const char *content_type, const char *body, size_t len) {
    struct service *service = call->service;
    struct http_request *request = call->request;
    const char *endpoint = call->endpoint;
    int64_t took_ms = loop_now_ms(service->loop) - call->begun_ms;
    service_call_end(call);
    reply(service, request, endpoint, took_ms, status, content_type, body, len);
}

void service_call_end_with_json(struct service_call *call, int status, const char *text) {
    service_call_end_with(call, status, "application/json", text, strlen(text));
}
