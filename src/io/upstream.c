/* Connections live in one of two lists of their address: idle (kept for the next request, most recently used first) or busy with
 * one exchange. Callbacks may cancel or pause their own exchange: it is marked, and freed when the last callback has returned. */
#include "io/upstream.h"

#include "base/map.h"

#include <arpa/inet.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <strings.h>
#include <sys/queue.h>
#include <sys/socket.h>

#define IN_BYTES_MAX (HTTP_HEAD_BYTES_MAX + 64 * 1024)
#define READ_BYTES_AT_ONCE (64 * 1024)
#define INTERIM_HEADS_MAX 16
#define KEPT_MS_MAX 60000
#define CONNECT_TIMEOUT_MS_DEFAULT 5000

struct connection;
LIST_HEAD(connection_list, connection);

struct address {
    struct upstream *upstream;
    char *key; /* "host:port" */
    struct connection_list idle;
    int idle_count;
    int connection_count; /* idle and busy */
};

struct connection {
    LIST_ENTRY(connection) link; /* in its address' idle list */
    struct address *address;
    struct bufferevent *bev;
    struct upstream_exchange *exchange; /* NULL while idle */
    struct timer kept_timer;
    bool is_reused;
};

LIST_HEAD(exchange_list, upstream_exchange);

struct upstream {
    struct upstream_options options;
    struct map addresses;
    struct exchange_list exchanges;
};

enum exchange_state { EXCHANGE_STARTS, EXCHANGE_CONNECTS, EXCHANGE_WAITS_FOR_HEAD, EXCHANGE_READS_BODY };

struct upstream_exchange {
    LIST_ENTRY(upstream_exchange) link;
    struct upstream *upstream;
    struct connection *connection; /* NULL until it starts */
    char *host;
    int port;
    struct buffer head_bytes; /* of the request, kept for the retry */
    struct upstream_piece body[UPSTREAM_PIECES_MAX];
    bool is_head_request;
    bool is_unsendable; /* a space or a line break in its first line */
    enum exchange_state state;
    struct http_head head;
    struct http_body_decoder decoder;
    int interim_heads;
    bool has_response_bytes;
    bool has_retried;
    bool is_paused;
    int depth; /* of callbacks under way */
    bool is_cancelled;
    struct timer deadline;
    struct timer turn; /* starts it, and goes on after a pause */
    void (*on_head)(void *arg, const struct http_head *head);
    void (*on_data)(void *arg, const char *bytes, size_t len);
    void (*on_end)(void *arg, const struct error *err);
    void *arg;
};

static void go_on(struct upstream_exchange *exchange);
static void attach(struct upstream_exchange *exchange, bool only_fresh);

/* ---- addresses and connections ---- */

static struct address *find_address(struct upstream *upstream, const char *host, int port) {
    cleanup_free char *key = xasprintf("%s:%d", host, port);
    struct address *address = map_get(&upstream->addresses, key);
    if (address == NULL) {
        address = xcalloc(1, sizeof(*address));
        address->upstream = upstream;
        address->key = take_pointer(key);
        LIST_INIT(&address->idle);
        (void)map_set(&upstream->addresses, address->key, address);
    }
    return address;
}

static void connection_leave_idle(struct connection *connection) {
    LIST_REMOVE(connection, link);
    connection->address->idle_count--;
    timer_clear(&connection->kept_timer);
}

static void connection_free(struct connection *connection) {
    struct address *address = connection->address;
    if (connection->exchange == NULL) {
        connection_leave_idle(connection);
    } else {
        connection->exchange->connection = NULL;
    }
    bufferevent_free(connection->bev);
    timer_release(&connection->kept_timer);
    free(connection);
    if (--address->connection_count == 0) {
        (void)map_remove(&address->upstream->addresses, address->key);
        free(address->key);
        free(address);
    }
}

static void on_kept_too_long(void *arg) {
    connection_free(arg);
}

/* Gives the connection back: kept when nothing of the exchange is left on it, closed otherwise. */
static void detach(struct upstream_exchange *exchange, bool may_be_kept) {
    struct connection *connection = exchange->connection;
    struct address *address = connection->address;
    bool is_clean = evbuffer_get_length(bufferevent_get_input(connection->bev)) == 0 &&
                    evbuffer_get_length(bufferevent_get_output(connection->bev)) == 0;
    if (!may_be_kept || !is_clean || address->idle_count >= exchange->upstream->options.connections_per_address_max) {
        connection_free(connection);
        return;
    }
    exchange->connection = NULL;
    connection->exchange = NULL;
    LIST_INSERT_HEAD(&address->idle, connection, link);
    address->idle_count++;
    timer_set(&connection->kept_timer, KEPT_MS_MAX);
    (void)bufferevent_enable(connection->bev, EV_READ); /* so that its end is seen */
}

