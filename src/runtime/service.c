#include "runtime/service.h"

#include "adapter/artifact_url.h"
#include "base/log.h"
#include "runtime/engine_metrics.h"
#include "runtime/lora_answer.h"
#include "runtime/lora_request.h"

#include <string.h>

#define BODY_BYTES_MAX (1024 * 1024) /* credentials may hold a key file */
#define CONNECTIONS_MAX 512
#define REVISION_FIELD "X-Davit-Revision"
#define REQUEST_ID_FIELD "X-Request-Id"

/* A request that waits for somebody else. */
struct service_call {
    struct service *service;
    struct http_request *request;
    const char *endpoint; /* for metrics */
    struct transfer *transfer;
    struct loader_waiter *waiter;
    enum lora_verb verb;
    struct lora_request lora;
    const char *path; /* of lora.body */
    int64_t begun_ms;
    LIST_ENTRY(service_call) next;
};

static void end_call(struct service_call *call) {
    LIST_REMOVE(call, next);
    lora_request_release(&call->lora);
    free(call);
}

static void leave(struct service_call *call) {
    if (call->transfer != NULL) {
        transfer_cancel(call->transfer);
    }
    if (call->waiter != NULL) {
        loader_leave(call->waiter);
    }
    end_call(call);
}

static void on_gone(void *arg) {
    leave(arg);
}

static struct service_call *begin_call(struct service *service, struct http_request *request, const char *endpoint) {
    struct service_call *call = xcalloc(1, sizeof(*call));
    *call =
        (struct service_call){.service = service, .request = request, .endpoint = endpoint, .begun_ms = loop_now_ms(service->loop)};
    LIST_INSERT_HEAD(&service->calls, call, next);
    http_request_on_gone(request, on_gone, call);
    return call;
}

static void reply(struct service *service, struct http_request *request, const char *endpoint, int status, const char *content_type,
                  const char *body, size_t len) {
    char code[16];
    (void)snprintf(code, sizeof(code), "%d", status);
    metric_add(service->requests, (const char *[]){endpoint, code}, 1);
    http_reply(request, status, content_type, body, len);
}

static void reply_json(struct service *service, struct http_request *request, const char *endpoint, int status, const char *text) {
    reply(service, request, endpoint, status, "application/json", text, strlen(text));
}

static void end_with_json(struct service_call *call, int status, const char *text) {
    struct service *service = call->service;
    struct http_request *request = call->request;
    const char *endpoint = call->endpoint;
    end_call(call);
    reply_json(service, request, endpoint, status, text);
}

/* ---- readiness: the engine answers, and lists models ---- */

static void end_ready(struct service_call *call, bool is_ready) {
    end_with_json(call, is_ready ? 200 : 503, is_ready ? "{\"status\":\"ready\"}" : "{\"status\":\"not ready\"}");
}

static void on_ready_list(void *arg, const struct transfer_response *response, const struct error *err) {
    struct service_call *call = arg;
    call->transfer = NULL;
    struct dialect_models models;
    if (err != NULL) {
        end_ready(call, false);
    } else if (response->status == 401 || response->status == 403) {
        end_ready(call, true); /* it wants a key, which only those who load have */
    } else if (response->status != 200 || dialect_parse_models(response->body, response->body_len, &models, NULL) < 0) {
        end_ready(call, false);
    } else {
        bool has_models = models.count > 0;
        dialect_models_release(&models);
        end_ready(call, has_models);
    }
}

static void on_ready_health(void *arg, const struct transfer_response *response, const struct error *err) {
    struct service_call *call = arg;
    call->transfer = NULL;
    if (err != NULL || response->status != 200) {
        end_ready(call, false);
        return;
    }
    struct dialect_request list;
    dialect_list(call->service->engine.dialect, &list);
    call->transfer = engine_call(&call->service->engine, &list, NULL, ENGINE_HEALTH_TIMEOUT_MS, on_ready_list, call);
}

static void serve_ready(struct service *service, struct http_request *request, const char *endpoint) {
    if (service->is_stopping) {
        reply_json(service, request, endpoint, 503, "{\"status\":\"not ready\"}");
        return;
    }
    struct service_call *call = begin_call(service, request, endpoint);
    call->transfer = engine_health(&service->engine, on_ready_health, call);
}

