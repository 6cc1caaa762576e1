/* The engines that a plan concerns, each asked once what it lists. Parts of plan_gather.c; each is followed by
 * plan_gather_end_one for every question that it began. */
#ifndef DAVIT_CLI_PLAN_ENGINES_H
#define DAVIT_CLI_PLAN_ENGINES_H

#include "cli/plan_gather.h"

/* Ready pods that a wanted adapter matches, or that have a row in the status of the existing one. */
void plan_engines_choose(struct plan_gather *gather);
void plan_engines_read_keys(struct plan_gather *gather);
void plan_engines_ask(struct plan_gather *gather);
/* What was answered goes to the rooms' views. */
void plan_engines_note(struct plan_gather *gather);

#endif
