#include "kube/watch_cache.h"

#include "base/log.h"
#include "base/map.h"
#include "io/http.h"
#include "kube/watch_stream.h"

#include <stdio.h>
#include <string.h>

#define PAGE_ITEMS 500          /* halved when a page is larger than a response may be */
#define INITIAL_SILENCE_MS 5000 /* of a watch that is to begin with what there is: it will not */
#define INITIAL_FAILURES_MAX 3
#define BACKOFF_FIRST_MS 100
#define BACKOFF_MAX_MS 30000
#define WATCH_SECONDS_MIN 300
#define WATCH_SECONDS_SPREAD 300
#define WATCH_SLACK_MS 30000
#define STABLE_WATCH_MS 5000 /* a watch that lived this long proves that the API is back */

struct entry {
    json_t *object;    /* the newest state that we know */
    json_t *announced; /* what on_change was last told; NULL = nothing yet */
};

enum next_step { NEXT_LIST, NEXT_WATCH };

struct watch_cache {
    struct watch_cache_options options;
    char *namespace;
    char *label_selector;
    char *field_selector;
    char *api_version;
    struct map entries;     /* "namespace/name" -> struct entry */
    char *resource_version; /* of the list or of the last event; where a watch resumes */
    bool is_synced;
    /* what runs: one of a list call, a watch stream, or the back-off timer */
    struct kube_call *call;
    struct kube_stream *stream;
    struct timer timer;
    enum next_step next_step;
    int page_items;
    bool must_page;       /* this API does not begin watches with what there is */
    bool is_initial;      /* the stream does that now */
    int initial_failures; /* in a row */
    struct map incoming;  /* "namespace/name" -> json_t, of the pages read so far */
    struct watch_stream decoder;
    int64_t watch_started_ms;
    int64_t backoff_ms;
    bool is_denied; /* and that was logged */
    bool must_list; /* the stream said that its revision is gone */
    /* watch_cache_free inside of on_change or on_synced is put off until we are out of it */
    int depth;
    bool is_freed;
};

static void start_page(struct watch_cache *cache, const char *continue_token);
static void start_watch(struct watch_cache *cache, bool is_initial);

/* Revisions of one API server can be compared as numbers (KEP-5504 makes it official; every server that exists has done so). */
static unsigned long long revision_number(const char *text) {
    return strtoull(text, NULL, 10);
}

static char *key_of(const json_t *object) {
    return xasprintf("%s/%s", kube_namespace(object), kube_name(object));
}

static void entry_free(struct entry *entry) {
    json_decref(entry->object);
    json_decref(entry->announced);
    free(entry);
}

/* ---- telling ---- */

static void release(struct watch_cache *cache);

static void enter(struct watch_cache *cache) {
    cache->depth++;
}

/* false: the cache is gone. */
static bool leave(struct watch_cache *cache) {
    if (--cache->depth > 0 || !cache->is_freed) {
        return !cache->is_freed;
    }
    release(cache);
    return false;
}

static void announce(struct watch_cache *cache, enum watch_change change, json_t *old_object, json_t *new_object) {
    if (!cache->is_freed && cache->options.on_change != NULL) {
        cache->options.on_change(cache->options.arg, change, old_object, new_object);
    }
}

/* Tells that the entry's object is what it is now. */
static void announce_entry(struct watch_cache *cache, struct entry *entry) {
    cleanup_json json_t *old_object = entry->announced;
    cleanup_json json_t *new_object = json_incref(entry->object);
    entry->announced = json_incref(entry->object);
    announce(cache, old_object == NULL ? WATCH_ADDED : WATCH_MODIFIED, old_object, new_object);
}

static void set_entry(struct watch_cache *cache, const char *key, json_t *object) {
    struct entry *entry = map_get(&cache->entries, key);
    if (entry == NULL) {
        entry = xcalloc(1, sizeof(*entry));
        map_set(&cache->entries, key, entry);
    }
    json_decref(entry->object);
    entry->object = json_incref(object);
}

