/* Watches: streams of changes of one resource.
 *
 * A watch has a cursor: the revision up to which its client was told. While the client keeps up, changes are written as they are
 * committed. When more than WATCH_BACKLOG_BYTES of it are unsent, the watch stops being fed; once the backlog is gone it continues
 * from the history at its cursor, or, if the history does not reach back that far (state.h), ends with an ERROR event 410 Expired
 * and the client lists again. So a slow client costs at most its backlog and one event, whatever it misses; its initial events,
 * references to the objects as they were, are written likewise as the client takes them. A client that does not take its backlog
 * within the time of watch_hub_new is cut off. */
#ifndef DAVIT_CLUSTER_API_WATCH_H
#define DAVIT_CLUSTER_API_WATCH_H

#include "adapter/selector.h"
#include "cluster/api/fields.h"
#include "cluster/api/state.h"
#include "cluster/api/table.h"
#include "io/http_server.h"

#define WATCH_BACKLOG_BYTES (1024 * 1024) /* give it to the HTTP server as out_bytes_max */
#define WATCH_STALL_MS (30 * 1000)
#define WATCH_BOOKMARK_MS (60 * 1000)
#define WATCH_SECONDS_MAX 3600
#define WATCHES_MAX 4096

struct watch_hub;

struct watch_hub *watch_hub_new(struct loop *loop, struct state *state, int64_t stall_ms);
void watch_hub_free(struct watch_hub *hub);
/* Ends all watches cleanly; further ones end at once. */
void watch_hub_drain(struct watch_hub *hub);
size_t watch_hub_count(const struct watch_hub *hub);

struct watch_options {
    const struct resource *resource;
    const char *namespace;        /* NULL = all */
    struct selector *labels;      /* taken; NULL = all */
    struct field_selector fields; /* taken */
    struct answer_options answer;
    bool sends_bookmarks;
    bool sends_initial_events; /* the present state as ADDED first */
    bool marks_initial_events; /* and a BOOKMARK with k8s.io/initial-events-end behind it */
    int64_t from_revision;     /* without initial events: changes after it; 0 = after now */
    int64_t timeout_ms;        /* 0 = WATCH_SECONDS_MAX */
};

bool watch_hub_is_full(const struct watch_hub *hub); /* ask before watch_start */
/* Answers the request with a stream; the request is the watch's from here on, and what `options` holds as taken too. */
void watch_start(struct watch_hub *hub, struct http_request *request, const struct watch_options *options);

/* For lists too: whether an object is in the namespace and matches both selectors. */
bool watch_selects(const char *namespace, const struct selector *labels, const struct field_selector *fields, const json_t *object);

#endif
