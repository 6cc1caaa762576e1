#include "gateway/json_scan.h"

#include "base/buffer.h"

#include <ctype.h>
#include <stdint.h>
#include <string.h>

struct scanner {
    const char *bytes;
    size_t len;
    size_t at;
    struct error *err;
};

/* Whatever was expected: text that ends too early is told as that, since a client or a proxy on the way then lost the rest. */
static int fail(struct scanner *scanner, const char *what) {
    if (scanner->len == 0) {
        return error_set(scanner->err, ERROR_INVALID, "it is empty: a JSON object was expected");
    }
    if (scanner->at >= scanner->len) {
        return error_set(scanner->err, ERROR_INVALID, "the JSON is cut off: it ends at byte %zu (%s)", scanner->len, what);
    }
    return error_set(scanner->err, ERROR_INVALID, "not a JSON object: %s at byte %zu", what, scanner->at);
}

static int peek(const struct scanner *scanner) {
    return scanner->at < scanner->len ? (unsigned char)scanner->bytes[scanner->at] : -1;
}

static void skip_space(struct scanner *scanner) {
    while (scanner->at < scanner->len) {
        char byte = scanner->bytes[scanner->at];
        if (byte != ' ' && byte != '\t' && byte != '\n' && byte != '\r') {
            return;
        }
        scanner->at++;
    }
}

/* Eight bytes at once: none of them is a quote, a backslash or a control character (Mycroft's zero-byte test). */
static bool is_plain_word(const char *bytes) {
    uint64_t word;
    memcpy(&word, bytes, sizeof(word));
    const uint64_t ones = 0x0101010101010101U;
    const uint64_t highs = 0x8080808080808080U;
    uint64_t quote = word ^ (ones * '"');
    uint64_t backslash = word ^ (ones * '\\');
    uint64_t found = ((quote - ones) & ~quote) | ((backslash - ones) & ~backslash) | ((word - ones * 0x20) & ~word);
    return (found & highs) == 0;
}

static int skip_escape(struct scanner *scanner) {
    scanner->at++;
    int byte = peek(scanner);
    if (byte == 'u') {
        for (int i = 0; i < 4; i++) {
            scanner->at++;
            int digit = peek(scanner);
            if (digit < 0 || !isxdigit(digit)) {
                return fail(scanner, "a bad \\u escape");
            }
        }
    } else if (byte <= 0 || strchr("\"\\/bfnrt", byte) == NULL) {
        return fail(scanner, "an unknown escape");
    }
    scanner->at++;
    return 0;
}

/* From the opening quote to behind the closing one. *ret_escaped: there are escapes in between. */
static int skip_string(struct scanner *scanner, bool *ret_escaped) {
    *ret_escaped = false;
    scanner->at++;
    for (;;) {
        while (scanner->len - scanner->at >= 8 && is_plain_word(scanner->bytes + scanner->at)) {
            scanner->at += 8;
        }
        int byte = peek(scanner);
        if (byte == '"') {
            scanner->at++;
            return 0;
        }
        if (byte == '\\') {
            *ret_escaped = true;
            if (skip_escape(scanner) < 0) {
                return -1;
            }
        } else if (byte < 0x20) {
            return fail(scanner, byte < 0 ? "in a string" : "a control character in a string");
        } else {
            scanner->at++;
        }
    }
}

static size_t skip_digits(struct scanner *scanner) {
    size_t begin = scanner->at;
    while (peek(scanner) >= '0' && peek(scanner) <= '9') {
        scanner->at++;
    }
    return scanner->at - begin;
}

static int skip_number(struct scanner *scanner) {
    if (peek(scanner) == '-') {
        scanner->at++;
    }
    if (peek(scanner) == '0') {
        scanner->at++;
    } else if (skip_digits(scanner) == 0) {
        return fail(scanner, peek(scanner) < 0 ? "a value was expected" : "an unexpected character");
    }
    if (peek(scanner) == '.') {
        scanner->at++;
        if (skip_digits(scanner) == 0) {
            return fail(scanner, "a bad number");
        }
    }
    if (peek(scanner) == 'e' || peek(scanner) == 'E') {
        scanner->at++;
        if (peek(scanner) == '+' || peek(scanner) == '-') {
            scanner->at++;
        }
        if (skip_digits(scanner) == 0) {
            return fail(scanner, "a bad number");
        }
    }
    return 0;
}

