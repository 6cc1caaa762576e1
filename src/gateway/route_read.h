/* What routing needs of Kubernetes objects, read into plain records. Pure. */
#ifndef DAVIT_GATEWAY_ROUTE_READ_H
#define DAVIT_GATEWAY_ROUTE_READ_H

#include "base/json.h"

#define ROUTE_SLICE_ENDPOINTS_MAX 1000 /* as Kubernetes allows */

struct route_pod {
    char *ip;         /* numeric; "" when it has none yet */
    char *model;      /* label model.aibrix.ai/name; "" when absent */
    int port;         /* label model.aibrix.ai/port, else 8000 */
    bool is_routable; /* has an address, is Ready and is not being deleted */
    bool is_sglang;
    int64_t created_s;
};
void route_pod_read(const json_t *pod, struct route_pod *ret_facts);
void route_pod_release(struct route_pod *facts);
bool route_pod_equal(const struct route_pod *a, const struct route_pod *b);

struct route_adapter {
    char *uid;
    char *root; /* artifactURL without user info, query and fragment */
    char *base; /* spec.baseModel, "" when absent */
    int64_t created_s;
};
void route_adapter_read(const json_t *adapter, struct route_adapter *ret_facts);
void route_adapter_release(struct route_adapter *facts);
bool route_adapter_equal(const struct route_adapter *a, const struct route_adapter *b);

struct slice_endpoint {
    char *ip;
    char *pod; /* name in targetRef, "" when absent */
};
struct route_slice {
    char *service;                    /* label kubernetes.io/service-name */
    char *owner_uid;                  /* of the ModelAdapter that owns it, "" when none does */
    int port;                         /* the port "http", else the first one; 0 when it names none */
    struct slice_endpoint *endpoints; /* numeric addresses whose `ready` is not false */
    size_t count;
};
void route_slice_read(const json_t *slice, struct route_slice *ret_facts);
void route_slice_release(struct route_slice *facts);
bool route_slice_equal(const struct route_slice *a, const struct route_slice *b);

#endif
