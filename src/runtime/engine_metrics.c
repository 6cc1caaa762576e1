#include "runtime/engine_metrics.h"

#include <string.h>

/* aibrix_runtime 0.8's names for families of vLLM and SGLang. */
static const struct {
    const char *from;
    const char *to;
} names[] = {
    {"vllm:num_requests_waiting", "aibrix:queue_size"},
    {"vllm:gpu_cache_usage_perc", "aibrix:gpu_cache_usage_perc"},
    {"vllm:kv_cache_usage_perc", "aibrix:kv_cache_usage_perc"},
    {"vllm:prompt_tokens_total", "aibrix:prompt_tokens_total"},
    {"vllm:generation_tokens_total", "aibrix:generation_tokens_total"},
    {"vllm:time_to_first_token_seconds", "aibrix:time_to_first_token_seconds"},
    {"vllm:time_per_output_token_seconds", "aibrix:time_per_output_token_seconds"},
    {"vllm:e2e_request_latency_seconds", "aibrix:e2e_request_latency_seconds"},
    {"vllm:request_success_total", "aibrix:request_success_total"},
    {"sglang:num_queue_reqs", "aibrix:queue_size"},
    {"sglang:prompt_tokens_total", "aibrix:prompt_tokens_total"},
    {"sglang:generation_tokens_total", "aibrix:generation_tokens_total"},
    {"sglang:time_to_first_token_seconds", "aibrix:time_to_first_token_seconds"},
    {"sglang:time_per_output_token_seconds", "aibrix:time_per_output_token_seconds"},
    {"sglang:e2e_request_latency_seconds", "aibrix:e2e_request_latency_seconds"},
    {"sglang:gen_throughput", "aibrix:generation_throughput"},
    {"sglang:cache_hit_rate", "aibrix:cache_hit_rate"},
    {"sglang:token_usage", "aibrix:token_usage"},
};

/* What may follow a family's name in the name of a sample. */
static bool is_suffix(const char *text, size_t len) {
    static const char *const suffixes[] = {"", "_bucket", "_sum", "_count"};
    for (size_t i = 0; i < ARRAY_LEN(suffixes); i++) {
        if (len == strlen(suffixes[i]) && memcmp(text, suffixes[i], len) == 0) {
            return true;
        }
    }
    return false;
}

/* Where the name begins in a line: behind "# HELP " or "# TYPE " if it is one of those. */
static size_t name_offset(const char *line, size_t len) {
    bool is_about = len > 7 && (memcmp(line, "# HELP ", 7) == 0 || memcmp(line, "# TYPE ", 7) == 0);
    return is_about ? 7 : 0;
}

static size_t name_length(const char *text, size_t len) {
    size_t at = 0;
    while (at < len && text[at] != '{' && text[at] != ' ' && text[at] != '\t') {
        at++;
    }
    return at;
}

/* `line` is without its end. */
static void append_copy(struct buffer *out, const char *line, size_t len) {
    size_t offset = name_offset(line, len);
    const char *name = line + offset;
    size_t name_len = name_length(name, len - offset);
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        size_t from_len = strlen(names[i].from);
        if (name_len >= from_len && memcmp(name, names[i].from, from_len) == 0 && is_suffix(name + from_len, name_len - from_len)) {
            buffer_append(out, line, offset);
            buffer_append_text(out, names[i].to);
            buffer_append(out, name + from_len, len - offset - from_len);
            buffer_append_char(out, '\n');
            return;
        }
    }
}

void engine_metrics_append(struct buffer *out, const char *page, size_t len) {
    buffer_append(out, page, len);
    if (len > 0 && page[len - 1] != '\n') {
        buffer_append_char(out, '\n');
    }
    for (size_t at = 0; at < len;) {
        const char *end = memchr(page + at, '\n', len - at);
        size_t line_len = end != NULL ? (size_t)(end - page) - at : len - at;
        append_copy(out, page + at, line_len);
        at += line_len + 1;
    }
}
