#include "adapter/placement.h"

#include "base/alloc.h"

#include <stdint.h>
#include <string.h>

int placement_policy_parse(const char *name, enum placement_policy *ret_policy) {
    static const char *const names[] = {[PLACEMENT_RANDOM] = "random",
                                        [PLACEMENT_LEAST_ADAPTERS] = "leastAdapters",
                                        [PLACEMENT_BIN_PACK] = "binPack",
                                        [PLACEMENT_SPREAD] = "spread"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (strcmp(name, names[i]) == 0) {
            *ret_policy = (enum placement_policy)i;
            return 0;
        }
    }
    return -1;
}

const char *placement_policy_names(void) {
    return "random, leastAdapters, binPack or spread";
}

/* FNV-1a with a final mix: a lot that each pod draws for an adapter (rendezvous hashing). */
static uint64_t draw(const char *adapter, const char *pod) {
    uint64_t hash = 14695981039346656037u;
    const char *const parts[] = {adapter, "/", pod};
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        for (const char *at = parts[i]; *at != '\0'; at++) {
            hash = (hash ^ (unsigned char)*at) * 1099511628211u;
        }
    }
    hash ^= hash >> 33;
    hash *= 0xff51afd7ed558ccdu;
    return hash ^ (hash >> 33);
}

/* Compared key by key, smaller is better. */
enum rank_key { KEY_STANDING, KEY_FAILING, KEY_TURNS, KEY_DOMAIN, KEY_NODE, KEY_ADAPTERS, KEY_DRAW, KEY_COUNT };

struct rank {
    int64_t keys[KEY_COUNT];
};

/* What it is to the adapter already: a pod that was chosen stays chosen, and one that still has the adapter comes next. */
static int64_t standing_of(const struct placement_candidate *candidate) {
    if (candidate->is_wanted) {
        return candidate->is_holding ? 0 : 1;
    }
    return candidate->is_holding ? 2 : 3;
}

static void set_rank(enum placement_policy policy, const char *adapter, const struct placement_candidate *candidate,
                     struct rank *rank) {
    *rank = (struct rank){{0}};
    rank->keys[KEY_STANDING] = standing_of(candidate);
    rank->keys[KEY_FAILING] = candidate->is_failing + candidate->is_taken;
    rank->keys[KEY_TURNS] = candidate->is_failing ? candidate->failed_turns : 0;
    rank->keys[KEY_DRAW] = (int64_t)(draw(adapter, candidate->pod) >> 1);
    if (policy == PLACEMENT_LEAST_ADAPTERS || policy == PLACEMENT_SPREAD) {
        rank->keys[KEY_ADAPTERS] = candidate->adapters;
    } else if (policy == PLACEMENT_BIN_PACK) {
        rank->keys[KEY_ADAPTERS] = -(int64_t)candidate->adapters;
    }
}

/* Whoever shares a node or a domain with the one just chosen comes later from now on. */
static void push_back(enum placement_policy policy, const struct placement_candidate *candidates, size_t count, size_t chosen,
                      struct rank *ranks) {
    if (policy != PLACEMENT_LEAST_ADAPTERS && policy != PLACEMENT_SPREAD) {
        return;
    }
    for (size_t i = 0; i < count; i++) {
        ranks[i].keys[KEY_NODE] += strcmp(candidates[i].node, candidates[chosen].node) == 0;
        ranks[i].keys[KEY_DOMAIN] += policy == PLACEMENT_SPREAD && strcmp(candidates[i].domain, candidates[chosen].domain) == 0;
    }
}

static bool is_better(const struct rank *a, const struct rank *b) {
    for (size_t i = 0; i < KEY_COUNT; i++) {
        if (a->keys[i] != b->keys[i]) {
            return a->keys[i] < b->keys[i];
        }
    }
    return false;
}

static bool is_eligible(const struct placement_candidate *candidate) {
    return !candidate->is_chosen && (!candidate->is_full || candidate->is_holding || candidate->is_wanted);
}

int placement_choose(enum placement_policy policy, const char *adapter, int replicas, struct placement_candidate *candidates,
                     size_t count) {
    struct rank *ranks = xcalloc(count + 1, sizeof(*ranks));
    int chosen = 0;
    for (size_t i = 0; i < count; i++) {
        candidates[i].is_chosen = false;
        set_rank(policy, adapter, &candidates[i], &ranks[i]);
    }
    for (; chosen < replicas; chosen++) {
        size_t best = count;
        for (size_t i = 0; i < count; i++) {
            if (is_eligible(&candidates[i]) && (best == count || is_better(&ranks[i], &ranks[best]))) {
                best = i;
            }
        }
        if (best == count) {
            break;
        }
        candidates[best].is_chosen = true;
        push_back(policy, candidates, count, best, ranks);
    }
    free(ranks);
    return chosen;
}
