#include "cluster/up/readiness.h"

#include "base/alloc.h"
#include "kube/config.h"

struct question {
    void (*on_answer)(void *arg, bool is_ready);
    void *arg;
    bool has_config;
    struct kube_config config;
};

static void on_done(void *arg, const struct transfer_response *response, const struct error *err) {
    struct question question = *(struct question *)arg;
    free(arg);
    if (question.has_config) {
        kube_config_release(&question.config);
    }
    question.on_answer(question.arg, err == NULL && response->status == 200);
}

struct transfer *readiness_ask(struct transfers *transfers, enum role_probe probe, const struct role_context *context,
                               void (*on_answer)(void *arg, bool is_ready), void *arg) {
    if (probe == ROLE_PROBE_ALIVE) {
        return NULL;
    }
    struct question *question = xcalloc(1, sizeof(*question));
    question->on_answer = on_answer;
    question->arg = arg;
    const char *headers[2] = {NULL, NULL};
    cleanup_free char *authorization = NULL;
    cleanup_free char *url = NULL;
    struct transfer_request request = {
        .method = "GET",
        .headers = headers,
        .connect_timeout_ms = READINESS_TIMEOUT_MS,
        .timeout_ms = READINESS_TIMEOUT_MS,
        .body_bytes_max = 64 * 1024,
        .on_done = on_done,
        .arg = question,
    };
    if (probe == ROLE_PROBE_API) {
        if (kube_config_load(context->kubeconfig, &question->config, NULL) < 0) {
            free(question);
            return NULL;
        }
        question->has_config = true;
        url = xasprintf("https://127.0.0.1:%d/readyz", context->api_port);
        request.ca_file = question->config.ca_file;
        request.client_cert_file = question->config.client_cert_file;
        request.client_key_file = question->config.client_key_file;
        if (question->config.token != NULL) {
            authorization = xasprintf("Authorization: Bearer %s", question->config.token);
            headers[0] = authorization;
        }
    } else {
        url = xasprintf("http://127.0.0.1:%d/readyz",
                        probe == ROLE_PROBE_CONTROLLER ? context->controller_port : context->gateway_port);
    }
    request.url = url;
    return transfer_start(transfers, &request);
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
