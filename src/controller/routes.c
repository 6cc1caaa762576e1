#include "controller/routes.h"

#include "adapter/names.h"
#include "base/clock.h"
#include "base/log.h"
#include "controller/gateway_api.h"
#include "controller/objects.h"
#include "controller/route_news.h"
#include "controller/route_writes.h"
#include "kube/work_queue.h"

#include <string.h>

#define WRITES_MAX 8         /* at once */
#define GRANT_REMOVAL_MS 500 /* several adapters that go are one look at their namespace */

struct routes {
    struct routes_setup setup;
    struct work_queue *queue;
    struct watch_cache *routes, *grants; /* NULL unless installed */
    struct gateway_api *api;
    struct route_writes *writes;
    struct route_news *news;
    bool is_stopping;
};

static const char *name_in(const char *key) {
    return strchr(key, '/') + 1;
}

static char *namespace_in(const char *key) {
    return xstrndup(key, (size_t)(strchr(key, '/') - key));
}

/* ---- what is there ---- */

static bool is_synced(const struct routes *routes) {
    return routes->routes != NULL && watch_cache_is_synced(routes->routes) && watch_cache_is_synced(routes->grants);
}

static const json_t *adapter_of(const struct routes *routes, const char *key) {
    cleanup_free char *namespace = namespace_in(key);
    return watch_cache_get(routes->setup.adapters, namespace, name_in(key));
}

static const json_t *route_of(const struct routes *routes, const char *key) {
    cleanup_free char *name = route_name(name_in(key));
    return routes->routes != NULL ? watch_cache_get(routes->routes, routes->setup.objects.gateway_namespace, name) : NULL;
}

static bool is_own(const json_t *route, const char *key) {
    cleanup_free char *owner = route != NULL ? route_adapter_key(route) : NULL;
    return owner != NULL && strcmp(owner, key) == 0;
}

static bool is_published(const struct routes *routes, const json_t *adapter) {
    const json_t *slice = watch_cache_get(routes->setup.slices, kube_namespace(adapter), kube_name(adapter));
    return slice != NULL && objects_is_controlled_by(slice, kube_uid(adapter));
}

static int port_of(const struct routes *routes, const json_t *adapter) {
    const json_t *service = watch_cache_get(routes->setup.services, kube_namespace(adapter), kube_name(adapter));
    int port = service != NULL ? objects_port(service) : 0;
    return port != 0 ? port : ENGINE_PORT;
}

static bool is_looked_at(const struct routes *routes, const char *key) {
    size_t len = routes->setup.namespace != NULL ? strlen(routes->setup.namespace) : 0;
    return len == 0 || (strncmp(key, routes->setup.namespace, len) == 0 && key[len] == '/');
}

bool routes_has(const struct routes *routes, const char *key) {
    enum gateway_api_state state = routes != NULL ? gateway_api_state(routes->api) : GATEWAY_API_ABSENT;
    if (state == GATEWAY_API_ABSENT || state == GATEWAY_API_DENIED) {
        return false;
    }
    return !is_synced(routes) || is_own(route_of(routes, key), key) || route_writes_is_running(routes->writes, key);
}

/* There is nothing to do for the key, and nothing to tell. */
static void forget(struct routes *routes, const char *key) {
    route_writes_forget(routes->writes, key);
    route_news_forget(routes->news, key);
}

/* ---- writes ---- */

static void tell_failure(struct routes *routes, const struct route_written *written) {
    const json_t *adapter = name_in(written->key)[0] != '\0' ? adapter_of(routes, written->key) : NULL;
    if (!written->is_news) {
        log_debug("route of %s: %s", written->key, written->err->message);
        return;
    }
    log_warn("route of %s: %s", written->key, written->err->message);
    if (adapter != NULL) {
        route_news_failure(routes->news, adapter, written->err->message);
    }
}

