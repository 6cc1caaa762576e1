/* A pod of this node with its processes: performs what pod.h decides, and tells the API what came of it. On the loop. */
#ifndef DAVIT_CLUSTER_NODE_LOCAL_POD_H
#define DAVIT_CLUSTER_NODE_LOCAL_POD_H

#include "cluster/node/pod.h"
#include "kube/events.h"
#include "kube/watch_cache.h"

struct local_pod;

/* What all pods of a node share; borrowed by each. */
struct local_pod_context {
    struct kube_client *client;
    struct transfers *transfers; /* of probes */
    struct event_recorder *events;
    struct watch_cache *pods;
    const char *node_name;
    int cpus;
    const json_t *(*find_source)(void *arg, bool is_secret, const char *namespace, const char *name,
                                 bool *ret_is_known); /* see launch.h */
    /* Nothing of it runs any more and its object is gone: the callee frees it. */
    void (*on_gone)(void *arg, struct local_pod *local);
    void *arg;
};

/* Takes `pod` over (new, or restored from its record). It starts to work at the next turn of the loop. */
struct local_pod *local_pod_new(const struct local_pod_context *context, struct pod *pod, const char *folder);
/* Forgets it; its processes go on. */
void local_pod_free(struct local_pod *local);
const struct pod *local_pod_peek(const struct local_pod *local);
const char *local_pod_folder(const struct local_pod *local);

void local_pod_on_object(struct local_pod *local, json_t *object);         /* the API has a new version of it */
void local_pod_on_vanished(struct local_pod *local);                       /* the API has it no more: its processes are killed */
void local_pod_take_address(struct local_pod *local, const char *address); /* it had none */
void local_pod_rotate_logs(struct local_pod *local);                       /* cuts log files that grew too large */
void local_pod_look_at_logs(struct local_pod *local);                      /* notes how large they are now, see log_times.h */

#endif
