#include "cluster/api/watch.h"

#include "base/clock.h"
#include "base/log.h"
#include "cluster/api/object.h"
#include "cluster/api/status.h"

#include <string.h>

#define PIECE_BYTES (64 * 1024) /* of initial events written at once */

struct watcher {
    struct watch_hub *hub;
    struct watcher *next;
    struct watcher **slot; /* what points at this watcher */
    struct http_request *request;
    struct watch_options options;
    char *namespace;
    int64_t cursor; /* the client knows everything up to this revision */
    bool has_backlog;
    bool has_ended;   /* an ERROR event was sent: nothing may follow */
    json_t **initial; /* objects of the initial events, as of the cursor; NULL once all were written */
    size_t initial_count;
    size_t initial_at; /* those before it were written */
    struct timer timeout;
    struct timer stall; /* runs while there is a backlog */
};

struct watch_hub {
    struct loop *loop;
    struct state *state;
    int64_t stall_ms;
    struct watcher **by_resource; /* list heads, by resource_index */
    size_t count;
    bool is_draining;
    struct timer bookmark;
};

bool watch_selects(const char *namespace, const struct selector *labels, const struct field_selector *fields,
                   const json_t *object) {
    return object != NULL && (namespace == NULL || strcmp(namespace, object_namespace(object)) == 0) &&
           (labels == NULL || selector_matches(labels, json_object_get(object_meta(object), "labels"))) &&
           field_selector_matches(fields, object);
}

static bool selects(const struct watcher *watcher, const json_t *object) {
    return watch_selects(watcher->namespace, watcher->options.labels, &watcher->options.fields, object);
}

/* ---- life of a watcher ---- */

/* What is still to be written goes too. */
static void initial_release(struct watcher *watcher) {
    for (size_t i = watcher->initial_at; i < watcher->initial_count; i++) {
        json_decref(watcher->initial[i]);
    }
    free(watcher->initial);
    watcher->initial = NULL;
    watcher->initial_at = watcher->initial_count = 0;
}

static void options_release(struct watch_options *options) {
    selector_free(options->labels);
    field_selector_release(&options->fields);
}

static void watcher_free(struct watcher *watcher) {
    *watcher->slot = watcher->next;
    if (watcher->next != NULL) {
        watcher->next->slot = watcher->slot;
    }
    watcher->hub->count--;
    timer_release(&watcher->timeout);
    timer_release(&watcher->stall);
    initial_release(watcher);
    options_release(&watcher->options);
    free(watcher->namespace);
    free(watcher);
}

static void on_gone(void *arg) {
    watcher_free(arg);
}

/* The request's end is told to nobody, so the watcher goes first. */
static void watcher_end(struct watcher *watcher) {
    struct http_request *request = watcher->request;
    watcher_free(watcher);
    http_stream_end(request);
}

static void on_timeout(void *arg) {
    watcher_end(arg);
}

static void on_stall(void *arg) {
    struct watcher *watcher = arg;
    struct http_request *request = watcher->request;
    log_info("watch %s: the client %s did not take its events within %lld ms and is cut off", watcher->options.resource->plural,
             http_request_peer(request), (long long)watcher->hub->stall_ms);
    watcher_free(watcher);
    http_stream_abort(request);
}

/* ---- events ---- */

static void send_bytes(struct watcher *watcher, const struct buffer *bytes) {
    if (http_stream_write(watcher->request, bytes->data, bytes->len) == HTTP_STREAM_BACKLOG) {
        watcher->has_backlog = true;
        timer_set(&watcher->stall, watcher->hub->stall_ms);
    }
}

/* `text` is the object's JSON when it is at hand, else NULL. */
static void append_event(struct watcher *watcher, struct buffer *out, const char *type, const json_t *object, const char *text,
                         size_t text_len) {
    buffer_printf(out, "{\"type\":\"%s\",\"object\":", type);
    if (text != NULL && watcher->options.answer.form == FORM_OBJECT) {
        buffer_append(out, text, text_len);
    } else {
        answer_object(out, watcher->options.resource, object, &watcher->options.answer, clock_wall_ms());
        watcher->options.answer.without_definitions = true;
    }
    buffer_append_text(out, "}\n");
}

/* What a change is to this watcher: objects that start or stop matching are ADDED or DELETED. */
static void append_change(struct watcher *watcher, struct buffer *out, const struct change *change) {
    bool was = selects(watcher, change->old_object);
    bool is = selects(watcher, change->new_object);
    watcher->cursor = change->revision;
    if (is) {
        append_event(watcher, out, was ? "MODIFIED" : "ADDED", change->new_object, change->text, change->text_len);
    } else if (was && change->tombstone != NULL) {
        append_event(watcher, out, "DELETED", change->tombstone, change->text, change->text_len);
    } else if (was) { /* the last state that matched, with the revision at which it ceased to */
        cleanup_json json_t *last = object_touch(change->old_object);
        object_set_revision(last, change->revision);
        append_event(watcher, out, "DELETED", last, NULL, 0);
    }
}

