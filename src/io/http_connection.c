/* A connection of the HTTP server: reads requests one at a time, hands them to the handler, notices that the client is gone.
 *
 * A handler may answer at once, which ends the request while its connection is still being worked on. So every entry from the loop
 * holds the connection (`depth`), and a connection that closes meanwhile is freed when the last holder lets go. */
#include "io/http_server_parts.h"

#include "base/log.h"

#include <event2/bufferevent_ssl.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <string.h>
#include <sys/socket.h>

/* Enough for a whole head. While a request is being answered, reading goes on up to here, so that a client's leaving is seen. */
#define IN_BYTES_MAX (HTTP_HEAD_BYTES_MAX + 64 * 1024)
#define READ_BYTES_AT_ONCE (64 * 1024)
#define LINGER_MS 2000
#define LINGER_BYTES_MAX (16 * 1024 * 1024)

static void hold(struct http_connection *connection) {
    connection->depth++;
}

static void let_go(struct http_connection *connection) {
    if (--connection->depth == 0 && connection->is_dead) {
        timer_release(&connection->deadline);
        timer_release(&connection->turn);
        free(connection);
    }
}

void request_free(struct http_request *request) {
    request->connection->server->bodies_bytes -= request->body.len;
    http_head_release(&request->head);
    buffer_release(&request->body);
    buffer_release(&request->reply_fields);
    free(request);
}

size_t connection_unsent(const struct http_connection *connection) {
    return evbuffer_get_length(bufferevent_get_output(connection->bev));
}

bool connection_is_idle(const struct http_connection *connection) {
    return connection->state == CONNECTION_READS_HEAD && evbuffer_get_length(bufferevent_get_input(connection->bev)) == 0;
}

/* ---- the end of a connection ---- */

/* Without TLS' closing alert a client cannot tell a body's end from a cut. Best effort: the socket does not block. */
static void send_closing_alert(struct http_connection *connection) {
    SSL *ssl = connection->server->options.tls != NULL ? bufferevent_openssl_get_ssl(connection->bev) : NULL;
    if (ssl != NULL && SSL_is_init_finished(ssl)) {
        ERR_clear_error();
        (void)SSL_shutdown(ssl);
        ERR_clear_error();
    }
}

