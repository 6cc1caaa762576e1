/* Percent-encoding taken off. Pure. */
#ifndef DAVIT_ARTIFACT_PERCENT_H
#define DAVIT_ARTIFACT_PERCENT_H

#include <stdbool.h>
#include <stddef.h>

/* NULL for a "%" without two digits, and for "%00". The caller frees it. */
char *percent_decode(const char *text, size_t len, bool is_plus_a_space);

#endif