static void append_bookmark(struct watcher *watcher, struct buffer *out, bool marks_initial_events) {
    cleanup_free char *api_version = resource_api_version(watcher->options.resource);
    cleanup_json json_t *object =
        json_pack("{s:s, s:s, s:{s:o, s:n}}", "kind", watcher->options.resource->kind, "apiVersion", api_version, "metadata",
                  "resourceVersion", json_sprintf("%lld", (long long)watcher->cursor), "creationTimestamp");
    if (marks_initial_events) {
        json_object_set_new(json_object_get(object, "metadata"), "annotations",
                            json_pack("{s:s}", "k8s.io/initial-events-end", "true"));
    }
    if (watcher->options.answer.form == FORM_TABLE) { /* a row without cells, as kube-apiserver sends it */
        buffer_printf(out,
                      "{\"type\":\"BOOKMARK\",\"object\":{\"kind\":\"Table\",\"apiVersion\":\"meta.k8s.io/"
                      "v1\",\"metadata\":{\"resourceVersion\":\"%lld\"},"
                      "\"columnDefinitions\":null,\"rows\":[{\"cells\":[],\"object\":",
                      (long long)watcher->cursor);
        json_append(out, object);
        buffer_append_text(out, "}]}}\n");
    } else {
        buffer_append_text(out, "{\"type\":\"BOOKMARK\",\"object\":");
        json_append(out, object);
        buffer_append_text(out, "}\n");
    }
}

static void end_expired(struct watcher *watcher) {
    cleanup_json json_t *status = status_expired("too old resource version: the history does not reach back that far");
    cleanup_buffer struct buffer out = BUFFER_INIT;
    buffer_append_text(&out, "{\"type\":\"ERROR\",\"object\":");
    json_append(&out, status);
    buffer_append_text(&out, "}\n");
    watcher->has_ended = true;
    (void)http_stream_write(watcher->request, out.data, out.len);
    timer_set(&watcher->timeout, 0); /* not from within a callback of the stream */
}

/* Feeds from the history until the cursor is at the present, or the client has a backlog again. */
static void catch_up(struct watcher *watcher) {
    struct state *state = watcher->hub->state;
    int64_t index = state_history_find(state, watcher->options.resource, watcher->cursor);
    if (index < 0) {
        end_expired(watcher);
        return;
    }
    const struct change *change = NULL;
    while (!watcher->has_backlog && (change = state_history_at(state, watcher->options.resource, index++)) != NULL) {
        cleanup_buffer struct buffer out = BUFFER_INIT;
        append_change(watcher, &out, change);
        if (out.len > 0) {
            send_bytes(watcher, &out);
        }
    }
}

/* The initial events until all are written or the client has a backlog. */
static void feed_initial_events(struct watcher *watcher) {
    while (watcher->initial != NULL && !watcher->has_backlog) {
        cleanup_buffer struct buffer out = BUFFER_INIT;
        while (watcher->initial_at < watcher->initial_count && out.len < PIECE_BYTES) {
            cleanup_json json_t *object = watcher->initial[watcher->initial_at++];
            append_event(watcher, &out, "ADDED", object, NULL, 0);
        }
        if (watcher->initial_at == watcher->initial_count) {
            initial_release(watcher);
            if (watcher->options.marks_initial_events) {
                append_bookmark(watcher, &out, true);
            }
        }
        if (out.len > 0) {
            send_bytes(watcher, &out);
        }
    }
}

static void on_drained(void *arg) {
    struct watcher *watcher = arg;
    if (!watcher->has_backlog || watcher->has_ended) {
        return;
    }
    watcher->has_backlog = false;
    timer_clear(&watcher->stall);
    feed_initial_events(watcher);
    if (!watcher->has_backlog) {
        catch_up(watcher);
    }
}

static void on_change(void *arg, const struct change *change) {
    struct watch_hub *hub = arg;
    struct watcher *next = NULL;
    for (struct watcher *watcher = hub->by_resource[resource_index(change->resource)]; watcher != NULL; watcher = next) {
        next = watcher->next;
        if (watcher->has_backlog || watcher->has_ended) {
            continue; /* catch_up comes back to it */
        }
        cleanup_buffer struct buffer out = BUFFER_INIT;
        append_change(watcher, &out, change);
        if (out.len > 0) {
            send_bytes(watcher, &out);
        }
    }
}

