#include "controller/routes.h"

#include "adapter/names.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/map.h"
#include "controller/objects.h"
#include "kube/work_queue.h"

#include <string.h>

#define WRITES_MAX 8 /* at once */
#define ASK_SOON_MS 10000
#define ASK_AGAIN_MS 300000
#define RETRY_FIRST_MS 200
#define RETRY_LAST_MS 300000
#define PAUSE_FIRST_MS 1000
#define PAUSE_LAST_MS 60000
#define GRANT_REMOVAL_MS 500 /* several adapters that go are one look at their namespace */

/* Asked in this order; an answer other than "yes" ends the asking. */
enum question { ASK_DISCOVERY, ASK_ROUTES, ASK_GRANTS };
enum installed { INSTALLED_UNKNOWN, INSTALLED_NO, INSTALLED_DENIED, INSTALLED_YES };

/* A key that is written, has failed or was refused. Keys: "namespace/name" of an adapter's route, "namespace/" of a grant. */
struct record {
    struct routes *routes;
    char *key;
    struct kube_call *call;
    bool is_create;
    struct watch_cache *cache; /* that takes the answer; NULL = a deletion */
    int failures;              /* in a row */
    int64_t retry_at_ms;
    char *refused_for; /* uid of what has the name; NULL = nothing */
    char *deleted;     /* uid of what was deleted and may still be in the cache; NULL = nothing */
};

struct routes {
    struct routes_setup setup;
    struct work_queue *queue;
    struct watch_cache *routes, *grants; /* NULL unless installed */
    enum installed installed;
    enum question question;
    struct kube_stream *stream; /* of ASK_DISCOVERY */
    struct kube_call *call;     /* of the others */
    struct timer timer;         /* the next asking */
    bool has_asked_soon;
    struct map records;
    int writes;
    int pauses; /* in a row */
    int64_t paused_until_ms;
    bool is_stopping;
};

static const char *name_in(const char *key) {
    return strchr(key, '/') + 1;
}

static char *namespace_in(const char *key) {
    return xstrndup(key, (size_t)(strchr(key, '/') - key));
}

static int64_t doubled(int64_t first_ms, int times, int64_t last_ms) {
    int64_t delay_ms = first_ms << (times < 12 ? times : 12);
    return delay_ms < last_ms ? delay_ms : last_ms;
}

/* ---- records ---- */

static struct record *record_of(struct routes *routes, const char *key) {
    struct record *record = map_get(&routes->records, key);
    if (record == NULL) {
        record = xcalloc(1, sizeof(*record));
        *record = (struct record){.routes = routes, .key = xstrdup(key)};
        map_set(&routes->records, key, record);
    }
    return record;
}

static void free_record(struct record *record) {
    map_remove(&record->routes->records, record->key);
    if (record->call != NULL) {
        kube_call_cancel(record->call);
    }
    free(record->refused_for);
    free(record->deleted);
    free(record->key);
    free(record);
}

static void forget(struct routes *routes, const char *key) {
    struct record *record = map_get(&routes->records, key);
    if (record != NULL && record->call == NULL) {
        free_record(record);
    }
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
    if (routes == NULL || routes->installed == INSTALLED_NO || routes->installed == INSTALLED_DENIED) {
        return false;
    }
    const struct record *record = map_get(&routes->records, key);
    return !is_synced(routes) || is_own(route_of(routes, key), key) || (record != NULL && record->call != NULL);
}

/* ---- writes ---- */

static void ask_within(struct routes *routes, int64_t delay_ms) {
    if (routes->stream == NULL && routes->call == NULL) {
        timer_set(&routes->timer, delay_ms);
    }
}

/* Somebody was faster, or the API refuses this one object: the others go on. */
static bool is_of_one(const struct record *record, const struct error *err) {
    return err->code == ERROR_CONFLICT || err->code == ERROR_EXISTS || err->code == ERROR_INVALID || err->code == ERROR_LIMIT ||
           (err->code == ERROR_NOT_FOUND && !record->is_create);
}

static void note_failure(struct record *record, const struct error *err) {
    struct routes *routes = record->routes;
    int64_t now_ms = clock_now_ms();
    if (is_of_one(record, err)) {
        record->retry_at_ms = now_ms + doubled(RETRY_FIRST_MS, record->failures, RETRY_LAST_MS);
        const json_t *adapter = adapter_of(routes, record->key);
        if (err->code == ERROR_INVALID && record->failures == 0 && adapter != NULL) {
            event_record(routes->setup.events, adapter, "Warning", "RouteFailed", "%s", err->message);
        }
        record->failures++;
        log_debug("route of %s: %s", record->key, err->message);
        return;
    }
    if (now_ms < routes->paused_until_ms) {
        return; /* of the same moment */
    }
    routes->paused_until_ms = now_ms + doubled(PAUSE_FIRST_MS, routes->pauses++, PAUSE_LAST_MS);
    log_warn("routes wait %lld ms: %s", (long long)(routes->paused_until_ms - now_ms), err->message);
    if (err->code == ERROR_NOT_FOUND) { /* the Gateway API, or the gateway's namespace, may be gone */
        ask_within(routes, ASK_SOON_MS);
    }
}

