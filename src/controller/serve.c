#include "controller/serve.h"

#include "base/log.h"
#include "io/http_server.h"
#include "io/metrics.h"

#include <string.h>

struct serve {
    struct serve_options options;
    struct http_server *server;
};

static void reply_text(struct http_request *request, int status, const char *text) {
    http_reply(request, status, "text/plain; charset=utf-8", text, strlen(text));
}

static void on_request(void *arg, struct http_request *request) {
    struct serve *serve = arg;
    const struct http_head *head = http_request_head(request);
    bool is_read = strcmp(head->method, "GET") == 0 || strcmp(head->method, "HEAD") == 0;
    if (!is_read) {
        reply_text(request, 405, "method not allowed\n");
    } else if (strcmp(head->path, "/metrics") == 0) {
        cleanup_buffer struct buffer page = BUFFER_INIT;
        serve->options.render_metrics(serve->options.arg, &page);
        http_reply(request, 200, METRICS_CONTENT_TYPE, page.data, page.len);
    } else if (strcmp(head->path, "/healthz") == 0) {
        reply_text(request, 200, "ok");
    } else if (strcmp(head->path, "/readyz") == 0) {
        bool is_ready = serve->options.is_ready(serve->options.arg);
        reply_text(request, is_ready ? 200 : 503, is_ready ? "ok" : "not synced with the Kubernetes API yet");
    } else {
        reply_text(request, 404, "not found\n");
    }
}

/* "host:port", "[v6]:port" or ":port". */
static int split_address(const char *text, char *host, size_t room, int *ret_port, struct error *err) {
    const char *colon = strrchr(text, ':');
    char *end = NULL;
    long port = colon != NULL ? strtol(colon + 1, &end, 10) : -1;
    if (colon == NULL || end == colon + 1 || *end != '\0' || port < 0 || port > 65535 || (size_t)(colon - text) >= room) {
        return error_set(err, ERROR_INVALID, "\"%s\" is not an address: expected host:port, :port or 0", text);
    }
    bool is_bracketed = text[0] == '[' && colon > text && colon[-1] == ']';
    size_t len = (size_t)(colon - text) - (is_bracketed ? 2 : 0);
    snprintf(host, room, "%.*s", (int)len, text + (is_bracketed ? 1 : 0));
    if (len == 0) {
        snprintf(host, room, "0.0.0.0");
    }
    *ret_port = (int)port;
    return 0;
}

int serve_new(const struct serve_options *options, struct serve **ret_serve, struct error *err) {
    struct serve *serve = xcalloc(1, sizeof(*serve));
    serve->options = *options;
    struct http_server_options server = {
        .loop = options->loop, .body_bytes_max = 1024, .connections_max = 64, .on_request = on_request, .arg = serve};
    serve->server = http_server_new(&server);
    const char *bound = "";
    for (size_t i = 0; i < ARRAY_LEN(options->addresses); i++) {
        const char *address = options->addresses[i];
        char host[64];
        int port = 0;
        if (address == NULL || address[0] == '\0' || strcmp(address, "0") == 0 || strcmp(address, bound) == 0) {
            continue;
        }
        if (split_address(address, host, sizeof(host), &port, err) < 0 ||
            http_server_listen(serve->server, host, port, &port, err) < 0) {
            serve_free(serve);
            return -1;
        }
        log_info("metrics and health on %s:%d", host, port);
        bound = address;
    }
    *ret_serve = serve;
    return 0;
}

void serve_free(struct serve *serve) {
    if (serve != NULL) {
        http_server_free(serve->server);
        free(serve);
    }
}
