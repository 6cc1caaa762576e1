/* Serves the output of containers to the API server: GET
 * /containerLogs/NAMESPACE/POD/CONTAINER[?follow=true][&tailLines=N][&previous=true]
 * [&limitBytes=N] on loopback, text/plain, streamed. The files hold what the processes wrote and no times, so sinceSeconds and
 * timestamps have no effect. */
#ifndef DAVIT_CLUSTER_NODE_LOG_SERVER_H
#define DAVIT_CLUSTER_NODE_LOG_SERVER_H

#include "cluster/node/kubelet.h"

struct log_server;

/* Listens on a free port of 127.0.0.1. NULL and *err when it cannot. */
struct log_server *log_server_new(struct loop *loop, struct error *err);
int log_server_port(const struct log_server *server);
void log_server_set_kubelet(struct log_server *server, const struct kubelet *kubelet); /* until then everything is not found */
void log_server_free(struct log_server *server);

#endif