static void on_written(void *arg, const struct route_written *written) {
    struct routes *routes = arg;
    const char *key = written->key;
    if (written->err != NULL) {
        tell_failure(routes, written);
    }
    if (written->may_be_gone) { /* the Gateway API, or the gateway's namespace */
        gateway_api_ask_soon(routes->api);
    }
    if (written->object != NULL && is_synced(routes)) {
        watch_cache_note_write(written->resource == &kube_http_routes ? routes->routes : routes->grants, written->object);
    }
    work_queue_add(routes->queue, key, 0);
    work_queue_done(routes->queue, key);
    const json_t *adapter = adapter_of(routes, key);
    if (adapter != NULL && kube_is_deleting(adapter)) {
        routes->setup.on_released(routes->setup.arg, key);
    }
}

/* `key` is done when the answer is there. `body`: NULL = delete. */
static void write_route(struct routes *routes, const char *key, const json_t *found, const json_t *body) {
    route_writes_start(routes->writes, &(struct route_write){.key = key,
                                                             .resource = &kube_http_routes,
                                                             .namespace = routes->setup.objects.gateway_namespace,
                                                             .found = found,
                                                             .body = body});
}

static void write_grant(struct routes *routes, const char *key, const json_t *found, const char *namespace, const json_t *body) {
    route_writes_start(routes->writes,
                       &(struct route_write){
                           .key = key, .resource = &kube_reference_grants, .namespace = namespace, .found = found, .body = body});
}

/* It goes, or has gone and the watch has not told yet. */
static bool is_going(const struct routes *routes, const char *key, const json_t *found) {
    return route_writes_has_deleted(routes->writes, key, found) || (found != NULL && kube_is_deleting(found));
}

/* ---- one adapter ---- */

/* Of an adapter that waits for its name: it may be free now. */
static void wake_waiting(void *arg, const char *key) {
    struct routes *routes = arg;
    if (route_of(routes, key) == NULL) {
        work_queue_add(routes->queue, key, 0);
    }
}

static void consider_grant(struct routes *routes, const char *adapters_namespace, int64_t delay_ms) {
    if (strcmp(adapters_namespace, routes->setup.objects.gateway_namespace) != 0) {
        cleanup_free char *key = xasprintf("%s/", adapters_namespace);
        work_queue_add(routes->queue, key, delay_ms);
    }
}

static const json_t *grant_in(const struct routes *routes, const char *adapters_namespace) {
    cleanup_free char *name = route_grant_name(&routes->setup.objects, adapters_namespace);
    return watch_cache_get(routes->grants, adapters_namespace, name);
}

/* Whether a write was begun. */
static bool bring_route(struct routes *routes, const char *key, const json_t *adapter, const json_t *reduced) {
    cleanup_json json_t *wanted = route_render(&routes->setup.objects, adapter, port_of(routes, adapter));
    cleanup_json json_t *found = reduced != NULL ? objects_unpack(reduced) : NULL;
    cleanup_json json_t *body = found != NULL ? route_patch(wanted, found) : json_incref(wanted);
    if (body == NULL) {
        route_writes_forget(routes->writes, key);
        int64_t delay_ms = route_news_refusal(routes->news, key, adapter, reduced, clock_now_ms());
        if (delay_ms > 0) {
            work_queue_add(routes->queue, key, delay_ms);
        }
        return false;
    }
    write_route(routes, key, found, body);
    return true;
}

static bool work_on_adapter(struct routes *routes, const char *key) {
    const json_t *adapter = adapter_of(routes, key);
    const json_t *route = route_of(routes, key);
    bool is_ours = is_own(route, key);
    if (is_going(routes, key, route)) {
        return false; /* it is looked at again when it has gone */
    }
    if (adapter == NULL || kube_is_deleting(adapter) || routes->setup.is_withdrawn) {
        cleanup_free char *namespace = namespace_in(key);
        if (is_ours) {
            write_route(routes, key, route, NULL);
            return true;
        }
        forget(routes, key);
        consider_grant(routes, namespace, GRANT_REMOVAL_MS);
        return false;
    }
    if (!is_ours && !is_published(routes, adapter)) {
        return false;
    }
    if (route != NULL && !is_ours) {
        route_news_conflict(routes->news, key, adapter, route);
        return false;
    }
    if (grant_in(routes, kube_namespace(adapter)) == NULL) {
        consider_grant(routes, kube_namespace(adapter), 0);
    }
    return bring_route(routes, key, adapter, route);
}

