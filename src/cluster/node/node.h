/* `davit node`: Deployments and pods as processes of this machine, against any Kubernetes API. Images are not pulled: a container's
 * command must exist here.
 *
 * Parts: workloads (deployment, replica_set: pure) and the scheduler; kubelet -> local_pod -> pod (pure), launch, probe and prober,
 * status (pure), records and marks; net; node_object; log_server. */
#ifndef DAVIT_CLUSTER_NODE_NODE_H
#define DAVIT_CLUSTER_NODE_NODE_H

#include "base/error.h"

#include <stdint.h>

struct node_options {
    const char *kubeconfig; /* NULL = as kube_config_load finds it */
    const char *folder;     /* state; made when missing */
    const char *name;       /* of the node; NULL = the host's */
    const char *pod_cidr;   /* "127.1.N.0/24"; NULL = the one it had, else a free one */
};

/* Runs until SIGTERM or SIGINT. Pods are left running: the next run adopts them. */
int node_run(const struct node_options *options, struct error *err) DAVIT_MUST_USE;

/* Ends every process of the pods recorded in `folder`: SIGTERM, and SIGKILL after grace_ms. Needs no API; the node must not run (it
 * would start them again). Blocks up to grace_ms and a second. *ret_count (may be NULL): processes that were ended. ERROR_TIMEOUT
 * when some do not die. */
int node_kill_all(const char *folder, int64_t grace_ms, int *ret_count, struct error *err) DAVIT_MUST_USE;

#endif
