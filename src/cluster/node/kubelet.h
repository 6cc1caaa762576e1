/* All pods of this node: those of the API that are assigned to it, and those whose processes an earlier run of the node left
 * behind. On the loop. */
#ifndef DAVIT_CLUSTER_NODE_KUBELET_H
#define DAVIT_CLUSTER_NODE_KUBELET_H

#include "cluster/node/local_pod.h"
#include "cluster/node/net.h"

struct kubelet;

struct kubelet_options {
    struct kube_client *client;
    struct transfers *transfers;
    struct event_recorder *events;
    struct watch_cache *pods;
    struct net *net;
    const char *folder;
    const char *node_name;
    int cpus;
};

struct kubelet *kubelet_new(const struct kubelet_options *options);
/* The processes go on. */
void kubelet_free(struct kubelet *kubelet);
/* Changes of pods, from before the first list was in, too. */
void kubelet_on_pod(struct kubelet *kubelet, json_t *old_object, json_t *new_object);
/* The first list is in: what was recorded and is not in it is killed. */
void kubelet_on_synced(struct kubelet *kubelet);
/* The log file of a run of a container, of the caller's; `previous`: of the run before. ERROR_NOT_FOUND says what is missing. */
int kubelet_log_file(const struct kubelet *kubelet, const char *namespace, const char *pod, const char *container, bool previous,
                     char **ret_path, struct error *err) DAVIT_MUST_USE;
/* That container of that pod runs now (a follower may expect more output). */
bool kubelet_is_running(const struct kubelet *kubelet, const char *namespace, const char *pod, const char *container);

#endif