static void on_written(void *arg, json_t *object, const struct error *err) {
    struct record *record = arg;
    struct routes *routes = record->routes;
    cleanup_free char *key = xstrdup(record->key);
    record->call = NULL;
    routes->writes--;
    if (err != NULL) {
        free(take_pointer(record->deleted));
        note_failure(record, err);
    } else {
        routes->pauses = 0;
        if (record->cache != NULL && record->cache == (name_in(key)[0] != '\0' ? routes->routes : routes->grants)) {
            watch_cache_note_write(record->cache, object);
        }
        if (record->cache != NULL) {
            free_record(record);
        }
    }
    work_queue_add(routes->queue, key, 0);
    work_queue_done(routes->queue, key);
    const json_t *adapter = adapter_of(routes, key);
    if (adapter != NULL && kube_is_deleting(adapter)) {
        routes->setup.on_released(routes->setup.arg, key);
    }
}

/* `key` is done when the answer is there. `body`: NULL = delete. */
static void write_object(struct routes *routes, const char *key, const struct kube_resource *resource, const json_t *found,
                         const char *namespace, const json_t *body) {
    struct record *record = record_of(routes, key);
    bool is_route = resource == &kube_http_routes;
    const char *labels[] = {is_route ? "route" : "grant", NULL};
    cleanup_json json_t *delete_options = body == NULL ? json_pack("{s:s, s:s, s:{s:s}}", "apiVersion", "v1", "kind",
                                                                   "DeleteOptions", "preconditions", "uid", kube_uid(found))
                                                       : NULL;
    struct kube_request request = {.verb = body == NULL    ? KUBE_DELETE
                                           : found == NULL ? KUBE_CREATE
                                                           : KUBE_PATCH_MERGE,
                                   .resource = resource,
                                   .namespace = namespace,
                                   .name = found != NULL ? kube_name(found) : NULL,
                                   .body = body != NULL ? body : delete_options,
                                   .on_done = on_written,
                                   .arg = record};
    free(record->deleted);
    record->deleted = body == NULL ? xstrdup(kube_uid(found)) : NULL;
    record->is_create = request.verb == KUBE_CREATE;
    record->cache = body == NULL ? NULL : is_route ? routes->routes : routes->grants;
    routes->writes++;
    metric_add(routes->setup.writes, labels, 1);
    record->call = kube_start(routes->setup.kube, &request);
}

/* It goes, or has gone and the watch has not told yet. */
static bool is_going(const struct routes *routes, const char *key, const json_t *found) {
    const struct record *record = map_get(&routes->records, key);
    bool was_deleted = record != NULL && record->deleted != NULL && found != NULL && strcmp(record->deleted, kube_uid(found)) == 0;
    return was_deleted || (found != NULL && kube_is_deleting(found));
}

/* ---- one adapter ---- */

static void refuse(struct routes *routes, const char *key, const json_t *adapter, const json_t *route) {
    struct record *record = record_of(routes, key);
    if (record->refused_for != NULL && strcmp(record->refused_for, kube_uid(route)) == 0) {
        return;
    }
    free(record->refused_for);
    record->refused_for = xstrdup(kube_uid(route));
    cleanup_free char *owner = route_adapter_key(route);
    event_record(
        routes->setup.events, adapter, "Warning", "RouteConflict",
        "HTTPRoute %s/%s is not this adapter's but %s%s: it is left alone, and the gateway does not know this adapter by it",
        kube_namespace(route), kube_name(route), owner != NULL ? "that of adapter " : "somebody else's",
        owner != NULL ? owner : "");
}

/* Adapters that wait for a name that is free now. */
static void wake_refused(struct routes *routes) {
    struct map_entry *entry = NULL;
    for (size_t at = 0; (entry = map_next(&routes->records, &at)) != NULL;) {
        const struct record *record = entry->value;
        if (record->refused_for != NULL && route_of(routes, record->key) == NULL) {
            work_queue_add(routes->queue, record->key, 0);
        }
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
        forget(routes, key);
        return false;
    }
    write_object(routes, key, &kube_http_routes, found, routes->setup.objects.gateway_namespace, body);
    return true;
}

