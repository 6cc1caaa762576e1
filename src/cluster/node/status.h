/* The `status` of a pod as a kubelet writes it. Pure. */
#ifndef DAVIT_CLUSTER_NODE_STATUS_H
#define DAVIT_CLUSTER_NODE_STATUS_H

#include "cluster/node/pod.h"

/* `previous`: the status that was written last (NULL = none), from which transition times of unchanged conditions are taken. The
 * caller's. */
json_t *pod_status(const struct pod *pod, const json_t *previous, int64_t wall_ms);
/* A merge patch that turns `previous` into `status`: the whole status, and null for what is no longer in it. The caller's. */
json_t *pod_status_patch(const json_t *status, const json_t *previous);
/* The QoS class that the resources of the containers amount to. */
const char *pod_qos_class(const json_t *spec);

#endif