static void set_revision(struct watch_cache *cache, const char *revision) {
    if (revision[0] != '\0') {
        char *copy = xstrdup(revision);
        free(cache->resource_version);
        cache->resource_version = copy;
    }
}

/* The object as it is kept, a reference of the caller's. Items of a list carry neither apiVersion nor kind (the list does). */
static json_t *keep(const struct watch_cache *cache, json_t *object) {
    json_object_set_new(object, "apiVersion", json_string(cache->api_version));
    json_object_set_new(object, "kind", json_string(cache->options.resource->kind));
    return cache->options.reduce != NULL ? cache->options.reduce(object) : json_incref(object);
}

static void clear_incoming(struct watch_cache *cache) {
    struct map_entry *entry = NULL;
    for (size_t at = 0; (entry = map_next(&cache->incoming, &at)) != NULL;) {
        json_decref(entry->value);
    }
    map_release(&cache->incoming);
    cache->incoming = MAP_INIT;
}

/* What the API does not allow stays so until somebody reads of it; the rest passes. */
static void log_failure(struct watch_cache *cache, const struct error *err) {
    bool is_denied = err->http_status == 401 || err->http_status == 403;
    if (is_denied && !cache->is_denied) {
        log_warn("%s", err->message);
    } else {
        log_debug("%s", err->message);
    }
    cache->is_denied = is_denied;
}

/* ---- back-off ---- */

static void start_list(struct watch_cache *cache) {
    if (cache->must_page) {
        start_page(cache, NULL);
    } else {
        start_watch(cache, true);
    }
}

static void on_timer(void *arg) {
    struct watch_cache *cache = arg;
    if (cache->stream != NULL) { /* silent too long: older servers ignore the parameter and never say that all is told */
        log_debug("watch %s: no end of the initial events, listing instead", cache->options.resource->plural);
        kube_stream_cancel(take_pointer(cache->stream));
        cache->must_page = true;
        clear_incoming(cache);
        cache->next_step = NEXT_LIST;
    }
    if (cache->next_step == NEXT_LIST) {
        start_list(cache);
    } else {
        start_watch(cache, false);
    }
}

static void back_off(struct watch_cache *cache, enum next_step next_step) {
    int64_t base_ms = cache->backoff_ms;
    cache->backoff_ms = base_ms * 2 < BACKOFF_MAX_MS ? base_ms * 2 : BACKOFF_MAX_MS;
    cache->next_step = next_step;
    /* Half of it is random: clients that lost the same server do not come back at the same moment. */
    timer_set(&cache->timer, base_ms / 2 + (int64_t)arc4random_uniform((uint32_t)(base_ms / 2 + 1)));
}

/* ---- list ---- */

/* An own write that the list is too old to show. */
static bool is_newer_than_list(const struct entry *entry, const char *list_revision) {
    return entry->object != entry->announced &&
           revision_number(kube_resource_version(entry->object)) > revision_number(list_revision);
}

/* Takes out of the cache what the list does not have; the objects are appended to `gone`. */
static void drop_missing(struct watch_cache *cache, const char *list_revision, json_t *gone) {
    struct map_entry *slot = NULL;
    for (size_t at = 0; (slot = map_next(&cache->entries, &at)) != NULL;) {
        struct entry *entry = slot->value;
        if (map_get(&cache->incoming, slot->key) != NULL || is_newer_than_list(entry, list_revision)) {
            continue;
        }
        json_array_append(gone, entry->announced != NULL ? entry->announced : entry->object);
        map_remove(&cache->entries, slot->key);
        entry_free(entry);
    }
}

