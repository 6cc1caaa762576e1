/* Deployments: which ReplicaSets there should be and of what size, and what the status says. Pure. Behaves as
 * kube-controller-manager's deployment controller (rolling update with maxSurge and maxUnavailable, Recreate, revisions, paused,
 * progress deadline), but for one thing: scaling in the middle of a rollout goes to the new ReplicaSet alone and is not spread in
 * proportion. */
#ifndef DAVIT_CLUSTER_NODE_DEPLOYMENT_H
#define DAVIT_CLUSTER_NODE_DEPLOYMENT_H

#include "cluster/node/actions.h"

/* `replica_sets`: an array of those whose controller is the Deployment. */
void deployment_plan(const json_t *deployment, const json_t *replica_sets, int64_t wall_ms, struct api_actions *ret_actions);

/* An absolute number or a percentage ("25%") of `total`; `fallback` when `value` is neither. */
int64_t int_or_percent(const json_t *value, int64_t total, bool round_up, const char *fallback);
/* The newest ReplicaSet whose template is the Deployment's, NULL when there is none yet. Borrowed. */
json_t *deployment_new_replica_set(const json_t *deployment, const json_t *replica_sets);

#endif
