/* Serves the output of containers to the API server, which shows the token of log_token.h: GET
 * /containerLogs/NAMESPACE/POD/CONTAINER[?follow=true][&tailLines=N][&previous=true][&limitBytes=N][&sinceSeconds=N]
 * [&sinceTime=RFC3339][&timestamps=true] on loopback, text/plain, streamed. Times are those of log_times.h. */
#ifndef DAVIT_CLUSTER_NODE_LOG_SERVER_H
#define DAVIT_CLUSTER_NODE_LOG_SERVER_H

#include "cluster/node/kubelet.h"

struct log_server;

/* Listens on a free port of 127.0.0.1. `api_token`: that of the API, from which the one that is asked for is made. NULL and *err
 * when it cannot. */
struct log_server *log_server_new(struct loop *loop, const char *api_token, struct error *err);
int log_server_port(const struct log_server *server);
void log_server_set_kubelet(struct log_server *server, const struct kubelet *kubelet); /* until then everything is not found */
void log_server_free(struct log_server *server);

#endif
