/* The status of a Deployment. Pure. */
#ifndef DAVIT_CLUSTER_NODE_DEPLOYMENT_STATUS_H
#define DAVIT_CLUSTER_NODE_DEPLOYMENT_STATUS_H

#include "cluster/node/actions.h"

struct deployment_view {
    const json_t *deployment;
    const json_t *replica_sets;    /* all of them */
    const json_t *new_replica_set; /* NULL = none yet */
    int64_t replicas;              /* wanted */
    int64_t max_unavailable;
    int64_t wall_ms;
};

/* The caller's. May ask to look again when the progress deadline is reached. */
json_t *deployment_status(const struct deployment_view *view, struct api_actions *actions);

#endif
