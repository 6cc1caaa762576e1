#include "cluster/node/probe.h"

#define FAST_FIRST_MS 250
#define FAST_MAX_MS 1000

const char *probe_kind_name(enum probe_kind kind) {
    static const char *const names[] = {"Startup", "Readiness", "Liveness"};
    return names[kind];
}

static int64_t at_least(int64_t value, int64_t minimum) {
    return value > minimum ? value : minimum;
}

void probe_init(struct probe *probe, enum probe_kind kind, const json_t *spec) {
    *probe = (struct probe){.kind = kind, .spec = spec};
    probe->initial_delay_ms = 1000 * at_least(json_int_at(spec, "initialDelaySeconds", 0), 0);
    probe->period_ms = 1000 * at_least(json_int_at(spec, "periodSeconds", 10), 1);
    probe->timeout_ms = 1000 * at_least(json_int_at(spec, "timeoutSeconds", 1), 1);
    probe->failure_threshold = (int)at_least(json_int_at(spec, "failureThreshold", 3), 1);
    probe->success_threshold = (int)at_least(json_int_at(spec, "successThreshold", 1), 1);
    probe_restart(probe, 0, false);
}

/* Readiness and startup are asked right away and, while the answer is no, again after 250 ms, 500 ms, 1 s, 1 s, ... where that is
 * less than the period. A kubelet waits a period each time so that a node with a hundred pods is not asking all day; one machine
 * with a handful of pods has no such herd, and a person is waiting. initialDelaySeconds of a readiness probe only spares questions
 * whose answer would be no, so a yes may come earlier. A failure still counts only once a period, so that thresholds mean the time
 * that the manifest's author had in mind. */
static bool is_asked_fast(const struct probe *probe) {
    return probe->kind != PROBE_LIVENESS && !probe->is_passing;
}

void probe_restart(struct probe *probe, int64_t started_ms, bool was_passing) {
    /* Alive until proven otherwise; ready and started only when there is nothing to ask. */
    probe->is_passing = probe->spec == NULL || probe->kind == PROBE_LIVENESS || was_passing;
    /* Without a delay of its own a liveness probe waits a period: nothing answers in the moment it is started. */
    int64_t delay_ms = probe->initial_delay_ms > 0 ? probe->initial_delay_ms : probe->period_ms;
    probe->next_ms = started_ms + (is_asked_fast(probe) || was_passing ? 0 : delay_ms);
    probe->counted_ms = started_ms + probe->initial_delay_ms;
    probe->sent = 0;
    probe->successes = 0;
    probe->failures = 0;
    probe->is_in_flight = false;
}

void probe_note_sent(struct probe *probe) {
    probe->is_in_flight = true;
    probe->sent++;
}

static int64_t interval_ms(const struct probe *probe) {
    if (!is_asked_fast(probe)) {
        return probe->period_ms;
    }
    int64_t fast_ms = probe->sent <= 1 ? FAST_FIRST_MS : probe->sent == 2 ? 2 * FAST_FIRST_MS : FAST_MAX_MS;
    return fast_ms < probe->period_ms ? fast_ms : probe->period_ms;
}

enum probe_verdict probe_record(struct probe *probe, bool is_success, int64_t now_ms, bool *ret_is_counted) {
    enum probe_verdict verdict = PROBE_UNCHANGED;
    probe->is_in_flight = false;
    *ret_is_counted = false;
    if (is_success) {
        probe->failures = 0;
        probe->counted_ms = now_ms;
        if (++probe->successes >= probe->success_threshold && !probe->is_passing) {
            probe->is_passing = true;
            verdict = PROBE_NOW_PASSING;
        }
    } else {
        probe->successes = 0;
        bool counts = !is_asked_fast(probe) || now_ms - probe->counted_ms >= probe->period_ms;
        if (counts) {
            *ret_is_counted = true;
            probe->counted_ms = now_ms;
            probe->failures++;
        }
        bool is_over = counts && probe->failures >= probe->failure_threshold;
        if (is_over && (probe->is_passing || probe->kind == PROBE_STARTUP)) {
            probe->is_passing = false;
            verdict = PROBE_NOW_FAILING;
        }
    }
    probe->next_ms = now_ms + interval_ms(probe);
    return verdict;
}