/* A body that ends with its connection must not look whole when it is cut: the connection is reset instead of closed. */
static void prepare_reset(struct http_connection *connection) {
    struct linger reset = {.l_onoff = 1, .l_linger = 0};
    (void)setsockopt(bufferevent_getfd(connection->bev), SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
}

static void free_transport(struct http_connection *connection) {
    bool is_cut = connection->state == CONNECTION_ANSWERS;
    if (is_cut && !connection->request->is_chunked) {
        prepare_reset(connection);
    } else if (!is_cut && connection_unsent(connection) == 0) {
        send_closing_alert(connection);
    }
    bufferevent_free(connection->bev);
    connection->bev = NULL;
}

void connection_close(struct http_connection *connection) {
    if (connection->is_dead) {
        return;
    }
    hold(connection);
    struct http_server *server = connection->server;
    connection->is_dead = true;
    LIST_REMOVE(connection, link);
    server->connection_count--;
    timer_clear(&connection->deadline);
    timer_clear(&connection->turn);
    free_transport(connection);
    struct http_request *request = connection->request;
    connection->request = NULL;
    if (!server->is_draining) {
        listeners_resume(server);
    }
    if (request != NULL) {
        if (connection->state == CONNECTION_ANSWERS && request->on_gone != NULL) {
            request->on_gone(request->gone_arg);
        }
        request_free(request);
    }
    let_go(connection);
}

/* Closing while the peer still sends would reset the connection and destroy the answer on its way (RFC 9112, 9.6): our side is
 * closed first, and the rest is read and dropped for a while. */
static void after_flush(struct http_connection *connection) {
    if (!connection->lingers_after_flush) {
        connection_close(connection);
        return;
    }
    connection->state = CONNECTION_LINGERS;
    send_closing_alert(connection);
    (void)shutdown(bufferevent_getfd(connection->bev), SHUT_WR);
    timer_set(&connection->deadline, LINGER_MS);
}

void connection_flush_and_close(struct http_connection *connection, bool lingers) {
    connection->state = CONNECTION_FLUSHES;
    connection->lingers_after_flush = lingers;
    timer_clear(&connection->deadline);
    if (connection_unsent(connection) == 0) {
        after_flush(connection);
    }
}

static void drop_input(struct http_connection *connection) {
    struct evbuffer *input = bufferevent_get_input(connection->bev);
    size_t len = evbuffer_get_length(input);
    (void)evbuffer_drain(input, len);
    connection->lingered_bytes += len;
    if (connection->lingered_bytes > LINGER_BYTES_MAX) {
        connection_close(connection);
    }
}

/* ---- requests ---- */

static bool answer_error(struct http_connection *connection, const struct error *err) {
    if (connection->request != NULL) {
        request_free(connection->request);
        connection->request = NULL;
    }
    reply_error(connection, err);
    connection_flush_and_close(connection, true);
    return false;
}

static void hand_over(struct http_connection *connection) {
    connection->state = CONNECTION_ANSWERS;
    timer_clear(&connection->deadline);
    connection->server->options.on_request(connection->server->options.arg, connection->request);
}

/* Whether there may be `more` bytes of the request's body. */
static bool check_body_length(struct http_connection *connection, uint64_t more) {
    const struct http_server *server = connection->server;
    size_t limit = server->options.body_bytes_max;
    size_t limit_of_all = server->options.bodies_bytes_max;
    struct error err;
    if (more > limit - connection->request->body.len) {
        error_set(&err, ERROR_LIMIT, "the request body is larger than %zu bytes", limit);
        return answer_error(connection, &err);
    }
    if (limit_of_all != 0 && more > limit_of_all - server->bodies_bytes) {
        error_set(&err, ERROR_UNAVAILABLE, "too much to do: the bodies of requests under way hold %zu bytes of %zu",
                  server->bodies_bytes, limit_of_all);
        return answer_error(connection, &err);
    }
    return true;
}

static bool begin_body(struct http_connection *connection) {
    struct http_request *request = connection->request;
    const struct http_head *head = &request->head;
    http_body_decoder_init(&connection->decoder, head);
    if (head->body_kind == HTTP_BODY_LENGTH && !check_body_length(connection, (uint64_t)head->body_length)) {
        return false;
    }
    connection->state = CONNECTION_READS_BODY;
    timer_set(&connection->deadline, connection->server->options.read_timeout_ms);
    bool has_body = head->body_kind == HTTP_BODY_CHUNKED || (head->body_kind == HTTP_BODY_LENGTH && head->body_length > 0);
    if (has_body && head->expects_continue && evbuffer_get_length(bufferevent_get_input(connection->bev)) == 0) {
        static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
        (void)bufferevent_write(connection->bev, go_on, sizeof(go_on) - 1);
    }
    return true;
}

/* true: something was done, go on. */
static bool read_head(struct http_connection *connection) {
    struct evbuffer *input = bufferevent_get_input(connection->bev);
    size_t len = evbuffer_get_length(input);
    /* Answers that the client does not read hold back its further requests. */
    if (len == 0 || connection_unsent(connection) > connection->server->options.out_bytes_max) {
        return false;
    }
    size_t wanted = len < HTTP_HEAD_BYTES_MAX + 1 ? len : HTTP_HEAD_BYTES_MAX + 1;
    const char *bytes = (const char *)evbuffer_pullup(input, (ev_ssize_t)wanted);
    struct http_head head;
    size_t used = 0;
    struct error err;
    switch (http_parse_request(bytes, wanted, &head, &used, &err)) {
    case HTTP_STEP_FAILED:
        return answer_error(connection, &err);
    case HTTP_STEP_AGAIN:
        if (!connection->has_head_deadline) {
            connection->has_head_deadline = true;
            timer_set(&connection->deadline, connection->server->options.read_timeout_ms);
        }
        return false;
    case HTTP_STEP_DONE:
        break;
    }
    (void)evbuffer_drain(input, used);
    connection->has_head_deadline = false;
    connection->request = xcalloc(1, sizeof(*connection->request));
    connection->request->connection = connection;
    connection->request->head = head;
    return begin_body(connection);
}

static bool read_body(struct http_connection *connection) {
    struct evbuffer *input = bufferevent_get_input(connection->bev);
    struct http_request *request = connection->request;
    for (;;) {
        size_t len = evbuffer_get_contiguous_space(input);
        const char *bytes = len != 0 ? (const char *)evbuffer_pullup(input, (ev_ssize_t)len) : "";
        const char *piece = NULL;
        size_t piece_len = 0;
        size_t used = 0;
        struct error err;
        enum http_step step = http_body_decode(&connection->decoder, bytes, len, &piece, &piece_len, &used, &err);
        if (step == HTTP_STEP_FAILED) {
            return answer_error(connection, &err);
        }
        if (!check_body_length(connection, piece_len)) {
            return false;
        }
        if (piece_len != 0) {
            buffer_append(&request->body, piece, piece_len);
            connection->server->bodies_bytes += piece_len;
        }
        (void)evbuffer_drain(input, used);
        if (step == HTTP_STEP_DONE) {
            hand_over(connection);
            return true;
        }
        if (used == 0) {
            return false;
        }
    }
}

static void go_on(struct http_connection *connection) {
    bool goes_on = true;
    hold(connection);
    while (goes_on && !connection->is_dead) {
        goes_on = connection->state == CONNECTION_READS_HEAD   ? read_head(connection)
                  : connection->state == CONNECTION_READS_BODY ? read_body(connection)
                                                               : false;
    }
    let_go(connection);
}

void connection_request_ended(struct http_connection *connection, bool keep_alive) {
    request_free(connection->request);
    connection->request = NULL;
    if (!keep_alive) {
        connection_flush_and_close(connection, evbuffer_get_length(bufferevent_get_input(connection->bev)) != 0);
        return;
    }
    connection->state = CONNECTION_READS_HEAD;
    if (evbuffer_get_length(bufferevent_get_input(connection->bev)) != 0) {
        timer_set(&connection->turn, 0);
    } else if (connection->server->is_draining) {
        connection_flush_and_close(connection, false);
    } else {
        timer_set(&connection->deadline, connection->server->options.idle_timeout_ms);
    }
}

/* ---- entries from the loop ---- */

static void on_turn(void *arg) {
    go_on(arg);
}

static void on_input(struct bufferevent *bev, void *arg) {
    (void)bev;
    struct http_connection *connection = arg;
    if (connection->state == CONNECTION_FLUSHES || connection->state == CONNECTION_LINGERS) {
        drop_input(connection);
        return;
    }
    go_on(connection);
}

/* Called when little or nothing is left unsent. */
static void on_sent(struct bufferevent *bev, void *arg) {
    (void)bev;
    struct http_connection *connection = arg;
    hold(connection);
    struct http_request *request = connection->request;
    if (connection->state == CONNECTION_FLUSHES && connection_unsent(connection) == 0) {
        after_flush(connection);
    } else if (connection->state == CONNECTION_READS_HEAD) {
        go_on(connection);
    } else if (connection->state == CONNECTION_ANSWERS && request->has_backlog) {
        request->has_backlog = false;
        if (request->on_drained != NULL) {
            request->on_drained(request->drained_arg);
        }
    }
    let_go(connection);
}

static void on_transport_event(struct bufferevent *bev, short what, void *arg) {
    (void)bev;
    struct http_connection *connection = arg;
    if ((what & BEV_EVENT_CONNECTED) != 0) {
        return; /* the TLS handshake is done */
    }
    /* An end of input from a client that waits for nothing more than the rest of a whole answer does not cut that answer. */
    bool may_finish = (what & BEV_EVENT_EOF) != 0 && connection_unsent(connection) != 0 &&
                      (connection->state == CONNECTION_READS_HEAD || connection->state == CONNECTION_FLUSHES);
    if (may_finish) {
        connection_flush_and_close(connection, false);
    } else {
        connection_close(connection);
    }
}

static void on_deadline(void *arg) {
    struct http_connection *connection = arg;
    bool is_partial =
        connection->state == CONNECTION_READS_BODY ||
        (connection->state == CONNECTION_READS_HEAD && evbuffer_get_length(bufferevent_get_input(connection->bev)) != 0);
    if (!is_partial) {
        connection_close(connection);
        return;
    }
    struct error err;
    error_set(&err, ERROR_TIMEOUT, "the request did not arrive within %lld ms",
              (long long)connection->server->options.read_timeout_ms);
    err.http_status = 408;
    hold(connection);
    (void)answer_error(connection, &err);
    let_go(connection);
}

/* ---- a new connection ---- */

static struct bufferevent *new_transport(const struct http_server_options *options, int fd) {
    struct event_base *base = loop_event_base(options->loop);
    if (options->tls == NULL) {
        return bufferevent_socket_new(base, fd, BEV_OPT_CLOSE_ON_FREE);
    }
    SSL *ssl = SSL_new(options->tls);
    if (ssl == NULL) {
        return NULL;
    }
    struct bufferevent *bev = bufferevent_openssl_socket_new(base, fd, ssl, BUFFEREVENT_SSL_ACCEPTING, BEV_OPT_CLOSE_ON_FREE);
    if (bev == NULL) {
        SSL_free(ssl);
        return NULL;
    }
    bufferevent_openssl_set_allow_dirty_shutdown(bev, 1);
    return bev;
}

void connection_new(struct http_server *server, int fd, const char *peer) {
    const struct http_server_options *options = &server->options;
    struct bufferevent *bev = new_transport(options, fd);
    if (bev == NULL) {
        log_debug("connection of %s refused: no transport", peer);
        close(fd);
        return;
    }
    struct http_connection *connection = xcalloc(1, sizeof(*connection));
    connection->server = server;
    connection->bev = bev;
    (void)snprintf(connection->peer, sizeof(connection->peer), "%s", peer);
    timer_init(&connection->deadline, options->loop, on_deadline, connection);
    timer_init(&connection->turn, options->loop, on_turn, connection);
    LIST_INSERT_HEAD(&server->connections, connection, link);
    server->connection_count++;
    bufferevent_setcb(bev, on_input, on_sent, on_transport_event, connection);
    bufferevent_setwatermark(bev, EV_READ, 0, IN_BYTES_MAX);
    bufferevent_setwatermark(bev, EV_WRITE, options->out_bytes_max / 2, 0);
    (void)bufferevent_set_max_single_read(bev, READ_BYTES_AT_ONCE);
    /* A client that reads nothing of an answer for so long is gone. */
    struct timeval stall = {.tv_sec = (time_t)(options->idle_timeout_ms / 1000),
                            .tv_usec = (suseconds_t)(options->idle_timeout_ms % 1000) * 1000};
    (void)bufferevent_set_timeouts(bev, NULL, &stall);
    timer_set(&connection->deadline, options->idle_timeout_ms);
    (void)bufferevent_enable(bev, EV_READ | EV_WRITE);
}
