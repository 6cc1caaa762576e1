/* The shell of the Deployment and ReplicaSet controllers and of the scheduler: hears of changes, asks the pure plans, sends what
 * they decide. On the loop. */
#ifndef DAVIT_CLUSTER_NODE_WORKLOADS_H
#define DAVIT_CLUSTER_NODE_WORKLOADS_H

#include "kube/events.h"
#include "kube/watch_cache.h"

struct workloads;

struct workloads_options {
    struct kube_client *client;
    struct event_recorder *controller_events;
    struct event_recorder *scheduler_events;
    struct watch_cache *deployments;
    struct watch_cache *replica_sets;
    struct watch_cache *pods;
    const char *node_name; /* where pods go; borrowed */
};

/* Nothing is decided before all three caches are in: tell by workloads_on_synced. */
struct workloads *workloads_new(const struct workloads_options *options);
void workloads_free(struct workloads *workloads);
void workloads_on_synced(struct workloads *workloads);
/* The change of a Deployment, ReplicaSet or pod; either object may be NULL. */
void workloads_on_deployment(struct workloads *workloads, const json_t *old_object, const json_t *new_object);
void workloads_on_replica_set(struct workloads *workloads, const json_t *old_object, const json_t *new_object);
void workloads_on_pod(struct workloads *workloads, const json_t *old_object, const json_t *new_object);

#endif