/* ---- pages ---- */

static void serve_health(struct service *service, struct http_request *request, const char *endpoint) {
    reply_json(service, request, endpoint, 200, "{\"status\":\"ok\"}");
}

static void serve_model_list(struct service *service, struct http_request *request, const char *endpoint) {
    reply_json(service, request, endpoint, 200, "{\"object\":\"list\",\"data\":[]}"); /* whole models are not fetched here */
}

static void show_revision(void *arg, const char *name, const char *revision) {
    struct service *service = arg;
    metric_set(service->adapters, (const char *[]){name, revision}, 1);
}

/* The engine's page is left out when it does not come. */
static void on_engine_metrics(void *arg, const struct transfer_response *response, const struct error *err) {
    struct service_call *call = arg;
    struct service *service = call->service;
    struct http_request *request = call->request;
    const char *endpoint = call->endpoint;
    cleanup_buffer struct buffer page = BUFFER_INIT;
    call->transfer = NULL;
    metric_set(service->running, NULL, (double)loader_running(service->loader));
    metric_clear(service->adapters);
    loader_show_revisions(service->loader, show_revision, service);
    metrics_render(service->page, &page);
    if (err == NULL && response->status == 200) {
        engine_metrics_append(&page, response->body, response->body_len);
    }
    end_call(call);
    reply(service, request, endpoint, 200, METRICS_CONTENT_TYPE, page.data, page.len);
}

static void serve_metrics(struct service *service, struct http_request *request, const char *endpoint) {
    struct service_call *call = begin_call(service, request, endpoint);
    struct dialect_request page = {.method = "GET", .path = "/metrics"};
    call->transfer = engine_call(&service->engine, &page, NULL, ENGINE_METRICS_TIMEOUT_MS, on_engine_metrics, call);
}

static void on_models(void *arg, const struct transfer_response *response, const struct error *err) {
    struct service_call *call = arg;
    call->transfer = NULL;
    if (err != NULL) {
        cleanup_buffer struct buffer body = BUFFER_INIT;
        int status = err->code == ERROR_TIMEOUT ? 504 : 502;
        lora_error_object(&body, status, "ServerError", err->message);
        end_with_json(call, status, body.data);
        return;
    }
    struct service *service = call->service;
    struct http_request *request = call->request;
    const char *endpoint = call->endpoint;
    const char *content_type = response->content_type[0] != '\0' ? response->content_type : NULL;
    end_call(call);
    reply(service, request, endpoint, response->status, content_type, response->body, response->body_len);
}

static void serve_models(struct service *service, struct http_request *request, const char *endpoint) {
    struct service_call *call = begin_call(service, request, endpoint);
    const char *authorization = http_fields_get(&http_request_head(request)->fields, "Authorization");
    struct dialect_request list;
    dialect_list(service->engine.dialect, &list);
    call->transfer = engine_call(&service->engine, &list, authorization, ENGINE_LIST_TIMEOUT_MS, on_models, call);
}

/* ---- load and unload ---- */

static void end_with_answer(struct service_call *call, struct lora_answer *answer) {
    struct service *service = call->service;
    struct http_request *request = call->request;
    const char *endpoint = call->endpoint;
    end_call(call);
    reply(service, request, endpoint, answer->status, answer->content_type, buffer_text(&answer->body), answer->body.len);
    lora_answer_release(answer);
}

/* A field of the request as the log shows it. */
static const char *told(const struct service_call *call, const char *field) {
    const char *value = http_fields_get(&http_request_head(call->request)->fields, field);
    return value != NULL ? value : "-";
}

static const char *revision_of(const struct service_call *call) {
    const char *revision = http_fields_get(&http_request_head(call->request)->fields, REVISION_FIELD);
    bool is_one = revision != NULL && strlen(revision) == LOADER_REVISION_BYTES &&
                  strspn(revision, "0123456789abcdef") == LOADER_REVISION_BYTES;
    return is_one ? revision : NULL;
}

