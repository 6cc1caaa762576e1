/* What the controller knows: a record for each ModelAdapter and each Pod, which pods each selector matches, and what each pod holds
 * of each adapter. One thread.
 *
 *   adapter --- selection (shared by all that select the same) --- pods that match
 *      \--- binding (only where something is held, wanted or remembered) --- pod
 *
 * So a change of a pod touches the adapters bound to it and those of its selections that look for pods, not all. */
#ifndef DAVIT_CONTROLLER_WORLD_H
#define DAVIT_CONTROLLER_WORLD_H

#include "base/map.h"
#include "controller/controller.h"
#include "controller/known_names.h"
#include "controller/plan.h"
#include "controller/pod_facts.h"
#include "io/metrics.h"
#include "kube/events.h"
#include "kube/watch_cache.h"
#include "kube/work_queue.h"

#include <sys/queue.h>

#define POLLS_MAX 256        /* at once */
#define OPERATIONS_MAX 512   /* on engines, at once */
#define POD_OPERATIONS_MAX 4 /* of one pod, at once: a busy engine answers four proofs as soon as one */

struct operation;  /* act.c */
struct base_proof; /* act.c */
struct write;      /* write.c */
struct secrets;    /* secrets.c */
struct routes;     /* routes.c */
struct adapter;
struct pod;

/* What a pod holds of an adapter. */
struct binding {
    struct adapter *adapter;
    struct pod *pod;
    struct hold *hold;
    bool is_published;                    /* the pod is in one of the adapter's slices */
    char published_tag[ENGINE_TAG_BYTES]; /* of the name that the slice says its engine has */
    bool is_counted;                      /* among the adapters of its pod */
    bool is_waiting;                      /* for an operation of the pod to end */
    bool is_draining;                     /* for the engine to have no request of the adapter any more */
    int64_t idle_ms;                      /* when it was asked and had none; 0 = never */
    LIST_ENTRY(binding) in_pod;
    TAILQ_ENTRY(binding) in_waiting;
};

/* The pods that a selector matches. */
struct selection {
    char *key; /* namespace, line feed, selector as JSON */
    char *namespace;
    struct selector *selector;
    struct pod **pods; /* by name */
    size_t pod_count, pod_room;
    size_t ready_count;
    int adapter_count;
    LIST_HEAD(adapter_list, adapter) seeking; /* adapters that any change of the pods concerns */
};

struct pod {
    struct controller *controller;
    char *key; /* "namespace/name" */
    json_t *object;
    struct pod_facts facts;
    char *start;
    struct selection **selections; /* those that match it */
    size_t selection_count, selection_room;
    bool is_counted_ready; /* in its selections */
    int64_t unready_ms;    /* since when it is not ready, as far as this run saw it */
    LIST_HEAD(binding_list, binding) bindings;
    int adapters; /* held or promised */
    /* what was seen */
    struct map listed; /* id -> struct dialect_model, rows of `models` */
    struct dialect_models models;
    uint64_t list_digest; /* of what was listed; 0 = nothing yet */
    bool is_observed;
    char *observed_start;
    int64_t asked_ms;
    char *failure; /* of the last poll; NULL = it went well */
    int failures;  /* in a row */
    int64_t failing_since_ms;
    bool is_lost;                  /* ... for long enough */
    int key_turn;                  /* which of the adapters' keys is tried */
    bool is_davit;                 /* its engine says that it is Davit's */
    bool lists_tags;               /* some name has the form of one with a tag */
    bool has_changed;              /* something was done to it since the last list was asked for */
    bool must_compare;             /* ... and since the one before the list that is being read */
    struct base_proof *base_proof; /* act.c */
    /* what runs */
    struct transfer *poll;
    int64_t poll_started_ms;
    char *poll_start;
    char *poll_key, *poll_secret; /* the key that it was asked with and the Secret that holds it ("" = none does); NULL = none */
    struct timer poll_timer;
    struct secret_wait *key_wait; /* the poll waits for a key */
    bool is_awaited;              /* an adapter waits for the next list */
    bool is_answering;            /* ... and the poll that runs was asked for after that */
    struct transfer *gauge;       /* its engine is asked for requests of what drains */
    int64_t gauge_started_ms;
    struct timer gauge_timer;
    LIST_HEAD(operation_list, operation) operations;
    int operation_count;
    TAILQ_HEAD(waiting_list, binding) waiting; /* bindings that have something to do here */
    bool is_queued;                            /* in controller->waiting */
    TAILQ_ENTRY(pod) in_waiting;
};

