#include "words.h"

#include "base/json.h"

#include <string.h>

static void append_text(struct buffer *out, const char *text) {
    json_append_string(out, text, strlen(text));
}

const char *words_type(int status) {
    switch (status) {
    case 400:
        return "BadRequestError";
    case 404:
        return "NotFoundError";
    case 422:
        return "UnprocessableEntityError";
    case 501:
        return "NotImplementedError";
    default:
        return "InternalServerError";
    }
}

void words_nested(struct buffer *out, int status, const char *type, const char *param, const char *message) {
    buffer_append_text(out, "{\"error\":{\"message\":");
    append_text(out, message);
    buffer_append_text(out, ",\"type\":");
    append_text(out, type);
    buffer_append_text(out, ",\"param\":");
    if (param != NULL) {
        append_text(out, param);
    } else {
        buffer_append_text(out, "null");
    }
    buffer_printf(out, ",\"code\":%d}}", status);
}

void words_flat(struct buffer *out, int status, const char *type, const char *message) {
    buffer_append_text(out, "{\"object\":\"error\",\"message\":");
    append_text(out, message);
    buffer_append_text(out, ",\"type\":");
    append_text(out, type);
    buffer_printf(out, ",\"param\":null,\"code\":%d}", status);
}

void words_plain(struct buffer *out, const char *message) {
    buffer_append_text(out, "{\"error\":");
    append_text(out, message);
    buffer_append_char(out, '}');
}

void words_invalid_member(struct buffer *out, const char *type, const char *member, const char *message, const char *input) {
    cleanup_free char *text = xasprintf("1 validation error:\n  {'type': '%s', 'loc': 'body.%s', 'msg': '%s', 'input': '%s'}", type,
                                        member, message, input);
    cleanup_free char *param = xasprintf("body.%s", member);
    words_nested(out, 400, "Bad Request", param, text);
}
