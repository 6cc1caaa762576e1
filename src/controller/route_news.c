#include "controller/route_news.h"

#include "base/map.h"
#include "controller/objects.h"
#include "controller/route_objects.h"

#include <string.h>

#define REFUSAL_PATIENCE_MS 5000 /* a gateway may see a route before the grant or the Service that it needs */

struct told {
    char *conflict; /* uid of what has the name; NULL = nothing */
    char *refusal;  /* in the gateway's words; NULL = none */
    int64_t refusal_due_ms;
    bool is_refusal_told;
};

struct route_news {
    struct event_recorder *events;
    struct map told;
};

static struct told *told_of(struct route_news *news, const char *key) {
    struct told *told = map_get(&news->told, key);
    if (told == NULL) {
        told = xcalloc(1, sizeof(*told));
        map_set(&news->told, key, told);
    }
    return told;
}

void route_news_forget(struct route_news *news, const char *key) {
    struct told *told = map_remove(&news->told, key);
    if (told != NULL) {
        free(told->conflict);
        free(told->refusal);
        free(told);
    }
}

void route_news_forget_all(struct route_news *news) {
    struct map_entry *entry = NULL;
    for (size_t at = 0; (entry = map_next(&news->told, &at)) != NULL;) {
        route_news_forget(news, entry->key);
    }
}

/* Whether it is another than before, which it then is no more. */
static bool is_new(char **before, const char *now) {
    if (*before != NULL && strcmp(*before, now) == 0) {
        return false;
    }
    free(*before);
    *before = xstrdup(now);
    return true;
}

void route_news_conflict(struct route_news *news, const char *key, const json_t *adapter, const json_t *route) {
    if (!is_new(&told_of(news, key)->conflict, kube_uid(route))) {
        return;
    }
    cleanup_free char *owner = route_adapter_key(route);
    event_record(
        news->events, adapter, "Warning", "RouteConflict",
        "HTTPRoute %s/%s is not this adapter's but %s%s: it is left alone, and the gateway does not know this adapter by it",
        kube_namespace(route), kube_name(route), owner != NULL ? "that of adapter " : "somebody else's",
        owner != NULL ? owner : "");
}

int64_t route_news_refusal(struct route_news *news, const char *key, const json_t *adapter, const json_t *route, int64_t now_ms) {
    const char *refusal = objects_route_refusal(route);
    if (refusal == NULL) {
        route_news_forget(news, key);
        return 0;
    }
    struct told *told = told_of(news, key);
    if (is_new(&told->refusal, refusal)) {
        told->refusal_due_ms = now_ms + REFUSAL_PATIENCE_MS;
        told->is_refusal_told = false;
    }
    if (!told->is_refusal_told && now_ms >= told->refusal_due_ms) {
        told->is_refusal_told = true;
        event_record(news->events, adapter, "Warning", "RouteRefused", "HTTPRoute %s/%s: %s", kube_namespace(route),
                     kube_name(route), refusal);
    }
    return told->is_refusal_told ? 0 : told->refusal_due_ms - now_ms;
}

void route_news_failure(struct route_news *news, const json_t *adapter, const char *message) {
    event_record(news->events, adapter, "Warning", "RouteFailed", "%s", message);
}

void route_news_each_conflict(const struct route_news *news, void (*visit)(void *arg, const char *key), void *arg) {
    const struct map_entry *entry = NULL;
    for (size_t at = 0; (entry = map_next(&news->told, &at)) != NULL;) {
        if (((const struct told *)entry->value)->conflict != NULL) {
            visit(arg, entry->key);
        }
    }
}

struct route_news *route_news_new(struct event_recorder *events) {
    struct route_news *news = xcalloc(1, sizeof(*news));
    *news = (struct route_news){.events = events, .told = MAP_INIT};
    return news;
}

void route_news_free(struct route_news *news) {
    route_news_forget_all(news);
    map_release(&news->told);
    free(news);
}