/* The list is in: makes the cache equal to it, then reports the differences. false: the cache is gone. */
static bool take_list(struct watch_cache *cache, const char *list_revision) {
    cleanup_json json_t *gone = json_array();
    cleanup_json json_t *changed = json_array(); /* of keys */
    drop_missing(cache, list_revision, gone);
    struct map_entry *slot = NULL;
    for (size_t at = 0; (slot = map_next(&cache->incoming, &at)) != NULL;) {
        json_t *object = slot->value;
        struct entry *entry = map_get(&cache->entries, slot->key);
        if (entry != NULL && is_newer_than_list(entry, list_revision)) {
            continue;
        }
        bool is_same = entry != NULL && entry->announced != NULL && strcmp(kube_uid(entry->announced), kube_uid(object)) == 0 &&
                       strcmp(kube_resource_version(entry->announced), kube_resource_version(object)) == 0;
        if (!is_same) {
            set_entry(cache, slot->key, object);
            json_array_append_new(changed, json_string(slot->key));
        }
    }
    clear_incoming(cache);
    set_revision(cache, list_revision);
    size_t index = 0;
    json_t *item = NULL;
    enter(cache);
    json_array_foreach(gone, index, item) {
        announce(cache, WATCH_DELETED, item, NULL);
    }
    json_array_foreach(changed, index, item) {
        struct entry *entry = cache->is_freed ? NULL : map_get(&cache->entries, json_string_value(item));
        if (entry != NULL) {
            announce_entry(cache, entry);
        }
    }
    if (!cache->is_synced && !cache->is_freed) {
        cache->is_synced = true;
        if (cache->options.on_synced != NULL) {
            cache->options.on_synced(cache->options.arg);
        }
    }
    return leave(cache);
}

static void on_page(void *arg, json_t *list, const struct error *err) {
    struct watch_cache *cache = arg;
    cache->call = NULL;
    if (err != NULL) {
        /* 410: the continue token is too old, the list starts over. */
        log_failure(cache, err);
        clear_incoming(cache);
        if (err->code == ERROR_LIMIT && cache->page_items > 1) {
            cache->page_items /= 2;
        }
        back_off(cache, NEXT_LIST);
        return;
    }
    size_t index = 0;
    json_t *item = NULL;
    json_array_foreach(json_object_get(list, "items"), index, item) {
        cleanup_free char *key = key_of(item);
        json_decref(map_set(&cache->incoming, key, keep(cache, item)));
    }
    const char *continue_token = json_string_at(list, "metadata.continue", "");
    if (continue_token[0] != '\0') {
        start_page(cache, continue_token);
        return;
    }
    if (take_list(cache, kube_resource_version(list))) {
        start_watch(cache, false);
    }
}

static void append_parameter(struct buffer *query, const char *name, const char *value) {
    if (value != NULL) {
        buffer_printf(query, "%s%s=", query->len > 0 ? "&" : "", name);
        http_append_percent_encoded(query, value);
    }
}

static void start_page(struct watch_cache *cache, const char *continue_token) {
    cleanup_buffer struct buffer query = BUFFER_INIT;
    buffer_printf(&query, "limit=%d", cache->page_items);
    append_parameter(&query, "labelSelector", cache->label_selector);
    append_parameter(&query, "fieldSelector", cache->field_selector);
    append_parameter(&query, "continue", continue_token);
    cache->call = kube_start(cache->options.client, &(struct kube_request){
                                                        .verb = KUBE_LIST,
                                                        .resource = cache->options.resource,
                                                        .namespace = cache->namespace,
                                                        .query = query.data,
                                                        .on_done = on_page,
                                                        .arg = cache,
                                                    });
}

/* ---- watch ---- */

static void take_deleted(struct watch_cache *cache, const char *key, json_t *object) {
    struct entry *entry = map_get(&cache->entries, key);
    if (entry == NULL) {
        return;
    }
    cleanup_json json_t *last_known = take_pointer(entry->announced);
    bool was_made_again = revision_number(kube_resource_version(entry->object)) > revision_number(kube_resource_version(object));
    if (!was_made_again) {
        last_known = last_known != NULL ? last_known : json_incref(entry->object); /* an own write was never told; its end is */
        map_remove(&cache->entries, key);
        entry_free(entry);
    }
    if (last_known != NULL) {
        announce(cache, WATCH_DELETED, last_known, NULL);
    }
}

