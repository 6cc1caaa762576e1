/* Asks a role's readiness endpoint. */
#ifndef DAVIT_CLUSTER_UP_READINESS_H
#define DAVIT_CLUSTER_UP_READINESS_H

#include "cluster/up/roles.h"
#include "io/transfer.h"

#include <stdbool.h>

#define READINESS_TIMEOUT_MS 2000

/* Calls on_answer(arg, is_ready) once, unless the transfer is cancelled. NULL, and no call: it cannot be asked yet (no kubeconfig),
 * or the role has no endpoint. */
struct transfer *readiness_ask(struct transfers *transfers, enum role_probe probe, const struct role_context *context,
                               void (*on_answer)(void *arg, bool is_ready), void *arg);

/* Asks API server and gateway with a loop of its own; blocks at most READINESS_TIMEOUT_MS. */
void readiness_ask_now(const struct role_context *context, bool *ret_api_ready, bool *ret_gateway_ready);

#endif
