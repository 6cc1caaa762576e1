/* Which loopback ports an instance takes. */
#ifndef DAVIT_CLUSTER_UP_PORTS_H
#define DAVIT_CLUSTER_UP_PORTS_H

#include "base/error.h"

#include <stdbool.h>

#define PORTS_ANY (-1) /* not asked for: last time's if free, else the default if free, else any */

/* `asked`: a port that must be free, 0 = any free one, PORTS_ANY. `last`: what the instance had before, 0 = nothing. `fallback`:
 * the default, 0 = none. */
int ports_choose(const char *what, int asked, int last, int fallback, int *ret_port, struct error *err) DAVIT_MUST_USE;

#endif