/* ---- the grant of a namespace ---- */

static bool has_routes(const struct routes *routes, const char *adapters_namespace) {
    const json_t *route = NULL;
    for (size_t at = 0; (route = watch_cache_next(routes->routes, &at)) != NULL;) {
        cleanup_free char *key = route_adapter_key(route);
        cleanup_free char *namespace = key != NULL ? namespace_in(key) : NULL;
        if (namespace != NULL && strcmp(namespace, adapters_namespace) == 0) {
            return true;
        }
    }
    return false;
}

static bool has_adapters(const struct routes *routes, const char *adapters_namespace) {
    const json_t *adapter = NULL;
    for (size_t at = 0; (adapter = watch_cache_next(routes->setup.adapters, &at)) != NULL;) {
        if (strcmp(kube_namespace(adapter), adapters_namespace) == 0 && !kube_is_deleting(adapter)) {
            return true;
        }
    }
    return false;
}

static bool work_on_grant(struct routes *routes, const char *key) {
    cleanup_free char *namespace = namespace_in(key);
    const json_t *reduced = grant_in(routes, namespace);
    bool is_needed = has_routes(routes, namespace);
    if (is_going(routes, key, reduced)) {
        return false;
    }
    if (!is_needed) {
        bool may_come = !routes->setup.is_withdrawn && has_adapters(routes, namespace);
        bool is_spent = reduced != NULL && route_grant_is_ours(reduced) && !may_come;
        if (is_spent) {
            write_grant(routes, key, reduced, namespace, NULL);
        } else {
            forget(routes, key);
        }
        return is_spent;
    }
    cleanup_json json_t *wanted = route_grant_render(&routes->setup.objects, namespace);
    cleanup_json json_t *found = reduced != NULL ? objects_unpack(reduced) : NULL;
    if (found != NULL && !route_grant_is_ours(found)) {
        if (!route_grant_allows(&routes->setup.objects, found)) {
            log_warn("ReferenceGrant %s/%s is somebody else's and does not let HTTPRoutes of %s reach Services: it is left alone",
                     namespace, kube_name(found), routes->setup.objects.gateway_namespace);
        }
        return false;
    }
    cleanup_json json_t *body = found != NULL ? route_patch(wanted, found) : json_incref(wanted);
    if (body != NULL) {
        write_grant(routes, key, found, namespace, body);
    } else {
        forget(routes, key);
    }
    return body != NULL;
}

static void on_key(void *arg, const char *key) {
    struct routes *routes = arg;
    int64_t now_ms = clock_now_ms();
    int64_t due_ms = route_writes_due_ms(routes->writes, key);
    bool is_begun = false;
    if (is_synced(routes) && !routes->is_stopping) {
        if (due_ms > now_ms) {
            work_queue_add(routes->queue, key, due_ms - now_ms);
        } else {
            is_begun = name_in(key)[0] != '\0' ? work_on_adapter(routes, key) : work_on_grant(routes, key);
        }
    }
    if (!is_begun) {
        work_queue_done(routes->queue, key);
    }
}

void routes_consider(struct routes *routes, const char *key) {
    if (routes != NULL && is_synced(routes)) {
        work_queue_add(routes->queue, key, 0);
    }
}

/* ---- changes ---- */

static void on_route(void *arg, enum watch_change change, json_t *old_object, json_t *new_object) {
    struct routes *routes = arg;
    const json_t *sides[] = {old_object, new_object}; /* labels may have been taken off or put on */
    for (size_t i = 0; i < ARRAY_LEN(sides); i++) {
        cleanup_free char *key = sides[i] != NULL ? route_adapter_key(sides[i]) : NULL;
        if (key == NULL || !is_looked_at(routes, key)) {
            continue;
        }
        const json_t *adapter = adapter_of(routes, key);
        work_queue_add(routes->queue, key, 0);
        if (change == WATCH_ADDED) {
            cleanup_free char *namespace = namespace_in(key);
            consider_grant(routes, namespace, 0);
        }
        if (change == WATCH_DELETED && adapter != NULL && kube_is_deleting(adapter)) {
            routes->setup.on_released(routes->setup.arg, key);
        }
    }
    if (change == WATCH_DELETED) {
        route_news_each_conflict(routes->news, wake_waiting, routes);
    }
}

