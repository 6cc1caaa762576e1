/* The metrics page: its text, label escaping, bounds, and updates from several threads. */
#include "io/metrics.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <string.h>

static void check_page(struct metrics *metrics, const char *expected) {
    cleanup_buffer struct buffer page = BUFFER_INIT;
    metrics_render(metrics, &page);
    assert_string_equal(buffer_text(&page), expected);
}

static void test_counters_and_gauges(void **state) {
    (void)state;
    struct metrics *metrics = metrics_new();
    struct metric *requests = metrics_register(
        metrics, &(struct metric_spec){
                     .name = "requests_total", .help = "Requests.", .type = METRIC_COUNTER, .label_names = {"model", "code"}});
    struct metric *load = metrics_register(metrics, &(struct metric_spec){.name = "load", .help = "Load.", .type = METRIC_GAUGE});
    metric_add(requests, (const char *const[]){"sql", "200"}, 1);
    metric_add(requests, (const char *const[]){"sql", "200"}, 1999999);
    metric_add(requests, (const char *const[]){"a\"b\\c\nd", "200"}, 1);
    metric_set(load, NULL, 0.1);
    check_page(metrics, "# HELP requests_total Requests.\n"
                        "# TYPE requests_total counter\n"
                        "requests_total{model=\"sql\",code=\"200\"} 2000000\n"
                        "requests_total{model=\"a\\\"b\\\\c\\nd\",code=\"200\"} 1\n"
                        "# HELP load Load.\n"
                        "# TYPE load gauge\n"
                        "load 0.1\n");
    metric_remove(requests, (const char *const[]){"sql", "200"});
    metric_remove(requests, (const char *const[]){"never", "there"});
    metric_clear(load);
    check_page(metrics, "# HELP requests_total Requests.\n"
                        "# TYPE requests_total counter\n"
                        "requests_total{model=\"a\\\"b\\\\c\\nd\",code=\"200\"} 1\n"
                        "# HELP load Load.\n"
                        "# TYPE load gauge\n");
    metrics_free(metrics);
}

static void test_histograms(void **state) {
    (void)state;
    static const double buckets[] = {0.005, 1, 2.5};
    struct metrics *metrics = metrics_new();
    struct metric *seconds = metrics_register(
        metrics,
        &(struct metric_spec){
            .name = "s", .help = "S.", .type = METRIC_HISTOGRAM, .label_names = {"m"}, .buckets = buckets, .bucket_count = 3});
    static const double values[] = {0.005, 0.5, 1.5, 100};
    for (size_t i = 0; i < ARRAY_LEN(values); i++) {
        metric_observe(seconds, (const char *const[]){"x"}, values[i]);
    }
    check_page(metrics, "# HELP s S.\n# TYPE s histogram\n"
                        "s_bucket{m=\"x\",le=\"0.005\"} 1\ns_bucket{m=\"x\",le=\"1\"} 2\ns_bucket{m=\"x\",le=\"2.5\"} 3\n"
                        "s_bucket{m=\"x\",le=\"+Inf\"} 4\ns_sum{m=\"x\"} 102.005\ns_count{m=\"x\"} 4\n");
    metrics_free(metrics);
}

static void test_numbers_read_back_exactly(void **state) {
    (void)state;
    static const struct {
        double value;
        const char *text;
    } rows[] = {{0, "m 0\n"},
                {-3, "m -3\n"},
                {1e15, "m 1e+15\n"},
                {123456789012.0, "m 123456789012\n"},
                {1.0 / 3, "m 0.3333333333333333\n"},
                {1e-7, "m 1e-07\n"},
                {1e300, "m 1e+300\n"},
                {1 / 0.0, "m +Inf\n"},
                {-1 / 0.0, "m -Inf\n"},
                {0.0 / 0.0, "m NaN\n"}};
    struct metrics *metrics = metrics_new();
    struct metric *metric = metrics_register(metrics, &(struct metric_spec){.name = "m", .help = "M.", .type = METRIC_GAUGE});
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        cleanup_buffer struct buffer page = BUFFER_INIT;
        metric_set(metric, NULL, rows[i].value);
        metrics_render(metrics, &page);
        const char *line = strstr(buffer_text(&page), "\nm ");
        assert_non_null(line);
        assert_string_equal(line + 1, rows[i].text);
    }
    metrics_free(metrics);
}

static void test_series_are_bounded(void **state) {
    (void)state;
    struct metrics *metrics = metrics_new();
    struct metric *metric = metrics_register(
        metrics, &(struct metric_spec){.name = "m", .help = "M.", .type = METRIC_COUNTER, .label_names = {"user"}});
    for (int i = 0; i < 12000; i++) {
        cleanup_free char *user = xasprintf("u%d", i);
        metric_add(metric, (const char *const[]){user}, 1);
    }
    cleanup_buffer struct buffer page = BUFFER_INIT;
    metrics_render(metrics, &page);
    assert_non_null(strstr(buffer_text(&page), "m{user=\"other\"} 2000\n"));
    metrics_free(metrics);
}

static void *add_many(void *arg) {
    for (int i = 0; i < 20000; i++) {
        cleanup_free char *label = xasprintf("%d", i % 7);
        metric_add(arg, (const char *const[]){label}, 1);
    }
    return NULL;
}

static void test_threads(void **state) {
    (void)state;
    struct metrics *metrics = metrics_new();
    struct metric *metric =
        metrics_register(metrics, &(struct metric_spec){.name = "m", .help = "M.", .type = METRIC_COUNTER, .label_names = {"l"}});
    pthread_t threads[4];
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, add_many, metric), 0);
    }
    for (int i = 0; i < 20; i++) {
        cleanup_buffer struct buffer page = BUFFER_INIT;
        metrics_render(metrics, &page);
    }
    for (size_t i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
    }
    cleanup_buffer struct buffer page = BUFFER_INIT;
    metrics_render(metrics, &page);
    assert_non_null(strstr(buffer_text(&page), "m{l=\"6\"} 11428\n"));
    assert_non_null(strstr(buffer_text(&page), "m{l=\"0\"} 11432\n"));
    metrics_free(metrics);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_counters_and_gauges),
        cmocka_unit_test(test_histograms),
        cmocka_unit_test(test_numbers_read_back_exactly),
        cmocka_unit_test(test_series_are_bounded),
        cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