/* ---- the end of an exchange ---- */

static void exchange_free(struct upstream_exchange *exchange) {
    LIST_REMOVE(exchange, link);
    if (exchange->connection != NULL) {
        connection_free(exchange->connection);
    }
    timer_release(&exchange->deadline);
    timer_release(&exchange->turn);
    http_head_release(&exchange->head);
    buffer_release(&exchange->head_bytes);
    free(exchange->host);
    free(exchange);
}

static void end(struct upstream_exchange *exchange, const struct error *err) {
    void (*on_end)(void *, const struct error *) = exchange->on_end;
    void *arg = exchange->arg;
    exchange_free(exchange);
    on_end(arg, err);
}

static void end_whole(struct upstream_exchange *exchange) {
    detach(exchange, exchange->head.keep_alive);
    end(exchange, NULL);
}

static void end_failed(struct upstream_exchange *exchange, enum error_code code, const char *what) {
    struct error err;
    error_set(&err, code, "%s port %d: %s", exchange->host, exchange->port, what);
    end(exchange, &err);
}

static void hold(struct upstream_exchange *exchange) {
    exchange->depth++;
}

/* false: it was cancelled meanwhile and is gone now, or will be when an outer holder lets go. */
static bool let_go(struct upstream_exchange *exchange) {
    bool is_alive = !exchange->is_cancelled;
    if (--exchange->depth == 0 && !is_alive) {
        exchange_free(exchange);
    }
    return is_alive;
}

void upstream_cancel(struct upstream_exchange *exchange) {
    if (exchange == NULL) {
        return;
    }
    if (exchange->depth > 0) {
        exchange->is_cancelled = true;
        return;
    }
    exchange_free(exchange);
}

/* ---- reading the response ---- */

static void set_deadline(struct upstream_exchange *exchange, int64_t timeout_ms) {
    if (timeout_ms > 0) {
        timer_set(&exchange->deadline, timeout_ms);
    } else {
        timer_clear(&exchange->deadline);
    }
}

static enum http_step refuse(struct error *err, const char *what) {
    error_set(err, ERROR_INVALID, "%s", what);
    return HTTP_STEP_FAILED;
}

static enum http_step read_head(struct upstream_exchange *exchange, struct evbuffer *input, struct error *err) {
    size_t len = evbuffer_get_length(input);
    if (len == 0) {
        return HTTP_STEP_AGAIN;
    }
    size_t wanted = len < HTTP_HEAD_BYTES_MAX + 1 ? len : HTTP_HEAD_BYTES_MAX + 1;
    const char *bytes = (const char *)evbuffer_pullup(input, (ev_ssize_t)wanted);
    size_t used = 0;
    struct http_head head;
    enum http_step step = http_parse_response(bytes, wanted, exchange->is_head_request, &head, &used, err);
    if (step != HTTP_STEP_DONE) {
        return step;
    }
    (void)evbuffer_drain(input, used);
    if (head.status < 200) {
        int status = head.status;
        http_head_release(&head);
        if (status == 101 || ++exchange->interim_heads > INTERIM_HEADS_MAX) {
            return refuse(err, status == 101 ? "it switched protocols without being asked" : "too many interim answers");
        }
        return HTTP_STEP_DONE;
    }
    exchange->head = head;
    exchange->state = EXCHANGE_READS_BODY;
    http_body_decoder_init(&exchange->decoder, &head);
    set_deadline(exchange, exchange->upstream->options.idle_timeout_ms);
    exchange->on_head(exchange->arg, &exchange->head);
    return HTTP_STEP_DONE;
}

/* DONE: a piece was read; *ret_is_whole: it was the last. The bytes are dropped only after the callback that borrows them. */
static enum http_step read_piece(struct upstream_exchange *exchange, struct evbuffer *input, bool *ret_is_whole,
                                 struct error *err) {
    size_t len = evbuffer_get_contiguous_space(input);
    const char *bytes = len != 0 ? (const char *)evbuffer_pullup(input, (ev_ssize_t)len) : "";
    const char *piece = NULL;
    size_t piece_len = 0;
    size_t used = 0;
    enum http_step step = http_body_decode(&exchange->decoder, bytes, len, &piece, &piece_len, &used, err);
    if (step == HTTP_STEP_FAILED) {
        return step;
    }
    if (piece_len != 0) {
        exchange->on_data(exchange->arg, piece, piece_len);
    }
    (void)evbuffer_drain(input, used);
    *ret_is_whole = step == HTTP_STEP_DONE;
    return step == HTTP_STEP_DONE || used != 0 ? HTTP_STEP_DONE : HTTP_STEP_AGAIN;
}

