#include "kube/watch_stream.h"

#include <string.h>

void watch_stream_init(struct watch_stream *stream) {
    *stream = (struct watch_stream){0};
}

void watch_stream_release(struct watch_stream *stream) {
    buffer_release(&stream->line);
}

static int find_type(const char *name, size_t len, enum watch_event_type *ret_type) {
    static const char *const names[] = {
        [WATCH_EVENT_ADDED] = "ADDED",       [WATCH_EVENT_MODIFIED] = "MODIFIED", [WATCH_EVENT_DELETED] = "DELETED",
        [WATCH_EVENT_BOOKMARK] = "BOOKMARK", [WATCH_EVENT_ERROR] = "ERROR",
    };
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (strlen(names[i]) == len && memcmp(names[i], name, len) == 0) {
            *ret_type = (enum watch_event_type)i;
            return 0;
        }
    }
    return -1;
}

static bool is_known(const struct watch_stream *stream, const struct kube_glance *glance, enum watch_event_type *ret_type) {
    return stream->is_known != NULL && glance->type.text != NULL && find_type(glance->type.text, glance->type.len, ret_type) == 0 &&
           (*ret_type == WATCH_EVENT_ADDED || *ret_type == WATCH_EVENT_MODIFIED) && stream->is_known(stream->arg, glance);
}

static int read_event(const struct watch_stream *stream, struct watch_event *ret_event, struct error *err) {
    const char *text = buffer_text(&stream->line);
    size_t len = stream->line.len;
    struct kube_glance glance;
    enum watch_event_type type = WATCH_EVENT_ADDED;
    if (kube_glance_event(text, len, &glance) && is_known(stream, &glance, &type)) {
        *ret_event = (struct watch_event){.type = type, .object = kube_glance_identity(&glance)};
        return 0;
    }
    cleanup_json json_t *event = kube_glance_parse(&glance, text, len, err);
    if (event == NULL) {
        return error_wrap(err, "watch event");
    }
    struct watch_event result;
    const char *name = json_string_at(event, "type", "");
    if (find_type(name, strlen(name), &result.type) < 0) {
        return error_set(err, ERROR_INVALID, "watch event: unknown type \"%.40s\"", name);
    }
    json_t *object = json_object_get(event, "object");
    if (!json_is_object(object)) {
        return error_set(err, ERROR_INVALID, "watch event: no object in it");
    }
    result.object = json_incref(object);
    *ret_event = result;
    return 0;
}

static bool is_blank(const char *text, size_t len) {
    for (size_t i = 0; i < len; i++) {
        if (text[i] != ' ' && text[i] != '\t' && text[i] != '\r') {
            return false;
        }
    }
    return true;
}

enum watch_step watch_stream_read(struct watch_stream *stream, const char *bytes, size_t len, size_t *ret_used,
                                  struct watch_event *ret_event, struct error *err) {
    size_t used = 0;
    while (used < len) {
        const char *start = bytes + used;
        const char *newline = memchr(start, '\n', len - used);
        size_t piece = newline != NULL ? (size_t)(newline - start) : len - used;
        if (stream->line.len + piece > WATCH_EVENT_BYTES_MAX) {
            error_set(err, ERROR_LIMIT, "watch event: longer than the limit of %d bytes", WATCH_EVENT_BYTES_MAX);
            return WATCH_STEP_FAILED;
        }
        buffer_append(&stream->line, start, piece);
        used += piece;
        if (newline == NULL) {
            break;
        }
        used++;
        bool has_event = !is_blank(buffer_text(&stream->line), stream->line.len);
        int result = has_event ? read_event(stream, ret_event, err) : 0;
        buffer_clear(&stream->line);
        if (has_event) {
            *ret_used = used;
            return result < 0 ? WATCH_STEP_FAILED : WATCH_STEP_EVENT;
        }
    }
    *ret_used = used;
    return WATCH_STEP_AGAIN;
}
