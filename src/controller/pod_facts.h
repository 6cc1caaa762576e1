/* What the controller needs to know of a Pod object, pure. */
#ifndef DAVIT_CONTROLLER_POD_FACTS_H
#define DAVIT_CONTROLLER_POD_FACTS_H

#include "base/json.h"
#include "dialect/dialect.h"

struct pod_facts {
    const char *name, *namespace, *uid, *node; /* borrowed from the object, "" when absent */
    const char *ip;                            /* status.podIP, "" when it has none */
    const char *second_ip;                     /* of the other address family (dual stack), "" when there is none */
    const json_t *labels;
    bool is_gone;  /* deleted, being deleted, or at its end */
    bool is_ready; /* condition Ready, an address, and not gone */
    bool has_sidecar;
    int engine_port, sidecar_port;
    enum dialect engine; /* DIALECT_VLLM or DIALECT_SGLANG */
    int capacity;        /* adapters that the engine's arguments say it can keep resident; 0 = they do not say */
};

void pod_facts_read(const json_t *pod, struct pod_facts *ret_facts);
/* The identity of the engine's present start: the pod's uid, and restart count and start time of the engine's container. Which one
 * that is: the one that has the engine's port among its ports, else the one named "engine", else all but the sidecar. Of the
 * caller's. */
char *pod_facts_start(const json_t *pod);
/* What of a Pod object is read here and in events; the rest would only take memory. A new object. */
json_t *pod_facts_reduce(const json_t *pod);

#endif
