/* Bodies: a length, chunks (RFC 9112, 7.1), or until the connection closes. */
#include "io/http.h"

#include <string.h>

#define CHUNK_LINE_BYTES_MAX 256
#define TRAILER_BYTES_MAX (8 * 1024)
#define CHUNK_BYTES_MAX (UINT64_C(1) << 60)

enum chunk_state {
    CHUNK_SIZE_FIRST, /* the first digit of a size */
    CHUNK_SIZE,
    CHUNK_EXTENSION,
    CHUNK_SIZE_LF,
    CHUNK_DATA,
    CHUNK_DATA_CR,
    CHUNK_DATA_LF,
    TRAILER_FIRST, /* the first byte of a trailer line */
    TRAILER,
    TRAILER_LF,
    LAST_LF,
    CHUNKS_DONE,
};

void http_body_decoder_init(struct http_body_decoder *decoder, const struct http_head *head) {
    *decoder = (struct http_body_decoder){.kind = head->body_kind, .remaining = head->body_length, .state = CHUNK_SIZE_FIRST};
}

bool http_body_may_end_here(const struct http_body_decoder *decoder) {
    switch (decoder->kind) {
    case HTTP_BODY_LENGTH:
        return decoder->remaining == 0;
    case HTTP_BODY_CHUNKED:
        return decoder->state == CHUNKS_DONE;
    default:
        return true;
    }
}

static int refuse(struct error *err, const char *what) {
    return error_set(err, ERROR_INVALID, "malformed chunked body: %s", what);
}

static int hex_digit(char byte) {
    if (byte >= '0' && byte <= '9') {
        return byte - '0';
    }
    byte = (char)(byte | 0x20);
    return byte >= 'a' && byte <= 'f' ? byte - 'a' + 10 : -1;
}

static int expect_byte(struct http_body_decoder *decoder, char byte, char expected, enum chunk_state next, struct error *err) {
    if (byte != expected) {
        return refuse(err, "a line or a chunk does not end with CR LF");
    }
    decoder->state = next;
    return 0;
}

static int take_size_byte(struct http_body_decoder *decoder, char byte, struct error *err) {
    int digit = hex_digit(byte);
    if (digit >= 0) {
        decoder->chunk_size = decoder->chunk_size * 16 + (uint64_t)digit;
        if (decoder->chunk_size > CHUNK_BYTES_MAX || ++decoder->line_bytes > CHUNK_LINE_BYTES_MAX) {
            return refuse(err, "a chunk's size is too large");
        }
        decoder->state = CHUNK_SIZE;
        return 0;
    }
    if (decoder->state == CHUNK_SIZE && (byte == '\r' || byte == ';')) {
        decoder->state = byte == ';' ? CHUNK_EXTENSION : CHUNK_SIZE_LF;
        return 0;
    }
    return refuse(err, "a chunk's size is not hexadecimal");
}

/* A byte of a chunk's extensions or of a trailer field, both of which are dropped. */
static int take_dropped_byte(struct http_body_decoder *decoder, char byte, enum chunk_state after_cr, size_t limit,
                             struct error *err) {
    if (byte == '\r') {
        decoder->state = after_cr;
        return 0;
    }
    if (((unsigned char)byte < 0x20 && byte != '\t') || byte == 0x7f) {
        return refuse(err, "a control character");
    }
    if (++decoder->line_bytes > limit) {
        return refuse(err, "extensions or trailers are too long");
    }
    return 0;
}

static int end_size_line(struct http_body_decoder *decoder, char byte, struct error *err) {
    if (expect_byte(decoder, byte, '\n', decoder->chunk_size == 0 ? TRAILER_FIRST : CHUNK_DATA, err) < 0) {
        return -1;
    }
    decoder->remaining = (int64_t)decoder->chunk_size;
    decoder->chunk_size = 0;
    decoder->line_bytes = 0;
    return 0;
}

static int take_framing_byte(struct http_body_decoder *decoder, char byte, struct error *err) {
    switch ((enum chunk_state)decoder->state) {
    case CHUNK_SIZE_FIRST:
    case CHUNK_SIZE:
        return take_size_byte(decoder, byte, err);
    case CHUNK_EXTENSION:
        return take_dropped_byte(decoder, byte, CHUNK_SIZE_LF, CHUNK_LINE_BYTES_MAX, err);
    case CHUNK_SIZE_LF:
        return end_size_line(decoder, byte, err);
    case CHUNK_DATA_CR:
        return expect_byte(decoder, byte, '\r', CHUNK_DATA_LF, err);
    case CHUNK_DATA_LF:
        return expect_byte(decoder, byte, '\n', CHUNK_SIZE_FIRST, err);
    case TRAILER_FIRST:
        if (byte == '\r') {
            decoder->state = LAST_LF;
            return 0;
        }
        decoder->state = TRAILER;
        return take_dropped_byte(decoder, byte, TRAILER_LF, TRAILER_BYTES_MAX, err);
    case TRAILER:
        return take_dropped_byte(decoder, byte, TRAILER_LF, TRAILER_BYTES_MAX, err);
    case TRAILER_LF:
        return expect_byte(decoder, byte, '\n', TRAILER_FIRST, err);
    case LAST_LF:
        return expect_byte(decoder, byte, '\n', CHUNKS_DONE, err);
    case CHUNK_DATA:
    case CHUNKS_DONE:
        break;
    }
    return 0;
}

/* The payload at the front of `bytes`, at most what remains of the body or chunk. */
static size_t take_payload(struct http_body_decoder *decoder, size_t len) {
    size_t piece = (uint64_t)len < (uint64_t)decoder->remaining ? len : (size_t)decoder->remaining;
    decoder->remaining -= (int64_t)piece;
    return piece;
}

static enum http_step decode_chunked(struct http_body_decoder *decoder, const char *bytes, size_t len, const char **ret_piece,
                                     size_t *ret_piece_len, size_t *ret_used, struct error *err) {
    size_t at = 0;
    while (at < len && decoder->state != CHUNKS_DONE) {
        if (decoder->state == CHUNK_DATA) {
            *ret_piece = bytes + at;
            *ret_piece_len = take_payload(decoder, len - at);
            *ret_used = at + *ret_piece_len;
            decoder->state = decoder->remaining == 0 ? CHUNK_DATA_CR : CHUNK_DATA;
            return HTTP_STEP_AGAIN;
        }
        if (take_framing_byte(decoder, bytes[at], err) < 0) {
            return HTTP_STEP_FAILED;
        }
        at++;
    }
    *ret_used = at;
    return decoder->state == CHUNKS_DONE ? HTTP_STEP_DONE : HTTP_STEP_AGAIN;
}

enum http_step http_body_decode(struct http_body_decoder *decoder, const char *bytes, size_t len, const char **ret_piece,
                                size_t *ret_piece_len, size_t *ret_used, struct error *err) {
    *ret_piece = bytes;
    *ret_piece_len = 0;
    *ret_used = 0;
    switch (decoder->kind) {
    case HTTP_BODY_NONE:
        return HTTP_STEP_DONE;
    case HTTP_BODY_LENGTH:
        *ret_piece_len = *ret_used = take_payload(decoder, len);
        return decoder->remaining == 0 ? HTTP_STEP_DONE : HTTP_STEP_AGAIN;
    case HTTP_BODY_UNTIL_CLOSE:
        *ret_piece_len = *ret_used = len;
        return HTTP_STEP_AGAIN;
    case HTTP_BODY_CHUNKED:
        break;
    }
    return decode_chunked(decoder, bytes, len, ret_piece, ret_piece_len, ret_used, err);
}
