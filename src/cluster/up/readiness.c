#include "cluster/up/readiness.h"

#include "base/alloc.h"
#include "base/file.h"

struct readiness {
    void (*on_answer)(void *arg, bool is_ready);
    void *arg;
    struct transfer *transfer;
};

static void on_done(void *arg, const struct transfer_response *response, const struct error *err) {
    struct readiness question = *(struct readiness *)arg;
    free(arg);
    question.on_answer(question.arg, err == NULL && response->status == 200);
}

/* No role asks for credentials at its readiness endpoint; that of the API server is known by the CA that it made. */
struct readiness *readiness_ask(struct transfers *transfers, enum role_probe probe, const struct role_context *context,
                                void (*on_answer)(void *arg, bool is_ready), void *arg) {
    if (probe == ROLE_PROBE_ALIVE) {
        return NULL;
    }
    struct readiness *question = xcalloc(1, sizeof(*question));
    question->on_answer = on_answer;
    question->arg = arg;
    cleanup_free char *ca_file = path_join(context->directory, "apiserver/pki/ca.crt");
    cleanup_free char *url = NULL;
    struct transfer_request request = {
        .method = "GET",
        .connect_timeout_ms = READINESS_TIMEOUT_MS,
        .timeout_ms = READINESS_TIMEOUT_MS,
        .body_bytes_max = 64 * 1024,
        .on_done = on_done,
        .arg = question,
    };
    if (probe == ROLE_PROBE_API) {
        url = xasprintf("https://127.0.0.1:%d/readyz", context->api_port);
        request.ca_file = ca_file;
    } else {
        url = xasprintf("http://127.0.0.1:%d/readyz",
                        probe == ROLE_PROBE_CONTROLLER ? context->controller_port : context->gateway_port);
    }
    request.url = url;
    question->transfer = transfer_start(transfers, &request);
    return question;
}

void readiness_cancel(struct readiness *question) {
    transfer_cancel(question->transfer);
    free(question);
}

struct both {
    struct loop *loop;
    int open;
    bool *api_ready;
    bool *gateway_ready;
};

static void one_answered(struct both *both) {
    if (--both->open == 0) {
        loop_stop(both->loop);
    }
}

static void on_api(void *arg, bool is_ready) {
    struct both *both = arg;
    *both->api_ready = is_ready;
    one_answered(both);
}

static void on_gateway(void *arg, bool is_ready) {
    struct both *both = arg;
    *both->gateway_ready = is_ready;
    one_answered(both);
}

void readiness_ask_now(const struct role_context *context, bool *ret_api_ready, bool *ret_gateway_ready) {
    *ret_api_ready = false;
    *ret_gateway_ready = false;
    struct both both = {.loop = loop_new(), .api_ready = ret_api_ready, .gateway_ready = ret_gateway_ready};
    struct transfers *transfers = transfers_new(both.loop);
    both.open += readiness_ask(transfers, ROLE_PROBE_API, context, on_api, &both) != NULL;
    both.open += readiness_ask(transfers, ROLE_PROBE_GATEWAY, context, on_gateway, &both) != NULL;
    if (both.open > 0) {
        loop_run(both.loop);
    }
    transfers_free(transfers);
    loop_free(both.loop);
}
