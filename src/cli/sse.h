/* Decodes server-sent events, without sockets: bytes in, events out (WHATWG HTML, 9.2.6 "Interpreting an event stream"). Lines end
 * with LF, CR or CR LF; comments, ids and retry times are skipped, and so are events without data. An event that the end of the
 * stream cuts is dropped. Lines and data are at most SSE_EVENT_BYTES_MAX long. */
#ifndef DAVIT_CLI_SSE_H
#define DAVIT_CLI_SSE_H

#include "base/buffer.h"
#include "base/error.h"

#define SSE_EVENT_BYTES_MAX (1024 * 1024)

/* All zeroes is the start of a stream. */
struct sse_decoder {
    struct buffer line; /* the start of a line whose end has not come yet */
    struct buffer data; /* of the event that is being read, each line with an LF */
    struct buffer type;
    bool is_past_first_line;
    bool has_given; /* data and type are those of the event given last */
    bool was_cr;    /* an LF that comes next belongs to the last line's end */
};

struct sse_event {
    const char *type; /* "" when none was given */
    const char *data; /* NUL-terminated; both are borrowed until the next call */
    size_t data_len;
};

enum sse_step { SSE_STEP_FAILED = -1, SSE_STEP_AGAIN = 0, SSE_STEP_EVENT = 1 };

/* Consumes *ret_used of the bytes. EVENT: *ret_event is set, call again with the rest. AGAIN: all were consumed. FAILED: the stream
 * cannot be read on (ERROR_LIMIT). */
enum sse_step sse_decoder_read(struct sse_decoder *decoder, const char *bytes, size_t len, size_t *ret_used,
                               struct sse_event *ret_event, struct error *err);
void sse_decoder_release(struct sse_decoder *decoder);

#endif
