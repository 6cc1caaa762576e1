#include "engine/api/engine_metrics.h"

#include "base/clock.h"
#include "io/metrics.h"

enum family {
    RUNNING,
    WAITING,
    KV_USAGE,
    PREFIX_QUERIES,
    PREFIX_HITS,
    PROMPT_TOKENS,
    GENERATION_TOKENS,
    SUCCESS,
    FIRST_TOKEN,
    INTER_TOKEN,
    END_TO_END,
    LORA_INFO,
    ENGINE_INFO,
    ADAPTER_RESIDENT,
    ADAPTER_BYTES,
    ADAPTER_RANK,
    ADAPTER_LOAD_SECONDS,
    ADAPTER_LOADED_AT,
    ADAPTER_RUNNING,
    ADAPTER_WAITING,
    ADAPTER_REQUESTS,
    ADAPTER_TOKENS,
    ADAPTER_FAILURES,
    ADAPTERS_RESIDENT,
    ADAPTERS_BYTES,
    STEPS,
    STEP_ADAPTERS,
    KV_BYTES,
    FAMILY_COUNT,
};

/* vLLM's buckets (vllm/v1/metrics/loggers.py). */
static const double first_token_buckets[] = {.001, .005, .01, .02, .04, .06, .08, .1, .25, .5,  .75,
                                             1,    2.5,  5,   7.5, 10,  20,  40,  80, 160, 640, 2560};
static const double inter_token_buckets[] = {.01, .025, .05, .075, .1, .15, .2, .3, .4, .5, .75, 1, 2.5, 5, 7.5, 10, 20, 40, 80};
static const double request_buckets[] = {.3, .5, .8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680};

#define OF_ENGINE                                                                                                                  \
    { "engine", "model_name" }
#define OF_ADAPTER                                                                                                                 \
    { "adapter" }

static const struct metric_spec specs[FAMILY_COUNT] = {
    [RUNNING] = {"vllm:num_requests_running", "Number of requests in model execution batches.", METRIC_GAUGE, OF_ENGINE, NULL, 0},
    [WAITING] = {"vllm:num_requests_waiting", "Number of requests waiting to be processed.", METRIC_GAUGE, OF_ENGINE, NULL, 0},
    [KV_USAGE] = {"vllm:kv_cache_usage_perc", "KV-cache usage. 1 means 100 percent usage.", METRIC_GAUGE, OF_ENGINE, NULL, 0},
    [PREFIX_QUERIES] = {"vllm:prefix_cache_queries_total", "Prefix cache queries, in terms of number of queried tokens.",
                        METRIC_COUNTER, OF_ENGINE, NULL, 0},
    [PREFIX_HITS] = {"vllm:prefix_cache_hits_total", "Prefix cache hits, in terms of number of cached tokens.", METRIC_COUNTER,
                     OF_ENGINE, NULL, 0},
    [PROMPT_TOKENS] = {"vllm:prompt_tokens_total", "Number of prefill tokens processed.", METRIC_COUNTER, OF_ENGINE, NULL, 0},
    [GENERATION_TOKENS] = {"vllm:generation_tokens_total", "Number of generation tokens processed.", METRIC_COUNTER, OF_ENGINE,
                           NULL, 0},
    [SUCCESS] = {"vllm:request_success_total",
                 "Count of successfully processed requests.",
                 METRIC_COUNTER,
                 {"engine", "finished_reason", "model_name"},
                 NULL,
                 0},
    [FIRST_TOKEN] = {"vllm:time_to_first_token_seconds", "Histogram of time to first token in seconds.", METRIC_HISTOGRAM,
                     OF_ENGINE, first_token_buckets, ARRAY_LEN(first_token_buckets)},
    [INTER_TOKEN] = {"vllm:inter_token_latency_seconds", "Histogram of inter-token latency in seconds.", METRIC_HISTOGRAM,
                     OF_ENGINE, inter_token_buckets, ARRAY_LEN(inter_token_buckets)},
    [END_TO_END] = {"vllm:e2e_request_latency_seconds", "Histogram of e2e request latency in seconds.", METRIC_HISTOGRAM, OF_ENGINE,
                    request_buckets, ARRAY_LEN(request_buckets)},
    [LORA_INFO] = {"vllm:lora_requests_info",
                   "Running stats on lora requests.",
                   METRIC_GAUGE,
                   {"max_lora", "running_lora_adapters", "waiting_lora_adapters"},
                   NULL,
                   0},
    [ENGINE_INFO] = {"davit:engine_info",
                     "What the engine was started with; always 1.",
                     METRIC_GAUGE,
                     {"version", "kernels", "max_loras", "max_cpu_loras", "max_lora_rank"},
                     NULL,
                     0},
    [ADAPTER_RESIDENT] = {"davit:adapter_resident",
                          "1 for each adapter that is resident, with the start of its content's SHA-256.",
                          METRIC_GAUGE,
                          {"adapter", "content"},
                          NULL,
                          0},
    [ADAPTER_BYTES] = {"davit:adapter_bytes", "Memory of the adapter's weights.", METRIC_GAUGE, OF_ADAPTER, NULL, 0},
    [ADAPTER_RANK] = {"davit:adapter_rank", "The adapter's rank.", METRIC_GAUGE, OF_ADAPTER, NULL, 0},
    [ADAPTER_LOAD_SECONDS] = {"davit:adapter_load_seconds", "How long the adapter's load took.", METRIC_GAUGE, OF_ADAPTER, NULL, 0},
    [ADAPTER_LOADED_AT] = {"davit:adapter_loaded_timestamp_seconds", "When the adapter was loaded.", METRIC_GAUGE, OF_ADAPTER, NULL,
                           0},
    [ADAPTER_RUNNING] = {"davit:adapter_requests_running", "Requests for the adapter that run.", METRIC_GAUGE, OF_ADAPTER, NULL, 0},
    [ADAPTER_WAITING] = {"davit:adapter_requests_waiting", "Requests for the adapter that wait.", METRIC_GAUGE, OF_ADAPTER, NULL,
                         0},
    [ADAPTER_REQUESTS] = {"davit:adapter_requests_total", "Requests for the adapter since it was loaded.", METRIC_COUNTER,
                          OF_ADAPTER, NULL, 0},
    [ADAPTER_TOKENS] = {"davit:adapter_generation_tokens_total", "Tokens generated for the adapter since it was loaded.",
                        METRIC_COUNTER, OF_ADAPTER, NULL, 0},
    [ADAPTER_FAILURES] = {"davit:adapter_load_failures_total", "Adapter loads that failed.", METRIC_COUNTER, {NULL}, NULL, 0},
    [ADAPTERS_RESIDENT] = {"davit:adapters_resident", "How many adapters are resident.", METRIC_GAUGE, {NULL}, NULL, 0},
    [ADAPTERS_BYTES] = {"davit:adapters_bytes", "Memory of all resident adapters.", METRIC_GAUGE, {NULL}, NULL, 0},
    [STEPS] = {"davit:steps_total", "Steps of the batch.", METRIC_COUNTER, {NULL}, NULL, 0},
    [STEP_ADAPTERS] =
        {"davit:step_adapters_total", "Steps by how many distinct adapters they held.", METRIC_COUNTER, {"adapters"}, NULL, 0},
    [KV_BYTES] = {"davit:kv_cache_bytes", "Size of the KV cache.", METRIC_GAUGE, {NULL}, NULL, 0},
};

