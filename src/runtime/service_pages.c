/* Health, readiness, metrics, the engine's list. */
#include "runtime/engine_metrics.h"
#include "runtime/service_call.h"

#include <string.h>

/* ---- readiness: the engine answers, and lists models ---- */

static void end_ready(struct service_call *call, bool is_ready) {
    service_call_end_with_json(call, is_ready ? 200 : 503, is_ready ? "{\"status\":\"ready\"}" : "{\"status\":\"not ready\"}");
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

void service_ready(struct service *service, struct http_request *request, const char *endpoint, const char *authorization) {
    if (service->is_stopping) {
        service_reply_json(service, request, endpoint, 503, "{\"status\":\"not ready\"}");
        return;
    }
    struct service_call *call = service_call_begin(service, request, endpoint, authorization);
    call->transfer = engine_health(&service->engine, on_ready_health, call);
}

void service_health(struct service *service, struct http_request *request, const char *endpoint, const char *authorization) {
    (void)authorization;
    service_reply_json(service, request, endpoint, 200, "{\"status\":\"ok\"}");
}

/* ---- metrics ---- */

static void show_revision(void *arg, const char *name, const char *revision) {
    metric_set(arg, (const char *[]){name, revision}, 1);
}

static void count_fetch(void *arg, const char *name, const char *words) {
    (void)name, (void)words;
    (*(double *)arg)++;
}

static void show_model(void *arg, const struct model_status *status) {
    const struct runtime_metrics *metrics = arg;
    const char *const labels[] = {status->folder, status->name};
    metric_add(metrics->models_now, NULL, 1);
    metric_set(metrics->models_done, labels, (double)status->bytes_done);
    metric_set(metrics->models_total, labels, (double)status->bytes_total);
}

static void render_models(struct service *service) {
    metric_set(service->metrics.models_now, NULL, 0);
    metric_clear(service->metrics.models_done);
    metric_clear(service->metrics.models_total);
    models_each_running(service->models, show_model, &service->metrics);
}

static void render_own(struct service *service, struct buffer *page) {
    double fetching = 0;
    loader_show_fetches(service->loader, count_fetch, &fetching);
    metric_set(service->metrics.fetching, NULL, fetching);
    metric_set(service->metrics.running, NULL, (double)loader_running(service->loader));
    render_models(service);
    metric_clear(service->metrics.adapters);
    loader_show_revisions(service->loader, show_revision, service->metrics.adapters);
    metrics_render(service->metrics.page, page);
}

/* The engine's page is left out when it does not come. */
static void on_engine_metrics(void *arg, const struct transfer_response *response, const struct error *err) {
    struct service_call *call = arg;
    cleanup_buffer struct buffer page = BUFFER_INIT;
    call->transfer = NULL;
    render_own(call->service, &page);
    if (err == NULL && response->status == 200 && call->service->options.has_raw_metrics) {
        buffer_append(&page, response->body, response->body_len);
    } else if (err == NULL && response->status == 200) {
        engine_metrics_append(&page, response->body, response->body_len);
    }
    service_call_end_with(call, 200, METRICS_CONTENT_TYPE, page.data, page.len);
}

void service_metrics(struct service *service, struct http_request *request, const char *endpoint, const char *authorization) {
    struct service_call *call = service_call_begin(service, request, endpoint, authorization);
    const char *path = service->options.metrics_path;
    struct dialect_request page = {.method = "GET", .path = path != NULL ? path : "/metrics"};
    call->transfer = engine_call(&service->engine, &page, NULL, ENGINE_METRICS_TIMEOUT_MS, on_engine_metrics, call);
}

/* ---- the engine's list ---- */

static void on_models(void *arg, const struct transfer_response *response, const struct error *err) {
    struct service_call *call = arg;
    struct service *service = call->service;
    struct dialect_models models;
    call->transfer = NULL;
    if (err != NULL) {
        cleanup_buffer struct buffer body = BUFFER_INIT;
        int status = err->code == ERROR_TIMEOUT ? 504 : 502;
        lora_error_object(&body, status, "ServerError", err->message);
        service_call_end_with_json(call, status, body.data);
        return;
    }
    /* An engine with a key shows its list to those who have it: what they see is seen here. */
    if (response->status == 200 && dialect_parse_models(response->body, response->body_len, &models, NULL) == 0) {
        residents_see(&service->residents, &models, call->changes_before);
        dialect_models_release(&models);
    }
    const char *content_type = response->content_type[0] != '\0' ? response->content_type : NULL;
    service_call_end_with(call, response->status, content_type, response->body, response->body_len);
}

void service_models(struct service *service, struct http_request *request, const char *endpoint, const char *authorization) {
    struct service_call *call = service_call_begin(service, request, endpoint, authorization);
    struct dialect_request list;
    dialect_list(service->engine.dialect, &list);
    call->changes_before = service->residents.changes;
    call->transfer = engine_call(&service->engine, &list, authorization, ENGINE_LIST_TIMEOUT_MS, on_models, call);
}
