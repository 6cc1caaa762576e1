/* When a probe of a container is due and what its results mean. Pure: who sends it is node/prober.h's job. */
#ifndef DAVIT_CLUSTER_NODE_PROBE_H
#define DAVIT_CLUSTER_NODE_PROBE_H

#include "base/json.h"

enum probe_kind { PROBE_STARTUP, PROBE_READINESS, PROBE_LIVENESS, PROBE_KINDS };

struct probe {
    enum probe_kind kind;
    const json_t *spec; /* borrowed; NULL = the container has no such probe */
    int64_t initial_delay_ms;
    int64_t period_ms;
    int64_t timeout_ms;
    int failure_threshold;
    int success_threshold;
    /* since the container started */
    int64_t next_ms;
    int64_t counted_ms; /* when a failure was last counted */
    int sent;
    int successes;
    int failures;
    bool is_in_flight;
    bool is_passing;
};

/* `spec`: the probe as it stands in the container, or NULL. */
void probe_init(struct probe *probe, enum probe_kind kind, const json_t *spec);
/* The container was started at `started_ms` (or adopted: then `was_passing` may be true). */
void probe_restart(struct probe *probe, int64_t started_ms, bool was_passing);
void probe_note_sent(struct probe *probe);

enum probe_verdict { PROBE_UNCHANGED, PROBE_NOW_PASSING, PROBE_NOW_FAILING };
/* A result came at `now_ms`; the next one is due at probe->next_ms. *ret_is_counted: a failure that a person should hear of.
 * NOW_FAILING of a startup or liveness probe means that the container is to be restarted. */
enum probe_verdict probe_record(struct probe *probe, bool is_success, int64_t now_ms, bool *ret_is_counted);
const char *probe_kind_name(enum probe_kind kind); /* "Readiness" */

#endif