struct engine_metrics {
    struct metrics *metrics;
    struct metric *families[FAMILY_COUNT];
    struct engine_metrics_options options;
    const char *labels[3]; /* engine, model_name */
};

struct engine_metrics *engine_metrics_new(const struct engine_metrics_options *options) {
    struct engine_metrics *metrics = xcalloc(1, sizeof(*metrics));
    metrics->metrics = metrics_new();
    metrics->options = *options;
    metrics->labels[0] = "0";
    metrics->labels[1] = options->model_name;
    for (int i = 0; i < FAMILY_COUNT; i++) {
        metrics->families[i] = metrics_register(metrics->metrics, &specs[i]);
    }
    static const char *const reasons[] = {"stop", "length", "abort", "error"};
    for (size_t i = 0; i < ARRAY_LEN(reasons); i++) {
        metric_add(metrics->families[SUCCESS], (const char *const[]){"0", reasons[i], options->model_name, NULL}, 0);
    }
    return metrics;
}

void engine_metrics_free(struct engine_metrics *metrics) {
    metrics_free(metrics->metrics);
    free(metrics);
}

void engine_metrics_first_token(struct engine_metrics *metrics, double seconds) {
    metric_observe(metrics->families[FIRST_TOKEN], metrics->labels, seconds);
}

void engine_metrics_next_token(struct engine_metrics *metrics, double seconds) {
    metric_observe(metrics->families[INTER_TOKEN], metrics->labels, seconds);
}

void engine_metrics_finished(struct engine_metrics *metrics, const char *reason, double seconds) {
    metric_add(metrics->families[SUCCESS], (const char *const[]){"0", reason, metrics->options.model_name, NULL}, 1);
    metric_observe(metrics->families[END_TO_END], metrics->labels, seconds);
}

static void set(struct engine_metrics *metrics, enum family family, double value) {
    metric_set(metrics->families[family], specs[family].label_names[0] != NULL ? metrics->labels : NULL, value);
}

