#include "engine/api/stop_strings.h"

#include <string.h>

void stop_strings_init(struct stop_strings *stops, const char *const *list, size_t count, bool include) {
    *stops = (struct stop_strings){.list = list, .count = count, .include = include};
}

void stop_strings_release(struct stop_strings *stops) {
    buffer_release(&stops->held);
}

/* The stop string whose first occurrence ends earliest. */
static int find_first(const struct stop_strings *stops, size_t *ret_start, size_t *ret_end) {
    int found = -1;
    size_t best_start = 0;
    size_t best_end = 0;
    for (size_t i = 0; i < stops->count; i++) {
        size_t len = strlen(stops->list[i]);
        const char *at = memmem(stops->held.data, stops->held.len, stops->list[i], len);
        if (at == NULL) {
            continue;
        }
        size_t start = (size_t)(at - stops->held.data);
        size_t end = start + len;
        if (found < 0 || end < best_end || (end == best_end && start < best_start)) {
            found = (int)i;
            best_start = start;
            best_end = end;
        }
    }
    *ret_start = best_start;
    *ret_end = best_end;
    return found;
}

/* The length of the longest end of `text` that is the beginning of `stop` but not all of it. */
static size_t partial_len(const char *text, size_t text_len, const char *stop) {
    size_t stop_len = strlen(stop);
    size_t len = text_len < stop_len - 1 ? text_len : stop_len - 1;
    while (len > 0 && memcmp(text + text_len - len, stop, len) != 0) {
        len--;
    }
    return len;
}

int stop_strings_push(struct stop_strings *stops, const char *text, size_t len, bool armed, struct buffer *out) {
    if (stops->count == 0) {
        buffer_append(out, text, len);
        return -1;
    }
    if (!armed) {
        stop_strings_flush(stops, out);
        buffer_append(out, text, len);
        return -1;
    }
    buffer_append(&stops->held, text, len);
    if (stops->held.len == 0) {
        return -1;
    }
    size_t start = 0;
    size_t end = 0;
    int found = find_first(stops, &start, &end);
    if (found >= 0) {
        buffer_append(out, stops->held.data, stops->include ? end : start);
        buffer_clear(&stops->held);
        return found;
    }
    size_t keep = 0;
    for (size_t i = 0; i < stops->count; i++) {
        size_t partial = partial_len(stops->held.data, stops->held.len, stops->list[i]);
        keep = partial > keep ? partial : keep;
    }
    size_t send = stops->held.len - keep;
    buffer_append(out, stops->held.data, send);
    buffer_consume(&stops->held, send);
    return -1;
}

void stop_strings_flush(struct stop_strings *stops, struct buffer *out) {
    buffer_append(out, stops->held.data, stops->held.len);
    buffer_clear(&stops->held);
}
