/* Keeps route snapshots current from a Kubernetes API: watches ModelAdapters, EndpointSlices and the pods of base models, and hands
 * out a new snapshot when they changed, at most every ROUTE_REBUILD_INTERVAL_MS. On its loop's thread. */
#ifndef DAVIT_GATEWAY_ROUTE_SOURCE_H
#define DAVIT_GATEWAY_ROUTE_SOURCE_H

#include "gateway/gateway_metrics.h"
#include "gateway/route.h"
#include "kube/client.h"

#define ROUTE_REBUILD_INTERVAL_MS 20

struct route_source;

struct route_source_options {
    struct kube_client *client;
    const char *namespace; /* NULL = all */
    struct gateway_metrics *metrics;
    /* With a reference for the callee. The first comes when everything was read once. */
    void (*on_snapshot)(void *arg, struct route_snapshot *snapshot);
    void *arg;
};

struct route_source *route_source_new(const struct route_source_options *options);
void route_source_free(struct route_source *source);

#endif
