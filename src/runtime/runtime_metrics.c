#include "runtime/runtime_metrics.h"

#include <string.h>

static const double load_buckets[] = {0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120};
static const double answer_buckets[] = {0.1, 0.2, 0.5, 1, 2, 5}; /* the reference's */
static const double download_buckets[] = {0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 1800};

void runtime_metrics_init(struct runtime_metrics *metrics, const char *engine, const char *engine_version) {
    metrics->page = metrics_new();
    const struct {
        struct metric **family;
        struct metric_spec spec;
    } rows[] = {
        {&metrics->requests,
         {.name = "davit_runtime_requests_total", .help = "Requests to the sidecar.", .label_names = {"endpoint", "code"}}},
        {&metrics->durations,
         {.name = "davit_runtime_load_seconds",
          .help = "Loads as their callers saw them, by how they ended.",
          .type = METRIC_HISTOGRAM,
          .label_names = {"outcome"},
          .buckets = load_buckets,
          .bucket_count = ARRAY_LEN(load_buckets)}},
        {&metrics->adapters,
         {.name = "davit_runtime_adapter_info",
          .help = "1 for an adapter that was loaded here with a revision.",
          .type = METRIC_GAUGE,
          .label_names = {"lora_name", "revision"}}},
        {&metrics->running,
         {.name = "davit_runtime_loads_running", .help = "Loads and unloads under way or waiting.", .type = METRIC_GAUGE}},
        {&metrics->fetching, {.name = "davit_runtime_downloads_running", .help = "Adapters being fetched.", .type = METRIC_GAUGE}},
        {&metrics->downloads,
         {.name = "davit_runtime_download_seconds",
          .help = "Fetching and checking an adapter's files, by how it ended: fetched, cached or failed.",
          .type = METRIC_HISTOGRAM,
          .label_names = {"outcome"},
          .buckets = download_buckets,
          .bucket_count = ARRAY_LEN(download_buckets)}},
        {&metrics->bytes, {.name = "davit_runtime_download_bytes_total", .help = "Bytes of the files that were fetched."}},
        {&metrics->hits, {.name = "davit_runtime_cache_hits_total", .help = "Loads whose files were in the cache already."}},
        {&metrics->cached, {.name = "davit_runtime_cache_bytes", .help = "Bytes of the files in the cache.", .type = METRIC_GAUGE}},
        {&metrics->models,
         {.name = "davit_runtime_model_downloads_total",
          .help = "Base models, by how their download ended: fetched, cached or failed.",
          .label_names = {"outcome"}}},
        {&metrics->models_now,
         {.name = "davit_runtime_model_downloads_running", .help = "Base models being fetched or waiting.", .type = METRIC_GAUGE}},
        {&metrics->models_done,
         {.name = "davit_runtime_model_download_done_bytes",
          .help = "Of base models being fetched, what is here.",
          .type = METRIC_GAUGE,
          .label_names = {"local_dir", "model_name"}}},
        {&metrics->models_total,
         {.name = "davit_runtime_model_download_total_bytes",
          .help = "Of base models being fetched, all of it.",
          .type = METRIC_GAUGE,
          .label_names = {"local_dir", "model_name"}}},
        {&metrics->info,
         {.name = "aibrix:info_info",
          .help = "The sidecar and its engine.",
          .type = METRIC_GAUGE,
          .label_names = {"version", "engine", "engine_version"}}},
        {&metrics->answers,
         {.name = "aibrix:api_request_total", .help = "Requests to the sidecar.", .label_names = {"method", "endpoint", "status"}}},
        {&metrics->latency,
         {.name = "aibrix:api_request_latency",
          .help = "Seconds until a request was answered.",
          .type = METRIC_HISTOGRAM,
          .label_names = {"method", "endpoint", "status"},
          .buckets = answer_buckets,
          .bucket_count = ARRAY_LEN(answer_buckets)}},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        *rows[i].family = metrics_register(metrics->page, &rows[i].spec);
    }
    metric_set(metrics->info, (const char *[]){DAVIT_VERSION, engine, engine_version}, 1);
}

void runtime_metrics_release(struct runtime_metrics *metrics) {
    metrics_free(metrics->page);
    *metrics = (struct runtime_metrics){0};
}

/* Whoever asks chooses the method. */
static const char *method_label(const char *method) {
    static const char *const names[] = {"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (strcmp(names[i], method) == 0) {
            return names[i];
        }
    }
    return "other";
}

void runtime_metrics_answered(struct runtime_metrics *metrics, const char *method, const char *endpoint, int status,
                              int64_t took_ms) {
    char code[16];
    (void)snprintf(code, sizeof(code), "%d", status);
    metric_add(metrics->requests, (const char *[]){endpoint, code}, 1);
    if (strncmp(endpoint, "/metrics", 8) != 0) {
        const char *const labels[] = {method_label(method), endpoint, code};
        metric_add(metrics->answers, labels, 1);
        metric_observe(metrics->latency, labels, (double)took_ms / 1000);
    }
}

static const char *outcome_of(bool is_well, bool was_cached) {
    return !is_well ? "failed" : was_cached ? "cached" : "fetched";
}

void runtime_metrics_model(struct runtime_metrics *metrics, bool is_well, bool was_cached) {
    metric_add(metrics->models, (const char *[]){outcome_of(is_well, was_cached)}, 1);
}

void runtime_metrics_fetched(struct runtime_metrics *metrics, const struct artifact_found *found, int64_t took_ms) {
    metric_observe(metrics->downloads, (const char *[]){outcome_of(found != NULL, found != NULL && found->was_cached)},
                   (double)took_ms / 1000);
    if (found != NULL && found->was_cached) {
        metric_add(metrics->hits, NULL, 1);
    } else if (found != NULL) {
        metric_add(metrics->bytes, NULL, (double)found->bytes);
    }
}
