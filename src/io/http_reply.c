/* Answers of the HTTP server: heads, whole bodies, streams. */
#include "io/http_server_parts.h"

#include "base/clock.h"
#include "base/log.h"

#include <string.h>
#include <strings.h>
#include <time.h>

static const char *current_date(struct http_server *server) {
    int64_t second = clock_wall_ms() / 1000;
    if (second != server->date_second) {
        time_t now = (time_t)second;
        struct tm parts;
        (void)gmtime_r(&now, &parts);
        (void)strftime(server->date, sizeof(server->date), "%a, %d %b %Y %H:%M:%S GMT", &parts);
        server->date_second = second;
    }
    return server->date;
}

static bool is_own_field(const char *name) {
    static const char *const own[] = {"Content-Length", "Transfer-Encoding", "Connection", "Date", "Keep-Alive"};
    for (size_t i = 0; i < ARRAY_LEN(own); i++) {
        if (strcasecmp(name, own[i]) == 0) {
            return true;
        }
    }
    return false;
}

void http_reply_field(struct http_request *request, const char *name, const char *value) {
    if (*name == '\0' || strpbrk(name, "\r\n:") != NULL || strpbrk(value, "\r\n") != NULL) {
        log_debug("answer field \"%.64s\" left out: it holds a line break", name);
        return;
    }
    if (!is_own_field(name)) {
        buffer_printf(&request->reply_fields, "%s: %s\r\n", name, value);
    }
}

static bool status_has_body(int status) {
    return status >= 200 && status != 204 && status != 304;
}

static bool is_to_head(const struct http_request *request) {
    return strcmp(request->head.method, "HEAD") == 0;
}

static bool keeps_alive(const struct http_request *request) {
    return request->head.keep_alive && !request->connection->server->is_draining;
}

/* Everything of a head but the fields on framing and its end. */
static void append_head(struct buffer *out, struct http_server *server, int status, const char *content_type) {
    buffer_printf(out, "HTTP/1.1 %d %s\r\nDate: %s\r\n", status, http_reason_phrase(status), current_date(server));
    if (content_type != NULL) {
        buffer_printf(out, "Content-Type: %s\r\n", content_type);
    }
}

static void append_connection_field(struct buffer *out, const struct http_request *request, bool keep_alive) {
    if (!keep_alive) {
        buffer_append_text(out, "Connection: close\r\n");
    } else if (request->head.is_http_1_0) {
        buffer_append_text(out, "Connection: keep-alive\r\n");
    }
}

void http_reply(struct http_request *request, int status, const char *content_type, const void *body, size_t len) {
    struct http_connection *connection = request->connection;
    bool keep_alive = keeps_alive(request);
    cleanup_buffer struct buffer out = BUFFER_INIT;
    append_head(&out, connection->server, status, content_type);
    buffer_append(&out, buffer_text(&request->reply_fields), request->reply_fields.len);
    if (status_has_body(status)) {
        buffer_printf(&out, "Content-Length: %zu\r\n", len);
    }
    append_connection_field(&out, request, keep_alive);
    buffer_append_text(&out, "\r\n");
    (void)bufferevent_write(connection->bev, out.data, out.len);
    if (len != 0 && status_has_body(status) && !is_to_head(request)) {
        (void)bufferevent_write(connection->bev, body, len);
    }
    connection_request_ended(connection, keep_alive);
}

void reply_error(struct http_connection *connection, const struct error *err) {
    const struct http_server_options *options = &connection->server->options;
    cleanup_buffer struct buffer body = BUFFER_INIT;
    const char *content_type = "text/plain; charset=utf-8";
    if (options->on_error != NULL) {
        content_type = options->on_error(options->arg, err, &body);
    } else {
        buffer_printf(&body, "%s\n", err->message);
    }
    cleanup_buffer struct buffer out = BUFFER_INIT;
    append_head(&out, connection->server, err->http_status, content_type);
    buffer_append_text(&out, err->http_status == 503 ? "Retry-After: 1\r\n" : "");
    buffer_printf(&out, "Content-Length: %zu\r\nConnection: close\r\n\r\n", body.len);
    buffer_append(&out, buffer_text(&body), body.len);
    (void)bufferevent_write(connection->bev, out.data, out.len);
}

/* ---- streams ---- */

void http_stream_begin(struct http_request *request, int status, const char *content_type) {
    struct http_connection *connection = request->connection;
    request->is_streaming = true;
    request->is_chunked = !request->head.is_http_1_0 && status_has_body(status);
    if (request->head.is_http_1_0) {
        request->head.keep_alive = false; /* the body ends with the connection */
    }
    cleanup_buffer struct buffer out = BUFFER_INIT;
    append_head(&out, connection->server, status, content_type);
    buffer_append(&out, buffer_text(&request->reply_fields), request->reply_fields.len);
    if (request->is_chunked) {
        buffer_append_text(&out, "Transfer-Encoding: chunked\r\n");
    }
    /* Settled here: a server that begins to drain later closes an idle connection, which it may do anyway. */
    request->head.keep_alive = keeps_alive(request);
    append_connection_field(&out, request, request->head.keep_alive);
    buffer_append_text(&out, "\r\n");
    (void)bufferevent_write(connection->bev, out.data, out.len);
    request->has_no_body = is_to_head(request) || !status_has_body(status);
    request->is_chunked = request->is_chunked && !request->has_no_body;
}

enum http_stream_state http_stream_write(struct http_request *request, const void *bytes, size_t len) {
    struct http_connection *connection = request->connection;
    if (request->has_no_body || len == 0) {
        return request->has_backlog ? HTTP_STREAM_BACKLOG : HTTP_STREAM_OK;
    }
    struct evbuffer *output = bufferevent_get_output(connection->bev);
    if (request->is_chunked) {
        char size[24];
        int size_len = snprintf(size, sizeof(size), "%zx\r\n", len);
        (void)evbuffer_add(output, size, (size_t)size_len);
    }
    (void)evbuffer_add(output, bytes, len);
    if (request->is_chunked) {
        (void)evbuffer_add(output, "\r\n", 2);
    }
    request->has_backlog = request->has_backlog || evbuffer_get_length(output) > connection->server->options.out_bytes_max;
    return request->has_backlog ? HTTP_STREAM_BACKLOG : HTTP_STREAM_OK;
}

void http_stream_on_drained(struct http_request *request, void (*on_drained)(void *arg), void *arg) {
    request->on_drained = on_drained;
    request->drained_arg = arg;
}

void http_stream_end(struct http_request *request) {
    struct http_connection *connection = request->connection;
    if (request->is_chunked) {
        (void)bufferevent_write(connection->bev, "0\r\n\r\n", 5);
    }
    connection_request_ended(connection, request->head.keep_alive);
}

void http_stream_abort(struct http_request *request) {
    struct http_connection *connection = request->connection;
    request->on_gone = NULL;
    if (request->is_chunked) {
        /* What was written still goes out; the last chunk that would make it whole does not. */
        connection_request_ended(connection, false);
    } else {
        connection_close(connection);
    }
}
