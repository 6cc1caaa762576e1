/* Sends one httpGet or tcpSocket probe. On the loop. */
#ifndef DAVIT_CLUSTER_NODE_PROBER_H
#define DAVIT_CLUSTER_NODE_PROBER_H

#include "base/json.h"
#include "io/transfer.h"

struct prober_call;

struct prober_request {
    struct transfers *transfers;
    const json_t *probe;     /* the probe's spec */
    const json_t *container; /* for named ports */
    const char *address;     /* of the pod */
    int64_t timeout_ms;
    /* Once, unless cancelled, never before prober_start returns. problem: what is wrong, for a person; "" when the probe succeeded.
     */
    void (*on_done)(void *arg, bool is_success, const char *problem);
    void *arg;
};

struct prober_call *prober_start(struct loop *loop, const struct prober_request *request);
void prober_cancel(struct prober_call *call);

#endif
