/* What the controller needs to know of a Pod object, pure. */
#ifndef DAVIT_CONTROLLER_POD_FACTS_H
#define DAVIT_CONTROLLER_POD_FACTS_H

#include "base/json.h"
#include "dialect/dialect.h"

struct pod_facts {
    const char *name, *namespace, *uid, *ip, *node; /* borrowed from the object, "" when absent */
    const json_t *labels;
    bool is_gone;  /* deleted, being deleted, or at its end */
    bool is_ready; /* condition Ready, an address, and not gone */
    bool has_sidecar;
    int engine_port, sidecar_port;
    enum dialect engine; /* DIALECT_VLLM or DIALECT_SGLANG */
};

void pod_facts_read(const json_t *pod, struct pod_facts *ret_facts);
/* The identity of the engine's present start: uid, and of each container but the sidecar restart count and start time. Of the
 * caller's. */
char *pod_facts_start(const json_t *pod);

#endif