static void on_lora_done(void *arg, const struct loader_result *result) {
    struct service_call *call = arg;
    int64_t took_ms = loop_now_ms(call->service->loop) - call->begun_ms;
    const char *verb = call->verb == LORA_LOAD ? "load" : "unload";
    call->waiter = NULL;
    if (result->status == 200) {
        log_info("%s adapter \"%s\": done took_ms=%lld revision=%.64s request_id=%.128s", verb, call->lora.name, (long long)took_ms,
                 told(call, REVISION_FIELD), told(call, REQUEST_ID_FIELD));
    } else {
        log_warn("%s adapter \"%s\": %s: %s status=%d took_ms=%lld revision=%.64s request_id=%.128s", verb, call->lora.name,
                 result->reason, result->message, result->status, (long long)took_ms, told(call, REVISION_FIELD),
                 told(call, REQUEST_ID_FIELD));
    }
    if (call->verb == LORA_LOAD) {
        metric_observe(call->service->durations, (const char *[]){result->status == 200 ? "loaded" : result->reason},
                       (double)took_ms / 1000);
    }
    struct lora_answer answer;
    lora_answer_result(call->verb, &call->lora, call->path, result, &answer);
    end_with_answer(call, &answer);
}

static char *scheme_of(const char *url) {
    const char *end = strstr(url, "://");
    return xstrndup(url, end != NULL ? (size_t)(end - url) : 0);
}

/* What the engine is to open. The direct form also takes what an engine can fetch itself ("org/repo"). */
static int find_path(const struct lora_request *lora, const char **ret_path, struct error *err) {
    *ret_path = artifact_local_path(lora->source);
    if (*ret_path != NULL) {
        return 0;
    }
    bool has_scheme = strstr(lora->source, "://") != NULL;
    if (lora->is_direct && lora->source[0] != '\0' && (!has_scheme || artifact_engine_path(lora->source, ret_path, NULL) == 0)) {
        *ret_path = has_scheme ? *ret_path : lora->source;
        return 0;
    }
    cleanup_free char *scheme = scheme_of(lora->source);
    return error_set(err, ERROR_INVALID, "Unsupported URL scheme: %s. Supported schemes: file:///path, or an absolute path",
                     scheme);
}

static void refuse(struct service_call *call, const struct error *err, const char *reason, const char *type) {
    struct lora_answer answer;
    log_warn("%s refused: %s request_id=%.128s", call->endpoint, err->message, told(call, REQUEST_ID_FIELD));
    lora_answer_refusal(call->verb, &call->lora, err, reason, type, &answer);
    end_with_answer(call, &answer);
}

static void start_lora(struct service_call *call) {
    struct error err = {0};
    if (!is_lora_name(call->lora.name)) {
        error_set(&err, ERROR_INVALID, "Invalid lora_name: must match %s", LORA_NAME_RULE);
        refuse(call, &err, "InvalidName", "ValidationError");
        return;
    }
    if (call->verb == LORA_LOAD && find_path(&call->lora, &call->path, &err) < 0) {
        refuse(call, &err, "UnsupportedScheme", "ValidationError");
        return;
    }
    struct loader_job job = {
        .is_unload = call->verb == LORA_UNLOAD,
        .name = call->lora.name,
        .path = call->path,
        .authorization = http_fields_get(&http_request_head(call->request)->fields, "Authorization"),
        .revision = call->verb == LORA_LOAD ? revision_of(call) : NULL,
    };
    call->waiter = loader_submit(call->service->loader, &job, on_lora_done, call, &err);
    if (call->waiter == NULL) {
        refuse(call, &err, "Busy", "ServerError");
    }
}

static void serve_lora(struct service *service, struct http_request *request, const char *endpoint, enum lora_verb verb) {
    size_t len = 0;
    const char *body = http_request_body(request, &len);
    struct lora_request lora;
    cleanup_buffer struct buffer detail = BUFFER_INIT;
    if (lora_request_parse(verb, body, len, &lora, &detail) < 0) {
        reply(service, request, endpoint, 422, "application/json", detail.data, detail.len);
        return;
    }
    struct service_call *call = begin_call(service, request, endpoint);
    call->verb = verb;
    call->lora = lora;
    start_lora(call);
}

static void serve_load(struct service *service, struct http_request *request, const char *endpoint) {
    serve_lora(service, request, endpoint, LORA_LOAD);
}

