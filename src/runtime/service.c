#include "runtime/service.h"

#include "base/memory.h"
#include "runtime/access.h"
#include "runtime/service_call.h"

#include <string.h>

#define BODY_BYTES_MAX (1024 * 1024) /* credentials may hold a key file */
#define CONNECTIONS_MAX 512
#define FETCHES_MAX 16 /* a server that hangs keeps one for a while */
#define LOOK_MS (60 * 1000)
#define LOOK_AGAIN_MS 5000 /* while nothing is known of the engine */
#define REST_MS 500

/* ---- routes ---- */

static void refuse_stranger(struct service *service, struct http_request *request) {
    http_reply_field(request, "WWW-Authenticate", "Bearer");
    service_reply_json(service, request, "other", 401, "{\"error\":\"Unauthorized\",\"reason\":\"Unauthorized\"}");
}

static void on_request(void *arg, struct http_request *request) {
    static const struct {
        const char *method;
        const char *path;
        service_page *serve;
        bool is_open; /* to those without the token */
    } routes[] = {
        {"POST", "/v1/lora_adapter/load", service_load, false},
        {"POST", "/v1/lora_adapter/unload", service_unload, false},
        {"GET", "/v1/models", service_models, false},
        {"POST", "/v1/model/download", service_model_download, false},
        {"GET", "/v1/model/list", service_model_list, false},
        {"GET", "/healthz", service_health, true},
        {"GET", "/ready", service_ready, true},
        {"GET", "/metrics", service_metrics, true},
        {"GET", "/metrics/", service_metrics, true},
    };
    struct service *service = arg;
    const struct http_head *head = http_request_head(request);
    const char *allowed = NULL;
    timer_set(&service->rest, REST_MS);
    const char *authorization = NULL;
    bool is_known = access_is_allowed(service->options.token, &head->fields, &authorization);
    for (size_t i = 0; i < ARRAY_LEN(routes); i++) {
        if (strcmp(head->path, routes[i].path) != 0) {
            continue;
        }
        if (!is_known && !routes[i].is_open) {
            break;
        }
        if (strcmp(head->method, routes[i].method) == 0) {
            routes[i].serve(service, request, routes[i].path, authorization);
            return;
        }
        allowed = routes[i].method;
    }
    if (allowed != NULL) {
        http_reply_field(request, "Allow", allowed);
        service_reply_json(service, request, "other", 405, "{\"detail\":\"Method Not Allowed\"}");
    } else if (!is_known) {
        refuse_stranger(service, request);
    } else {
        service_reply_json(service, request, "other", 404, "{\"detail\":\"Not Found\"}");
    }
}

static const char *on_error(void *arg, const struct error *err, struct buffer *body) {
    (void)arg;
    buffer_append_text(body, "{\"error\":");
    json_append_string(body, err->message, strlen(err->message));
    buffer_append_char(body, '}');
    return "application/json";
}

/* ---- what the engine has ---- */

static void on_looked(void *arg, const struct transfer_response *response, const struct error *err) {
    struct service *service = arg;
    struct dialect_models models;
    service->listing = NULL;
    timer_set(&service->looking, err == NULL ? LOOK_MS : LOOK_AGAIN_MS);
    timer_set(&service->rest, REST_MS);
    if (err == NULL && response->status == 200 && dialect_parse_models(response->body, response->body_len, &models, NULL) == 0) {
        residents_see(&service->residents, &models, service->changes_before);
        dialect_models_release(&models);
    }
}

static void on_look(void *arg) {
    struct service *service = arg;
    struct dialect_request list;
    cache_gauge_count(&service->gauge); /* other processes may use the same cache */
    dialect_list(service->engine.dialect, &list);
    service->changes_before = service->residents.changes;
    service->listing = engine_call(&service->engine, &list, NULL, ENGINE_LIST_TIMEOUT_MS, on_looked, service);
}

/* Most of a sidecar's life. */
static void on_rest(void *arg) {
    struct service *service = arg;
    if (LIST_EMPTY(&service->calls)) {
        memory_give_back();
    } else {
        timer_set(&service->rest, REST_MS);
    }
}

static void on_fetched(void *arg, const struct artifact_found *found, int64_t took_ms) {
    struct service *service = arg;
    runtime_metrics_fetched(&service->metrics, found, took_ms);
    cache_gauge_count(&service->gauge);
}

static void on_model_ended(void *arg, bool is_well, bool was_cached) {
    struct service *service = arg;
    runtime_metrics_model(&service->metrics, is_well, was_cached);
}

/* ---- the service ---- */

static const char *text_or(const char *text, const char *fallback) {
    return text != NULL ? text : fallback;
}

int service_init(struct service *service, struct loop *loop, const struct service_options *options, struct error *err) {
    *service = (struct service){.loop = loop, .options = *options};
    service->options.secrets_root = text_or(options->secrets_root, LOAD_SECRETS_ROOT);
    service->options.models = (struct model_defaults){.folder = text_or(options->models.folder, MODELS_FOLDER),
                                                      .suffixes = text_or(options->models.suffixes, ""),
                                                      .revision = text_or(options->models.revision, "")};
    service->cache = artifact_cache_open(&service->options.artifacts, err);
    if (service->cache == NULL) {
        return -1;
    }
    LIST_INIT(&service->calls);
    runtime_metrics_init(&service->metrics, text_or(options->engine, ""), text_or(options->engine_version, ""));
    residents_init(&service->residents, service->cache);
    cache_gauge_init(&service->gauge, loop, service->cache, service->metrics.cached);
    service->transfers = transfers_new(loop);
    service->pool = artifact_pool_new(loop, service->cache, FETCHES_MAX);
    service->engine = (struct engine_client){
        .transfers = service->transfers, .endpoint = service->options.endpoint, .dialect = service->options.dialect};
    service->loader = loader_new(&(struct loader_options){.loop = loop,
                                                          .engine = &service->engine,
                                                          .pool = service->pool,
                                                          .residents = &service->residents,
                                                          .on_fetched = on_fetched,
                                                          .arg = service});
    service->models = models_new(&(struct models_options){.loop = loop,
                                                          .artifacts = &service->options.artifacts,
                                                          .on_ended = on_model_ended,
                                                          .on_change = service_on_model_change,
                                                          .arg = service});
    service->server = http_server_new(&(struct http_server_options){
        .loop = loop,
        .body_bytes_max = BODY_BYTES_MAX,
        .connections_max = CONNECTIONS_MAX,
        .on_request = on_request,
        .on_error = on_error,
        .arg = service,
    });
    timer_init(&service->looking, loop, on_look, service);
    timer_init(&service->progress, loop, service_on_progress, service);
    timer_init(&service->rest, loop, on_rest, service);
    timer_set(&service->rest, 0);
    timer_set(&service->looking, 0);
    return 0;
}

int service_listen(struct service *service, const char *address, int port, int *ret_port, struct error *err) {
    return http_server_listen(service->server, address, port, ret_port, err);
}

void service_release(struct service *service) {
    if (service->cache == NULL) {
        return;
    }
    http_server_free(service->server); /* calls on_gone of every open request */
    timer_release(&service->looking);
    timer_release(&service->progress);
    timer_release(&service->rest);
    loader_free(service->loader);
    models_free(service->models);
    artifact_pool_free(service->pool);
    transfers_free(service->transfers); /* what looks at the engine's list, too */
    cache_gauge_release(&service->gauge);
    residents_release(&service->residents);
    artifact_cache_close(service->cache);
    runtime_metrics_release(&service->metrics);
    *service = (struct service){0};
}