struct adapter {
    char *key;
    json_t *object; /* as objects_reduce_adapter leaves it */
    struct model_adapter spec;
    char *invalid; /* why it can never serve; NULL = it can */
    char revision[REVISION_BYTES];
    char *known;                 /* revisions of before, an earlier run's too, see recall.h */
    char version[VERSION_BYTES]; /* what the source of `revision` was found to be; "" = nothing found, or spec.digest says */
    struct selection *selection; /* NULL = none */
    bool is_seeking;             /* in selection->seeking */
    LIST_ENTRY(adapter) in_seeking;
    struct binding **bindings; /* by pod name */
    size_t binding_count, binding_room;
    int64_t deleting_since_ms;
    int64_t arrivals_until_ms; /* see plan_input */
    bool is_released;          /* the API took our finalizer off it */
    int64_t status_written_ms, slice_written_ms;
    int64_t told_generation; /* the last that a status was written for, or could not be */
    uint64_t status_digest;  /* of the last status patch and the version that it led to; 0 = none */
    /* Service and slices */
    uint64_t digest;       /* plan.digest when they were last found to say all that; 0 = something changed since */
    size_t slice_count;    /* no slice with this index or a higher one was ever seen */
    bool has_stale_slices; /* bindings have to be told anew who is published; after that: an endpoint's pod is not known */
    /* writes */
    unsigned writes_running; /* enum plan_write */
    bool is_unwritten;       /* in controller->unwritten */
    bool is_called;          /* its turn to write has come; it is about to be planned */
    TAILQ_ENTRY(adapter) in_unwritten;
    struct write *writes; /* those that run */
    int write_failures;
    int64_t write_after_ms;
    char *write_failure;
};

struct controller {
    const struct controller_options *options;
    struct loop *loop;
    struct kube_client *kube;
    struct transfers *transfers;
    struct lease *lease; /* NULL = leads without contest */
    struct watch_cache *adapters_cache, *pods_cache, *services_cache, *slices_cache;
    struct watch_cache *nodes_cache; /* for zones and other domains; may never be synced */
    struct work_queue *queue;
    struct event_recorder *events;
    struct secrets *secrets;
    struct routes *routes;                        /* NULL = none are kept */
    struct map adapters, pods, selections;        /* by key */
    TAILQ_HEAD(pod_list, pod) waiting;            /* pods with bindings that wait while all operations are taken */
    int polls, operations;                        /* that run */
    int writes;                                   /* API writes that run */
    TAILQ_HEAD(adapter_queue, adapter) unwritten; /* adapters that have something to write while as many run as may */
    int called;                                   /* adapters out of that queue that are about to be planned */
    struct timer rest;                            /* when it fires and there was nothing to do meanwhile, memory goes back */
    uint64_t turns, turns_then;                   /* keys looked at; those of when it was set */
    bool is_started;                              /* all caches were synced once */
    bool is_stopping;
    bool has_lost;  /* the lease */
    char nonce[17]; /* of this run */
    struct metrics *metrics;
    struct {
        struct metric *reconciles, *loads, *load_failures, *load_seconds, *unloads, *proofs, *polls, *poll_failures, *adapters,
            *queue_depth, *writes, *leader;
    } count;
};

/* ---- records ---- */
char *world_key(const json_t *object);
struct adapter *world_adapter(struct controller *controller, const char *key); /* NULL when there is none */
/* Takes over the object as the cache has it now; makes the record when it is new, removes it (NULL) when the object is gone. */
struct adapter *world_refresh_adapter(struct controller *controller, const char *key);
void world_remove_adapter(struct controller *controller, struct adapter *adapter);
struct pod *world_pod(struct controller *controller, const char *key);
/* Makes or updates the record, and wakes whom the change concerns. */
struct pod *world_update_pod(struct controller *controller, json_t *object);
void world_remove_pod(struct controller *controller, const char *key);
void world_free(struct controller *controller);

struct binding *world_binding(const struct adapter *adapter, const struct pod *pod); /* NULL when there is none */
struct binding *world_bind(struct adapter *adapter, struct pod *pod);                /* made when there is none */
/* Counts it among the adapters of its pod, or no more, as its hold says now. A pod that was full and has room again wakes those who
 * look for one. */
