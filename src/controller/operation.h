/* One action that runs on an engine: for act.c, which begins and ends it, and prove.c, which knows what a proof is. */
#ifndef DAVIT_CONTROLLER_OPERATION_H
#define DAVIT_CONTROLLER_OPERATION_H

#include "controller/secrets.h"
#include "controller/world.h"

enum step { STEP_KEY, STEP_CREDENTIALS, STEP_CALL, STEP_PROVE_BASE };

/* What the base model answered to the prompt of the first loads at this start: the same for all adapters of the pod. */
struct base_proof {
    char *model;
    struct dialect_proof proof;
};

struct operation {
    LIST_ENTRY(operation) in_pod;
    struct controller *controller;
    struct pod *pod;
    char *adapter_key, *adapter_uid;
    char *start;
    char revision[REVISION_BYTES];
    char *engine_name; /* under which the pod has it, or is to have it */
    enum hold_action kind;
    enum step step;
    int64_t started_ms;
    char *api_key;       /* NULL = none */
    json_t *credentials; /* NULL = none */
    struct secret_wait *wait;
    struct transfer *transfer;
    struct dialect_proof *proof; /* of the adapter, while the base is asked */
    char *prompt, *base_model;
    bool is_first; /* the prompt is that of first loads */
};

/* ---- act.c ---- */
/* Its result is noted in the hold: the pod is free for another, and the adapter is planned again. Frees the operation. */
void operation_end(struct operation *operation);
/* Notes the failure first. `reason` is static. */
void operation_fail(struct operation *operation, enum dialect_outcome outcome, const char *reason, const char *message);
/* Sends the request (released) to a port of the pod; the answer comes to take_answer of act.c. */
void operation_send(struct operation *operation, struct dialect_request *body, int port, int64_t timeout_ms);

/* ---- prove.c ---- */
/* Makes a proof of the operation, which may have been a load until now: the prompt, and who is asked. */
void prove_prepare(struct operation *operation, struct binding *binding);
/* Asks as the adapter, or (NULL) as the base model. */
void prove_send(struct operation *operation, const char *name);
/* Ends the operation, or goes on with the base model. */
void prove_take_answer(struct operation *operation, struct binding *binding, int status, const char *body, size_t len);

#endif
