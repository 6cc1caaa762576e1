/* The Node object that stands for this machine: made when missing, its heartbeat written every ten seconds. On the loop. */
#ifndef DAVIT_CLUSTER_NODE_NODE_OBJECT_H
#define DAVIT_CLUSTER_NODE_NODE_OBJECT_H

#include "kube/client.h"

struct node_object;

struct node_object_options {
    struct kube_client *client;
    const char *name;
    const char *pod_cidr;
    int cpus;
    int logs_port; /* where the API server asks for container output: 127.0.0.1 */
};

struct node_object *node_object_new(const struct node_object_options *options);
void node_object_free(struct node_object *node);

#endif
