/* The status of a ModelAdapter: phase, conditions, counters, instances and loads, and the events that tell the story. Pure.
 *
 * Types, phases and reasons are AIBrix's where it has them; they go True and False truthfully. */
#ifndef DAVIT_CONTROLLER_PLAN_STATUS_H
#define DAVIT_CONTROLLER_PLAN_STATUS_H

#include "controller/plan.h"

/* Sets WRITE_STATUS in plan->due when the status may have to be written now: at once when what people wait for has changed, else
 * once in a while. `plan` holds the pods' part already. */
void plan_status_decide(const struct plan_input *input, struct plan *plan);
/* Sets plan->status and adds events when what is so differs from what the object's status (`old`, may be NULL) says. */
void plan_status_words(const struct plan_input *input, const json_t *old, struct plan *plan);

#endif
