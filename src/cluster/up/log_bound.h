/* Logs of roles are written by the roles themselves; here they are kept from growing. */
#ifndef DAVIT_CLUSTER_UP_LOG_BOUND_H
#define DAVIT_CLUSTER_UP_LOG_BOUND_H

#include "base/error.h"

#include <stdint.h>

#define LOG_BOUND_BYTES (10 * 1024 * 1024)

/* When the file is larger than `limit_bytes`: copies it to <path>.1 and empties it (its writer has it open for appending and goes
 * on). A few lines that are written between the copy and the cut may be lost. */
int log_bound(const char *path, int64_t limit_bytes, struct error *err) DAVIT_MUST_USE;

#endif