static bool is_literal(const struct scanner *scanner, const char *word) {
    size_t len = strlen(word);
    return scanner->len - scanner->at >= len && memcmp(scanner->bytes + scanner->at, word, len) == 0;
}

/* The text ends in the middle of the word. */
static bool is_cut_literal(const struct scanner *scanner, const char *word) {
    size_t left = scanner->len - scanner->at;
    return left > 0 && left < strlen(word) && memcmp(scanner->bytes + scanner->at, word, left) == 0;
}

/* A value that is neither object nor array. */
static int skip_scalar(struct scanner *scanner) {
    static const char *const literals[] = {"true", "false", "null"};
    bool escaped;
    if (peek(scanner) == '"') {
        return skip_string(scanner, &escaped);
    }
    for (size_t i = 0; i < ARRAY_LEN(literals); i++) {
        if (is_literal(scanner, literals[i])) {
            scanner->at += strlen(literals[i]);
            return 0;
        }
        if (is_cut_literal(scanner, literals[i])) {
            scanner->at = scanner->len;
            return fail(scanner, "in a word");
        }
    }
    return skip_number(scanner);
}

/* The member's key and colon. */
static int skip_key(struct scanner *scanner) {
    bool escaped;
    if (peek(scanner) != '"') {
        return fail(scanner, "a member's name was expected");
    }
    if (skip_string(scanner, &escaped) < 0) {
        return -1;
    }
    skip_space(scanner);
    if (peek(scanner) != ':') {
        return fail(scanner, "a colon was expected");
    }
    scanner->at++;
    skip_space(scanner);
    return 0;
}

/* The open objects and arrays around a position, a bit each: set = object. */
struct nesting {
    uint8_t is_object[JSON_SCAN_DEPTH_MAX / 8];
    unsigned depth;
};

static bool in_object(const struct nesting *nesting) {
    unsigned top = nesting->depth - 1;
    return (nesting->is_object[top / 8] >> (top % 8) & 1) != 0;
}

static void push(struct nesting *nesting, bool object) {
    uint8_t bit = (uint8_t)(1U << (nesting->depth % 8));
    uint8_t *cell = &nesting->is_object[nesting->depth / 8];
    *cell = object ? (uint8_t)(*cell | bit) : (uint8_t)(*cell & ~bit);
    nesting->depth++;
}

/* After a value: closes what closes, and goes to the next value inside. Depth 0: the whole value was read. */
static int skip_to_next_value(struct scanner *scanner, struct nesting *nesting) {
    while (nesting->depth > 0) {
        skip_space(scanner);
        bool object = in_object(nesting);
        int byte = peek(scanner);
        if (byte == ',') {
            scanner->at++;
            skip_space(scanner);
            return object ? skip_key(scanner) : 0;
        }
        if (byte != (object ? '}' : ']')) {
            return fail(scanner, "a comma or a closing bracket was expected");
        }
        scanner->at++;
        nesting->depth--;
    }
    return 0;
}

/* Any value, without recursion. */
static int skip_value(struct scanner *scanner) {
    struct nesting nesting = {.depth = 0};
    do {
        int byte = peek(scanner);
        if (byte != '{' && byte != '[') {
            if (skip_scalar(scanner) < 0) {
                return -1;
            }
        } else {
            /* The body's own braces are one level. */
            if (nesting.depth + 1 >= JSON_SCAN_DEPTH_MAX) {
                return fail(scanner, "nesting deeper than the limit of 512");
            }
            push(&nesting, byte == '{');
            scanner->at++;
            skip_space(scanner);
            if (peek(scanner) == (byte == '{' ? '}' : ']')) {
                scanner->at++;
                nesting.depth--;
            } else if (byte == '{') {
                if (skip_key(scanner) < 0) {
                    return -1;
                }
                continue;
            } else {
                continue;
            }
        }
        if (skip_to_next_value(scanner, &nesting) < 0) {
            return -1;
        }
    } while (nesting.depth > 0);
    return 0;
}

