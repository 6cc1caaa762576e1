#include "adapter/placement.h"

#include "base/alloc.h"

#include <stdint.h>
#include <string.h>

int placement_policy_parse(const char *name, enum placement_policy *ret_policy) {
    static const char *const names[] = {
        [PLACEMENT_RANDOM] = "random", [PLACEMENT_LEAST_ADAPTERS] = "leastAdapters", [PLACEMENT_BIN_PACK] = "binPack"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (strcmp(name, names[i]) == 0) {
            *ret_policy = (enum placement_policy)i;
            return 0;
        }
    }
    return -1;
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

static int chosen_on_node(const struct placement_candidate *candidates, size_t count, const char *node) {
    int chosen = 0;
    for (size_t i = 0; i < count; i++) {
        chosen += candidates[i].is_chosen && strcmp(candidates[i].node, node) == 0;
    }
    return chosen;
}

struct rank {
    int64_t keys[5]; /* compared in order, smaller is better */
};

static struct rank rank_of(enum placement_policy policy, const char *adapter, const struct placement_candidate *candidates,
                           size_t count, size_t at) {
    const struct placement_candidate *candidate = &candidates[at];
    struct rank rank = {.keys = {!candidate->is_holding, candidate->is_failing}};
    if (policy == PLACEMENT_LEAST_ADAPTERS) {
        rank.keys[2] = chosen_on_node(candidates, count, candidate->node);
        rank.keys[3] = candidate->adapters;
    } else if (policy == PLACEMENT_BIN_PACK) {
        rank.keys[2] = -(int64_t)candidate->adapters;
    }
    rank.keys[4] = (int64_t)(draw(adapter, candidate->pod) >> 1);
    return rank;
}

static bool is_better(const struct rank *a, const struct rank *b) {
    for (size_t i = 0; i < ARRAY_LEN(a->keys); i++) {
        if (a->keys[i] != b->keys[i]) {
            return a->keys[i] < b->keys[i];
        }
    }
    return false;
}

void placement_choose(enum placement_policy policy, const char *adapter, int replicas, struct placement_candidate *candidates,
                      size_t count) {
    for (size_t i = 0; i < count; i++) {
        candidates[i].is_chosen = replicas < 0;
    }
    for (int picked = 0; picked < replicas && (size_t)picked < count; picked++) {
        size_t best = count;
        struct rank best_rank = {0};
        for (size_t i = 0; i < count; i++) {
            if (candidates[i].is_chosen) {
                continue;
            }
            struct rank rank = rank_of(policy, adapter, candidates, count, i);
            if (best == count || is_better(&rank, &best_rank)) {
                best = i;
                best_rank = rank;
            }
        }
        candidates[best].is_chosen = true;
    }
}
