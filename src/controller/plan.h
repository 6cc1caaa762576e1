/* The decision, pure: one ModelAdapter, the pods that concern it and the time in; actions out.
 *
 * plan_adapter() is called whenever something about the adapter may have changed and whenever it asked to be called. It never asks
 * twice for what already runs (`hold.running`, `is_busy`, `writes_running`), and in a world that is as it should be it asks for
 * nothing. Which writes are due it decides from the short `seen`; plan_words() then words them and needs the objects themselves.
 *
 * The order it keeps: publish after proof; endpoint out, drain (less where the engine has no request left), then unload; finalizer
 * last, and in bounded time. */
#ifndef DAVIT_CONTROLLER_PLAN_H
#define DAVIT_CONTROLLER_PLAN_H

#include "adapter/placement.h"
#include "controller/hold.h"

#define PLAN_NEVER INT64_MAX
#define PLAN_SLICES_MAX 64     /* of 100 endpoints each */
#define PLAN_UNREADY_MS 10000  /* a pod that is not ready keeps its place among the replicas for so long */
#define PLAN_GIVE_UP_MS 30000  /* beyond the drain: after that a deletion leaves behind pods that do not answer */
#define PLAN_TRY_MS 10000      /* ... of it, for each start of the controller */
#define PLAN_ARRIVALS_MS 10000 /* a load that an earlier run had asked for as it ended shows in the list by then */
#define PLAN_QUEUE_MS 270000   /* beyond that: for pods that do answer, and have others to serve first */

enum proof_mode { PROOF_EFFECT, PROOF_GENERATE, PROOF_LIST };

/* "effect", "generate" or "list"; -1 for anything else. */
int proof_mode_parse(const char *name, enum proof_mode *ret_mode);

enum plan_write { WRITE_FINALIZER = 1, WRITE_SERVICE = 2, WRITE_SLICE = 4, WRITE_STATUS = 8 };

struct plan_pod {
    const char *name, *uid, *ip, *node, *zone; /* "" = none */
    const char *second_ip;                     /* of the other address family, "" = none */
    const char *domain;                        /* value of the node's label topologyKey; "" when unknown */
    int engine_port;
    bool matches;                /* the selector does */
    bool is_ready;               /* condition Ready, has an address, is not being deleted */
    int64_t unready_ms;          /* since when it is not, as far as is known; of one that is not */
    bool is_gone;                /* deleted or being deleted */
    bool is_observed;            /* its list was read since this start */
    bool is_unreachable;         /* it has not answered for a while */
    const char *observe_failure; /* why the last poll failed; NULL when it did not */
    bool is_busy;                /* as many actions run on it as may, of any adapters */
    bool is_full;                /* it holds as many adapters as it says it can */
    bool reuses_prefixes;        /* its engine may answer new weights from what it computed with old ones of the same name */
    char
        tag[ENGINE_TAG_BYTES]; /* of the name under which it is to have the revision; of one not observed yet: what the hold says */
    bool is_direct;            /* its engine is asked itself, without a sidecar */
    int adapters;              /* that it holds or is going to hold, this one aside */
    bool is_published;         /* it is in an EndpointSlice */
    char published_tag[ENGINE_TAG_BYTES]; /* of the name that the slice says its engine has it under */
    int64_t idle_ms;                      /* the engine was asked then, and had no request of the adapter; 0 = that is not known */
    const struct hold *hold;
};

/* What the API holds, in short. */
struct plan_seen {
    bool has_service, has_slice; /* the first slice */
    bool is_service_foreign, is_slice_foreign;
    bool has_stranger; /* an endpoint is of no pod that is known, as of one that was deleted by force */
    bool has_route;    /* an HTTPRoute of ours is there or may be; of adapters that are being deleted */
    uint64_t digest;   /* plan.digest when Service and slices were last found to say all that; 0 = something changed since */
    const char *phase, *ready_status, *ready_reason; /* of the status; "" = none */
    bool is_fully_loaded;
    int64_t observed_generation;
};

