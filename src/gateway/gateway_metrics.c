#include "gateway/gateway_metrics.h"

#include <stdio.h>

void gateway_metrics_init(struct gateway_metrics *metrics) {
    static const double request_buckets[] = {0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300};
    static const double rebuild_buckets[] = {0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5};
    struct metrics *page = metrics_new();
    *metrics = (struct gateway_metrics){.page = page};
    const struct {
        struct metric **target;
        struct metric_spec spec;
    } rows[] = {
        {&metrics->requests,
         {.name = "davit_gateway_requests_total",
          .help = "Requests for a model, by the status that the client got (499: it left first).",
          .type = METRIC_COUNTER,
          .label_names = {"model", "code"}}},
        {&metrics->durations,
         {.name = "davit_gateway_request_duration_seconds",
          .help = "From the request to the last byte of its answer.",
          .type = METRIC_HISTOGRAM,
          .label_names = {"model"},
          .buckets = request_buckets,
          .bucket_count = ARRAY_LEN(request_buckets)}},
        {&metrics->in_flight, {.name = "davit_gateway_in_flight", .help = "Requests under way at engines.", .type = METRIC_GAUGE}},
        {&metrics->retries,
         {.name = "davit_gateway_retries_total",
          .help = "Requests tried again on another endpoint, by the reason.",
          .type = METRIC_COUNTER,
          .label_names = {"reason"}}},
        {&metrics->cut,
         {.name = "davit_gateway_cut_responses_total",
          .help = "Answers that an engine cut after their first byte.",
          .type = METRIC_COUNTER}},
        {&metrics->models,
         {.name = "davit_gateway_models",
          .help = "Names that can be asked for now.",
          .type = METRIC_GAUGE,
          .label_names = {"kind"}}},
        {&metrics->hidden,
         {.name = "davit_gateway_hidden_adapters",
          .help = "1 for an adapter that cannot be asked for: a base model or an older adapter has its name.",
          .type = METRIC_GAUGE,
          .label_names = {"namespace", "adapter"}}},
        {&metrics->rebuilds,
         {.name = "davit_gateway_route_rebuild_seconds",
          .help = "Time to build a route snapshot.",
          .type = METRIC_HISTOGRAM,
          .buckets = rebuild_buckets,
          .bucket_count = ARRAY_LEN(rebuild_buckets)}},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        *rows[i].target = metrics_register(page, &rows[i].spec);
    }
    metric_set(metrics->in_flight, NULL, 0);
}

void gateway_metrics_release(struct gateway_metrics *metrics) {
    metrics_free(metrics->page);
    *metrics = (struct gateway_metrics){0};
}

void gateway_metrics_note(const struct gateway_metrics *metrics, const char *model, int code, double seconds) {
    char code_text[16];
    (void)snprintf(code_text, sizeof(code_text), "%d", code);
    metric_add(metrics->requests, (const char *[]){model != NULL ? model : METRIC_MODEL_UNKNOWN, code_text}, 1);
    if (model != NULL) {
        metric_observe(metrics->durations, (const char *[]){model}, seconds);
    }
}
