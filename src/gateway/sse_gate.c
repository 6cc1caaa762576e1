#include "gateway/sse_gate.h"

/* The length up to and including the last blank line, 0 when there is none. Lines end with LF or CRLF. */
static size_t whole_events(const char *bytes, size_t len) {
    for (size_t at = len; at >= 2; at--) {
        if (bytes[at - 1] != '\n') {
            continue;
        }
        if (bytes[at - 2] == '\n' || (at >= 3 && bytes[at - 2] == '\r' && bytes[at - 3] == '\n')) {
            return at;
        }
    }
    return 0;
}

void sse_gate_push(struct sse_gate *gate, const char *bytes, size_t len, struct buffer *out) {
    if (gate->held.len == 0) { /* the usual case: whole events, nothing is copied twice */
        size_t whole = whole_events(bytes, len);
        buffer_append(out, bytes, whole);
        bytes += whole;
        len -= whole;
        buffer_append(&gate->held, bytes, len);
    } else {
        /* Only what is new, and the three bytes before it, can hold the blank line. */
        size_t seam = gate->held.len < 3 ? gate->held.len : 3;
        size_t from = gate->held.len - seam;
        buffer_append(&gate->held, bytes, len);
        size_t whole = whole_events(gate->held.data + from, gate->held.len - from);
        if (whole > 0) {
            buffer_append(out, gate->held.data, from + whole);
            buffer_consume(&gate->held, from + whole);
        }
    }
    if (gate->held.len > SSE_GATE_HELD_BYTES_MAX) {
        sse_gate_finish(gate, out);
    }
}

void sse_gate_finish(struct sse_gate *gate, struct buffer *out) {
    buffer_append(out, gate->held.data, gate->held.len);
    buffer_clear(&gate->held);
}

void sse_gate_release(struct sse_gate *gate) {
    buffer_release(&gate->held);
}