static void take_present(struct watch_cache *cache, const char *key, json_t *object) {
    struct entry *entry = map_get(&cache->entries, key);
    unsigned long long revision = revision_number(kube_resource_version(object));
    if (entry != NULL && revision_number(kube_resource_version(entry->object)) > revision) {
        return; /* older than an own write; the event of that write is on its way */
    }
    if (entry == NULL || entry->object == entry->announced || revision_number(kube_resource_version(entry->object)) < revision) {
        cleanup_json json_t *kept = keep(cache, object);
        set_entry(cache, key, kept);
        entry = map_get(&cache->entries, key);
    }
    announce_entry(cache, entry);
}

/* The stream tells what there is. The end of that is a bookmark that says so (Kubernetes API concepts, "Streaming lists"). */
static void take_initial(struct watch_cache *cache, enum watch_event_type type, json_t *object) {
    if (type == WATCH_EVENT_BOOKMARK) {
        const json_t *annotations = json_at(object, "metadata.annotations");
        const char *is_end = json_string_value(json_object_get(annotations, "k8s.io/initial-events-end"));
        if (is_end != NULL && strcmp(is_end, "true") == 0) {
            timer_clear(&cache->timer);
            cache->is_initial = false;
            cache->initial_failures = 0;
            (void)take_list(cache, kube_resource_version(object));
        }
        return;
    }
    cleanup_free char *key = key_of(object);
    if (type == WATCH_EVENT_DELETED) {
        json_decref(map_remove(&cache->incoming, key));
        return;
    }
    if (type == WATCH_EVENT_ADDED) {
        timer_set(&cache->timer, INITIAL_SILENCE_MS);
    }
    json_decref(map_set(&cache->incoming, key, keep(cache, object)));
}

/* -1 ends the stream. */
static int take_event(struct watch_cache *cache, enum watch_event_type type, json_t *object) {
    if (type == WATCH_EVENT_ERROR) {
        log_debug("watch %s: %s", cache->options.resource->plural, json_string_at(object, "message", "error event"));
        cache->must_list = true;
        if (json_int_at(object, "code", 0) == 410) {
            cache->backoff_ms = BACKOFF_FIRST_MS;
        }
        return -1;
    }
    if (cache->is_initial) {
        take_initial(cache, type, object);
        return 0;
    }
    set_revision(cache, kube_resource_version(object));
    if (type == WATCH_EVENT_BOOKMARK) {
        return 0;
    }
    cleanup_free char *key = key_of(object);
    if (type == WATCH_EVENT_DELETED) {
        take_deleted(cache, key, object);
    } else {
        take_present(cache, key, object);
    }
    return 0;
}

static char *key_of_glance(const struct kube_glance *glance) {
    const struct json_span *namespace = &glance->namespace, *name = &glance->name;
    return name->text == NULL || glance->resource_version.text == NULL
               ? NULL
               : xasprintf("%.*s/%.*s", (int)namespace->len, namespace->text != NULL ? namespace->text : "", (int)name->len,
                           name->text);
}

/* What an own write has led to or was put upon: the watch tells of it now, and the cache has it. */
static bool is_own(void *arg, const struct kube_glance *glance) {
    const struct watch_cache *cache = arg;
    cleanup_free char *key = cache->is_initial ? NULL : key_of_glance(glance);
    const struct entry *entry = key != NULL ? map_get(&cache->entries, key) : NULL;
    return entry != NULL && entry->object != entry->announced &&
           revision_number(kube_resource_version(entry->object)) >= revision_number(glance->resource_version.text);
}