void world_count(struct binding *binding);
/* What the pod's engine has it as, is told to, or had it as last. The caller's. */
char *world_engine_name(const struct binding *binding);
/* Removes it when it says nothing. */
void world_unbind_blank(struct binding *binding);
/* A Service or slice has changed or gone: the adapter that it is of by its name. */
struct adapter *world_note_resource(struct controller *controller, const json_t *object, bool is_slice); /* NULL = of none */
/* The slice in the cache, reduced; NULL = absent. Borrowed. */
json_t *world_slice(const struct controller *controller, const struct adapter *adapter, size_t index);
json_t *world_service(const struct controller *controller, const struct adapter *adapter);
/* The objects that plan_words needs for what is due. Release with world_objects_release. */
void world_objects_take(const struct controller *controller, const struct adapter *adapter, unsigned due,
                        struct plan_objects *ret_objects);
void world_objects_release(struct plan_objects *objects);
/* The labels of a node were changed, or are known only now. */
void world_note_node(struct controller *controller, const char *name);
/* Wakes the adapters that a change of the pod concerns. */
void world_wake_concerned(struct controller *controller, const struct pod *pod);
/* The engine's key that the adapter gives: of its Secret as far as it is kept, else additionalConfig's; NULL = none. Borrowed until
 * the loop's next turn. */
const char *world_api_key(const struct controller *controller, const struct adapter *adapter);
bool world_is_polled(const struct pod *pod); /* some adapter may be on it */
bool world_uses_sidecar(const struct controller *controller, const struct pod *pod);
enum dialect world_dialect(const struct controller *controller, const struct pod *pod);

/* ---- selection.c ---- */
/* The selection of the adapter's podSelector, joined; every pod known is matched against a new one. */
void selection_join(struct controller *controller, struct adapter *adapter);
void selection_leave(struct controller *controller, struct adapter *adapter);
void selection_seek(struct adapter *adapter, bool is_seeking);
bool selection_has(const struct pod *pod, const struct selection *selection);
/* Matches the pod anew; after its labels or readiness changed, or before it goes (`is_gone`). */
void selection_update_pod(struct controller *controller, struct pod *pod, bool is_gone);

/* ---- view.c: the planner's input ---- */
struct world_view {
    struct plan_input input;
    struct plan_pod *views;
    struct pod **pods;                  /* as the views */
    struct known_names names, own_name; /* made when they are needed */
};
/* Brings the adapter's holds up to date with what was seen, and shows it all. Release before the world changes. */
void world_view_take(struct controller *controller, struct adapter *adapter, struct world_view *ret_view);
void world_view_release(struct world_view *view);

/* ---- observe.c ---- */
void observe_soon(struct pod *pod, int64_t delay_ms); /* polls the pod; a poll that runs is let be */
/* The poll that runs, if any, asks an engine that is no more, or is elsewhere. */
void observe_cancel(struct pod *pod);
void observe_release(struct pod *pod);

/* ---- gauge.c ---- */
/* Asks the engine for requests of the adapters that drain on the pod, now and again until none does. */
void gauge_soon(struct pod *pod);
void gauge_cancel(struct pod *pod); /* what runs; likewise */
void gauge_release(struct pod *pod);

/* ---- act.c ---- */
/* Starts the action on a pod that is free. `tag`: of the name that a load is to be under. */
void act_start(struct controller *controller, struct binding *binding, enum hold_action kind, const char *tag);
void act_release(struct pod *pod); /* cancels what runs on it */
void act_release_base_proof(struct base_proof *proof);
/* "http://address:port/path", of the caller's. */
char *act_url(const struct pod *pod, int port, const char *path);

/* ---- write.c ---- */
/* Whether what is due of the adapter may be worded and written now. Else it takes its place in a queue and is woken when its turn
 * comes: words that wait would only fill the memory, and say what was so when they were made. */
bool write_take_turn(struct controller *controller, struct adapter *adapter);
void write_leave_queue(struct controller *controller, struct adapter *adapter);
/* Wakes as many of the first in the queue as may write now. */
void write_pass_on(struct controller *controller);
void write_plan(struct controller *controller, struct adapter *adapter, const struct plan *plan);
void write_cancel(struct controller *controller, struct adapter *adapter);

#endif