struct plan_input {
    const json_t *object; /* the ModelAdapter; its status is not looked at */
    const struct model_adapter *adapter;
    const char *invalid; /* why it can never serve; NULL = it can */
    char revision[REVISION_BYTES];
    int64_t arrivals_until_ms;   /* loads that an earlier run asked for may still be done until then; 0 = there are none */
    const char *known;           /* revisions of an earlier run, while some pod was not asked yet what it has; NULL = none */
    const char *version;         /* what its source was found to be; NULL or "" = not known */
    const struct plan_pod *pods; /* by name: those that hold it or may; all that match when they are looked for */
    size_t pod_count;
    int matching, ready; /* pods in the namespace that match the selector, and those of them that are ready */
    struct plan_seen seen;
    enum proof_mode proof;
    enum placement_policy policy;
    unsigned writes_running;
    const char *write_failure; /* the last write of Service or EndpointSlice failed: why */
    int64_t write_after_ms;    /* no write before */
    bool is_untold;            /* no status says this generation's revision yet: who comes after us would not know a load of it */
    int64_t status_written_ms; /* 0 = never by us */
    int64_t slice_written_ms;  /* likewise; begun or, if it has ended, ended */
    bool is_released;          /* our finalizer was taken off; the object may be shown with it yet */
    int64_t deleting_since_ms; /* 0 = not being deleted */
    int64_t drain_ms;
    int64_t give_up_ms; /* after the deletion: pods that do not answer are left behind */
    int64_t now_ms, wall_ms;
};

struct plan_action {
    enum hold_action kind;
    size_t pod;
};

struct plan_event {
    const char *type, *reason; /* static */
    char *message;
};
#define PLAN_EVENTS_MAX 8

struct plan_slice {
    char *name;
    json_t *body; /* object to create, or merge patch */
    bool is_create;
};

struct plan {
    /* per pod */
    bool *is_wanted;
    bool *is_serving; /* it ought to be in an EndpointSlice */
    bool *is_polled;  /* its list is wanted now */
    bool *is_gauged;  /* its engine is to be asked for requests of the adapter */
    bool *is_waiting; /* an action is due on it and it is busy: plan again when it is free */
    struct plan_action *actions;
    size_t action_count;
    int placed_short; /* replicas for which there is no pod with room */
    /* writes */
    unsigned due;       /* enum plan_write; plan_words has the words for service, slices and status */
    uint64_t digest;    /* of what Service and slices are to say */
    bool is_published;  /* plan_words found that they do */
    json_t *finalizers; /* merge patch of the object; NULL = none */
    bool releases;      /* ... that lets it go */
    json_t *service;    /* object to create, or merge patch when the API has one; NULL = none */
    struct plan_slice slices[PLAN_SLICES_MAX];
    size_t slice_count;
    bool is_status_urgent;
    json_t *status; /* merge patch of /status; NULL = none */
    struct plan_event events[PLAN_EVENTS_MAX];
    size_t event_count;
    int64_t look_again_ms; /* absolute; PLAN_NEVER */
};

/* The API's objects as plan_words needs them; NULL = absent. */
struct plan_objects {
    const json_t *service;
    const json_t *slices[PLAN_SLICES_MAX]; /* the first bears the adapter's name, the others NAME.2, NAME.3, ... */
    const json_t *status;
};

void plan_adapter(const struct plan_input *input, struct plan *ret_plan);
/* Words the writes that are due: `objects` holds what the API has of them (a status that is not due may be NULL). */
void plan_words(const struct plan_input *input, const struct plan_objects *objects, struct plan *plan);
void plan_release(struct plan *plan);

/* For those who make the input. */
/* What the object asks for, else `fallback`, which the controller was started with. */
enum placement_policy plan_policy(const struct model_adapter *adapter, enum placement_policy fallback);
int64_t plan_drain_ms(const struct model_adapter *adapter);
/* input.deleting_since_ms, of an object whose deletion is seen first at `now_ms`: as it says itself, so that a controller that
 * restarts does not begin to wait anew. Some of the time is always left for a try of its own, also where the clocks differ. */
int64_t plan_deleting_since(const json_t *object, int64_t drain_ms, int64_t now_ms, int64_t wall_ms);

/* input.arrivals_until_ms, of an object that this run sees for the first time at `now_ms`. */
int64_t plan_arrivals_until(const json_t *object, bool is_fully_loaded, int64_t observed_generation, int64_t now_ms);

/* For the parts of the planner. */
bool plan_is_current(const struct plan_input *input, const struct plan_pod *pod); /* it holds the current revision, proved */
bool plan_has_failed(const struct plan_input *input, const struct hold *hold);    /* at the current revision */
void plan_look_again(struct plan *plan, int64_t at_ms);
void plan_add_event(struct plan *plan, const char *type, const char *reason, const char *format, ...) DAVIT_PRINTF(4, 5);
/* A JSON string of any bytes: what is not UTF-8 becomes U+FFFD. */
json_t *plan_text(const char *text);

#endif
