/* Asks a role's readiness endpoint. */
#ifndef DAVIT_CLUSTER_UP_READINESS_H
#define DAVIT_CLUSTER_UP_READINESS_H

#include "cluster/up/roles.h"
#include "io/transfer.h"

#include <stdbool.h>

#define READINESS_TIMEOUT_MS 2000

struct readiness; /* one question under way */

/* Calls on_answer(arg, is_ready) once, unless it is cancelled; the question is gone afterwards. NULL, and no call: the role has no
 * endpoint. */
struct readiness *readiness_ask(struct transfers *transfers, enum role_probe probe, const struct role_context *context,
                                void (*on_answer)(void *arg, bool is_ready), void *arg);

void readiness_cancel(struct readiness *question);

/* Asks API server and gateway with a loop of its own; blocks at most READINESS_TIMEOUT_MS. */
void readiness_ask_now(const struct role_context *context, bool *ret_api_ready, bool *ret_gateway_ready);

#endif
