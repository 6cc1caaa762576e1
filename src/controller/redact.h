/* Secrets stay where they are: a peer that quotes what it was sent must not bring them into a status, an event or a log. Pure. */
#ifndef DAVIT_CONTROLLER_REDACT_H
#define DAVIT_CONTROLLER_REDACT_H

#include "base/json.h"

#include <stddef.h>

/* Overwrites the secret wherever the text has it, also where it is quoted with escapes. NULL = none; those of fewer than four bytes
 * are words that any text may hold and stay. */
void redact_text(char *text, size_t len, const char *secret);
/* The same for each value of an object of strings, but for those that only say where a store is; NULL = none. */
void redact_values(char *text, size_t len, const json_t *secrets);

#endif