static void go_on(struct upstream_exchange *exchange) {
    struct evbuffer *input = bufferevent_get_input(exchange->connection->bev);
    struct error err;
    bool is_whole = false;
    enum http_step step = HTTP_STEP_DONE;
    hold(exchange);
    while (step == HTTP_STEP_DONE && !is_whole && !exchange->is_paused && !exchange->is_cancelled) {
        step = exchange->state == EXCHANGE_READS_BODY ? read_piece(exchange, input, &is_whole, &err)
                                                      : read_head(exchange, input, &err);
    }
    if (!let_go(exchange)) {
        return;
    }
    if (is_whole) {
        end_whole(exchange);
    } else if (step == HTTP_STEP_FAILED) {
        /* Something that is not HTTP came: as useless as an answer that was cut, and not worth a retry elsewhere once a head was
         * shown. */
        end_failed(exchange, exchange->state == EXCHANGE_READS_BODY ? ERROR_IO : ERROR_UNAVAILABLE, err.message);
    }
}

/* ---- entries from the loop ---- */

static void on_input(struct bufferevent *bev, void *arg) {
    (void)bev;
    struct connection *connection = arg;
    struct upstream_exchange *exchange = connection->exchange;
    if (exchange == NULL) {
        connection_free(connection); /* nothing was asked */
        return;
    }
    exchange->has_response_bytes = true;
    if (exchange->state == EXCHANGE_READS_BODY && !exchange->is_paused) {
        set_deadline(exchange, exchange->upstream->options.idle_timeout_ms);
    }
    go_on(exchange);
}

static void on_sent(struct bufferevent *bev, void *arg) {
    struct connection *connection = arg;
    struct upstream_exchange *exchange = connection->exchange;
    if (exchange != NULL && exchange->state == EXCHANGE_WAITS_FOR_HEAD && evbuffer_get_length(bufferevent_get_output(bev)) == 0) {
        set_deadline(exchange, exchange->upstream->options.first_byte_timeout_ms);
    }
}

static void connection_ended(struct upstream_exchange *exchange, bool is_clean_end) {
    if (exchange->state == EXCHANGE_READS_BODY) {
        if (is_clean_end && http_body_may_end_here(&exchange->decoder)) {
            end_whole(exchange);
        } else {
            end_failed(exchange, ERROR_IO, "the connection was cut in the middle of the response");
        }
        return;
    }
    if (exchange->connection->is_reused && !exchange->has_response_bytes && !exchange->has_retried) {
        exchange->has_retried = true;
        connection_free(exchange->connection);
        attach(exchange, true);
        return;
    }
    bool was_connecting = exchange->state == EXCHANGE_CONNECTS;
    end_failed(exchange, ERROR_UNAVAILABLE, was_connecting ? "cannot connect" : "the connection was closed before a response came");
}

