/* What is so about an adapter, as its conditions and phase say it. Pure. */
#ifndef DAVIT_CONTROLLER_PLAN_VERDICTS_H
#define DAVIT_CONTROLLER_PLAN_VERDICTS_H

#include "controller/plan.h"

enum condition {
    INITIALIZED,
    SCHEDULED,
    BOUND,
    RESOURCE_CREATED,
    READY,
    FULLY_LOADED,
    NO_EFFECT,
    WEIGHTS_MAY_BE_STALE,
    CONDITION_COUNT
};

struct verdict {
    bool is_true;
    const char *reason; /* NULL = the condition is not there */
    struct buffer message;
};

/* The pods, counted and named. */
struct tally {
    int wanted, loaded, serving, without_effect, with_effect;
    int failing; /* not for want of patience */
    struct buffer pods, not_ready, full, causes, no_effect, stale, leaving;
    int causes_named, causes_more;
    bool is_fetching; /* some pod, which says how far it is */
};

/* Both zeroed before, `verdicts` of CONDITION_COUNT. */
void plan_judge(const struct plan_input *input, const struct plan *plan, struct tally *tally, struct verdict *verdicts);
void plan_judge_release(struct tally *tally, struct verdict *verdicts);
const char *plan_phase(const struct plan_input *input, const struct tally *tally, const struct verdict *verdicts);
/* Of RESOURCE_CREATED: not only that it is still to come. */
bool plan_is_resource_error(const struct verdict *verdict);

/* For messages: "s" unless it is one; names with commas, as many as a message takes. */
const char *plan_plural(int count);
void plan_list_name(struct buffer *names, const char *name);

#endif