static void serve_unload(struct service *service, struct http_request *request, const char *endpoint) {
    serve_lora(service, request, endpoint, LORA_UNLOAD);
}

/* ---- the service ---- */

static void on_request(void *arg, struct http_request *request) {
    static const struct {
        const char *method;
        const char *path;
        void (*serve)(struct service *service, struct http_request *request, const char *endpoint);
    } routes[] = {
        {"POST", "/v1/lora_adapter/load", serve_load},
        {"POST", "/v1/lora_adapter/unload", serve_unload},
        {"GET", "/v1/models", serve_models},
        {"GET", "/v1/model/list", serve_model_list},
        {"GET", "/healthz", serve_health},
        {"GET", "/ready", serve_ready},
        {"GET", "/metrics", serve_metrics},
        {"GET", "/metrics/", serve_metrics},
    };
    struct service *service = arg;
    const struct http_head *head = http_request_head(request);
    const char *allowed = NULL;
    for (size_t i = 0; i < ARRAY_LEN(routes); i++) {
        if (strcmp(head->path, routes[i].path) != 0) {
            continue;
        }
        if (strcmp(head->method, routes[i].method) == 0) {
            routes[i].serve(service, request, routes[i].path);
            return;
        }
        allowed = routes[i].method;
    }
    if (allowed != NULL) {
        http_reply_field(request, "Allow", allowed);
        reply_json(service, request, "other", 405, "{\"detail\":\"Method Not Allowed\"}");
    } else {
        reply_json(service, request, "other", 404, "{\"detail\":\"Not Found\"}");
    }
}

static const char *on_error(void *arg, const struct error *err, struct buffer *body) {
    (void)arg;
    buffer_append_text(body, "{\"error\":");
    json_append_string(body, err->message, strlen(err->message));
    buffer_append_char(body, '}');
    return "application/json";
}

static void register_metrics(struct service *service) {
    static const double buckets[] = {0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120};
    service->page = metrics_new();
    service->requests = metrics_register(service->page, &(struct metric_spec){.name = "davit_runtime_requests_total",
                                                                              .help = "Requests to the sidecar.",
                                                                              .type = METRIC_COUNTER,
                                                                              .label_names = {"endpoint", "code"}});
    service->durations =
        metrics_register(service->page, &(struct metric_spec){.name = "davit_runtime_load_seconds",
                                                              .help = "Loads as their callers saw them, by how they ended.",
                                                              .type = METRIC_HISTOGRAM,
                                                              .label_names = {"outcome"},
                                                              .buckets = buckets,
                                                              .bucket_count = ARRAY_LEN(buckets)});
    service->adapters =
        metrics_register(service->page, &(struct metric_spec){.name = "davit_runtime_adapter_info",
                                                              .help = "1 for an adapter that was loaded here with a revision.",
                                                              .type = METRIC_GAUGE,
                                                              .label_names = {"lora_name", "revision"}});
    service->running = metrics_register(service->page, &(struct metric_spec){.name = "davit_runtime_loads_running",
                                                                             .help = "Loads and unloads under way or waiting.",
                                                                             .type = METRIC_GAUGE});
}

void service_init(struct service *service, struct loop *loop, enum dialect dialect, const char *endpoint) {
    *service = (struct service){.loop = loop};
    LIST_INIT(&service->calls);
    register_metrics(service);
    service->transfers = transfers_new(loop);
    service->checks = check_thread_new(loop);
    service->engine = (struct engine_client){.transfers = service->transfers, .endpoint = endpoint, .dialect = dialect};
    service->loader = loader_new(&service->engine, service->checks);
    service->server = http_server_new(&(struct http_server_options){
        .loop = loop,
        .body_bytes_max = BODY_BYTES_MAX,
        .connections_max = CONNECTIONS_MAX,
        .on_request = on_request,
        .on_error = on_error,
        .arg = service,
    });
}

int service_listen(struct service *service, const char *address, int port, int *ret_port, struct error *err) {
    return http_server_listen(service->server, address, port, ret_port, err);
}

void service_release(struct service *service) {
    http_server_free(service->server); /* calls on_gone of every open request */
    loader_free(service->loader);
    check_thread_free(service->checks);
    transfers_free(service->transfers);
    metrics_free(service->page);
    *service = (struct service){0};
}
