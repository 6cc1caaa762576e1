/* GET pods/NAME/log: hands on what the pod's node serves (cluster/node/log_server.h). The API server opens no log file itself.
 * Nodes are processes of this machine: the port comes from the node object (status.daemonEndpoints.kubeletEndpoint.Port), the
 * address is always 127.0.0.1. */
#ifndef DAVIT_CLUSTER_API_POD_LOG_H
#define DAVIT_CLUSTER_API_POD_LOG_H

#include "cluster/api/api.h"

struct upstream;

struct upstream *pod_log_upstream_new(struct loop *loop);
/* NULL when the call is answered or will be, else the Status that refuses it. */
json_t *pod_log_serve(struct call *call) DAVIT_MUST_USE;

#endif
