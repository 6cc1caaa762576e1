/* The engine's /metrics: vLLM's names and labels (model_name is the served base model, engine is "0"), and under davit:* what vLLM
 * lacks: which adapters are resident, their loads, requests and tokens, and how many distinct adapters the steps held. */
#ifndef DAVIT_ENGINE_API_ENGINE_METRICS_H
#define DAVIT_ENGINE_API_ENGINE_METRICS_H

#include "base/buffer.h"
#include "engine/engine.h"

struct engine_metrics;

struct engine_metrics_options {
    const char *model_name; /* borrowed */
    int max_loras;
    int max_cpu_loras;
    int max_lora_rank;
    const char *version;
};

struct engine_metrics *engine_metrics_new(const struct engine_metrics_options *options);
void engine_metrics_free(struct engine_metrics *metrics);
void engine_metrics_first_token(struct engine_metrics *metrics, double seconds);
void engine_metrics_next_token(struct engine_metrics *metrics, double seconds);
/* reason: "stop", "length", "abort" or "error" */
void engine_metrics_finished(struct engine_metrics *metrics, const char *reason, double seconds);
/* Reads the engine's numbers and appends the page. */
void engine_metrics_render(struct engine_metrics *metrics, struct engine *engine, struct buffer *out);

#endif
