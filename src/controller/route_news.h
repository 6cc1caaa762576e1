/* What is told of adapters' routes in events, once per change: a name that somebody else has, a gateway that does not take the
 * route, a write that fails. Keys: "namespace/name" of adapters. */
#ifndef DAVIT_CONTROLLER_ROUTE_NEWS_H
#define DAVIT_CONTROLLER_ROUTE_NEWS_H

#include "kube/events.h"

struct route_news;

struct route_news *route_news_new(struct event_recorder *events);
void route_news_free(struct route_news *news);
/* RouteConflict: `route` has the name and is not the adapter's. */
void route_news_conflict(struct route_news *news, const char *key, const json_t *adapter, const json_t *route);
/* RouteRefused: the gateway does not take the route (objects_route_refusal), and has not for a while. After how long it is to be
 * looked at again; 0 = when it changes. */
int64_t route_news_refusal(struct route_news *news, const char *key, const json_t *adapter, const json_t *route, int64_t now_ms);
/* RouteFailed: the API does not take it. Of a change of the failure alone. */
void route_news_failure(struct route_news *news, const json_t *adapter, const char *message);
/* Calls visit(arg, key) for each with a conflict. */
void route_news_each_conflict(const struct route_news *news, void (*visit)(void *arg, const char *key), void *arg);
void route_news_forget(struct route_news *news, const char *key); /* all is well, or there is no such adapter */
void route_news_forget_all(struct route_news *news);

#endif