static void on_bookmark(void *arg) {
    struct watch_hub *hub = arg;
    for (size_t i = 0; i < resource_count(); i++) {
        struct watcher *next = NULL;
        for (struct watcher *watcher = hub->by_resource[i]; watcher != NULL; watcher = next) {
            next = watcher->next;
            if (!watcher->options.sends_bookmarks || watcher->has_backlog || watcher->has_ended) {
                continue;
            }
            watcher->cursor = state_revision(hub->state);
            cleanup_buffer struct buffer out = BUFFER_INIT;
            append_bookmark(watcher, &out, false);
            send_bytes(watcher, &out);
        }
    }
    timer_set(&hub->bookmark, WATCH_BOOKMARK_MS);
}

/* ---- starting ---- */

static void send_initial_events(struct watcher *watcher) {
    struct state *state = watcher->hub->state;
    struct state_iterator it = state_iterate(state, watcher->options.resource, watcher->namespace, NULL);
    const json_t *object = NULL;
    size_t capacity = 16;
    watcher->initial = xcalloc(capacity, sizeof(json_t *));
    while ((object = state_next(&it)) != NULL) {
        if (!selects(watcher, object)) {
            continue;
        }
        if (watcher->initial_count == capacity) {
            capacity *= 2;
            watcher->initial = xrealloc(watcher->initial, capacity * sizeof(json_t *));
        }
        watcher->initial[watcher->initial_count++] = json_incref((json_t *)object);
    }
    watcher->cursor = state_revision(state);
    feed_initial_events(watcher);
}

bool watch_hub_is_full(const struct watch_hub *hub) {
    return hub->count >= WATCHES_MAX;
}

void watch_start(struct watch_hub *hub, struct http_request *request, const struct watch_options *options) {
    struct watcher *watcher = xcalloc(1, sizeof(*watcher));
    watcher->hub = hub;
    watcher->request = request;
    watcher->options = *options;
    watcher->namespace = options->namespace != NULL ? xstrdup(options->namespace) : NULL;
    watcher->options.namespace = NULL;
    watcher->slot = &hub->by_resource[resource_index(options->resource)];
    watcher->next = *watcher->slot;
    if (watcher->next != NULL) {
        watcher->next->slot = &watcher->next;
    }
    *watcher->slot = watcher;
    hub->count++;
    timer_init(&watcher->timeout, hub->loop, on_timeout, watcher);
    timer_init(&watcher->stall, hub->loop, on_stall, watcher);
    timer_set(&watcher->timeout, hub->is_draining ? 0 : options->timeout_ms > 0 ? options->timeout_ms : WATCH_SECONDS_MAX * 1000LL);
    http_request_on_gone(request, on_gone, watcher);
    http_stream_begin(request, 200, "application/json");
    http_stream_on_drained(request, on_drained, watcher);
    if (options->sends_initial_events) {
        send_initial_events(watcher);
        return;
    }
    int64_t present = state_revision(hub->state);
    watcher->cursor = options->from_revision == 0 ? present : options->from_revision;
    if (watcher->cursor > present) { /* of another life of this store: the client must list again */
        end_expired(watcher);
    } else {
        catch_up(watcher);
    }
}

/* ---- the hub ---- */

struct watch_hub *watch_hub_new(struct loop *loop, struct state *state, int64_t stall_ms) {
    struct watch_hub *hub = xcalloc(1, sizeof(*hub));
    hub->loop = loop;
    hub->state = state;
    hub->stall_ms = stall_ms;
    hub->by_resource = xcalloc(resource_count(), sizeof(struct watcher *));
    timer_init(&hub->bookmark, loop, on_bookmark, hub);
    timer_set(&hub->bookmark, WATCH_BOOKMARK_MS);
    state_listen(state, on_change, hub);
    return hub;
}

void watch_hub_drain(struct watch_hub *hub) {
    hub->is_draining = true;
    for (size_t i = 0; i < resource_count(); i++) {
        for (struct watcher *watcher = hub->by_resource[i]; watcher != NULL; watcher = watcher->next) {
            timer_set(&watcher->timeout, 0);
        }
    }
}

size_t watch_hub_count(const struct watch_hub *hub) {
    return hub->count;
}

void watch_hub_free(struct watch_hub *hub) {
    if (hub == NULL) {
        return;
    }
    for (size_t i = 0; i < resource_count(); i++) {
        while (hub->by_resource[i] != NULL) {
            watcher_end(hub->by_resource[i]);
        }
    }
    timer_release(&hub->bookmark);
    free(hub->by_resource);
    free(hub);
}
