/* The sidecar's own page of metrics. */
#ifndef DAVIT_RUNTIME_RUNTIME_METRICS_H
#define DAVIT_RUNTIME_RUNTIME_METRICS_H

#include "artifact/artifact.h"
#include "io/metrics.h"

struct runtime_metrics {
    struct metrics *page;
    struct metric *requests;  /* davit_runtime_requests_total{endpoint,code} */
    struct metric *durations; /* davit_runtime_load_seconds{outcome} */
    struct metric *running;   /* davit_runtime_loads_running */
    struct metric *fetching;  /* davit_runtime_downloads_running */
    struct metric *adapters;  /* davit_runtime_adapter_info{lora_name,revision} */
    struct metric *downloads; /* davit_runtime_download_seconds{outcome} */
    struct metric *bytes;     /* davit_runtime_download_bytes_total */
    struct metric *hits;      /* davit_runtime_cache_hits_total */
    struct metric *cached;    /* davit_runtime_cache_bytes */
};

void runtime_metrics_init(struct runtime_metrics *metrics);
void runtime_metrics_release(struct runtime_metrics *metrics);
/* A fetch ended; found NULL = it failed. */
void runtime_metrics_fetched(struct runtime_metrics *metrics, const struct artifact_found *found, int64_t took_ms);

#endif