static void set_stats(struct engine_metrics *metrics, struct engine *engine) {
    struct engine_stats stats = {0};
    engine_stats(engine, &stats);
    set(metrics, RUNNING, stats.requests_running);
    set(metrics, WAITING, stats.requests_waiting);
    set(metrics, KV_USAGE, stats.kv_cache_usage);
    set(metrics, PREFIX_QUERIES, (double)stats.prefix_cache_queries_total);
    set(metrics, PREFIX_HITS, (double)stats.prefix_cache_hits_total);
    set(metrics, PROMPT_TOKENS, (double)stats.prompt_tokens_total);
    set(metrics, GENERATION_TOKENS, (double)stats.generation_tokens_total);
    set(metrics, ADAPTER_FAILURES, (double)stats.adapter_load_failures_total);
    set(metrics, ADAPTERS_BYTES, (double)stats.adapter_bytes);
    set(metrics, STEPS, (double)stats.steps_total);
    set(metrics, KV_BYTES, (double)stats.kv_cache_bytes);
    for (size_t i = 0; i < ARRAY_LEN(stats.step_adapters_total); i++) {
        char name[8];
        (void)snprintf(name, sizeof(name), "%zu%s", i, i + 1 == ARRAY_LEN(stats.step_adapters_total) ? "+" : "");
        metric_set(metrics->families[STEP_ADAPTERS], (const char *const[]){name, NULL}, (double)stats.step_adapters_total[i]);
    }
}

static void append_name(struct buffer *list, const char *name) {
    if (list->len > 0) {
        buffer_append_char(list, ',');
    }
    buffer_append_text(list, name);
}

static void set_adapter(struct engine_metrics *metrics, const struct engine_adapter_info *info) {
    const char *const labels[] = {info->name, NULL};
    char hex[HASH_HEX_BYTES];
    hash_hex(&info->content, hex);
    hex[12] = '\0';
    metric_set(metrics->families[ADAPTER_RESIDENT], (const char *const[]){info->name, hex, NULL}, 1);
    metric_set(metrics->families[ADAPTER_BYTES], labels, (double)info->bytes);
    metric_set(metrics->families[ADAPTER_RANK], labels, info->rank);
    metric_set(metrics->families[ADAPTER_LOAD_SECONDS], labels, info->load_seconds);
    metric_set(metrics->families[ADAPTER_LOADED_AT], labels, (double)info->loaded_wall_ms / 1000);
    metric_set(metrics->families[ADAPTER_RUNNING], labels, info->running);
    metric_set(metrics->families[ADAPTER_WAITING], labels, info->waiting);
    metric_set(metrics->families[ADAPTER_REQUESTS], labels, (double)info->requests_total);
    metric_set(metrics->families[ADAPTER_TOKENS], labels, (double)info->generated_tokens_total);
}

/* Adapters come and go, so their families are built anew; lora_requests_info is one series (vLLM keeps every one that ever was). */
static void set_adapters(struct engine_metrics *metrics, struct engine *engine) {
    for (int i = ADAPTER_RESIDENT; i <= ADAPTER_TOKENS; i++) {
        metric_clear(metrics->families[i]);
    }
    size_t count = 0;
    struct engine_adapter_info *list = engine_adapters(engine, &count);
    cleanup_buffer struct buffer running = BUFFER_INIT;
    cleanup_buffer struct buffer waiting = BUFFER_INIT;
    for (size_t i = 0; i < count; i++) {
        set_adapter(metrics, &list[i]);
        if (list[i].running > 0) {
            append_name(&running, list[i].name);
        }
        if (list[i].waiting > 0) {
            append_name(&waiting, list[i].name);
        }
    }
    set(metrics, ADAPTERS_RESIDENT, (double)count);
    engine_adapters_free(list, count);
    char max_lora[16];
    (void)snprintf(max_lora, sizeof(max_lora), "%d", metrics->options.max_loras);
    metric_clear(metrics->families[LORA_INFO]);
    metric_set(metrics->families[LORA_INFO], (const char *const[]){max_lora, buffer_text(&running), buffer_text(&waiting), NULL},
               (double)clock_wall_ms() / 1000);
}

static void set_info(struct engine_metrics *metrics, struct engine *engine) {
    char max_loras[16];
    char max_cpu_loras[16];
    char max_lora_rank[16];
    (void)snprintf(max_loras, sizeof(max_loras), "%d", metrics->options.max_loras);
    (void)snprintf(max_cpu_loras, sizeof(max_cpu_loras), "%d", metrics->options.max_cpu_loras);
    (void)snprintf(max_lora_rank, sizeof(max_lora_rank), "%d", metrics->options.max_lora_rank);
    metric_set(metrics->families[ENGINE_INFO],
               (const char *const[]){metrics->options.version, engine_model_info(engine)->kernels, max_loras, max_cpu_loras,
                                     max_lora_rank, NULL},
               1);
}

void engine_metrics_render(struct engine_metrics *metrics, struct engine *engine, struct buffer *out) {
    set_stats(metrics, engine);
    set_adapters(metrics, engine);
    set_info(metrics, engine);
    metrics_render(metrics->metrics, out);
}
