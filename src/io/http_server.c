#include "io/http_server_parts.h"

#include <strings.h>

#define OUT_BYTES_MAX_DEFAULT (1024 * 1024)
#define IDLE_TIMEOUT_MS_DEFAULT 75000
#define READ_TIMEOUT_MS_DEFAULT 60000
#define CONNECTIONS_MAX_DEFAULT 10000

static void on_accept_again(void *arg) {
    listeners_resume(arg);
}

struct http_server *http_server_new(const struct http_server_options *options) {
    struct http_server *server = xcalloc(1, sizeof(*server));
    server->options = *options;
    struct http_server_options *own = &server->options;
    own->out_bytes_max = own->out_bytes_max != 0 ? own->out_bytes_max : OUT_BYTES_MAX_DEFAULT;
    own->idle_timeout_ms = own->idle_timeout_ms != 0 ? own->idle_timeout_ms : IDLE_TIMEOUT_MS_DEFAULT;
    own->read_timeout_ms = own->read_timeout_ms != 0 ? own->read_timeout_ms : READ_TIMEOUT_MS_DEFAULT;
    own->connections_max = own->connections_max > 0 ? own->connections_max : CONNECTIONS_MAX_DEFAULT;
    server->is_accepting = true;
    server->date_second = -1;
    LIST_INIT(&server->listeners);
    LIST_INIT(&server->connections);
    timer_init(&server->accept_again, own->loop, on_accept_again, server);
    return server;
}

void http_server_drain(struct http_server *server) {
    server->is_draining = true;
    listeners_free(server);
    struct http_connection *next = NULL;
    for (struct http_connection *at = LIST_FIRST(&server->connections); at != NULL; at = next) {
        next = LIST_NEXT(at, link);
        if (connection_is_idle(at)) {
            connection_flush_and_close(at, false);
        }
    }
}

int http_server_open_requests(const struct http_server *server) {
    int count = 0;
    struct http_connection *at = NULL;
    LIST_FOREACH(at, &server->connections, link) {
        bool is_busy = at->state == CONNECTION_LINGERS ? false : !connection_is_idle(at) || connection_unsent(at) != 0;
        count += is_busy ? 1 : 0;
    }
    return count;
}

void http_server_free(struct http_server *server) {
    if (server == NULL) {
        return;
    }
    server->is_draining = true;
    listeners_free(server);
    while (!LIST_EMPTY(&server->connections)) {
        connection_close(LIST_FIRST(&server->connections));
    }
    timer_release(&server->accept_again);
    free(server);
}

/* ---- a request ---- */

const struct http_head *http_request_head(const struct http_request *request) {
    return &request->head;
}

const char *http_request_body(const struct http_request *request, size_t *ret_len) {
    if (ret_len != NULL) {
        *ret_len = request->body.len;
    }
    return buffer_text(&request->body);
}

const char *http_request_peer(const struct http_request *request) {
    return request->connection->peer;
}

void http_request_on_gone(struct http_request *request, void (*on_gone)(void *arg), void *arg) {
    request->on_gone = on_gone;
    request->gone_arg = arg;
}
