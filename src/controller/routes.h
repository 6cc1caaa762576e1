/* Keeps the HTTPRoutes of published adapters and the ReferenceGrants of their namespaces, where the Gateway API is installed: asked
 * at the start, again soon after, and every five minutes; without it nothing is watched and nothing written.
 *
 * A route is there from its adapter's first EndpointSlice until the adapter's deletion begins. Adapters are taken one at a time, a
 * few at once, with one write under way of each; what fails backs off, each by itself or, where the cause concerns all, together.
 * What is as it should be costs no request. */
#ifndef DAVIT_CONTROLLER_ROUTES_H
#define DAVIT_CONTROLLER_ROUTES_H

#include "controller/route_objects.h"
#include "io/metrics.h"
#include "kube/events.h"
#include "kube/watch_cache.h"

struct routes;

struct routes_setup {
    struct route_options objects; /* the strings outlive the routes */
    const char *namespace;        /* of the adapters; NULL = all */
    bool is_withdrawn;            /* no adapter is to have a route: those that are there go */
    struct kube_client *kube;
    struct event_recorder *events;
    struct metric *writes; /* label: kind */
    /* As objects.h reduces them; synced before the first routes_consider. */
    struct watch_cache *adapters, *services, *slices;
    /* The adapter being deleted may be let go now: its route has gone, or it is known that there is none. */
    void (*on_released)(void *arg, const char *key);
    void *arg;
};

struct routes *routes_new(const struct routes_setup *setup); /* asks at once */
void routes_free(struct routes *routes);                     /* NULL is fine */
/* Something about the adapter "namespace/name" may have changed, or it is gone. */
void routes_consider(struct routes *routes, const char *key); /* NULL is fine */
/* Whether a route of the adapter is there or may be. */
bool routes_has(const struct routes *routes, const char *key); /* NULL: none */
/* Nothing is written any more; how many writes still run. */
int routes_stop(struct routes *routes);

#endif
