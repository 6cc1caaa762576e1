/* HTTP/1.1 on the wire, without sockets: heads in, fields out; bodies in, bytes out. Strict where laxness would let two programs
 * see two different messages (RFC 9112): bare CR or LF, white space before a colon, obsolete folding, both Content-Length and
 * Transfer-Encoding, several differing lengths, any transfer coding but a final "chunked", and control characters are errors. */
#ifndef DAVIT_IO_HTTP_H
#define DAVIT_IO_HTTP_H

#include "base/buffer.h"
#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HTTP_HEAD_BYTES_MAX (64 * 1024)
#define HTTP_FIELDS_MAX 100
#define HTTP_TARGET_BYTES_MAX (16 * 1024)

struct http_field {
    char *name;  /* as it came; compared without regard to case */
    char *value; /* trimmed */
};

struct http_fields {
    struct http_field items[HTTP_FIELDS_MAX];
    size_t count;
};

/* The first value of a field, NULL when absent. Borrowed. */
const char *http_fields_get(const struct http_fields *fields, const char *name);
/* Copies name and value; ERROR_LIMIT when full, ERROR_INVALID when either holds CR, LF or NUL. */
int http_fields_add(struct http_fields *fields, const char *name, const char *value, struct error *err) DAVIT_MUST_USE;
void http_fields_remove(struct http_fields *fields, const char *name); /* every one of that name */
void http_fields_release(struct http_fields *fields);

enum http_body_kind { HTTP_BODY_NONE, HTTP_BODY_LENGTH, HTTP_BODY_CHUNKED, HTTP_BODY_UNTIL_CLOSE };

struct http_head {
    /* requests */
    char *method;
    char *target; /* origin form, as it came */
    char *path;   /* the target's path, percent-decoded; "%00" and "%2F" are refused; dot segments are refused */
    char *query;  /* after '?', not decoded; "" when none */
    /* responses */
    int status;
    /* both */
    bool is_http_1_0;
    bool keep_alive;
    bool expects_continue;
    enum http_body_kind body_kind;
    int64_t body_length; /* HTTP_BODY_LENGTH */
    struct http_fields fields;
};
void http_head_release(struct http_head *head);

enum http_step { HTTP_STEP_FAILED = -1, HTTP_STEP_AGAIN = 0, HTTP_STEP_DONE = 1 };

/* Reads a request or response head from the front of `bytes`. DONE: *ret_used bytes were the head (blank line included).
 * AGAIN: more bytes are needed. FAILED: err holds the answer's status: 400, 414, 431, 501 or 505. `to_head` tells that a response
 * answers a HEAD request (it has no body). Interim 1xx responses are returned like others. */
enum http_step http_parse_request(const char *bytes, size_t len, struct http_head *ret_head, size_t *ret_used, struct error *err);
enum http_step http_parse_response(const char *bytes, size_t len, bool to_head, struct http_head *ret_head, size_t *ret_used,
                                   struct error *err);

/* Decodes a body of either framing. */
struct http_body_decoder {
    enum http_body_kind kind;
    int64_t remaining; /* of the body or of the current chunk */
    int state;
    uint64_t chunk_size;
    size_t line_bytes;
};
void http_body_decoder_init(struct http_body_decoder *decoder, const struct http_head *head);
/* Consumes *ret_used of `bytes` and gives the piece of payload in it as a borrowed range of `bytes` (it may be empty). DONE: the
 * body is whole (trailers were read and dropped). Call again with the rest while it consumes. */
enum http_step http_body_decode(struct http_body_decoder *decoder, const char *bytes, size_t len, const char **ret_piece,
                                size_t *ret_piece_len, size_t *ret_used, struct error *err);
/* With HTTP_BODY_UNTIL_CLOSE the end of input is the end of the body; with the others it is a cut. */
bool http_body_may_end_here(const struct http_body_decoder *decoder);

const char *http_reason_phrase(int status);

/* The decoded value of a query parameter, of the caller's; NULL when absent. `found_empty` style parameters give "". */
char *http_query_get(const char *query, const char *name);
/* Percent-encodes everything but unreserved characters (RFC 3986). */
void http_append_percent_encoded(struct buffer *out, const char *text);

#endif
