/* The HTTP codec on hostile bytes. The first byte chooses what is read and where the input is split; whatever is accepted must be
 * the same for every split, and what is not consumed must be left alone. */
#include "io/http.h"

#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static enum http_step parse(int what, const char *bytes, size_t len, struct http_head *head, size_t *ret_used) {
    struct error err = {0};
    enum http_step step = what == 0 ? http_parse_request(bytes, len, head, ret_used, &err)
                                    : http_parse_response(bytes, len, what == 2, head, ret_used, &err);
    if (step == HTTP_STEP_FAILED && (err.http_status < 400 || err.http_status > 505 || err.message[0] == '\0')) {
        abort(); /* a refusal has a status and says why */
    }
    return step;
}

/* Decodes in steps of at most `step_bytes`; returns how it ended. */
static enum http_step decode(const struct http_head *head, const char *bytes, size_t len, size_t step_bytes, struct buffer *out,
                             size_t *ret_used) {
    struct http_body_decoder decoder;
    enum http_step step = HTTP_STEP_AGAIN;
    size_t at = 0;
    http_body_decoder_init(&decoder, head);
    do {
        size_t part = len - at < step_bytes ? len - at : step_bytes;
        const char *piece = NULL;
        size_t piece_len = 0;
        size_t used = 0;
        struct error err;
        step = http_body_decode(&decoder, bytes + at, part, &piece, &piece_len, &used, &err);
        if (step == HTTP_STEP_FAILED) {
            break;
        }
        if (used > part || piece_len > used || (piece_len != 0 && (piece < bytes + at || piece + piece_len > bytes + at + used))) {
            abort();
        }
        buffer_append(out, piece, piece_len);
        at += used;
        if (used == 0 && part == len - at && step == HTTP_STEP_AGAIN) {
            break;
        }
        if (used == 0 && step == HTTP_STEP_AGAIN) {
            abort(); /* a decoder consumes all it is given, or is done */
        }
    } while (step == HTTP_STEP_AGAIN);
    *ret_used = at;
    return step;
}

static void check_body(const struct http_head *head, const char *bytes, size_t len, size_t split) {
    cleanup_buffer struct buffer whole = BUFFER_INIT;
    cleanup_buffer struct buffer parts = BUFFER_INIT;
    size_t whole_used = 0;
    size_t parts_used = 0;
    enum http_step one = decode(head, bytes, len, len + 1, &whole, &whole_used);
    enum http_step other = decode(head, bytes, len, split + 1, &parts, &parts_used);
    if (one != other || (one == HTTP_STEP_DONE && whole_used != parts_used) || whole.len != parts.len ||
        memcmp(buffer_text(&whole), buffer_text(&parts), whole.len) != 0) {
        abort();
    }
}

static void check_head(const struct http_head *head) {
    for (size_t i = 0; i < head->fields.count; i++) {
        if (strpbrk(head->fields.items[i].name, " \t\r\n:") != NULL || strpbrk(head->fields.items[i].value, "\r\n") != NULL) {
            abort();
        }
    }
    if (head->path != NULL && strstr(head->path, "/../") != NULL) {
        abort();
    }
    bool has_both =
        http_fields_get(&head->fields, "Transfer-Encoding") != NULL && http_fields_get(&head->fields, "Content-Length") != NULL;
    if (has_both || head->body_length < 0) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 2) {
        return 0;
    }
    int what = data[0] % 4; /* a request, a response, one to HEAD, a chunked body */
    size_t split = data[1];
    const char *bytes = (const char *)data + 2;
    size_t len = size - 2;
    if (what == 3) {
        check_body(&(struct http_head){.body_kind = HTTP_BODY_CHUNKED}, bytes, len, split);
        return 0;
    }
    struct http_head head;
    size_t used = 0;
    enum http_step step = parse(what, bytes, len, &head, &used);
    if (step != HTTP_STEP_DONE) {
        return 0;
    }
    if (used == 0 || used > len) {
        abort();
    }
    check_head(&head);
    check_body(&head, bytes + used, len - used, split);
    if (head.query != NULL) {
        cleanup_free char *value = http_query_get(head.query, "a");
    }
    http_head_release(&head);
    /* a cut head is never taken for a whole one */
    if (split < used && parse(what, bytes, split, &head, &used) == HTTP_STEP_DONE) {
        abort();
    }
    return 0;
}
