/* What the controller would do once a ModelAdapter is stored as it is given here, without doing it. Pure.
 *
 * The planner itself decides (plan.h, hold.h, publish.h): it is run under a clock of its own in a copy of the world where every
 * action succeeds, until it asks for nothing more. Other adapters stay as they are. What an engine was not asked for is believed of
 * the adapters' statuses. HTTPRoutes are not looked at. */
#ifndef DAVIT_CONTROLLER_PREVIEW_H
#define DAVIT_CONTROLLER_PREVIEW_H

#include "controller/plan.h"

#define PREVIEW_STEPS_MAX 20000

struct preview_pod {
    const json_t *object;
    const struct dialect_models *models; /* what its engine lists; NULL = it was not asked or did not answer */
};

/* Everything is of the adapter's namespace, as the API has it, and borrowed. */
struct preview_input {
    const json_t *object;   /* as it would be stored: preview_object makes it */
    const json_t *existing; /* as it is stored now; NULL = it is not */
    const struct preview_pod *pods;
    size_t pod_count;
    const json_t *adapters;                /* array: the ModelAdapters, the existing one among them or not */
    const json_t *nodes;                   /* array; NULL = unknown */
    const json_t *service;                 /* of the adapter's name; NULL = none */
    const json_t *slices[PLAN_SLICES_MAX]; /* NAME, NAME.2, ...; NULL = none */
    /* As the controller was started. */
    bool enable_sidecar, has_engine_names;
    enum proof_mode proof;
    enum placement_policy policy;
};

enum preview_action {
    PREVIEW_CREATE,    /* the ModelAdapter */
    PREVIEW_UPDATE,    /* the ModelAdapter; detail: the fields */
    PREVIEW_FINALIZER, /* it gets the finalizer */
    PREVIEW_CREATE_SERVICE,
    PREVIEW_UPDATE_SERVICE,
    PREVIEW_CREATE_SLICE, /* detail: its name, also below */
    PREVIEW_UPDATE_SLICE,
    PREVIEW_LOAD, /* detail: the revision */
    PREVIEW_PROVE,
    PREVIEW_PUBLISH,  /* its endpoint */
    PREVIEW_WITHDRAW, /* its endpoint */
    PREVIEW_DRAIN,    /* detail: how long at most */
    PREVIEW_UNLOAD,   /* detail: the revision, "" = one that is not known */
    PREVIEW_RELEASE,  /* an object that is being deleted is let go */
};
const char *preview_action_name(enum preview_action action); /* "load", "create-service", ... */

struct preview_step {
    enum preview_action action;
    char *pod;    /* NULL = it is about no pod */
    char *detail; /* never NULL */
};

struct preview {
    struct preview_step *steps; /* in order; what concerns several pods at once may interleave otherwise */
    size_t step_count;
    bool is_cut;      /* there were more steps than PREVIEW_STEPS_MAX, or no end was found */
    bool is_example;  /* which of equal pods are chosen depends on the uid that the new object is given */
    json_t *object;   /* in the end, with its status */
    json_t *blocked;  /* array of {"pod" or none, "reason", "message"}: what stands in the way in the end */
    json_t *believed; /* array of names: pods that nobody asked and that may hold the adapter */
};

void preview_make(const struct preview_input *input, struct preview *ret_preview);
void preview_release(struct preview *preview);

/* The object as the API would hold it after `kubectl apply` of `file`: what kubectl applied before and `file` has no more goes,
 * what others set stays. `existing` may be NULL. A new reference. */
json_t *preview_object(const json_t *file, const json_t *existing);

#endif
