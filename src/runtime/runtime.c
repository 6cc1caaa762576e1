#include "runtime/runtime.h"

#include "base/file.h"
#include "base/log.h"
#include "runtime/access.h"

#include <signal.h>
#include <string.h>

#define KEEP_ACCEPTING_MS 1000 /* until those who route to us have seen that we are not ready */
#define DRAIN_LOOK_MS 20

struct runtime {
    struct runtime_options options;
    struct loop *loop;
    struct service service;
    struct timer stopping;
    int64_t drain_until_ms; /* 0 = not draining */
};

static void on_stopping(void *arg) {
    struct runtime *runtime = arg;
    int64_t now_ms = loop_now_ms(runtime->loop);
    if (runtime->drain_until_ms == 0) {
        runtime->drain_until_ms = now_ms + runtime->options.drain_ms;
        http_server_drain(runtime->service.server);
    }
    int open = http_server_open_requests(runtime->service.server);
    if (open == 0 || now_ms >= runtime->drain_until_ms) {
        log_info("stopped open_requests=%d", open);
        loop_stop(runtime->loop);
        return;
    }
    timer_set(&runtime->stopping, DRAIN_LOOK_MS);
}

static void on_signal(void *arg, int number) {
    struct runtime *runtime = arg;
    if (runtime->service.is_stopping) {
        loop_stop(runtime->loop);
        return;
    }
    log_info("stopping signal=%d", number);
    runtime->service.is_stopping = true;
    timer_set(&runtime->stopping, KEEP_ACCEPTING_MS);
}

static int serve(struct runtime *runtime, struct error *err) {
    static const int signals[] = {SIGTERM, SIGINT, 0};
    const struct runtime_options *options = &runtime->options;
    int port = 0;
    if (service_listen(&runtime->service, options->address, options->port, &port, err) < 0) {
        return -1;
    }
    if (options->port_file != NULL) {
        cleanup_free char *text = xasprintf("%d\n", port);
        if (file_replace(options->port_file, text, strlen(text), 0644, err) < 0) {
            return -1;
        }
    }
    loop_on_signals(runtime->loop, signals, on_signal, runtime);
    log_info("serving address=%s port=%d engine=%s endpoint=%s", options->address, port, options->engine,
             options->service.endpoint);
    loop_run(runtime->loop);
    return 0;
}

static enum dialect dialect_of(const char *engine) {
    if (strcasecmp(engine, "sglang") == 0) {
        return DIALECT_SGLANG;
    }
    if (strcasecmp(engine, "vllm") != 0 && strcasecmp(engine, "davit") != 0) {
        log_warn("INFERENCE_ENGINE=%s is not known: it is talked to as vLLM", engine);
    }
    return DIALECT_VLLM;
}

int runtime_run(const struct runtime_options *options, struct error *err) {
    cleanup_free char *token = NULL;
    struct runtime runtime = {.options = *options};
    struct service_options *service = &runtime.options.service;
    service->dialect = dialect_of(options->engine);
    service->engine = options->engine;
    if (options->token_file != NULL) {
        if (access_read_token(options->token_file, &token, err) < 0) {
            return -1;
        }
        service->token = token;
    }
    runtime.loop = loop_new();
    int result = service_init(&runtime.service, runtime.loop, service, err);
    if (result == 0) {
        timer_init(&runtime.stopping, runtime.loop, on_stopping, &runtime);
        result = serve(&runtime, err);
        timer_release(&runtime.stopping);
        service_release(&runtime.service);
    }
    loop_free(runtime.loop);
    return result;
}
