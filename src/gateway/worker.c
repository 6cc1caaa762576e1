#include "gateway/worker.h"

#include "gateway/error_reply.h"
#include "gateway/models_page.h"
#include "gateway/proxy.h"

#include <string.h>

#define UPSTREAM_IDLE_MAX 256

static void reply_text(struct http_request *request, int status, const char *text) {
    http_reply(request, status, "text/plain; charset=utf-8", text, strlen(text));
}

static void serve_health(struct worker *worker, struct http_request *request) {
    (void)worker;
    reply_text(request, 200, "ok\n");
}

static void serve_ready(struct worker *worker, struct http_request *request) {
    if (worker->is_draining) {
        reply_text(request, 503, "not ready: stopping\n");
    } else if (worker->snapshot == NULL) {
        reply_text(request, 503, "not ready: the cluster's pods, endpoint slices and adapters have not been read yet\n");
    } else {
        reply_text(request, 200, "ok\n");
    }
}

static void serve_metrics(struct worker *worker, struct http_request *request) {
    cleanup_buffer struct buffer page = BUFFER_INIT;
    metrics_render(worker->metrics->page, &page);
    http_reply(request, 200, METRICS_CONTENT_TYPE, page.data, page.len);
}

static void serve_models(struct worker *worker, struct http_request *request) {
    static const struct error_reply starting = {.status = 503, .code = "service_unavailable", .retry_after_s = 1};
    if (worker->snapshot == NULL) {
        error_reply_send(request, &starting, "the gateway is starting: it has not read the cluster's routes yet");
        return;
    }
    cleanup_buffer struct buffer page = BUFFER_INIT;
    models_page_list(worker->snapshot, &page);
    http_reply(request, 200, "application/json", page.data, page.len);
}

static void serve_model(struct worker *worker, struct http_request *request, const char *name) {
    const struct route_model *model = worker->snapshot != NULL ? route_find(worker->snapshot, name) : NULL;
    if (model == NULL || model->endpoint_count == 0) {
        static const struct error_reply unknown = {.status = 404, .code = "model_not_found", .param = "model"};
        error_reply_send(request, &unknown, "model %s does not exist", name);
        return;
    }
    cleanup_buffer struct buffer page = BUFFER_INIT;
    models_page_card(model, &page);
    http_reply(request, 200, "application/json", page.data, page.len);
}

static void refuse_path(struct http_request *request, const char *path) {
    static const struct error_reply reply = {.status = 404};
    bool is_outside = strncmp(path, "/v1/", 4) != 0;
    error_reply_send(request, &reply, "unknown request path %.200s%s", path,
                     is_outside ? ": those of the API begin with /v1/" : "");
}

static void refuse_method(struct http_request *request, const char *allowed) {
    static const struct error_reply reply = {.status = 405};
    http_reply_field(request, "Allow", allowed);
    error_reply_send(request, &reply, "method not allowed: use %s", allowed);
}

static bool starts_with(const char *text, const char *beginning) {
    return strncmp(text, beginning, strlen(beginning)) == 0;
}

/* Loading adapters is the controller's business. Engines may be lax about slashes, so paths that only differ in them are not passed
 * on. */
static bool is_inference_path(const char *path) {
    static const char *const closed[] = {"/v1/load_lora_adapter", "/v1/unload_lora_adapter", "/v1/lora_adapter", "/v1/runtime",
                                         "/v1/model/download"};
    if (!starts_with(path, "/v1/") || path[4] == '\0' || strstr(path, "//") != NULL) {
        return false;
    }
    for (size_t i = 0; i < ARRAY_LEN(closed); i++) {
        size_t len = strlen(closed[i]);
        if (strncasecmp(path, closed[i], len) == 0 && (path[len] == '\0' || path[len] == '/')) {
            return false;
        }
    }
    return true;
}

static void on_request(void *arg, struct http_request *request) {
    struct worker *worker = arg;
    static const struct {
        const char *path;
        void (*serve)(struct worker *worker, struct http_request *request);
    } pages[] = {
        {"/healthz", serve_health},   {"/readyz", serve_ready},      {"/metrics", serve_metrics},
        {"/v1/models", serve_models}, {"/v1/models/", serve_models},
    };
    const struct http_head *head = http_request_head(request);
    bool is_get = strcmp(head->method, "GET") == 0 || strcmp(head->method, "HEAD") == 0;
    bool is_model = starts_with(head->path, "/v1/models/");
    for (size_t i = 0; i < ARRAY_LEN(pages); i++) {
        if (strcmp(head->path, pages[i].path) == 0) {
            if (is_get) {
                pages[i].serve(worker, request);
            } else {
                refuse_method(request, "GET");
            }
            return;
        }
    }
    if (is_get && is_model) {
        serve_model(worker, request, head->path + strlen("/v1/models/"));
    } else if (is_model) {
        refuse_method(request, "GET");
    } else if (!is_inference_path(head->path)) {
        refuse_path(request, head->path);
    } else if (strcmp(head->method, "POST") != 0) {
        refuse_method(request, "POST");
    } else {
        proxy_start(worker, request);
    }
}

void worker_init(struct worker *worker, const struct worker_options *options) {
    int64_t response_timeout_ms = options->response_timeout_ms != 0 ? options->response_timeout_ms : 600 * 1000;
    *worker = (struct worker){.loop = options->loop, .metrics = options->metrics};
    LIST_INIT(&worker->proxies);
    worker->upstream = upstream_new(&(struct upstream_options){
        .loop = options->loop,
        .connections_per_address_max = UPSTREAM_IDLE_MAX,
        .connect_timeout_ms = options->connect_timeout_ms != 0 ? options->connect_timeout_ms : 2000,
        .first_byte_timeout_ms = response_timeout_ms,
        .idle_timeout_ms = response_timeout_ms,
    });
    worker->server = http_server_new(&(struct http_server_options){
        .loop = options->loop,
        .body_bytes_max = GATEWAY_BODY_BYTES_MAX,
        .out_bytes_max = options->out_bytes_max != 0 ? options->out_bytes_max : 256 * 1024,
        .bodies_bytes_max = options->bodies_bytes_max != 0 ? options->bodies_bytes_max : GATEWAY_BODIES_BYTES_MAX,
        .connections_max = options->connections_max != 0 ? options->connections_max : GATEWAY_CONNECTIONS_MAX,
        .on_request = on_request,
        .on_error = error_reply_on_error,
        .arg = worker,
    });
}

int worker_listen(struct worker *worker, const char *address, int port, int *ret_port, struct error *err) {
    return http_server_listen(worker->server, address, port, ret_port, err);
}

void worker_swap_snapshot(struct worker *worker, struct route_snapshot *snapshot) {
    route_snapshot_unref(worker->snapshot);
    worker->snapshot = snapshot;
}

void worker_stop_being_ready(struct worker *worker) {
    worker->is_draining = true;
}

void worker_release(struct worker *worker) {
    proxy_release_all(worker);
    http_server_free(worker->server);
    upstream_free(worker->upstream);
    route_snapshot_unref(worker->snapshot);
    *worker = (struct worker){0};
}
