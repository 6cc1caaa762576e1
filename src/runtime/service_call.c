#include "runtime/service_call.h"

#include <string.h>

void service_call_end(struct service_call *call) {
    LIST_REMOVE(call, next);
    lora_request_release(&call->lora);
    if (call->has_patience) {
        timer_release(&call->patience);
    }
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

void service_reply(struct service *service, struct http_request *request, const char *endpoint, int status,
                   const char *content_type, const char *body, size_t len) {
    char code[16];
    (void)snprintf(code, sizeof(code), "%d", status);
    metric_add(service->metrics.requests, (const char *[]){endpoint, code}, 1);
    http_reply(request, status, content_type, body, len);
}

void service_reply_json(struct service *service, struct http_request *request, const char *endpoint, int status, const char *text) {
    service_reply(service, request, endpoint, status, "application/json", text, strlen(text));
}

void service_call_end_with(struct service_call *call, int status, const char *content_type, const char *body, size_t len) {
    struct service *service = call->service;
    struct http_request *request = call->request;
    const char *endpoint = call->endpoint;
    service_call_end(call);
    service_reply(service, request, endpoint, status, content_type, body, len);
}

void service_call_end_with_json(struct service_call *call, int status, const char *text) {
    service_call_end_with(call, status, "application/json", text, strlen(text));
}
