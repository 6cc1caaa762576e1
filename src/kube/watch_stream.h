/* Decodes the stream of a Kubernetes watch, without sockets: bytes in, events out. One JSON object a line,
 * {"type": "ADDED|MODIFIED|DELETED|BOOKMARK|ERROR", "object": {...}} (Kubernetes API concepts, "Efficient detection of changes").
 * An event is at most WATCH_EVENT_BYTES_MAX long. */
#ifndef DAVIT_KUBE_WATCH_STREAM_H
#define DAVIT_KUBE_WATCH_STREAM_H

#include "kube/glance.h"

#define WATCH_EVENT_BYTES_MAX (4 * 1024 * 1024)

enum watch_event_type { WATCH_EVENT_ADDED, WATCH_EVENT_MODIFIED, WATCH_EVENT_DELETED, WATCH_EVENT_BOOKMARK, WATCH_EVENT_ERROR };

struct watch_event {
    enum watch_event_type type;
    json_t *object; /* without metadata.managedFields; a new reference: the caller's */
};

struct watch_stream {
    struct buffer line; /* the start of an event whose end has not come yet */
    /* Asked of what was ADDED or MODIFIED: the caller has this version already, and takes its identity for the object. NULL = no.
     */
    bool (*is_known)(void *arg, const struct kube_glance *glance);
    void *arg;
};

enum watch_step { WATCH_STEP_FAILED = -1, WATCH_STEP_AGAIN = 0, WATCH_STEP_EVENT = 1 };

void watch_stream_init(struct watch_stream *stream);
void watch_stream_release(struct watch_stream *stream);
/* Consumes *ret_used of the bytes. EVENT: *ret_event is set, call again with the rest. AGAIN: all were consumed. FAILED: the stream
 * cannot be read on (ERROR_INVALID, ERROR_LIMIT). */
enum watch_step watch_stream_read(struct watch_stream *stream, const char *bytes, size_t len, size_t *ret_used,
                                  struct watch_event *ret_event, struct error *err);

#endif
