/* Which loopback ports an instance takes. Its roles bind them later, and again whenever they are started again, so a port is
 * claimed as long as the instance runs: two that start at once never choose the same, nor does one for two of its roles. */
#ifndef DAVIT_CLUSTER_UP_PORTS_H
#define DAVIT_CLUSTER_UP_PORTS_H

#include "base/error.h"

#include <stdbool.h>

#define PORTS_ANY (-1) /* not asked for: last time's if free, else the default if free, else any */

struct port_claim {
    int port;
    int fd; /* holds the claim */
};

/* `asked`: a port that must be free, 0 = any free one, PORTS_ANY. `last`: what the instance had before, 0 = nothing. `fallback`:
 * the default, 0 = none. The claim is for the caller to release. */
int ports_choose(const char *what, int asked, int last, int fallback, struct port_claim *ret_claim,
                 struct error *err) DAVIT_MUST_USE;
void port_claim_release(struct port_claim *claim); /* one of zeros is fine */

#endif
