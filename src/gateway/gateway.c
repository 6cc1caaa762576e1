#include "gateway/gateway.h"

#include "base/file.h"
#include "base/log.h"
#include "gateway/route_source.h"
#include "gateway/worker_threads.h"
#include "io/transfer.h"

#include <signal.h>
#include <string.h>

#define KUBE_CALLS_MAX 16
#define KEEP_ACCEPTING_MS 1000 /* until those who route to us have seen that we are not ready */

struct gateway {
    struct gateway_options options;
    struct loop *loop;
    struct gateway_metrics metrics;
    struct worker_threads *workers;
    struct timer stopping;
    bool is_stopping;
};

static void on_snapshot(void *arg, struct route_snapshot *snapshot) {
    struct gateway *gateway = arg;
    worker_threads_swap_snapshot(gateway->workers, snapshot);
}

static void on_drained(void *arg, int open_requests) {
    struct gateway *gateway = arg;
    log_info("stopped open_requests=%d", open_requests);
    loop_stop(gateway->loop);
}

static void on_stopping(void *arg) {
    struct gateway *gateway = arg;
    worker_threads_drain(gateway->workers, gateway->options.drain_ms, on_drained, gateway);
}

static void on_signal(void *arg, int number) {
    struct gateway *gateway = arg;
    if (gateway->is_stopping) {
        loop_stop(gateway->loop);
        return;
    }
    log_info("stopping signal=%d", number);
    gateway->is_stopping = true;
    worker_threads_stop_being_ready(gateway->workers);
    timer_set(&gateway->stopping, KEEP_ACCEPTING_MS);
}

static int serve(struct gateway *gateway, struct error *err) {
    static const int signals[] = {SIGTERM, SIGINT, 0};
    const struct gateway_options *options = &gateway->options;
    int port = 0;
    if (worker_threads_listen(gateway->workers, options->address, options->port, &port, err) < 0 ||
        worker_threads_start(gateway->workers, err) < 0) {
        return -1;
    }
    if (options->port_file != NULL) {
        cleanup_free char *text = xasprintf("%d\n", port);
        if (file_replace(options->port_file, text, strlen(text), 0644, err) < 0) {
            return -1;
        }
    }
    loop_on_signals(gateway->loop, signals, on_signal, gateway);
    log_info("serving address=%s port=%d workers=%d", options->address, port, options->workers);
    loop_run(gateway->loop);
    return 0;
}

static int run_with_api(struct gateway *gateway, const struct kube_config *config, struct error *err) {
    struct transfers *transfers = transfers_new(gateway->loop);
    struct kube_client *client = kube_client_new(gateway->loop, transfers, config, "davit-gateway", KUBE_CALLS_MAX);
    struct route_source *source = route_source_new(&(struct route_source_options){
        .client = client,
        .namespace = gateway->options.namespace,
        .metrics = &gateway->metrics,
        .on_snapshot = on_snapshot,
        .arg = gateway,
    });
    int result = serve(gateway, err);
    route_source_free(source);
    kube_client_free(client);
    transfers_free(transfers);
    return result;
}

int gateway_run(const struct gateway_options *options, struct error *err) {
    struct kube_config config = {0};
    if (kube_config_load(options->kubeconfig, &config, err) < 0) {
        return -1;
    }
    struct gateway gateway = {.options = *options, .loop = loop_new()};
    gateway_metrics_init(&gateway.metrics);
    gateway.workers = worker_threads_new(
        &(struct worker_threads_options){.control = gateway.loop, .metrics = &gateway.metrics, .count = options->workers});
    timer_init(&gateway.stopping, gateway.loop, on_stopping, &gateway);
    int result = run_with_api(&gateway, &config, err);
    worker_threads_free(gateway.workers);
    timer_release(&gateway.stopping);
    loop_free(gateway.loop);
    gateway_metrics_release(&gateway.metrics);
    kube_config_release(&config);
    return result;
}
