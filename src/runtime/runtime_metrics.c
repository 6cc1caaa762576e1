#include "runtime/runtime_metrics.h"

static const double load_buckets[] = {0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120};
static const double download_buckets[] = {0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 1800};

void runtime_metrics_init(struct runtime_metrics *metrics) {
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
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        *rows[i].family = metrics_register(metrics->page, &rows[i].spec);
    }
}

void runtime_metrics_release(struct runtime_metrics *metrics) {
    metrics_free(metrics->page);
    *metrics = (struct runtime_metrics){0};
}

void runtime_metrics_fetched(struct runtime_metrics *metrics, const struct artifact_found *found, int64_t took_ms) {
    const char *outcome = found == NULL ? "failed" : found->was_cached ? "cached" : "fetched";
    metric_observe(metrics->downloads, (const char *[]){outcome}, (double)took_ms / 1000);
    if (found != NULL && found->was_cached) {
        metric_add(metrics->hits, NULL, 1);
    } else if (found != NULL) {
        metric_add(metrics->bytes, NULL, (double)found->bytes);
    }
}
