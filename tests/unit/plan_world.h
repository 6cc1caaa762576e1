/* A simulated world for the planner: an API, a cluster's pods with engines in them, and the controller's shell between the two,
 * under a clock that jumps from event to event. No sockets, no threads, no sleeps; the same seed gives the same world.
 *
 * What is simulated:
 *   API         ModelAdapter, Service and slices of each adapter; writes take time, fail, or succeed while their answer is lost;
 * what others change is seen `lag_ms` later; what an adapter leaves behind is collected by its owner reference pods        with
 * names, nodes, zones, ports, one or two addresses, capacity; an engine each, in a mood controller  one record per adapter (holds,
 * writes under way, back-off), as view.c, act.c, write.c and observe.c keep it; an adapter is planned when something wakes it or
 * when the planner asked for it, not at each step
 *
 * A test disturbs the world through the functions and the members below, and lets it run. At every step the invariants are checked:
 *   - an endpoint is published anew only for a ready pod that holds the current revision and has proved it since its last load
 *   - no unload while published, nor within a second after, nor before the drain time is over while the engine has a request of it
 *   - an endpoint whose pod does not hold the weights, under the name that the slice says, is out within two polls, of a pod that
 *     hangs within LOST_MS
 *   - an engine has an adapter under one of our names at a time: another is never loaded while the last list showed one
 *   - a roll takes no more pods out at a time than rollout.maxUnavailable
 *   - one action of an adapter on a pod at a time; nothing is loaded that is known to be loaded at this revision
 *   - Ready=True is said, and stays, only while enough pods are published and hold the current revision
 *   - the finalizer is released in bounded time, and leaves nothing on pods that answered all the while
 *   - a plan depends on its input alone, and no adapter is planned for ever at one moment
 * A broken one ends the program's test with the world's seed, step and time. */
#ifndef DAVIT_TESTS_PLAN_WORLD_H
#define DAVIT_TESTS_PLAN_WORLD_H

#include "controller/plan.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define WORLD_PODS 6
#define WORLD_ADAPTERS 5
#define WORLD_SLICES 8
#define WORLD_OPERATIONS 48
#define WORLD_WRITES 16
#define WORLD_POLL_MS 2000
#define WORLD_DRAIN_MS 1000
#define WORLD_GIVE_UP_MS 30000
#define WORLD_LOST_MS 20000
#define WORLD_ROOT_BYTES 64
#define WORLD_VERSIONS 3 /* of weights: 0, 1 (at first), 2 */

enum mood {
    GOOD,
    SLOW,             /* seconds for everything */
    HANGS,            /* nothing is answered; what was asked may have been done all the same */
    REFUSES,          /* everything, for now */
    REFUSES_LOADS,    /* for now */
    REFUSES_FOR_GOOD, /* loads, in words that say that trying again is of no use */
    BUSY,             /* 429 */
    FETCHES,          /* loads are on their way to the sidecar */
    LIES,             /* lists what it does not answer with */
    MOODS
};

struct world_pod {
    bool exists, is_ready, has_label;
    int64_t gone_ms;    /* it is terminating and gone then; 0 = it is not */
    int64_t unready_ms; /* since when the controller sees it as not ready; 0 = it does not */
    enum mood mood;
    int start; /* of the engine; never the same twice */
    char name[24], uid[24], ip[24], second_ip[24], node[12], zone[12];
    int port, capacity; /* 0 = not known */
    bool reuses_prefixes;
    bool has_gauge;                                                /* its engine says of which adapters it has requests */
    char roots[WORLD_ADAPTERS][WORLD_ROOT_BYTES];                  /* what it has under each adapter's name, "" = nothing */
    char tagged[WORLD_ADAPTERS][WORLD_VERSIONS][WORLD_ROOT_BYTES]; /* under the name with the tag of each version's revision */
    char answered[WORLD_ADAPTERS][WORLD_ROOT_BYTES];               /* the root that has answered a proof since it was loaded */
    char answered_tag[WORLD_ADAPTERS][ENGINE_TAG_BYTES];           /* ... and by which name it was asked */
    int64_t touched_ms; /* last time that something else than an action of the controller changed it, or that it was not GOOD */
    /* the last list */
    char start_text[16], observed_start[16];
    char listed[WORLD_ADAPTERS][WORLD_ROOT_BYTES];
    char listed_tagged[WORLD_ADAPTERS][WORLD_VERSIONS][WORLD_ROOT_BYTES];
    bool is_observed, is_awaited, has_changed, has_failed;
    int failures;
    int64_t asked_ms, poll_ms, failing_since_ms, hung_ms; /* hung_ms: the last that was not answered */
};

struct world_resource {
    json_t *api, *seen; /* NULL = absent; never changed in place */
    int64_t see_ms;     /* when the controller learns of a change */
};

struct world_operation {
    enum hold_action kind; /* HOLD_IDLE = free */
    int adapter, pod, start;
    bool is_orphan; /* nobody waits for its answer any more */
    int64_t done_ms;
    char revision[REVISION_BYTES], root[WORLD_ROOT_BYTES], tag[ENGINE_TAG_BYTES];
};

struct world_write {
    enum plan_write kind; /* 0 = free */
    size_t slice;
    json_t *body;
    bool is_create, releases, fails, is_lost;
    int64_t generation; /* that the controller knew when it worded this */
    int64_t done_ms;
};

