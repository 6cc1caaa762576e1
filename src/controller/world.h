/* What the controller knows: a record for each ModelAdapter and each Pod, and the holds between them. One thread. */
#ifndef DAVIT_CONTROLLER_WORLD_H
#define DAVIT_CONTROLLER_WORLD_H

#include "base/map.h"
#include "controller/controller.h"
#include "controller/plan.h"
#include "controller/pod_facts.h"
#include "io/metrics.h"
#include "kube/events.h"
#include "kube/watch_cache.h"
#include "kube/work_queue.h"

#include <sys/queue.h>

#define CALLS_MAX 256        /* to pods, at once */
#define POD_OPERATIONS_MAX 4 /* of one pod, at once: a busy engine answers four proofs as soon as one */

struct operation; /* act.c */
struct write;     /* write.c */

struct pod {
    struct controller *controller;
    char *key; /* "namespace/name" */
    json_t *object;
    struct pod_facts facts;
    char *start;
    int adapters; /* held or promised */
    /* what was seen */
    struct map listed; /* id -> struct dialect_model, rows of `models` */
    struct dialect_models models;
    bool is_observed;
    char *observed_start;
    int64_t asked_ms;
    char *failure; /* of the last poll; NULL = it went well */
    int failures;  /* in a row */
    int64_t failing_since_ms;
    int key_turn; /* which of the adapters' keys is tried */
    /* what runs */
    struct transfer *poll;
    int64_t poll_started_ms;
    char *poll_start;
    struct timer poll_timer;
    bool is_awaited;   /* an adapter waits for the next list */
    bool is_answering; /* ... and the poll that runs was asked for after that */
    LIST_HEAD(operation_list, operation) operations;
    int operation_count;
    struct map waiting; /* keys of adapters that want the pod */
};

struct adapter {
    char *key;
    json_t *object;
    struct model_adapter spec;
    bool is_valid;
    struct error invalid;
    char revision[REVISION_BYTES];
    struct map holds; /* pod key -> struct hold */
    int64_t deleting_since_ms;
    int64_t status_written_ms;
    /* writes */
    unsigned writes_running; /* enum plan_write */
    struct write *writes;    /* those that run */
    int write_failures;
    int64_t write_after_ms;
    char *write_failure;
};

struct controller {
    const struct controller_options *options;
    struct loop *loop;
    struct kube_client *kube;
    struct transfers *transfers;
    struct watch_cache *adapters_cache, *pods_cache, *services_cache, *slices_cache;
    struct work_queue *queue;
    struct event_recorder *events;
    struct map adapters, pods; /* by key */
    int calls;                 /* polls and operations that run */
    int writes;                /* API writes that run */
    bool is_stopping;
    struct metrics *metrics;
    struct {
        struct metric *reconciles, *loads, *load_failures, *load_seconds, *unloads, *proofs, *polls, *poll_failures, *adapters,
            *queue_depth, *writes;
    } count;
};

/* ---- records ---- */
char *world_key(const json_t *object);
struct adapter *world_adapter(struct controller *controller, const char *key); /* NULL when there is none */
/* Takes over the object as the cache has it now; makes the record when it is new, removes it (NULL) when the object is gone. */
struct adapter *world_refresh_adapter(struct controller *controller, const char *key);
void world_remove_adapter(struct controller *controller, struct adapter *adapter);
struct pod *world_pod(struct controller *controller, const char *key);
/* Makes or updates the record. */
struct pod *world_update_pod(struct controller *controller, json_t *object);
void world_remove_pod(struct controller *controller, const char *key);
void world_free(struct controller *controller);

struct hold *world_hold(struct adapter *adapter, const struct pod *pod);   /* NULL when there is none */
bool world_concerns(const struct adapter *adapter, const struct pod *pod); /* matched by the selector, or holding */
/* Wakes the adapters of the pod's namespace that it concerns. */
void world_wake_concerned(struct controller *controller, const struct pod *pod);
bool world_uses_sidecar(const struct controller *controller, const struct pod *pod);
enum dialect world_dialect(const struct controller *controller, const struct pod *pod);

/* ---- the planner's input ---- */
struct world_view {
    struct plan_input input;
    struct plan_pod *views;
    struct pod **pods; /* as the views; NULL for a pod that is gone */
};
/* Brings the adapter's holds up to date with what was seen, and shows it all. Release before the world changes. */
void world_view_take(struct controller *controller, struct adapter *adapter, struct world_view *ret_view);
void world_view_release(struct world_view *view);

/* ---- observe.c ---- */
void observe_soon(struct pod *pod, int64_t delay_ms); /* polls the pod; a poll that runs is let be */
void observe_release(struct pod *pod);

/* ---- act.c ---- */
/* Starts the action on a pod that is free. */
void act_start(struct controller *controller, struct adapter *adapter, struct pod *pod, enum hold_action kind);
void act_release(struct pod *pod); /* cancels what runs on it */
/* "http://address:port/path", of the caller's. */
char *act_url(const struct pod *pod, int port, const char *path);

/* ---- write.c ---- */
void write_plan(struct controller *controller, struct adapter *adapter, const struct plan *plan);
void write_cancel(struct controller *controller, struct adapter *adapter);

#endif
