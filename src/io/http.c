/* Heads: the request or status line, the fields, and what they say about the body (RFC 9112). */
#include "io/http.h"

#include <string.h>
#include <strings.h>

#define METHOD_BYTES_MAX 32

static enum http_step fail(struct error *err, int http_status, enum error_code code, const char *text) {
    error_set(err, code, "%s", text);
    if (err != NULL) {
        err->http_status = http_status;
    }
    return HTTP_STEP_FAILED;
}

static enum http_step bad(struct error *err, const char *text) {
    return fail(err, 400, ERROR_INVALID, text);
}

/* RFC 9110, 5.6.2 */
static bool is_token_char(char byte) {
    return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') || (byte >= '0' && byte <= '9') ||
           (byte != '\0' && strchr("!#$%&'*+-.^_`|~", byte) != NULL);
}

static bool is_token(const char *text, size_t len) {
    for (size_t i = 0; i < len; i++) {
        if (!is_token_char(text[i])) {
            return false;
        }
    }
    return len != 0;
}

static bool is_field_text(const char *text, size_t len) {
    for (size_t i = 0; i < len; i++) {
        unsigned char byte = (unsigned char)text[i];
        if ((byte < 0x20 && byte != '\t') || byte == 0x7f) {
            return false;
        }
    }
    return true;
}

/* ---- lines ---- */

struct line {
    const char *text;
    size_t len; /* without CR LF */
};

struct lines {
    const char *at;
    const char *end;
};

/* The head ends with an empty line. Each LF must follow a CR and each CR must be followed by an LF, or another program could see
 * other lines than this one does. */
static enum http_step find_head_end(const char *bytes, size_t len, size_t *ret_used, struct error *err) {
    size_t line_start = 0;
    while (line_start < len) {
        const char *line = bytes + line_start;
        const char *line_feed = memchr(line, '\n', len - line_start);
        if (line_feed == NULL) {
            break;
        }
        size_t line_len = (size_t)(line_feed - line);
        if (line_len == 0 || line[line_len - 1] != '\r' || memchr(line, '\r', line_len - 1) != NULL) {
            return bad(err, "malformed head: a bare CR or LF");
        }
        line_start += line_len + 1;
        if (line_len == 1) {
            *ret_used = line_start;
            return line_start > HTTP_HEAD_BYTES_MAX ? fail(err, 431, ERROR_LIMIT, "the head is too long") : HTTP_STEP_DONE;
        }
    }
    if (len > HTTP_HEAD_BYTES_MAX) {
        return fail(err, 431, ERROR_LIMIT, "the head is too long");
    }
    return HTTP_STEP_AGAIN;
}

static struct line next_line(struct lines *lines) {
    const char *line_feed = memchr(lines->at, '\n', (size_t)(lines->end - lines->at));
    struct line line = {.text = lines->at, .len = (size_t)(line_feed - lines->at) - 1};
    lines->at = line_feed + 1;
    return line;
}

/* ---- request line ---- */

static int hex_digit(char byte) {
    if (byte >= '0' && byte <= '9') {
        return byte - '0';
    }
    byte = (char)(byte | 0x20);
    return byte >= 'a' && byte <= 'f' ? byte - 'a' + 10 : -1;
}

static bool has_dot_segment(const char *path) {
    while (*path != '\0') {
        path += *path == '/' ? 1 : 0;
        size_t len = strcspn(path, "/");
        if ((len == 1 && path[0] == '.') || (len == 2 && path[0] == '.' && path[1] == '.')) {
            return true;
        }
        path += len;
    }
    return false;
}

/* What two programs could read differently is refused: an encoded slash or NUL, control characters, dot segments. */
static char *decode_path(const char *text, size_t len) {
    char *path = xmalloc(len + 1);
    size_t used = 0;
    for (size_t i = 0; i < len; i++) {
        char byte = text[i];
        if (byte == '%') {
            int high = i + 2 < len ? hex_digit(text[i + 1]) : -1;
            int low = high >= 0 ? hex_digit(text[i + 2]) : -1;
            byte = low >= 0 ? (char)(high * 16 + low) : '\0';
            i += 2;
            if (byte == '/' || (unsigned char)byte < 0x20 || byte == 0x7f) {
                free(path);
                return NULL;
            }
        }
        path[used++] = byte;
    }
    path[used] = '\0';
    if (has_dot_segment(path)) {
        free(path);
        return NULL;
    }
    return path;
}

