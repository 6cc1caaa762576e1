#include "gateway/error_reply.h"

#include "base/json.h"
#include "io/http_server.h"

#include <stdarg.h>
#include <string.h>

static const char *type_of(int status) {
    static const struct {
        int status;
        const char *type;
    } types[] = {
        {400, "invalid_request_error"}, {404, "invalid_request_error"}, {405, "invalid_request_error"},
        {413, "invalid_request_error"}, {414, "invalid_request_error"}, {431, "invalid_request_error"},
        {401, "authentication_error"},  {403, "permission_error"},      {429, "rate_limit_error"},
        {503, "overloaded_error"},
    };
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        if (types[i].status == status) {
            return types[i].type;
        }
    }
    return "api_error";
}

static void append_string_or_null(struct buffer *out, const char *text) {
    if (text != NULL) {
        json_append_string(out, text, strlen(text));
    } else {
        buffer_append_text(out, "null");
    }
}

void error_reply_body(struct buffer *out, int status, const char *code, const char *param, const char *message) {
    buffer_append_text(out, "{\"error\":{\"message\":");
    append_string_or_null(out, message);
    buffer_append_text(out, ",\"type\":");
    append_string_or_null(out, type_of(status));
    buffer_append_text(out, ",\"param\":");
    append_string_or_null(out, param);
    buffer_append_text(out, ",\"code\":");
    append_string_or_null(out, code);
    buffer_append_text(out, "}}");
}

/* Field values hold no control characters; a model's name may. */
static void reply_field_safely(struct http_request *request, const char *name, const char *value) {
    for (const char *at = value; *at != '\0'; at++) {
        if ((unsigned char)*at < 0x20 || *at == 0x7F) {
            return;
        }
    }
    http_reply_field(request, name, value);
}

void error_reply_send(struct http_request *request, const struct error_reply *reply, const char *format, ...) {
    char message[ERROR_MESSAGE_BYTES * 2];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(message, sizeof(message), format, args);
    va_end(args);
    cleanup_buffer struct buffer body = BUFFER_INIT;
    error_reply_body(&body, reply->status, reply->code, reply->param, message);
    if (reply->header != NULL) {
        reply_field_safely(request, reply->header, reply->header_value);
    }
    if (reply->retry_after_s > 0) {
        char seconds[16];
        (void)snprintf(seconds, sizeof(seconds), "%d", reply->retry_after_s);
        http_reply_field(request, "Retry-After", seconds);
    }
    http_reply(request, reply->status, "application/json", body.data, body.len);
}

const char *error_reply_on_error(void *arg, const struct error *err, struct buffer *body) {
    (void)arg;
    error_reply_body(body, err->http_status, NULL, NULL, err->message);
    return "application/json";
}
