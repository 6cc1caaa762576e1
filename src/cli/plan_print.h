/* Previews for people and for programs. Pure. */
#ifndef DAVIT_CLI_PLAN_PRINT_H
#define DAVIT_CLI_PLAN_PRINT_H

#include "controller/preview.h"

/* {"namespace", "name", "revision", "steps": [{"action", "pod" or none, "detail" or none}], "result": {"phase", "ready", "desired",
 * "pods"}, "blocked": [{"pod" or none, "reason", "message"}], "notes": [text]}; a new reference. `notes`: borrowed. */
json_t *plan_print_json(const struct preview *preview, const json_t *notes);
/* What plan_print_json made, as text. */
void plan_print_text(const json_t *plan, struct buffer *out);

#endif
