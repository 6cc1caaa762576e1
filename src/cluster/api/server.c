#include "cluster/api/server.h"

#include "base/file.h"
#include "base/log.h"
#include "cluster/api/api.h"
#include "cluster/api/credentials.h"
#include "cluster/api/discovery.h"
#include "cluster/api/gc.h"
#include "cluster/api/object.h"
#include "cluster/api/pod_log.h"
#include "cluster/api/strategy.h"
#include "io/tls.h"
#include "io/upstream.h"

#include <signal.h>
#include <string.h>
#include <sys/stat.h>

#define CONNECTIONS_MAX 4096
#define DRAIN_MS 2000

struct apiserver {
    const struct apiserver_options *options;
    struct api api;
    struct http_server *http;
    struct ssl_ctx_st *tls;
    char *pki;
    int lock_fd;
    int port;
    struct timer drain;
    int64_t drain_until_ms;
    bool is_draining;
    struct error serve_error; /* of the steps that run on the loop */
    bool has_failed;
};

/* ---- stopping ---- */

static void on_drain(void *arg) {
    struct apiserver *server = arg;
    bool is_idle =
        (server->http == NULL || http_server_open_requests(server->http) == 0) && state_in_flight(server->api.state) == 0;
    if (is_idle || loop_now_ms(server->api.loop) >= server->drain_until_ms) {
        loop_stop(server->api.loop);
    } else {
        timer_set(&server->drain, 10);
    }
}

static void drain(struct apiserver *server) {
    server->is_draining = true;
    server->api.is_ready = false;
    server->drain_until_ms = loop_now_ms(server->api.loop) + DRAIN_MS;
    if (server->http != NULL) {
        http_server_drain(server->http);
    }
    watch_hub_drain(server->api.watches);
    timer_set(&server->drain, 0);
}

static void on_signal(void *arg, int number) {
    struct apiserver *server = arg;
    if (server->is_draining) {
        loop_stop(server->api.loop); /* asked twice */
        return;
    }
    log_info("%s: finishing open requests", number == SIGINT ? "SIGINT" : "SIGTERM");
    drain(server);
}

/* ---- starting ---- */

static json_t *new_namespace(const char *name) {
    json_t *object = json_pack("{s:s, s:s, s:{s:s}}", "apiVersion", "v1", "kind", "Namespace", "metadata", "name", name);
    struct strategy_input input = {.resource = resource_namespaces};
    json_t *status = strategy_create(&input, object);
    if (status != NULL) {
        abort(); /* our own names are valid */
    }
    return object;
}

static int announce(struct apiserver *server, struct error *err) {
    cleanup_free char *port_path = path_join(server->options->folder, "apiserver.port");
    cleanup_free char *text = xasprintf("%d\n", server->port);
    if (server->options->kubeconfig_out != NULL &&
        credentials_write_kubeconfig(server->options->kubeconfig_out, server->pki, server->options->address, server->port,
                                     server->api.token, err) < 0) {
        return -1;
    }
    return file_replace(port_path, text, strlen(text), 0644, err);
}

/* Once the first namespaces are on disk: opens the door. */
static void on_namespaces_stored(void *arg, const struct error *stored) {
    struct apiserver *server = arg;
    struct error *err = &server->serve_error;
    const struct http_server_options options = {.loop = server->api.loop,
                                                .tls = server->tls,
                                                .body_bytes_max = API_BODY_BYTES_MAX,
                                                .out_bytes_max = WATCH_BACKLOG_BYTES,
                                                .connections_max = CONNECTIONS_MAX,
                                                .on_request = api_on_request,
                                                .on_error = api_on_error,
                                                .arg = &server->api};
    if (server->is_draining) {
        return;
    }
    if (stored != NULL) {
        *err = *stored;
    } else {
        server->http = http_server_new(&options);
        if (http_server_listen(server->http, server->options->address, server->options->port, &server->port, err) == 0 &&
            announce(server, err) == 0) {
            server->api.is_ready = true;
            log_info("serving https://%s:%d", server->options->address, server->port);
            return;
        }
    }
    server->has_failed = true;
    loop_stop(server->api.loop);
}

static void ensure_namespaces(struct apiserver *server) {
    static const char *const names[] = {"default", "kube-system"};
    struct transaction *transaction = transaction_new(server->api.state);
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (state_latest(server->api.state, resource_namespaces, names[i]) == NULL) {
            (void)transaction_put(transaction, resource_namespaces, names[i], new_namespace(names[i]));
        }
    }
    transaction_submit(transaction, on_namespaces_stored, server);
}

static int open_files(struct apiserver *server, struct error *err) {
    const struct apiserver_options *options = server->options;
    cleanup_free char *lock_path = path_join(options->folder, "apiserver.lock");
    cleanup_free char *store_path = path_join(options->folder, "store.db");
    cleanup_free char *default_token = path_join(options->folder, "token");
    cleanup_free char *cert = NULL;
    cleanup_free char *key = NULL;
    server->pki = path_join(options->folder, "pki");
    cert = path_join(server->pki, "server.crt");
    key = path_join(server->pki, "server.key");
    const char *const names[] = {"localhost",
                                 "davit",
                                 "kubernetes",
                                 "kubernetes.default",
                                 "kubernetes.default.svc",
                                 "127.0.0.1",
                                 "::1",
                                 strcmp(options->address, "127.0.0.1") != 0 ? options->address : NULL,
                                 NULL};
    if (file_make_dirs(server->pki, 0700, err) < 0 || (server->lock_fd = file_lock(lock_path, err)) < 0) {
        return error_wrap(err, "state folder");
    }
    if (credentials_load_token(options->token_file != NULL ? options->token_file : default_token, &server->api.token, err) < 0 ||
        tls_make_certificates(server->pki, names, err) < 0) {
        return -1;
    }
    server->tls = tls_server_context(cert, key, err);
    return server->tls == NULL ? -1 : state_open(server->api.loop, store_path, &server->api.state, err);
}

static void release(struct apiserver *server) {
    http_server_free(server->http);
    watch_hub_free(server->api.watches);
    gc_free(server->api.gc);
    state_close(server->api.state);
    discovery_free(server->api.discovery);
    if (server->api.logs != NULL) {
        upstream_free(server->api.logs);
    }
    timer_release(&server->drain);
    tls_context_free(server->tls);
    loop_free(server->api.loop);
    free(server->api.token);
    free(server->pki);
    if (server->lock_fd >= 0) {
        close(server->lock_fd);
    }
}

int apiserver_run(const struct apiserver_options *options, struct error *err) {
    static const int signals[] = {SIGTERM, SIGINT, 0};
    struct apiserver server = {.options = options, .lock_fd = -1};
    (void)umask(0077); /* the store holds secrets */
    server.api.loop = loop_new();
    timer_init(&server.drain, server.api.loop, on_drain, &server);
    int result = open_files(&server, err);
    if (result == 0) {
        server.api.watches = watch_hub_new(server.api.loop, server.api.state, WATCH_STALL_MS);
        server.api.gc = gc_new(server.api.loop, server.api.state);
        server.api.discovery = discovery_new();
        server.api.logs = pod_log_upstream_new(server.api.loop);
        loop_on_signals(server.api.loop, signals, on_signal, &server);
        ensure_namespaces(&server);
        loop_run(server.api.loop);
        if (server.has_failed) {
            *err = server.serve_error;
            result = -1;
        }
    }
    release(&server);
    return result;
}