static unsigned read_hex4(const char *digits) {
    unsigned value = 0;
    for (int i = 0; i < 4; i++) {
        char digit = digits[i];
        unsigned nibble = digit <= '9' ? (unsigned)(digit - '0') : (unsigned)((digit | 0x20) - 'a' + 10);
        value = value << 4 | nibble;
    }
    return value;
}

static size_t put_utf8(uint32_t code, char out[4]) {
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    size_t len = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    static const uint8_t leads[] = {0, 0, 0xC0, 0xE0, 0xF0};
    for (size_t i = len - 1; i > 0; i--) {
        out[i] = (char)(0x80 | (code & 0x3F));
        code >>= 6;
    }
    out[0] = (char)(leads[len] | code);
    return len;
}

/* One escape of a string that was checked; at: behind the backslash. Lone surrogates become U+FFFD, which no name contains. */
static size_t decode_escape(const char *text, size_t len, size_t at, char out[4], size_t *ret_out_len) {
    static const char from[] = "\"\\/bfnrt";
    static const char to[] = "\"\\/\b\f\n\r\t";
    if (text[at] != 'u') {
        out[0] = to[strchr(from, text[at]) - from];
        *ret_out_len = 1;
        return at + 1;
    }
    uint32_t code = read_hex4(text + at + 1);
    at += 5;
    if (code >= 0xD800 && code < 0xDC00 && len - at >= 6 && text[at] == '\\' && text[at + 1] == 'u') {
        uint32_t low = read_hex4(text + at + 2);
        if (low >= 0xDC00 && low < 0xE000) {
            code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
            at += 6;
        }
    }
    *ret_out_len = put_utf8(code >= 0xD800 && code < 0xE000 ? 0xFFFD : code, out);
    return at;
}

/* Decodes the inside of a checked string into `out`; returns its length, or room + 1 when it does not fit. */
static size_t decode_string(const char *text, size_t len, char *out, size_t room) {
    size_t used = 0;
    for (size_t at = 0; at < len;) {
        char piece[4];
        size_t piece_len = 1;
        if (text[at] == '\\') {
            at = decode_escape(text, len, at + 1, piece, &piece_len);
        } else {
            piece[0] = text[at++];
        }
        if (piece_len > room - used) {
            return room + 1;
        }
        memcpy(out + used, piece, piece_len);
        used += piece_len;
    }
    return used;
}

/* RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF. */
static bool is_utf8(const char *text, size_t len) {
    const uint8_t *bytes = (const uint8_t *)text;
    for (size_t at = 0; at < len;) {
        uint8_t lead = bytes[at];
        size_t more = lead < 0x80                    ? 0
                      : lead >= 0xC2 && lead <= 0xDF ? 1
                      : (lead & 0xF0) == 0xE0        ? 2
                      : lead >= 0xF0 && lead <= 0xF4 ? 3
                                                     : 9;
        if (more == 9 || len - at <= more) {
            return false;
        }
        for (size_t i = 1; i <= more; i++) {
            if ((bytes[at + i] & 0xC0) != 0x80) {
                return false;
            }
        }
        uint8_t second = more > 0 ? bytes[at + 1] : 0;
        if ((lead == 0xE0 && second < 0xA0) || (lead == 0xED && second > 0x9F) || (lead == 0xF0 && second < 0x90) ||
            (lead == 0xF4 && second > 0x8F)) {
            return false;
        }
        at += more + 1;
    }
    return true;
}

enum member { MEMBER_OTHER, MEMBER_MODEL, MEMBER_STREAM };