/* Absolute form must be accepted (RFC 9112, 3.2.2); its authority is dropped since nothing here is chosen by host. */
static const char *skip_authority(const char *target, size_t len) {
    static const char *const schemes[] = {"http://", "https://"};
    for (size_t i = 0; i < ARRAY_LEN(schemes); i++) {
        size_t scheme_len = strlen(schemes[i]);
        if (len > scheme_len && strncasecmp(target, schemes[i], scheme_len) == 0) {
            const char *at = target + scheme_len;
            while (at < target + len && *at != '/' && *at != '?') {
                at++;
            }
            return at;
        }
    }
    return target;
}

static enum http_step parse_target(const char *text, size_t len, struct http_head *head, struct error *err) {
    if (len > HTTP_TARGET_BYTES_MAX) {
        return fail(err, 414, ERROR_LIMIT, "the request target is too long");
    }
    for (size_t i = 0; i < len; i++) {
        if (text[i] < 0x21 || text[i] > 0x7e || text[i] == '#') {
            return bad(err, "malformed request target");
        }
    }
    const char *origin = skip_authority(text, len);
    bool was_absolute = origin != text;
    len -= (size_t)(origin - text);
    bool is_asterisk = !was_absolute && len == 1 && *origin == '*' && strcmp(head->method, "OPTIONS") == 0;
    if (was_absolute && (len == 0 || *origin == '?')) {
        head->target = xasprintf("/%.*s", (int)len, origin);
    } else if (is_asterisk || (len != 0 && *origin == '/')) {
        head->target = xstrndup(origin, len);
    } else {
        return bad(err, "malformed request target");
    }
    const char *question = strchrnul(head->target, '?');
    head->path = decode_path(head->target, (size_t)(question - head->target));
    head->query = xstrdup(*question == '?' ? question + 1 : "");
    return head->path != NULL ? HTTP_STEP_DONE
                              : bad(err, "malformed path: a dot segment, or an escape that is not allowed in a path");
}

static enum http_step parse_version(const char *text, size_t len, struct http_head *head, struct error *err) {
    bool is_well_formed = len == 8 && memcmp(text, "HTTP/", 5) == 0 && text[5] >= '0' && text[5] <= '9' && text[6] == '.' &&
                          text[7] >= '0' && text[7] <= '9';
    if (!is_well_formed) {
        return bad(err, "malformed HTTP version");
    }
    if (text[5] != '1' || text[7] > '1') {
        return fail(err, 505, ERROR_UNSUPPORTED, "this server speaks HTTP/1.1 and HTTP/1.0");
    }
    head->is_http_1_0 = text[7] == '0';
    return HTTP_STEP_DONE;
}

static enum http_step parse_request_line(struct line line, struct http_head *head, struct error *err) {
    const char *end = line.text + line.len;
    const char *target = memchr(line.text, ' ', line.len);
    const char *version = target != NULL ? memchr(target + 1, ' ', (size_t)(end - target - 1)) : NULL;
    if (version == NULL || !is_token(line.text, (size_t)(target - line.text))) {
        return bad(err, "malformed request line");
    }
    if (target - line.text > METHOD_BYTES_MAX) {
        return fail(err, 501, ERROR_UNSUPPORTED, "unknown method");
    }
    enum http_step step = parse_version(version + 1, (size_t)(end - version - 1), head, err);
    if (step != HTTP_STEP_DONE) {
        return step;
    }
    head->method = xstrndup(line.text, (size_t)(target - line.text));
    return parse_target(target + 1, (size_t)(version - target - 1), head, err);
}

/* ---- fields ---- */

static enum http_step parse_field(struct line line, struct http_head *head, struct error *err) {
    const char *colon = memchr(line.text, ':', line.len);
    if (colon == NULL || !is_token(line.text, (size_t)(colon - line.text))) {
        return bad(err, "malformed header field"); /* folded lines and white space before the colon end here too */
    }
    const char *value = colon + 1;
    const char *end = line.text + line.len;
    while (value < end && (*value == ' ' || *value == '\t')) {
        value++;
    }
    while (end > value && (end[-1] == ' ' || end[-1] == '\t')) {
        end--;
    }
    if (!is_field_text(value, (size_t)(end - value))) {
        return bad(err, "malformed header field: a control character");
    }
    if (head->fields.count == HTTP_FIELDS_MAX) {
        return fail(err, 431, ERROR_LIMIT, "too many header fields");
    }
    head->fields.items[head->fields.count++] = (struct http_field){
        .name = xstrndup(line.text, (size_t)(colon - line.text)),
        .value = xstrndup(value, (size_t)(end - value)),
    };
    return HTTP_STEP_DONE;
}

