/* What the gateway counts. Label sets are bounded: a name that nobody serves counts as model "unknown", since clients choose it. */
#ifndef DAVIT_GATEWAY_GATEWAY_METRICS_H
#define DAVIT_GATEWAY_GATEWAY_METRICS_H

#include "io/metrics.h"

#define METRIC_MODEL_UNKNOWN "unknown"
#define STATUS_CLIENT_GONE 499 /* as nginx counts it */

struct gateway_metrics {
    struct metrics *page;
    struct metric *requests;  /* davit_gateway_requests_total{model,code} */
    struct metric *durations; /* davit_gateway_request_duration_seconds{model} */
    struct metric *in_flight; /* davit_gateway_in_flight */
    struct metric *retries;   /* davit_gateway_retries_total{reason} */
    struct metric *cut;       /* davit_gateway_cut_responses_total: the engine died after the first byte */
    struct metric *models;    /* davit_gateway_models{kind} */
    struct metric *hidden;    /* davit_gateway_hidden_adapters{namespace,adapter}: its name is another's */
    struct metric *rebuilds;  /* davit_gateway_route_rebuild_seconds */
};

void gateway_metrics_init(struct gateway_metrics *metrics);
void gateway_metrics_release(struct gateway_metrics *metrics);
/* A request is over: one count and, for a model that is served, one duration. */
void gateway_metrics_note(const struct gateway_metrics *metrics, const char *model, int code, double seconds);

#endif
