/* The engine's metrics under AIBrix's names. */
#include "runtime/engine_metrics.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void expect(const char *page, const char *copies) {
    struct buffer out = BUFFER_INIT;
    struct buffer expected = BUFFER_INIT;
    size_t len = strlen(page);
    engine_metrics_append(&out, page, len);
    buffer_append_text(&expected, page);
    buffer_append_text(&expected, len > 0 && page[len - 1] != '\n' ? "\n" : "");
    buffer_append_text(&expected, copies);
    assert_string_equal(buffer_text(&out), buffer_text(&expected));
    buffer_release(&out);
    buffer_release(&expected);
}

static void test_copies(void **state) {
    (void)state;
    expect("", "");
    expect("# HELP vllm:num_requests_waiting Number of vllm:num_requests_waiting.\n# TYPE vllm:num_requests_waiting gauge\n"
           "vllm:num_requests_waiting{model_name=\"m\"} 3\nvllm:num_requests_running{model_name=\"m\"} 1\n",
           "# HELP aibrix:queue_size Number of vllm:num_requests_waiting.\n# TYPE aibrix:queue_size gauge\n"
           "aibrix:queue_size{model_name=\"m\"} 3\n");
    expect("vllm:time_to_first_token_seconds_bucket{le=\"0.1\"} 1\nvllm:time_to_first_token_seconds_sum 0.5\n"
           "vllm:time_to_first_token_seconds_count 1\nvllm:time_to_first_token_seconds_max 9\n",
           "aibrix:time_to_first_token_seconds_bucket{le=\"0.1\"} 1\naibrix:time_to_first_token_seconds_sum 0.5\n"
           "aibrix:time_to_first_token_seconds_count 1\n");
    expect("vllm:prompt_tokens_total 7\nvllm:prompt_tokens_total_x 8\nvllm:prompt_tokens 9", "aibrix:prompt_tokens_total 7\n");
    expect("sglang:gen_throughput 12.5\n\n# nothing\nsglang:num_queue_reqs 2",
           "aibrix:generation_throughput 12.5\naibrix:queue_size 2\n");
    expect("vllm:kv_cache_usage_perc", "aibrix:kv_cache_usage_perc\n");
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_copies)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
