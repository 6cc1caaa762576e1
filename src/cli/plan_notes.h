/* What a preview rests on that may be otherwise, in words. */
#ifndef DAVIT_CLI_PLAN_NOTES_H
#define DAVIT_CLI_PLAN_NOTES_H

#include "cli/plan_gather.h"

/* Array of texts, of the caller's. `existing`: the adapter before, may be NULL. */
json_t *plan_notes(const struct plan_room *room, const json_t *existing, const struct preview *preview, bool is_offline);

#endif
