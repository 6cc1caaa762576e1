#include "io/metrics.h"

#include "base/map.h"

#include <math.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define LABELS_MAX 6
#define SERIES_MAX 10000 /* a family; then "other" */

struct series {
    char *labels; /* `a="x",b="y"`, "" without labels */
    double value; /* counter, gauge; sum of a histogram */
    uint64_t count;
    uint64_t *buckets; /* not cumulative */
};

struct metric {
    struct metrics *owner;
    struct metric *next;
    char *name;
    char *help;
    enum metric_type type;
    char *label_names[LABELS_MAX];
    size_t label_count;
    double *bounds;
    size_t bound_count;
    struct map series;
};

struct metrics {
    pthread_mutex_t lock;
    struct metric *first;
    struct metric **last;
};

struct metrics *metrics_new(void) {
    struct metrics *metrics = xcalloc(1, sizeof(*metrics));
    pthread_mutex_init(&metrics->lock, NULL);
    metrics->last = &metrics->first;
    return metrics;
}

static void series_free(struct series *series) {
    free(series->labels);
    free(series->buckets);
    free(series);
}

static void drop_series(struct metric *metric) {
    struct map_entry *entry = NULL;
    for (size_t at = 0; (entry = map_next(&metric->series, &at)) != NULL;) {
        series_free(entry->value);
    }
    map_release(&metric->series);
}

void metrics_free(struct metrics *metrics) {
    if (metrics == NULL) {
        return;
    }
    while (metrics->first != NULL) {
        struct metric *metric = metrics->first;
        metrics->first = metric->next;
        drop_series(metric);
        for (size_t i = 0; i < metric->label_count; i++) {
            free(metric->label_names[i]);
        }
        free(metric->name);
        free(metric->help);
        free(metric->bounds);
        free(metric);
    }
    pthread_mutex_destroy(&metrics->lock);
    free(metrics);
}

struct metric *metrics_register(struct metrics *metrics, const struct metric_spec *spec) {
    struct metric *metric = xcalloc(1, sizeof(*metric));
    metric->owner = metrics;
    metric->name = xstrdup(spec->name);
    metric->help = xstrdup(spec->help);
    metric->type = spec->type;
    while (metric->label_count < LABELS_MAX && spec->label_names[metric->label_count] != NULL) {
        metric->label_names[metric->label_count] = xstrdup(spec->label_names[metric->label_count]);
        metric->label_count++;
    }
    metric->bounds = xcalloc(spec->bucket_count, sizeof(*metric->bounds));
    metric->bound_count = spec->bucket_count;
    for (size_t i = 0; i < spec->bucket_count; i++) {
        metric->bounds[i] = spec->buckets[i];
    }
    pthread_mutex_lock(&metrics->lock);
    *metrics->last = metric;
    metrics->last = &metric->next;
    pthread_mutex_unlock(&metrics->lock);
    return metric;
}

static void append_label_value(struct buffer *out, const char *text) {
    for (; *text != '\0'; text++) {
        if (*text == '\n') {
            buffer_append_text(out, "\\n");
            continue;
        }
        if (*text == '"' || *text == '\\') {
            buffer_append_char(out, '\\');
        }
        buffer_append_char(out, *text);
    }
}

/* `labels` NULL: every value is "other". */
static char *labels_text(const struct metric *metric, const char *const *labels) {
    struct buffer text = BUFFER_INIT;
    for (size_t i = 0; i < metric->label_count; i++) {
        buffer_printf(&text, "%s%s=\"", i != 0 ? "," : "", metric->label_names[i]);
        append_label_value(&text, labels != NULL ? labels[i] : "other");
        buffer_append_char(&text, '"');
    }
    return buffer_take(&text);
}

static struct series *series_at(struct metric *metric, const char *const *labels) {
    cleanup_free char *text = labels_text(metric, labels);
    struct series *series = map_get(&metric->series, text);
    if (series != NULL) {
        return series;
    }
    if (metric->series.count >= SERIES_MAX && labels != NULL) {
        return series_at(metric, NULL);
    }
    series = xcalloc(1, sizeof(*series));
    series->labels = xstrdup(text);
    series->buckets = xcalloc(metric->bound_count, sizeof(*series->buckets));
    (void)map_set(&metric->series, text, series);
    return series;
}

