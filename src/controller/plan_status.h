/* The status of a ModelAdapter and the events that its changes are worth, pure. Phases, condition types and reasons are AIBrix's
 * where it has them; they go True and False truthfully. */
#ifndef DAVIT_CONTROLLER_PLAN_STATUS_H
#define DAVIT_CONTROLLER_PLAN_STATUS_H

#include "controller/plan.h"

/* Sets plan->status and adds events when what is so differs from what the object says and a write is due. `plan` holds the pods'
 * part already. */
void plan_status(const struct plan_input *input, struct plan *plan);

#endif