static int on_stream_data(void *arg, const char *bytes, size_t len) {
    struct watch_cache *cache = arg;
    int result = 0;
    enter(cache); /* kept over the whole run: on_change may free the cache */
    while (len > 0 && result == 0 && !cache->is_freed) {
        size_t used = 0;
        struct watch_event event;
        struct error err;
        enum watch_step step = watch_stream_read(&cache->decoder, bytes, len, &used, &event, &err);
        if (step == WATCH_STEP_FAILED) {
            log_debug("watch %s: %s", cache->options.resource->plural, err.message);
            cache->must_list = true;
            result = -1;
        } else if (step == WATCH_STEP_EVENT) {
            result = take_event(cache, event.type, event.object);
            json_decref(event.object);
        }
        bytes += used;
        len -= used;
    }
    return leave(cache) ? result : -1;
}

/* Our revision is of no use to this server (too old, or from another life of it): 4xx, but for those that say "not now" or "not
 * you". */
static bool asks_for_list(const struct error *err) {
    int status = err != NULL ? err->http_status : 0;
    return status >= 400 && status < 500 && status != 401 && status != 403 && status != 408 && status != 429;
}

/* The stream ended before it had told what there is. */
static void end_initial(struct watch_cache *cache, const struct error *err) {
    bool is_refused = asks_for_list(err);
    timer_clear(&cache->timer);
    clear_incoming(cache);
    cache->is_initial = false;
    cache->must_page = is_refused || ++cache->initial_failures >= INITIAL_FAILURES_MAX;
    if (is_refused) {
        start_page(cache, NULL);
    } else {
        back_off(cache, NEXT_LIST);
    }
}

static void on_stream_done(void *arg, const struct error *err) {
    struct watch_cache *cache = arg;
    cache->stream = NULL;
    bool was_stable = loop_now_ms(kube_client_loop(cache->options.client)) - cache->watch_started_ms >= STABLE_WATCH_MS;
    if (was_stable) {
        cache->backoff_ms = BACKOFF_FIRST_MS;
    }
    if (err != NULL) {
        log_failure(cache, err);
    }
    if (cache->is_initial) {
        end_initial(cache, err);
        return;
    }
    if (cache->must_list || asks_for_list(err)) {
        back_off(cache, NEXT_LIST);
    } else if (err == NULL && was_stable) {
        start_watch(cache, false);
    } else {
        back_off(cache, NEXT_WATCH);
    }
}

static void start_decoder(struct watch_cache *cache) {
    watch_stream_release(&cache->decoder);
    watch_stream_init(&cache->decoder);
    cache->decoder.is_known = is_own;
    cache->decoder.arg = cache;
}

static void start_watch(struct watch_cache *cache, bool is_initial) {
    unsigned seconds = WATCH_SECONDS_MIN + arc4random_uniform(WATCH_SECONDS_SPREAD + 1);
    cleanup_free char *path = kube_path(cache->options.resource, cache->namespace, NULL, NULL);
    cleanup_buffer struct buffer query = BUFFER_INIT;
    buffer_printf(&query, "watch=true&allowWatchBookmarks=true&timeoutSeconds=%u", seconds);
    append_parameter(&query, "sendInitialEvents", is_initial ? "true" : NULL);
    append_parameter(&query, "resourceVersionMatch", is_initial ? "NotOlderThan" : NULL);
    append_parameter(&query, "resourceVersion", is_initial ? NULL : cache->resource_version);
    append_parameter(&query, "labelSelector", cache->label_selector);
    append_parameter(&query, "fieldSelector", cache->field_selector);
    cleanup_free char *path_and_query = xasprintf("%s?%s", path, query.data);
    cleanup_free char *what = xasprintf("watch %s", cache->options.resource->plural);
    start_decoder(cache);
    cache->must_list = false;
    cache->is_initial = is_initial;
    if (is_initial) {
        timer_set(&cache->timer, INITIAL_SILENCE_MS);
    }
    cache->watch_started_ms = loop_now_ms(kube_client_loop(cache->options.client));
    cache->stream = kube_stream_start(cache->options.client, &(struct kube_stream_request){
                                                                 .path_and_query = path_and_query,
                                                                 .what = what,
                                                                 .timeout_ms = (int64_t)seconds * 1000 + WATCH_SLACK_MS,
                                                                 .on_data = on_stream_data,
                                                                 .on_done = on_stream_done,
                                                                 .arg = cache,
                                                             });
}