static void on_grant(void *arg, enum watch_change change, json_t *old_object, json_t *new_object) {
    struct routes *routes = arg;
    const char *namespace = kube_namespace(new_object != NULL ? new_object : old_object);
    cleanup_free char *name = route_grant_name(&routes->setup.objects, namespace);
    (void)change;
    if (strcmp(name, kube_name(new_object != NULL ? new_object : old_object)) == 0) {
        consider_grant(routes, namespace, 0);
    }
}

/* Everything is looked at, and who waits to be let go is told. */
static void look_at_all(struct routes *routes) {
    const json_t *object = NULL;
    for (size_t at = 0; (object = watch_cache_next(routes->setup.adapters, &at)) != NULL;) {
        cleanup_free char *key = xasprintf("%s/%s", kube_namespace(object), kube_name(object));
        routes_consider(routes, key);
        if (kube_is_deleting(object)) {
            routes->setup.on_released(routes->setup.arg, key);
        }
    }
}

static void on_synced(void *arg) {
    struct routes *routes = arg;
    if (is_synced(routes)) {
        log_info("routes are kept in %s: %zu found", routes->setup.objects.gateway_namespace, watch_cache_count(routes->routes));
        look_at_all(routes);
    }
}

/* ---- is it installed? ---- */

static void close_caches(struct routes *routes) {
    watch_cache_free(take_pointer(routes->routes));
    watch_cache_free(take_pointer(routes->grants));
    route_writes_forget_all(routes->writes);
    route_news_forget_all(routes->news);
}

static struct watch_cache *watch(struct routes *routes, const struct kube_resource *resource, const char *namespace,
                                 void (*on_change)(void *, enum watch_change, json_t *, json_t *)) {
    return watch_cache_new(&(struct watch_cache_options){.client = routes->setup.kube,
                                                         .resource = resource,
                                                         .namespace = namespace,
                                                         .reduce = objects_reduce_route,
                                                         .on_change = on_change,
                                                         .on_synced = on_synced,
                                                         .arg = routes});
}

static void on_api(void *arg, enum gateway_api_state state, const char *why) {
    struct routes *routes = arg;
    if (state == GATEWAY_API_INSTALLED) {
        routes->grants = watch(routes, &kube_reference_grants, routes->setup.namespace, on_grant);
        routes->routes = watch(routes, &kube_http_routes, routes->setup.objects.gateway_namespace, on_route);
        return;
    }
    close_caches(routes);
    if (state == GATEWAY_API_DENIED) {
        log_warn("no routes are kept: %s", why);
    } else {
        log_info("no routes are kept: the Gateway API is not installed");
    }
    look_at_all(routes);
}

/* ---- life ---- */

struct routes *routes_new(const struct routes_setup *setup) {
    struct routes *routes = xcalloc(1, sizeof(*routes));
    *routes = (struct routes){.setup = *setup, .news = route_news_new(setup->events)};
    routes->queue = work_queue_new(kube_client_loop(setup->kube), WRITES_MAX, on_key, routes);
    routes->writes = route_writes_new(
        &(struct route_writes_setup){.kube = setup->kube, .count = setup->writes, .on_written = on_written, .arg = routes});
    routes->api = gateway_api_new(&(struct gateway_api_setup){.kube = setup->kube,
                                                              .gateway_namespace = setup->objects.gateway_namespace,
                                                              .namespace = setup->namespace,
                                                              .on_change = on_api,
                                                              .arg = routes});
    return routes;
}

int routes_stop(struct routes *routes) {
    if (routes == NULL) {
        return 0;
    }
    routes->is_stopping = true;
    return route_writes_running(routes->writes);
}

void routes_free(struct routes *routes) {
    if (routes != NULL) {
        close_caches(routes);
        route_writes_free(routes->writes);
        route_news_free(routes->news);
        gateway_api_free(routes->api);
        work_queue_free(routes->queue);
        free(routes);
    }
}
