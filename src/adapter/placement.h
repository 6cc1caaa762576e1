/* Which pods shall hold an adapter. Pure. Stable: what holds the adapter keeps it, and a new pod is chosen by the policy with ties
 * broken by a hash of adapter and pod, so that a small change of the world moves little. */
#ifndef DAVIT_ADAPTER_PLACEMENT_H
#define DAVIT_ADAPTER_PLACEMENT_H

#include <stdbool.h>
#include <stddef.h>

enum placement_policy {
    PLACEMENT_RANDOM,         /* by the hash alone */
    PLACEMENT_LEAST_ADAPTERS, /* apart from one another, then where the fewest adapters are */
    PLACEMENT_BIN_PACK,       /* where the most adapters are and one more has room */
    PLACEMENT_SPREAD          /* evenly over domains (zones, say), then as leastAdapters */
};

/* "random", "leastAdapters", "binPack" or "spread"; -1 for anything else. */
int placement_policy_parse(const char *name, enum placement_policy *ret_policy);
const char *placement_policy_names(void); /* all, for messages */

struct placement_candidate {
    const char *pod;    /* its uid */
    const char *node;   /* "" when unknown */
    const char *domain; /* what SPREAD spreads over; "" when unknown */
    int adapters;       /* that it holds or is going to hold, this one aside */
    bool is_holding;    /* it has the adapter, or a load is under way */
    bool is_wanted;     /* it was chosen the last time */
    bool is_failing;    /* its last load of this adapter failed */
    int failed_turns;   /* how often it had its turn and failed: of those that fail, who had fewer comes first */
    bool is_taken;      /* it has something else under the adapter's name, which does not pass by itself: comes after all others */
    bool is_full;       /* no room for one more: never chosen unless it is holding or wanted */
    bool is_chosen;     /* the result */
};

/* Chooses at most `replicas` of the candidates and returns how many. `adapter`: its uid. Takes time in proportion to count times
 * (replicas + 1). */
int placement_choose(enum placement_policy policy, const char *adapter, int replicas, struct placement_candidate *candidates,
                     size_t count);

#endif