struct world_adapter {
    const char *name;
    char tags[WORLD_VERSIONS][ENGINE_TAG_BYTES];
    struct world_resource object, service, slices[WORLD_SLICES];
    int64_t collect_ms; /* when leftovers of an older object go */
    /* the controller's record; `known` NULL = none */
    json_t *known;
    struct model_adapter spec;
    char revision[REVISION_BYTES];
    char *earlier; /* what an earlier run wrote down, see recall.h */
    int64_t told_generation, arrivals_until_ms;
    struct hold *holds[WORLD_PODS];
    struct world_write writes[WORLD_WRITES];
    int write_failures;
    int64_t write_after_ms, deleting_since_ms, status_written_ms, slice_written_ms, look_again_ms;
    uint64_t digest;
    bool is_woken, is_seeking, is_released;
    /* what is counted and watched */
    int write_count, event_count, loads, unloads, proofs, removals; /* removals: of endpoints */
    int writes_at_ready, events_at_ready;                           /* -1 = was not ready yet */
    int64_t made_ms, ready_ms;                                      /* ready_ms: when that was first so */
    int64_t deleted_ms, released_ms, ready_wrong_ms;
    int64_t answering_ms;                                        /* when a pod that may have it was last slow rather than dead */
    int64_t wrong_ms[WORLD_PODS + 1], out_ms[WORLD_PODS];        /* of the last: endpoints of pods that are no more */
    int64_t busy_from_ms[WORLD_PODS], busy_until_ms[WORLD_PODS]; /* the engine has a request of it, as its endpoint is out */
    int64_t gauge_ms[WORLD_PODS], gauge_asked_ms[WORLD_PODS];    /* when the engine's gauge is read; PLAN_NEVER */
    int64_t idle_ms[WORLD_PODS];                                 /* asked then, it had none */
    int rolling_start[WORLD_PODS];                               /* the pod was taken out for a new revision; 0 = it was not */
};

struct world {
    unsigned seed;
    uint64_t random;
    int64_t now_ms;
    int64_t step, spins;
    int serial;
    bool uses_sidecar, has_two_families, has_two_ports;
    bool has_engine_names;                      /* as the controller was started last, for pods that reuse prefixes */
    int operations_max;                         /* of a pod, at once */
    int64_t lag_ms, write_ms;                   /* at most */
    unsigned write_fails_percent, lost_percent; /* of writes, at most three in a row */
    int64_t busy_ms;                            /* of the longest request that is there when an endpoint goes; 0 = a few seconds */
    int64_t patience_ms;                        /* with the controller, for what an API like this one delays */
    enum placement_policy policy;
    struct world_pod pods[WORLD_PODS];
    struct world_adapter adapters[WORLD_ADAPTERS];
    struct world_operation operations[WORLD_OPERATIONS];
};

int64_t world_plans(void); /* calls of plan_adapter since the program began */
unsigned world_random(struct world *world, unsigned below);
_Noreturn void world_fail(const struct world *world, const char *format, ...) DAVIT_PRINTF(2, 3);

/* `pods` good ones, no adapters; end releases it. */
void world_begin(struct world *world, unsigned seed, int pods);
void world_end(struct world *world);
/* To the next event, or to `until_ms` when that comes first; false when it did. */
bool world_step(struct world *world, int64_t until_ms);
void world_run(struct world *world, int64_t for_ms);
/* Until nothing but polls is under way or planned; fails when that takes longer than `within_ms`. */
void world_settle(struct world *world, int64_t within_ms);

/* ---- pods ---- */
void world_start_pod(struct world *world, int p, bool is_renamed); /* made, or replaced: under the same name or another */
void world_restart_engine(struct world *world, int p);
void world_remove_pod(struct world *world, int p);
void world_touch(struct world *world, int p); /* after members of a pod were changed: who is concerned is woken */
void world_expected_root(const struct world *world, int a, char ret_root[WORLD_ROOT_BYTES]); /* of the object in the API */

/* ---- objects ---- */
void world_create(struct world *world, int a, int replicas);                   /* -1 = on all pods */
void world_edit(struct world *world, int a, const char *field, json_t *value); /* of spec; NULL removes it; `value` is consumed */
void world_set_url(struct world *world, int a, int version);
/* What the pod's engine has under the adapter's own name (tag "") or another of its names; "" = nothing. */
char *world_root_under(struct world *world, int a, int p, const char *tag);
/* Under how many names its engine has the adapter, as far as the controller can know: not somebody else's, nor revisions that it
 * was not told of. */
int world_count_names(const struct world *world, int a, int p);
/* The tag of the name under which the pod is published in the API. */
void world_published_tag(const struct world *world, int a, int p, char ret_tag[ENGINE_TAG_BYTES]);
void world_delete(struct world *world, int a);
/* Somebody else changes it: `api` (consumed, NULL = deleted) is what it is from now on. */
void world_put(struct world *world, struct world_resource *resource, json_t *api);

/* ---- the controller ---- */
/* It is another process: all that it knows is what the objects say. */
void world_restart_controller(struct world *world);

/* ---- what is so ---- */
bool world_is_published(const struct world *world, int a, int p); /* in the API */
bool world_is_busy(const struct world *world, int a, int p);      /* its engine has a request of the adapter */
int world_count_published(const struct world *world, int a);
const char *world_condition(const struct world *world, int a, const char *type, const char *member);
bool world_is_ready(const struct world *world, int a);
/* Everything that can be right is right, and plans made now ask for nothing. */
void world_assert_settled(struct world *world);

/* ---- plan_world_check.c, called by plan_world.c ---- */
void world_check_plan(struct world *world, int a, const struct plan_input *input, const struct plan *plan, const int *slots);
void world_check_action(struct world *world, int a, int p, enum hold_action kind);
void world_check_step(struct world *world);
void world_check_release(struct world *world, int a);

#endif
