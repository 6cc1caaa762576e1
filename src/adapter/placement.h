/* Which pods shall hold an adapter. Pure. Stable: what holds the adapter keeps it, and a new pod is chosen by the policy with ties
 * broken by a hash of adapter and pod, so that a small change of the world moves little. */
#ifndef DAVIT_ADAPTER_PLACEMENT_H
#define DAVIT_ADAPTER_PLACEMENT_H

#include <stdbool.h>
#include <stddef.h>

enum placement_policy { PLACEMENT_RANDOM, PLACEMENT_LEAST_ADAPTERS, PLACEMENT_BIN_PACK };

/* "random", "leastAdapters" or "binPack"; -1 for anything else. */
int placement_policy_parse(const char *name, enum placement_policy *ret_policy);

struct placement_candidate {
    const char *pod;  /* its uid */
    const char *node; /* "" when unknown */
    int adapters;     /* that it holds or is going to hold */
    bool is_holding;  /* it has the adapter, or a load is under way */
    bool is_failing;  /* its last load of this adapter failed */
    bool is_chosen;   /* the result */
};

/* Chooses min(replicas, count) of the candidates; replicas < 0 = all. `adapter`: its uid. */
void placement_choose(enum placement_policy policy, const char *adapter, int replicas, struct placement_candidate *candidates,
                      size_t count);

#endif
