/* The adapter on each pod, as status.loads has it. Pure. */
#ifndef DAVIT_CONTROLLER_PLAN_LOADS_H
#define DAVIT_CONTROLLER_PLAN_LOADS_H

#include "controller/plan.h"

struct pod_state {
    const char *state, *reason;
    const char *message;
    bool is_failed;
};

struct pod_state plan_pod_state(const struct plan_input *input, const struct plan *plan, size_t at);
/* New weights under a name that the engine knew with others. */
bool plan_is_maybe_stale(const struct plan_pod *pod);
/* Whether the pod has a row: it is to have the adapter, or may have it yet. */
bool plan_has_row(const struct plan_input *input, const struct plan *plan, size_t at);
/* The row of a pod; NULL = none. */
const json_t *plan_row_in(const json_t *loads, const char *pod);
/* status.loads; `old`: the rows that the object has. */
json_t *plan_render_loads(const struct plan_input *input, const json_t *old, const struct plan *plan);
/* status.earlierRevisions. */
json_t *plan_render_earlier(const struct plan_input *input);

#endif