static void on_connected(struct upstream_exchange *exchange) {
    int on = 1;
    (void)setsockopt(bufferevent_getfd(exchange->connection->bev), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    exchange->state = EXCHANGE_WAITS_FOR_HEAD;
    set_deadline(exchange, exchange->upstream->options.first_byte_timeout_ms);
}

static void on_transport_event(struct bufferevent *bev, short what, void *arg) {
    struct connection *connection = arg;
    struct upstream_exchange *exchange = connection->exchange;
    (void)bev;
    if (exchange == NULL) {
        connection_free(connection);
    } else if ((what & BEV_EVENT_CONNECTED) != 0) {
        on_connected(exchange);
    } else if ((what & BEV_EVENT_WRITING) != 0 && exchange->state != EXCHANGE_CONNECTS) {
        /* The peer reads no more; it may have answered first (413, say), so what it sent is read to its end, which follows.
         * libevent stopped writing, and the unsent rest keeps the connection from being used again. */
        return;
    } else {
        connection_ended(exchange, (what & BEV_EVENT_EOF) != 0);
    }
}

static void on_deadline(void *arg) {
    struct upstream_exchange *exchange = arg;
    static const char *const what[] = {
        [EXCHANGE_STARTS] = "cannot connect in time",
        [EXCHANGE_CONNECTS] = "cannot connect in time",
        [EXCHANGE_WAITS_FOR_HEAD] = "no response came in time",
        [EXCHANGE_READS_BODY] = "the response stalled",
    };
    end_failed(exchange, exchange->state == EXCHANGE_CONNECTS ? ERROR_UNAVAILABLE : ERROR_TIMEOUT, what[exchange->state]);
}

/* ---- the start of an exchange ---- */

static int parse_address(const char *host, int port, struct sockaddr_storage *out, int *ret_len) {
    struct sockaddr_in *v4 = (struct sockaddr_in *)out;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)out;
    memset(out, 0, sizeof(*out));
    if (inet_pton(AF_INET, host, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons((uint16_t)port);
        *ret_len = sizeof(*v4);
        return 0;
    }
    if (inet_pton(AF_INET6, host, &v6->sin6_addr) == 1) {
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons((uint16_t)port);
        *ret_len = sizeof(*v6);
        return 0;
    }
    return -1;
}

static struct connection *connection_new(struct upstream_exchange *exchange) {
    struct upstream *upstream = exchange->upstream;
    struct connection *connection = xcalloc(1, sizeof(*connection));
    connection->address = find_address(upstream, exchange->host, exchange->port);
    connection->address->connection_count++;
    connection->exchange = exchange;
    connection->bev = bufferevent_socket_new(loop_event_base(upstream->options.loop), -1, BEV_OPT_CLOSE_ON_FREE);
    if (connection->bev == NULL) {
        abort();
    }
    timer_init(&connection->kept_timer, upstream->options.loop, on_kept_too_long, connection);
    bufferevent_setcb(connection->bev, on_input, on_sent, on_transport_event, connection);
    bufferevent_setwatermark(connection->bev, EV_READ, 0, IN_BYTES_MAX);
    (void)bufferevent_set_max_single_read(connection->bev, READ_BYTES_AT_ONCE);
    return connection;
}

static struct connection *take_kept(struct upstream_exchange *exchange) {
    struct address *address = find_address(exchange->upstream, exchange->host, exchange->port);
    struct connection *connection = LIST_FIRST(&address->idle);
    if (connection == NULL) {
        return NULL;
    }
    connection_leave_idle(connection);
    connection->is_reused = true;
    connection->exchange = exchange;
    return connection;
}

static void send_request(struct upstream_exchange *exchange) {
    struct evbuffer *output = bufferevent_get_output(exchange->connection->bev);
    (void)evbuffer_add(output, exchange->head_bytes.data, exchange->head_bytes.len);
    for (size_t i = 0; i < UPSTREAM_PIECES_MAX; i++) {
        if (exchange->body[i].len != 0) {
            (void)evbuffer_add_reference(output, exchange->body[i].bytes, exchange->body[i].len, NULL, NULL);
        }
    }
    (void)bufferevent_enable(exchange->connection->bev, EV_READ | EV_WRITE);
    if (exchange->is_paused) {
        (void)bufferevent_disable(exchange->connection->bev, EV_READ);
    }
}

static void attach(struct upstream_exchange *exchange, bool only_fresh) {
    const struct upstream_options *options = &exchange->upstream->options;
    exchange->connection = only_fresh ? NULL : take_kept(exchange);
    if (exchange->connection != NULL) {
        exchange->state = EXCHANGE_WAITS_FOR_HEAD;
        set_deadline(exchange, options->first_byte_timeout_ms);
        send_request(exchange);
        return;
    }
    struct sockaddr_storage address;
    int len = 0;
    exchange->connection = connection_new(exchange);
    exchange->state = EXCHANGE_CONNECTS;
    set_deadline(exchange, options->connect_timeout_ms > 0 ? options->connect_timeout_ms : CONNECT_TIMEOUT_MS_DEFAULT);
    hold(exchange);
    int result = -1;
    if (parse_address(exchange->host, exchange->port, &address, &len) == 0) {
        send_request(exchange);
        result = bufferevent_socket_connect(exchange->connection->bev, (struct sockaddr *)&address, len);
    }
    if (let_go(exchange) && result < 0) {
        end_failed(exchange, ERROR_UNAVAILABLE, "cannot connect");
    }
}

static void on_turn(void *arg) {
    struct upstream_exchange *exchange = arg;
    if (exchange->is_unsendable) {
        end_failed(exchange, ERROR_INVALID, "the request's method or target holds a space or a line break");
    } else if (exchange->state == EXCHANGE_STARTS) {
        attach(exchange, false);
    } else if (exchange->connection != NULL && !exchange->is_paused) {
        /* Reading goes on only here, else the end of the connection could be seen before what was read ahead of the pause. */
        (void)bufferevent_enable(exchange->connection->bev, EV_READ);
        go_on(exchange);
    }
}

static bool is_clients_own(const char *name) {
    static const char *const own[] = {"Host",       "Content-Length", "Connection", "Transfer-Encoding",
                                      "Keep-Alive", "Upgrade",        "Expect",     "TE"};
    for (size_t i = 0; i < ARRAY_LEN(own); i++) {
        if (strcasecmp(name, own[i]) == 0) {
            return true;
        }
    }
    return false;
}

static void append_request_head(struct buffer *out, const struct upstream_request *request) {
    bool is_v6 = strchr(request->host, ':') != NULL;
    buffer_printf(out, "%s %s HTTP/1.1\r\nHost: %s%s%s:%d\r\n", request->method, request->target, is_v6 ? "[" : "", request->host,
                  is_v6 ? "]" : "", request->port);
    for (size_t i = 0; request->fields != NULL && i < request->fields->count; i++) {
        const struct http_field *field = &request->fields->items[i];
        if (!is_clients_own(field->name)) {
            buffer_printf(out, "%s: %s\r\n", field->name, field->value);
        }
    }
    size_t body_len = 0;
    for (size_t i = 0; i < UPSTREAM_PIECES_MAX; i++) {
        body_len += request->body[i].len;
    }
    bool wants_length = body_len != 0 || strcmp(request->method, "POST") == 0 || strcmp(request->method, "PUT") == 0 ||
                        strcmp(request->method, "PATCH") == 0;
    if (wants_length) {
        buffer_printf(out, "Content-Length: %zu\r\n", body_len);
    }
    buffer_append_text(out, "\r\n");
}

struct upstream_exchange *upstream_start(struct upstream *upstream, const struct upstream_request *request) {
    struct upstream_exchange *exchange = xcalloc(1, sizeof(*exchange));
    exchange->upstream = upstream;
    exchange->host = xstrdup(request->host);
    exchange->port = request->port;
    append_request_head(&exchange->head_bytes, request);
    memcpy(exchange->body, request->body, sizeof(exchange->body));
    exchange->is_unsendable = strpbrk(request->method, " \r\n") != NULL || strpbrk(request->target, " \r\n") != NULL;
    exchange->is_head_request = strcmp(request->method, "HEAD") == 0;
    exchange->on_head = request->on_head;
    exchange->on_data = request->on_data;
    exchange->on_end = request->on_end;
    exchange->arg = request->arg;
    timer_init(&exchange->deadline, upstream->options.loop, on_deadline, exchange);
    timer_init(&exchange->turn, upstream->options.loop, on_turn, exchange);
    LIST_INSERT_HEAD(&upstream->exchanges, exchange, link);
    timer_set(&exchange->turn, 0);
    return exchange;
}

/* ---- flow control ---- */

void upstream_pause(struct upstream_exchange *exchange) {
    exchange->is_paused = true;
    if (exchange->connection != NULL) {
        (void)bufferevent_disable(exchange->connection->bev, EV_READ);
    }
    if (exchange->state == EXCHANGE_READS_BODY) {
        timer_clear(&exchange->deadline); /* it is not the engine that is slow */
    }
}

void upstream_resume(struct upstream_exchange *exchange) {
    if (!exchange->is_paused) {
        return;
    }
    exchange->is_paused = false;
    timer_set(&exchange->turn, 0);
    if (exchange->state == EXCHANGE_READS_BODY) {
        set_deadline(exchange, exchange->upstream->options.idle_timeout_ms);
    }
}

/* ---- the whole ---- */

struct upstream *upstream_new(const struct upstream_options *options) {
    struct upstream *upstream = xcalloc(1, sizeof(*upstream));
    upstream->options = *options;
    LIST_INIT(&upstream->exchanges);
    return upstream;
}

void upstream_free(struct upstream *upstream) {
    if (upstream == NULL) {
        return;
    }
    while (!LIST_EMPTY(&upstream->exchanges)) {
        exchange_free(LIST_FIRST(&upstream->exchanges));
    }
    size_t at = 0;
    struct map_entry *entry = NULL;
    while ((entry = map_next(&upstream->addresses, &at)) != NULL) {
        struct address *address = entry->value;
        for (int left = address->idle_count; left > 0; left--) {
            connection_free(LIST_FIRST(&address->idle)); /* the last one frees the address */
        }
    }
    map_release(&upstream->addresses);
    free(upstream);
}