static enum http_step parse_fields(struct lines *lines, struct http_head *head, struct error *err) {
    for (;;) {
        struct line line = next_line(lines);
        if (line.len == 0) {
            return HTTP_STEP_DONE;
        }
        enum http_step step = parse_field(line, head, err);
        if (step != HTTP_STEP_DONE) {
            return step;
        }
    }
}

/* ---- framing: what the fields together say ---- */

struct framing {
    const char *coding; /* Transfer-Encoding */
    size_t coding_count;
    const char *length; /* Content-Length */
    size_t host_count;
    bool says_close;
    bool says_keep_alive;
};

static bool list_has(const char *list, const char *word) {
    size_t word_len = strlen(word);
    while (*list != '\0') {
        list += strspn(list, ", \t");
        size_t len = strcspn(list, ", \t");
        if (len == word_len && strncasecmp(list, word, len) == 0) {
            return true;
        }
        list += len;
    }
    return false;
}

static enum http_step collect_framing(const struct http_head *head, struct framing *framing, struct error *err) {
    for (size_t i = 0; i < head->fields.count; i++) {
        const struct http_field *field = &head->fields.items[i];
        if (strcasecmp(field->name, "Transfer-Encoding") == 0) {
            framing->coding = field->value;
            framing->coding_count++;
        } else if (strcasecmp(field->name, "Content-Length") == 0) {
            if (framing->length != NULL && strcmp(framing->length, field->value) != 0) {
                return bad(err, "several differing Content-Length fields");
            }
            framing->length = field->value;
        } else if (strcasecmp(field->name, "Host") == 0) {
            framing->host_count++;
        } else if (strcasecmp(field->name, "Connection") == 0) {
            framing->says_close |= list_has(field->value, "close");
            framing->says_keep_alive |= list_has(field->value, "keep-alive");
        }
    }
    return HTTP_STEP_DONE;
}

static enum http_step check_coding(const struct framing *framing, const struct http_head *head, struct error *err) {
    if (framing->length != NULL) {
        return bad(err, "both Content-Length and Transfer-Encoding");
    }
    if (head->is_http_1_0) {
        return bad(err, "Transfer-Encoding in an HTTP/1.0 message");
    }
    if (framing->coding_count == 1 && strcasecmp(framing->coding, "chunked") == 0) {
        return HTTP_STEP_DONE;
    }
    if (framing->coding_count == 1 && strchr(framing->coding, ',') == NULL && is_token(framing->coding, strlen(framing->coding))) {
        return fail(err, 501, ERROR_UNSUPPORTED, "unknown transfer coding: only \"chunked\" is understood");
    }
    return bad(err, "malformed Transfer-Encoding: only \"chunked\" is understood");
}

static enum http_step parse_length(const char *text, int64_t *ret_length, struct error *err) {
    size_t len = strlen(text);
    if (len == 0 || strspn(text, "0123456789") != len) {
        return bad(err, "malformed Content-Length");
    }
    if (len > 18) {
        return bad(err, "Content-Length is too large");
    }
    *ret_length = strtoll(text, NULL, 10);
    return HTTP_STEP_DONE;
}

static enum http_step apply_framing(struct http_head *head, struct framing *framing, struct error *err) {
    if (collect_framing(head, framing, err) != HTTP_STEP_DONE) {
        return HTTP_STEP_FAILED;
    }
    head->keep_alive = !framing->says_close && (!head->is_http_1_0 || framing->says_keep_alive);
    head->body_kind = HTTP_BODY_NONE;
    if (framing->coding_count != 0) {
        head->body_kind = HTTP_BODY_CHUNKED;
        return check_coding(framing, head, err);
    }
    if (framing->length != NULL) {
        head->body_kind = HTTP_BODY_LENGTH;
        return parse_length(framing->length, &head->body_length, err);
    }
    return HTTP_STEP_DONE;
}

/* ---- the two kinds of head ---- */

