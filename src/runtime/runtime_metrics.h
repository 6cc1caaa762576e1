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
    /* base models */
    struct metric *models;       /* davit_runtime_model_downloads_total{outcome} */
    struct metric *models_now;   /* davit_runtime_model_downloads_running */
    struct metric *models_done;  /* davit_runtime_model_download_done_bytes{local_dir,model_name} */
    struct metric *models_total; /* davit_runtime_model_download_total_bytes{local_dir,model_name} */
    /* what aibrix_runtime 0.8 shows of itself */
    struct metric *info;    /* aibrix:info_info{version,engine,engine_version} */
    struct metric *answers; /* aibrix:api_request_total{method,endpoint,status} */
    struct metric *latency; /* aibrix:api_request_latency{method,endpoint,status}, in seconds */
};

/* `engine`, `engine_version`: what the process was told of it. */
void runtime_metrics_init(struct runtime_metrics *metrics, const char *engine, const char *engine_version);
void runtime_metrics_release(struct runtime_metrics *metrics);
/* A request was answered. Pages of metrics are not counted under AIBrix's names. */
void runtime_metrics_answered(struct runtime_metrics *metrics, const char *method, const char *endpoint, int status,
                              int64_t took_ms);
/* A fetch ended; found NULL = it failed. */
void runtime_metrics_fetched(struct runtime_metrics *metrics, const struct artifact_found *found, int64_t took_ms);
/* The same of a base model. */
void runtime_metrics_model(struct runtime_metrics *metrics, bool is_well, bool was_cached);

#endif
