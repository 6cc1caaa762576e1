/* ReplicaSets: how many pods there should be, and which go first. Pure. Behaves as kube-controller-manager's replicaset controller.
 */
#ifndef DAVIT_CLUSTER_NODE_REPLICA_SET_H
#define DAVIT_CLUSTER_NODE_REPLICA_SET_H

#include "cluster/node/actions.h"

/* `pods`: an array of those whose controller is the ReplicaSet. The names of new pods are made of `seed`: another one each time. */
void replica_set_plan(const json_t *replica_set, const json_t *pods, int64_t wall_ms, uint64_t seed,
                      struct api_actions *ret_actions);

#endif
