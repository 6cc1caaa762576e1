/* Time. Durations and deadlines use the monotonic clock, timestamps that people read the wall clock. Pure cores get `now` as
 * an argument and never call these. */
#ifndef DAVIT_BASE_CLOCK_H
#define DAVIT_BASE_CLOCK_H

#include "base/alloc.h"

#include <stdint.h>

#define CLOCK_RFC3339_BYTES 32

int64_t clock_now_ms(void);  /* monotonic milliseconds */
int64_t clock_now_ns(void);  /* monotonic nanoseconds */
int64_t clock_boot_ms(void); /* monotonic milliseconds that go on while the machine is suspended */
int64_t clock_wall_ms(void); /* milliseconds since 1970-01-01T00:00:00Z */

/* "2026-11-23T10:00:00Z", as Kubernetes writes metav1.Time. */
void clock_format_rfc3339(int64_t wall_ms, char out[CLOCK_RFC3339_BYTES]);
/* "2026-11-23T10:00:00.123Z" */
void clock_format_rfc3339_ms(int64_t wall_ms, char out[CLOCK_RFC3339_BYTES]);
/* Reads either form, with Z or an offset such as +02:00; -1 if it is neither. */
int clock_parse_rfc3339(const char *text, int64_t *ret_wall_ms) DAVIT_MUST_USE;

#endif