static bool work_on_adapter(struct routes *routes, const char *key) {
    const json_t *adapter = adapter_of(routes, key);
    const json_t *route = route_of(routes, key);
    bool is_ours = is_own(route, key);
    if (is_going(routes, key, route)) {
        return false; /* it is looked at again when it has gone */
    }
    if (adapter == NULL || kube_is_deleting(adapter)) {
        cleanup_free char *namespace = namespace_in(key);
        if (is_ours) {
            write_object(routes, key, &kube_http_routes, route, routes->setup.objects.gateway_namespace, NULL);
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
        refuse(routes, key, adapter, route);
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
        bool is_spent = reduced != NULL && route_grant_is_ours(reduced) && !has_adapters(routes, namespace);
        if (is_spent) {
            write_object(routes, key, &kube_reference_grants, reduced, namespace, NULL);
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
        write_object(routes, key, &kube_reference_grants, found, namespace, body);
    } else {
        forget(routes, key);
    }
    return body != NULL;
}

static void on_key(void *arg, const char *key) {
    struct routes *routes = arg;
    const struct record *record = map_get(&routes->records, key);
    int64_t now_ms = clock_now_ms();
    int64_t due_ms =
        record != NULL && record->retry_at_ms > routes->paused_until_ms ? record->retry_at_ms : routes->paused_until_ms;
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
        wake_refused(routes);
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
    struct map_entry *entry = NULL;
    for (size_t at = 0; (entry = map_next(&routes->records, &at)) != NULL;) {
        forget(routes, entry->key);
    }
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

static void settle(struct routes *routes, enum installed installed, const char *why) {
    bool is_news = routes->installed != installed;
    routes->installed = installed;
    timer_set(&routes->timer, routes->has_asked_soon ? ASK_AGAIN_MS : ASK_SOON_MS);
    routes->has_asked_soon = true;
    if (installed == INSTALLED_YES) {
        if (routes->routes == NULL) {
            routes->grants = watch(routes, &kube_reference_grants, routes->setup.namespace, on_grant);
            routes->routes = watch(routes, &kube_http_routes, routes->setup.objects.gateway_namespace, on_route);
        }
        return;
    }
    close_caches(routes);
    if (is_news && installed == INSTALLED_DENIED) {
        log_warn("no routes are kept: %s", why);
    } else if (is_news) {
        log_info("no routes are kept: the Gateway API is not installed");
    }
    if (is_news) {
        look_at_all(routes);
    }
}

static void ask(struct routes *routes);

static void on_answer(struct routes *routes, const struct error *err) {
    if (err == NULL && routes->question < ASK_GRANTS && routes->routes == NULL) {
        routes->question++;
        ask(routes);
    } else if (err == NULL) {
        settle(routes, INSTALLED_YES, NULL);
    } else if (err->code == ERROR_NOT_FOUND) {
        settle(routes, INSTALLED_NO, NULL);
    } else if (err->code == ERROR_DENIED) {
        settle(routes, INSTALLED_DENIED, err->message);
    } else { /* no answer is no news */
        log_debug("%s", err->message);
        timer_set(&routes->timer, ASK_SOON_MS);
    }
}

static int on_page(void *arg, const char *bytes, size_t len) {
    (void)arg, (void)bytes, (void)len; /* that there is one is the answer */
    return 0;
}

static void on_discovered(void *arg, const struct error *err) {
    struct routes *routes = arg;
    routes->stream = NULL;
    on_answer(routes, err);
}

static void on_listed(void *arg, json_t *object, const struct error *err) {
    struct routes *routes = arg;
    (void)object;
    routes->call = NULL;
    on_answer(routes, err);
}

/* The lists say whether we may: a watch that is refused would be tried again every half minute. */
static void ask(struct routes *routes) {
    if (routes->question == ASK_DISCOVERY) {
        struct kube_stream_request request = {.path_and_query = "/apis/gateway.networking.k8s.io/v1",
                                              .what = "discover the Gateway API",
                                              .timeout_ms = 30000,
                                              .on_data = on_page,
                                              .on_done = on_discovered,
                                              .arg = routes};
        routes->stream = kube_stream_start(routes->setup.kube, &request);
        return;
    }
    bool is_routes = routes->question == ASK_ROUTES;
    struct kube_request request = {.verb = KUBE_LIST,
                                   .resource = is_routes ? &kube_http_routes : &kube_reference_grants,
                                   .namespace = is_routes ? routes->setup.objects.gateway_namespace : routes->setup.namespace,
                                   .query = "limit=1",
                                   .on_done = on_listed,
                                   .arg = routes};
    routes->call = kube_start(routes->setup.kube, &request);
}

static void on_timer(void *arg) {
    struct routes *routes = arg;
    routes->question = ASK_DISCOVERY;
    ask(routes);
}

/* ---- life ---- */

struct routes *routes_new(const struct routes_setup *setup) {
    struct routes *routes = xcalloc(1, sizeof(*routes));
    struct loop *loop = kube_client_loop(setup->kube);
    *routes = (struct routes){.setup = *setup, .records = MAP_INIT};
    routes->queue = work_queue_new(loop, WRITES_MAX, on_key, routes);
    timer_init(&routes->timer, loop, on_timer, routes);
    timer_set(&routes->timer, 0);
    return routes;
}

int routes_stop(struct routes *routes) {
    if (routes == NULL) {
        return 0;
    }
    routes->is_stopping = true;
    return routes->writes;
}

void routes_free(struct routes *routes) {
    if (routes == NULL) {
        return;
    }
    struct map_entry *entry = NULL;
    for (size_t at = 0; (entry = map_next(&routes->records, &at)) != NULL;) {
        free_record(entry->value);
    }
    map_release(&routes->records);
    close_caches(routes);
    if (routes->stream != NULL) {
        kube_stream_cancel(routes->stream);
    }
    if (routes->call != NULL) {
        kube_call_cancel(routes->call);
    }
    timer_release(&routes->timer);
    work_queue_free(routes->queue);
    free(routes);
}