void metric_add(struct metric *metric, const char *const *labels, double amount) {
    pthread_mutex_lock(&metric->owner->lock);
    series_at(metric, labels)->value += amount;
    pthread_mutex_unlock(&metric->owner->lock);
}

void metric_set(struct metric *metric, const char *const *labels, double value) {
    pthread_mutex_lock(&metric->owner->lock);
    series_at(metric, labels)->value = value;
    pthread_mutex_unlock(&metric->owner->lock);
}

void metric_observe(struct metric *metric, const char *const *labels, double value) {
    pthread_mutex_lock(&metric->owner->lock);
    struct series *series = series_at(metric, labels);
    series->value += value;
    series->count++;
    for (size_t i = 0; i < metric->bound_count; i++) {
        if (value <= metric->bounds[i]) {
            series->buckets[i]++;
            break;
        }
    }
    pthread_mutex_unlock(&metric->owner->lock);
}

void metric_remove(struct metric *metric, const char *const *labels) {
    cleanup_free char *text = labels_text(metric, labels);
    pthread_mutex_lock(&metric->owner->lock);
    struct series *series = map_remove(&metric->series, text);
    pthread_mutex_unlock(&metric->owner->lock);
    if (series != NULL) {
        series_free(series);
    }
}

void metric_clear(struct metric *metric) {
    pthread_mutex_lock(&metric->owner->lock);
    drop_series(metric);
    pthread_mutex_unlock(&metric->owner->lock);
}

/* A whole number plainly, any other as the shortest decimal text that reads back as the same number. */
static void append_number(struct buffer *out, double value) {
    if (isinf(value)) {
        buffer_append_text(out, value > 0 ? "+Inf" : "-Inf");
        return;
    }
    if (isnan(value)) {
        buffer_append_text(out, "NaN");
        return;
    }
    char text[40];
    if (value > -1e15 && value < 1e15 && value == (double)(int64_t)value) {
        buffer_printf(out, "%.0f", value);
        return;
    }
    for (int digits = 6; digits <= 17; digits++) {
        (void)snprintf(text, sizeof(text), "%.*g", digits, value);
        if (strtod(text, NULL) == value) {
            break;
        }
    }
    buffer_append_text(out, text);
}

static void append_sample(struct buffer *out, const struct metric *metric, const char *suffix, const char *labels,
                          const char *bound, double value) {
    buffer_printf(out, "%s%s", metric->name, suffix);
    if (*labels != '\0' || bound != NULL) {
        buffer_printf(out, "{%s%s", labels, *labels != '\0' && bound != NULL ? "," : "");
        if (bound != NULL) {
            buffer_printf(out, "le=\"%s\"", bound);
        }
        buffer_append_char(out, '}');
    }
    buffer_append_char(out, ' ');
    append_number(out, value);
    buffer_append_char(out, '\n');
}

static void render_histogram(struct buffer *out, const struct metric *metric, const struct series *series) {
    uint64_t cumulative = 0;
    for (size_t i = 0; i < metric->bound_count; i++) {
        cumulative += series->buckets[i];
        cleanup_buffer struct buffer bound = BUFFER_INIT;
        append_number(&bound, metric->bounds[i]);
        append_sample(out, metric, "_bucket", series->labels, buffer_text(&bound), (double)cumulative);
    }
    append_sample(out, metric, "_bucket", series->labels, "+Inf", (double)series->count);
    append_sample(out, metric, "_sum", series->labels, NULL, series->value);
    append_sample(out, metric, "_count", series->labels, NULL, (double)series->count);
}

void metrics_render(struct metrics *metrics, struct buffer *out) {
    static const char *const type_names[] = {"counter", "gauge", "histogram"};
    pthread_mutex_lock(&metrics->lock);
    for (const struct metric *metric = metrics->first; metric != NULL; metric = metric->next) {
        buffer_printf(out, "# HELP %s %s\n# TYPE %s %s\n", metric->name, metric->help, metric->name, type_names[metric->type]);
        const struct map_entry *entry = NULL;
        for (size_t at = 0; (entry = map_next(&metric->series, &at)) != NULL;) {
            const struct series *series = entry->value;
            if (metric->type == METRIC_HISTOGRAM) {
                render_histogram(out, metric, series);
            } else {
                append_sample(out, metric, "", series->labels, NULL, series->value);
            }
        }
    }
    pthread_mutex_unlock(&metrics->lock);
}