static enum http_step parse_request_lines(struct lines *lines, struct http_head *head, struct error *err) {
    struct framing framing = {0};
    if (parse_request_line(next_line(lines), head, err) != HTTP_STEP_DONE || parse_fields(lines, head, err) != HTTP_STEP_DONE ||
        apply_framing(head, &framing, err) != HTTP_STEP_DONE) {
        return HTTP_STEP_FAILED;
    }
    if (framing.host_count > 1 || (framing.host_count == 0 && !head->is_http_1_0)) {
        return bad(err, "exactly one Host field is required");
    }
    const char *expect = http_fields_get(&head->fields, "Expect");
    head->expects_continue = !head->is_http_1_0 && expect != NULL && strcasecmp(expect, "100-continue") == 0;
    return HTTP_STEP_DONE;
}

enum http_step http_parse_request(const char *bytes, size_t len, struct http_head *ret_head, size_t *ret_used, struct error *err) {
    /* One empty line before a request is ignored (RFC 9112, 2.2): old clients send one after a body. */
    size_t skipped = len >= 2 && bytes[0] == '\r' && bytes[1] == '\n' ? 2 : 0;
    const char *start = bytes + skipped;
    size_t rest = len - skipped;
    if (rest != 0 && !is_token_char(*start) && !(skipped == 0 && rest == 1 && *start == '\r')) {
        return bad(err, "malformed request line: not an HTTP request"); /* a TLS greeting, say, which would never end */
    }
    size_t used = 0;
    enum http_step step = find_head_end(start, rest, &used, err);
    if (step == HTTP_STEP_AGAIN && rest > HTTP_TARGET_BYTES_MAX + METHOD_BYTES_MAX + 2 && memchr(start, '\n', rest) == NULL) {
        return fail(err, 414, ERROR_LIMIT, "the request target is too long");
    }
    if (step != HTTP_STEP_DONE) {
        return step;
    }
    struct http_head head = {0};
    struct lines lines = {.at = start, .end = start + used};
    if (parse_request_lines(&lines, &head, err) != HTTP_STEP_DONE) {
        http_head_release(&head);
        return HTTP_STEP_FAILED;
    }
    *ret_head = head;
    *ret_used = skipped + used;
    return HTTP_STEP_DONE;
}

static enum http_step parse_status_line(struct line line, struct http_head *head, struct error *err) {
    if (line.len < 12 || line.text[8] != ' ') {
        return bad(err, "malformed status line");
    }
    if (parse_version(line.text, 8, head, err) != HTTP_STEP_DONE) {
        return HTTP_STEP_FAILED;
    }
    for (size_t i = 9; i < 12; i++) {
        if (line.text[i] < '0' || line.text[i] > '9') {
            return bad(err, "malformed status line");
        }
        head->status = head->status * 10 + line.text[i] - '0';
    }
    bool ends_well = line.len == 12 || (line.text[12] == ' ' && is_field_text(line.text + 13, line.len - 13));
    if (head->status < 100 || head->status > 599 || !ends_well) {
        return bad(err, "malformed status line");
    }
    return HTTP_STEP_DONE;
}

static enum http_step parse_response_lines(struct lines *lines, bool to_head, struct http_head *head, struct error *err) {
    struct framing framing = {0};
    if (parse_status_line(next_line(lines), head, err) != HTTP_STEP_DONE || parse_fields(lines, head, err) != HTTP_STEP_DONE ||
        apply_framing(head, &framing, err) != HTTP_STEP_DONE) {
        return HTTP_STEP_FAILED;
    }
    if (to_head || head->status < 200 || head->status == 204 || head->status == 304) {
        head->body_kind = HTTP_BODY_NONE; /* whatever its fields say (RFC 9112, 6.3) */
    } else if (head->body_kind == HTTP_BODY_NONE) {
        head->body_kind = HTTP_BODY_UNTIL_CLOSE;
        head->keep_alive = false;
    }
    return HTTP_STEP_DONE;
}

enum http_step http_parse_response(const char *bytes, size_t len, bool to_head, struct http_head *ret_head, size_t *ret_used,
                                   struct error *err) {
    if (len != 0 && bytes[0] != 'H') {
        return bad(err, "malformed status line: not an HTTP response");
    }
    size_t used = 0;
    enum http_step step = find_head_end(bytes, len, &used, err);
    if (step != HTTP_STEP_DONE) {
        return step;
    }
    struct http_head head = {0};
    struct lines lines = {.at = bytes, .end = bytes + used};
    if (parse_response_lines(&lines, to_head, &head, err) != HTTP_STEP_DONE) {
        http_head_release(&head);
        return HTTP_STEP_FAILED;
    }
    *ret_head = head;
    *ret_used = used;
    return HTTP_STEP_DONE;
}
