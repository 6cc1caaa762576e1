/* The decision, pure: one ModelAdapter, the pods that concern it and the time in; actions out.
 *
 * plan_adapter() is called whenever something about the adapter may have changed and whenever it asked to be called. It never asks
 * twice for what already runs (`hold.running`, `is_busy`, `writes_running`), and in a world that is as it should be it asks for
 * nothing.
 *
 * The order it keeps: publish after proof; endpoint out, drain, then unload; finalizer last, and in bounded time. */
#ifndef DAVIT_CONTROLLER_PLAN_H
#define DAVIT_CONTROLLER_PLAN_H

#include "adapter/placement.h"
#include "controller/hold.h"

#define PLAN_NEVER INT64_MAX

enum proof_mode { PROOF_EFFECT, PROOF_GENERATE, PROOF_LIST };

enum plan_write { WRITE_FINALIZER = 1, WRITE_SERVICE = 2, WRITE_SLICE = 4, WRITE_STATUS = 8 };

struct plan_pod {
    const char *name, *uid, *ip, *node;
    const char *start; /* of the engine that runs now */
    int engine_port;
    bool matches;                /* the selector does */
    bool is_ready;               /* condition Ready, has an address, is not being deleted */
    bool is_gone;                /* deleted or being deleted */
    bool is_observed;            /* its list was read since this start */
    bool is_unreachable;         /* it has not answered for a while */
    const char *observe_failure; /* why the last poll failed; NULL when it did not */
    bool is_busy;                /* as many actions run on it as may, of any adapters */
    int adapters;                /* that it holds or is going to hold */
    bool is_published;           /* it is in the EndpointSlice */
    const struct hold *hold;
};

struct plan_input {
    const json_t *object; /* the ModelAdapter */
    const struct model_adapter *adapter;
    const char *invalid; /* why it can never serve; NULL = it can */
    char revision[REVISION_BYTES];
    const struct plan_pod *pods;
    size_t pod_count;
    const json_t *service, *slice; /* as the API has them; NULL = absent */
    enum proof_mode proof;
    enum placement_policy policy;
    unsigned writes_running;
    const char *write_failure; /* the last write of Service or EndpointSlice failed: why */
    int64_t write_after_ms;    /* no write before */
    int64_t status_written_ms; /* 0 = never by us */
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

struct plan {
    /* per pod */
    bool *is_wanted;
    bool *is_serving; /* it ought to be in the EndpointSlice */
    bool *is_polled;  /* its list is wanted now */
    struct plan_action *actions;
    size_t action_count;
    bool waits_for_pod; /* an action is due on a pod that is busy: plan again when it is free */
    /* writes; NULL = none */
    json_t *finalizers; /* merge patch of the object */
    bool releases;      /* ... that lets it go */
    json_t *service;    /* object to create, or merge patch when input.service is not NULL */
    json_t *slice;      /* likewise */
    json_t *status;     /* merge patch of /status */
    struct plan_event events[PLAN_EVENTS_MAX];
    size_t event_count;
    int64_t look_again_ms; /* absolute; PLAN_NEVER */
};

void plan_adapter(const struct plan_input *input, struct plan *ret_plan);
void plan_release(struct plan *plan);

/* For the parts of the planner. */
bool plan_is_current(const struct plan_input *input, const struct plan_pod *pod); /* it holds the current revision, proved */
void plan_look_again(struct plan *plan, int64_t at_ms);
void plan_add_event(struct plan *plan, const char *type, const char *reason, const char *format, ...) DAVIT_PRINTF(4, 5);
/* A JSON string of any bytes: what is not UTF-8 becomes U+FFFD. */
json_t *plan_text(const char *text);

#endif
