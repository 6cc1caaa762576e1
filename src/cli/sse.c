#include "cli/sse.h"

#include <string.h>

#define BYTE_ORDER_MARK "\xEF\xBB\xBF"

void sse_decoder_release(struct sse_decoder *decoder) {
    buffer_release(&decoder->line);
    buffer_release(&decoder->data);
    buffer_release(&decoder->type);
}

static int take_field(struct sse_decoder *decoder, const char *name, size_t name_len, const char *value, size_t value_len,
                      struct error *err) {
    if (name_len == 5 && memcmp(name, "event", 5) == 0) {
        buffer_clear(&decoder->type);
        buffer_append(&decoder->type, value, value_len);
    } else if (name_len == 4 && memcmp(name, "data", 4) == 0) {
        if (value_len >= SSE_EVENT_BYTES_MAX - decoder->data.len) {
            return error_set(err, ERROR_LIMIT, "an event is longer than %d bytes", SSE_EVENT_BYTES_MAX);
        }
        buffer_append(&decoder->data, value, value_len);
        buffer_append_char(&decoder->data, '\n');
    }
    return 0;
}

/* A line that is not empty. */
static int take_line(struct sse_decoder *decoder, const char *line, size_t len, struct error *err) {
    const char *colon = memchr(line, ':', len);
    if (colon == line) {
        return 0; /* a comment */
    }
    size_t name_len = colon != NULL ? (size_t)(colon - line) : len;
    const char *value = colon != NULL ? colon + 1 : line + len;
    size_t value_len = (size_t)(line + len - value);
    if (value_len > 0 && *value == ' ') {
        value++;
        value_len--;
    }
    return take_field(decoder, line, name_len, value, value_len, err);
}

/* The whole line is in decoder->line. */
static enum sse_step end_line(struct sse_decoder *decoder, struct sse_event *ret_event, struct error *err) {
    struct buffer *line = &decoder->line;
    if (!decoder->is_past_first_line && line->len >= 3 && memcmp(line->data, BYTE_ORDER_MARK, 3) == 0) {
        buffer_consume(line, 3);
    }
    decoder->is_past_first_line = true;
    if (line->len > 0) {
        int result = take_line(decoder, line->data, line->len, err);
        buffer_clear(line);
        return result < 0 ? SSE_STEP_FAILED : SSE_STEP_AGAIN;
    }
    if (decoder->data.len == 0) {
        buffer_clear(&decoder->type);
        return SSE_STEP_AGAIN;
    }
    decoder->data.data[decoder->data.len - 1] = '\0';
    *ret_event = (struct sse_event){
        .type = buffer_text(&decoder->type),
        .data = decoder->data.data,
        .data_len = decoder->data.len - 1,
    };
    decoder->has_given = true;
    return SSE_STEP_EVENT;
}

enum sse_step sse_decoder_read(struct sse_decoder *decoder, const char *bytes, size_t len, size_t *ret_used,
                               struct sse_event *ret_event, struct error *err) {
    size_t at = 0;
    if (decoder->has_given) {
        buffer_clear(&decoder->data);
        buffer_clear(&decoder->type);
        decoder->has_given = false;
    }
    while (at < len) {
        if (decoder->was_cr) {
            decoder->was_cr = false;
            at += bytes[at] == '\n';
            continue;
        }
        size_t piece = 0;
        while (at + piece < len && bytes[at + piece] != '\n' && bytes[at + piece] != '\r') {
            piece++;
        }
        if (piece > SSE_EVENT_BYTES_MAX - decoder->line.len) {
            error_set(err, ERROR_LIMIT, "a line of an event stream is longer than %d bytes", SSE_EVENT_BYTES_MAX);
            return SSE_STEP_FAILED;
        }
        buffer_append(&decoder->line, bytes + at, piece);
        at += piece;
        if (at == len) {
            break;
        }
        decoder->was_cr = bytes[at++] == '\r';
        enum sse_step step = end_line(decoder, ret_event, err);
        if (step != SSE_STEP_AGAIN) {
            *ret_used = at;
            return step;
        }
    }
    *ret_used = len;
    return SSE_STEP_AGAIN;
}
