/* Lets server-sent events through whole: of the bytes that came, those up to the last blank line may go on, the rest waits for its
 * own. So when an engine dies in the middle of an event, an error event can follow that a client can read. Pure.
 *
 * Engines write whole events, so in practice nothing waits. */
#ifndef DAVIT_GATEWAY_SSE_GATE_H
#define DAVIT_GATEWAY_SSE_GATE_H

#include "base/buffer.h"

#define SSE_GATE_HELD_BYTES_MAX (1024 * 1024) /* a longer event is let through in pieces */

struct sse_gate {
    struct buffer held;
};

/* Takes bytes; appends to `out` what may be passed on now. */
void sse_gate_push(struct sse_gate *gate, const char *bytes, size_t len, struct buffer *out);
/* The stream ended as it should: appends what is left. */
void sse_gate_finish(struct sse_gate *gate, struct buffer *out);
void sse_gate_release(struct sse_gate *gate);

#endif