/* ---- the manual ---- */

static char *copy_or_null(const char *text) {
    return text != NULL ? xstrdup(text) : NULL;
}

static char *field_selector_of(const struct watch_cache_options *options) {
    if (options->name == NULL) {
        return copy_or_null(options->field_selector);
    }
    return xasprintf("metadata.name=%s%s%s", options->name, options->field_selector != NULL ? "," : "",
                     options->field_selector != NULL ? options->field_selector : "");
}

struct watch_cache *watch_cache_new(const struct watch_cache_options *options) {
    struct watch_cache *cache = xcalloc(1, sizeof(*cache));
    cache->options = *options;
    cache->namespace = copy_or_null(options->namespace);
    cache->label_selector = copy_or_null(options->label_selector);
    cache->field_selector = field_selector_of(options);
    cache->api_version = kube_api_version(options->resource);
    cache->backoff_ms = BACKOFF_FIRST_MS;
    cache->page_items = PAGE_ITEMS;
    start_decoder(cache);
    timer_init(&cache->timer, kube_client_loop(options->client), on_timer, cache);
    start_list(cache);
    return cache;
}

static void release(struct watch_cache *cache) {
    clear_incoming(cache);
    struct map_entry *slot = NULL;
    for (size_t at = 0; (slot = map_next(&cache->entries, &at)) != NULL;) {
        entry_free(slot->value);
    }
    map_release(&cache->entries);
    watch_stream_release(&cache->decoder);
    free(cache->namespace);
    free(cache->label_selector);
    free(cache->field_selector);
    free(cache->api_version);
    free(cache->resource_version);
    free(cache);
}

void watch_cache_free(struct watch_cache *cache) {
    if (cache == NULL || cache->is_freed) {
        return;
    }
    kube_call_cancel(take_pointer(cache->call));
    kube_stream_cancel(take_pointer(cache->stream));
    timer_release(&cache->timer);
    cache->is_freed = true;
    if (cache->depth == 0) {
        release(cache);
    }
}

bool watch_cache_is_synced(const struct watch_cache *cache) {
    return cache->is_synced;
}

size_t watch_cache_count(const struct watch_cache *cache) {
    return cache->entries.count;
}

json_t *watch_cache_get(const struct watch_cache *cache, const char *namespace, const char *name) {
    cleanup_free char *key = xasprintf("%s/%s", namespace != NULL ? namespace : "", name);
    struct entry *entry = map_get(&cache->entries, key);
    return entry != NULL ? entry->object : NULL;
}

json_t *watch_cache_next(const struct watch_cache *cache, size_t *at) {
    struct map_entry *slot = map_next(&cache->entries, at);
    return slot != NULL ? ((struct entry *)slot->value)->object : NULL;
}

/* Not beyond what the watch has told: then the cache is newer (it may have seen the object's deletion). */
static bool is_known(const struct watch_cache *cache, const char *key, unsigned long long revision) {
    const struct entry *entry = map_get(&cache->entries, key);
    const char *told = cache->resource_version;
    bool is_older = entry != NULL && revision <= revision_number(kube_resource_version(entry->object));
    return is_older || (told != NULL && revision <= revision_number(told));
}

bool watch_cache_knows(const struct watch_cache *cache, const struct kube_glance *object) {
    cleanup_free char *key = key_of_glance(object);
    return key != NULL && is_known(cache, key, revision_number(object->resource_version.text));
}

void watch_cache_note_write(struct watch_cache *cache, json_t *object) {
    cleanup_free char *key = key_of(object);
    bool is_known_already = is_known(cache, key, revision_number(kube_resource_version(object)));
    if (!is_known_already && kube_name(object)[0] != '\0') {
        cleanup_json json_t *kept = keep(cache, object);
        set_entry(cache, key, kept);
    }
}
