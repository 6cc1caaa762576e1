/* Counters, gauges and histograms, and their page in Prometheus' text format 0.0.4. A family is registered once with its label
 * names; a series is made on first use, at most `series_max` a family (further label sets fall into one series whose labels are
 * "other"). Any thread may update and render. */
#ifndef DAVIT_IO_METRICS_H
#define DAVIT_IO_METRICS_H

#include "base/buffer.h"

#include <stddef.h>

struct metrics;
struct metric; /* a family */

enum metric_type { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM };

struct metric_spec {
    const char *name; /* e.g. "davit_gateway_requests_total" */
    const char *help;
    enum metric_type type;
    const char *label_names[6]; /* NULL at the end */
    const double *buckets;      /* METRIC_HISTOGRAM: upper bounds, rising */
    size_t bucket_count;
};

struct metrics *metrics_new(void);
void metrics_free(struct metrics *metrics);
struct metric *metrics_register(struct metrics *metrics, const struct metric_spec *spec);
/* `labels`: one value a label name, in their order; NULL when the family has none. */
void metric_add(struct metric *metric, const char *const *labels, double amount); /* counter or gauge */
void metric_set(struct metric *metric, const char *const *labels, double value);  /* gauge; or a counter that is kept elsewhere */
void metric_observe(struct metric *metric, const char *const *labels, double value); /* histogram */
void metric_remove(struct metric *metric, const char *const *labels);
void metric_clear(struct metric *metric); /* all its series */
void metrics_render(struct metrics *metrics, struct buffer *out);
#define METRICS_CONTENT_TYPE "text/plain; version=0.0.4; charset=utf-8"

#endif