static enum member which_member(const char *text, size_t len, bool escaped) {
    char decoded[8];
    if (escaped) {
        len = decode_string(text, len, decoded, sizeof(decoded));
        text = decoded;
    }
    if (len == 5 && memcmp(text, "model", 5) == 0) {
        return MEMBER_MODEL;
    }
    return len == 6 && memcmp(text, "stream", 6) == 0 ? MEMBER_STREAM : MEMBER_OTHER;
}

static int read_model(struct scanner *scanner, struct json_scan *scan) {
    bool escaped;
    scan->model_begin = scanner->at;
    if (is_literal(scanner, "null") || is_cut_literal(scanner, "null") || peek(scanner) < 0) {
        return skip_scalar(scanner);
    }
    if (peek(scanner) != '"') {
        return error_set(scanner->err, ERROR_INVALID, "\"model\" must be a string (byte %zu)", scanner->at);
    }
    if (skip_string(scanner, &escaped) < 0) {
        return -1;
    }
    scan->model_end = scanner->at;
    char decoded[JSON_SCAN_MODEL_BYTES_MAX];
    size_t len =
        decode_string(scanner->bytes + scan->model_begin + 1, scan->model_end - scan->model_begin - 2, decoded, sizeof(decoded));
    if (len > sizeof(decoded)) {
        return error_set(scanner->err, ERROR_INVALID, "\"model\" is longer than %d bytes", JSON_SCAN_MODEL_BYTES_MAX);
    }
    if (memchr(decoded, 0, len) != NULL || !is_utf8(decoded, len)) {
        return error_set(scanner->err, ERROR_INVALID, "\"model\" is not text in UTF-8 (byte %zu)", scan->model_begin);
    }
    scan->model = xstrndup(decoded, len);
    return 0;
}

static int read_member(struct scanner *scanner, struct json_scan *scan, bool *seen_model) {
    bool escaped = false;
    size_t begin = scanner->at + 1;
    if (peek(scanner) != '"') {
        return fail(scanner, "a member's name was expected");
    }
    if (skip_string(scanner, &escaped) < 0) {
        return -1;
    }
    enum member member = which_member(scanner->bytes + begin, scanner->at - 1 - begin, escaped);
    scanner->at = begin - 1;
    if (skip_key(scanner) < 0) {
        return -1;
    }
    if (member == MEMBER_STREAM) {
        scan->stream = is_literal(scanner, "true");
    }
    if (member != MEMBER_MODEL) {
        return skip_value(scanner);
    }
    if (*seen_model) {
        return error_set(scanner->err, ERROR_INVALID, "\"model\" is given twice (byte %zu)", begin - 1);
    }
    *seen_model = true;
    return read_model(scanner, scan);
}

static int scan_object(struct scanner *scanner, struct json_scan *scan) {
    bool seen_model = false;
    skip_space(scanner);
    if (peek(scanner) != '{') {
        return fail(scanner, "an opening brace was expected");
    }
    scanner->at++;
    skip_space(scanner);
    if (peek(scanner) != '}') {
        for (;;) {
            if (read_member(scanner, scan, &seen_model) < 0) {
                return -1;
            }
            skip_space(scanner);
            if (peek(scanner) != ',') {
                break;
            }
            scanner->at++;
            skip_space(scanner);
        }
    }
    if (peek(scanner) != '}') {
        return fail(scanner, "a comma or a closing brace was expected");
    }
    scanner->at++;
    skip_space(scanner);
    return scanner->at == scanner->len ? 0 : fail(scanner, "something follows the object");
}

int json_scan_body(const char *bytes, size_t len, struct json_scan *ret_scan, struct error *err) {
    struct scanner scanner = {.bytes = bytes, .len = len, .err = err};
    struct json_scan scan = {0};
    if (scan_object(&scanner, &scan) < 0) {
        json_scan_release(&scan);
        return -1;
    }
    *ret_scan = scan;
    return 0;
}

void json_scan_release(struct json_scan *scan) {
    free(scan->model);
    *scan = (struct json_scan){0};
}
