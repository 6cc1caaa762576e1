/* What routing needs of Kubernetes objects, read into plain records. Pure. */
#ifndef DAVIT_GATEWAY_ROUTE_READ_H
#define DAVIT_GATEWAY_ROUTE_READ_H

#include "base/json.h"

#define ROUTE_SLICE_ENDPOINTS_MAX 1000 /* as Kubernetes allows */

#define ROUTE_ENGINE_NAME_BYTES_MAX 256 /* a longer one is not believed */
#define ROUTE_POD_IPS_MAX 2             /* one of each family, as Kubernetes gives */

/* How far something can be asked (the conditions of EndpointSlices mean the same). */
enum route_state {
    ROUTE_STATE_OUT,    /* not ready, or gone */
    ROUTE_STATE_ENDING, /* still serves and is about to go: asked only where nothing is ready */
    ROUTE_STATE_READY,
};

/* Addresses are numeric and in their canonical form. */
struct route_pod {
    char *ips[ROUTE_POD_IPS_MAX]; /* the first is the pod's own choice; "" when it has none (yet) */
    char *model;                  /* label model.aibrix.ai/name; "" when absent */
    int port;                     /* label model.aibrix.ai/port, else 8000 */
    enum route_state state;       /* ENDING: Ready and being deleted */
    bool is_sglang;
    int64_t created_s;
};
void route_pod_read(const json_t *pod, struct route_pod *ret_facts);
void route_pod_release(struct route_pod *facts);
bool route_pod_has_ip(const struct route_pod *facts, const char *ip);
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
    char *pod;              /* name in targetRef, "" when absent */
    char *engine_name;      /* of the annotation engine-names; "" = the adapter's own name */
    enum route_state state; /* READY: `ready` is not false; ENDING: `serving` and `terminating` are true */
};
struct route_slice {
    char *service;                    /* label kubernetes.io/service-name */
    char *owner_uid;                  /* of the ModelAdapter that owns it, "" when none does */
    int port;                         /* the port "http", else the first one; 0 when it names none */
    struct slice_endpoint *endpoints; /* those with a numeric address, and not OUT */
    size_t count;
};
void route_slice_read(const json_t *slice, struct route_slice *ret_facts);
void route_slice_release(struct route_slice *facts);
bool route_slice_equal(const struct route_slice *a, const struct route_slice *b);

#endif
