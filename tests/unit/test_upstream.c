/* The data path's client, against our own server and against a server of raw bytes that misbehaves as told. */
#include "io_support.h"

#include "io/upstream.h"

struct outcome {
    struct upstream_exchange *exchange;
    struct http_request *held; /* our server's side */
    struct upstream *upstream;
    struct loop *loop;
    struct http_server *server;
    int port;
    int gone;
    char peers[2][64];
    int heads;
    int status;
    int ends;
    bool has_failed;
    struct error err;
    struct buffer body;
    char order[512];
    size_t order_len;
    bool cancels_in_head;
    bool cancels_in_data;
    bool pauses_in_data;
};

static void note(struct outcome *outcome, char what) {
    if (outcome->order_len + 1 < sizeof(outcome->order)) {
        outcome->order[outcome->order_len++] = what;
    }
}

static void on_head(void *arg, const struct http_head *head) {
    struct outcome *outcome = arg;
    outcome->heads++;
    outcome->status = head->status;
    note(outcome, 'h');
    if (outcome->cancels_in_head) {
        upstream_cancel(outcome->exchange);
    }
}

static void on_data(void *arg, const char *bytes, size_t len) {
    struct outcome *outcome = arg;
    buffer_append(&outcome->body, bytes, len);
    note(outcome, 'd');
    if (outcome->cancels_in_data) {
        upstream_cancel(outcome->exchange);
    }
    if (outcome->pauses_in_data) {
        upstream_pause(outcome->exchange);
    }
}

static void on_end(void *arg, const struct error *err) {
    struct outcome *outcome = arg;
    outcome->ends++;
    outcome->exchange = NULL;
    outcome->has_failed = err != NULL;
    if (err != NULL) {
        outcome->err = *err;
    }
    note(outcome, 'e');
}

static void on_gone(void *arg) {
    struct outcome *outcome = arg;
    outcome->gone++;
    outcome->held = NULL;
}

static void handle(void *arg, struct http_request *request) {
    struct outcome *outcome = arg;
    const struct http_head *head = http_request_head(request);
    size_t len = 0;
    const char *body = http_request_body(request, &len);
    memcpy(outcome->peers[1], outcome->peers[0], sizeof(outcome->peers[0]));
    (void)snprintf(outcome->peers[0], sizeof(outcome->peers[0]), "%s", http_request_peer(request));
    if (strcmp(head->path, "/stream") == 0) {
        outcome->held = request;
        http_request_on_gone(request, on_gone, outcome);
        http_stream_begin(request, 200, "text/plain");
        return;
    }
    const char *extra = http_fields_get(&head->fields, strcmp(head->path, "/host") == 0 ? "Host" : "X-Extra");
    http_reply(request, 200, "text/plain", extra != NULL ? extra : body, extra != NULL ? strlen(extra) : len);
}

static void open_world(struct outcome *outcome, const struct upstream_options *extra) {
    struct upstream_options options = *extra;
    *outcome = (struct outcome){.loop = loop_new()};
    options.loop = outcome->loop;
    options.connections_per_address_max = options.connections_per_address_max != 0 ? options.connections_per_address_max : 4;
    outcome->upstream = upstream_new(&options);
    outcome->server = http_server_new(
        &(struct http_server_options){.loop = outcome->loop, .body_bytes_max = 10000000, .on_request = handle, .arg = outcome});
    outcome->port = start_server(outcome->server);
}

static void close_world(struct outcome *outcome) {
    upstream_free(outcome->upstream);
    http_server_free(outcome->server);
    loop_free(outcome->loop);
    buffer_release(&outcome->body);
}

static void start_to(struct outcome *outcome, const char *host, int port, const char *target, const struct http_fields *fields,
                     const void *body, size_t len) {
    outcome->ends = outcome->heads = 0;
    outcome->has_failed = false;
    outcome->order_len = 0;
    memset(outcome->order, 0, sizeof(outcome->order));
    buffer_clear(&outcome->body);
    outcome->exchange = upstream_start(
        outcome->upstream,
        &(struct upstream_request){.host = host,
                                   .port = port,
                                   .method = len != 0 ? "POST" : "GET",
                                   .target = target,
                                   .fields = fields,
                                   .body = {{body, len / 2}, {NULL, 0}, {(const char *)body + len / 2, len - len / 2}},
                                   .on_head = on_head,
                                   .on_data = on_data,
                                   .on_end = on_end,
                                   .arg = outcome});
    assert_int_equal(outcome->heads + outcome->ends, 0);
}

static void start_at(struct outcome *outcome, int port, const char *target, const struct http_fields *fields, const void *body,
                     size_t len) {
    start_to(outcome, "127.0.0.1", port, target, fields, body, len);
}

static void start(struct outcome *outcome, const char *target) {
    start_at(outcome, outcome->port, target, NULL, NULL, 0);
}

static void test_requests_on_a_kept_connection(void **state) {
    (void)state;
    struct outcome outcome;
    struct http_fields fields = {0};
    struct error err;
    open_world(&outcome, &(struct upstream_options){0});
    assert_int_equal(http_fields_add(&fields, "X-Extra", "told", &err), 0);
    assert_int_equal(http_fields_add(&fields, "Host", "evil", &err), 0);
    assert_int_equal(http_fields_add(&fields, "Transfer-Encoding", "chunked", &err), 0);
    assert_int_equal(http_fields_add(&fields, "content-length", "7", &err), 0);
    for (int i = 0; i < 3; i++) {
        start_at(&outcome, outcome.port, "/a?b", &fields, "hello", 5);
        RUN_UNTIL(outcome.loop, outcome.ends == 1);
        assert_false(outcome.has_failed);
        assert_string_equal(outcome.order, "hde");
        assert_int_equal(outcome.status, 200);
        assert_string_equal(buffer_text(&outcome.body), "told");
    }
    assert_string_equal(outcome.peers[0], outcome.peers[1]);
    cleanup_free char *much = xcalloc(1, 5000000);
    memset(much, 'x', 5000000);
    start_at(&outcome, outcome.port, "/a", NULL, much, 5000000);
    RUN_UNTIL(outcome.loop, outcome.ends == 1);
    assert_int_equal(outcome.body.len, 5000000);
    http_fields_release(&fields);
    close_world(&outcome);
}

static void test_bytes_come_as_they_are_sent(void **state) {
    (void)state;
    struct outcome outcome;
    open_world(&outcome, &(struct upstream_options){0});
    start(&outcome, "/stream");
    RUN_UNTIL(outcome.loop, outcome.heads == 1 && outcome.held != NULL);
    (void)http_stream_write(outcome.held, "one", 3);
    RUN_UNTIL(outcome.loop, strcmp(buffer_text(&outcome.body), "one") == 0);
    (void)http_stream_write(outcome.held, "two", 3);
    RUN_UNTIL(outcome.loop, strcmp(buffer_text(&outcome.body), "onetwo") == 0);
    assert_int_equal(outcome.ends, 0);
    http_stream_end(outcome.held);
    RUN_UNTIL(outcome.loop, outcome.ends == 1);
    assert_false(outcome.has_failed);
    close_world(&outcome);
}

static void test_cancel_is_seen_by_the_server(void **state) {
    (void)state;
    struct outcome outcome;
    open_world(&outcome, &(struct upstream_options){0});
    start(&outcome, "/stream");
    upstream_cancel(outcome.exchange); /* before it began */
    run_what_is_ready(outcome.loop);
    assert_null(outcome.held);

    start(&outcome, "/stream");
    RUN_UNTIL(outcome.loop, outcome.heads == 1);
    upstream_cancel(outcome.exchange);
    RUN_UNTIL(outcome.loop, outcome.gone == 1);

    outcome.cancels_in_head = true;
    start(&outcome, "/stream");
    RUN_UNTIL(outcome.loop, outcome.gone == 2);

    outcome.cancels_in_head = false;
    outcome.cancels_in_data = true;
    start(&outcome, "/stream");
    RUN_UNTIL(outcome.loop, outcome.held != NULL);
    (void)http_stream_write(outcome.held, "one", 3);
    (void)http_stream_write(outcome.held, "two", 3);
    RUN_UNTIL(outcome.loop, outcome.gone == 3);
    assert_string_equal(buffer_text(&outcome.body), "one");
    assert_int_equal(outcome.ends, 0);
    close_world(&outcome);
}

static void test_pause_stops_the_server(void **state) {
    (void)state;
    struct outcome outcome;
    open_world(&outcome, &(struct upstream_options){.idle_timeout_ms = 50});
    outcome.pauses_in_data = true;
    start(&outcome, "/stream");
    RUN_UNTIL(outcome.loop, outcome.held != NULL);
    cleanup_free char *piece = xcalloc(1, 65536);
    size_t written = 0;
    while (http_stream_write(outcome.held, piece, 65536) == HTTP_STREAM_OK) {
        written += 65536;
        (void)event_base_loop(loop_event_base(outcome.loop), EVLOOP_NONBLOCK);
        assert_true(written < 64 * 1024 * 1024);
    }
    written += 65536;
    http_stream_end(outcome.held);
    outcome.held = NULL;
    size_t taken = outcome.body.len;
    assert_true(taken < written / 2);
    int64_t until_ms = clock_now_ms() + 100;
    struct timer timer; /* longer than the idle timeout, which does not run while paused */
    timer_init(&timer, outcome.loop, on_gone, &outcome);
    timer_set(&timer, 100);
    RUN_UNTIL(outcome.loop, clock_now_ms() >= until_ms);
    timer_release(&timer);
    assert_int_equal(outcome.ends, 0);
    assert_int_equal(outcome.body.len, taken);
    while (outcome.ends == 0) { /* each piece pauses again */
        upstream_resume(outcome.exchange);
        (void)event_base_loop(loop_event_base(outcome.loop), EVLOOP_NONBLOCK);
    }
    assert_false(outcome.has_failed);
    assert_int_equal(outcome.body.len, written);
    close_world(&outcome);
}

/* ---- a server of raw bytes ---- */

struct raw_server {
    int listener;
    int port;
    int fd; /* the accepted connection */
    struct client peer;
};

static void raw_open(struct raw_server *raw) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);
    *raw = (struct raw_server){.listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), .fd = -1};
    assert_int_equal(bind(raw->listener, (struct sockaddr *)&address, len), 0);
    assert_int_equal(listen(raw->listener, 8), 0);
    assert_int_equal(getsockname(raw->listener, (struct sockaddr *)&address, &len), 0);
    raw->port = ntohs(address.sin_port);
}

static bool raw_accepts(struct raw_server *raw, struct loop *loop) {
    raw->fd = accept4(raw->listener, NULL, NULL, SOCK_CLOEXEC);
    if (raw->fd < 0) {
        return false;
    }
    raw->peer = (struct client){.fd = raw->fd};
    raw->peer.watch = watch_new(loop, raw->fd, client_on_ready, &raw->peer);
    return true;
}

static void run_until_accepted(struct raw_server *raw, struct loop *loop) {
    alarm(30);
    while (!raw_accepts(raw, loop)) {
        (void)event_base_loop(loop_event_base(loop), EVLOOP_NONBLOCK);
    }
    alarm(0);
}

static void run_until_requested(struct raw_server *raw, struct loop *loop) {
    RUN_UNTIL(loop, client_has(&raw->peer, "\r\n\r\n"));
    buffer_clear(&raw->peer.in);
}

/* What came of `answer` followed by the end of the connection. */
static void answer_and_close(struct outcome *outcome, struct raw_server *raw, const char *answer) {
    start_at(outcome, raw->port, "/", NULL, NULL, 0);
    run_until_accepted(raw, outcome->loop);
    run_until_requested(raw, outcome->loop);
    client_send(&raw->peer, answer);
    client_close(&raw->peer);
    RUN_UNTIL(outcome->loop, outcome->ends == 1);
}

static void test_odd_answers(void **state) {
    (void)state;
    static const struct {
        const char *answer;
        enum error_code code; /* ERROR_NONE: whole */
        const char *body;
        int heads;
    } rows[] = {
        {"HTTP/1.1 200 OK\r\n\r\nuntil close", ERROR_NONE, "until close", 1},
        {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nA: b\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", ERROR_NONE,
         "x", 1},
        {"HTTP/1.1 204 No Content\r\n\r\n", ERROR_NONE, "", 1},
        {"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", ERROR_NONE, "", 1},
        {"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort", ERROR_IO, "short", 1},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n", ERROR_IO, "short", 1},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshortX", ERROR_IO, "short", 1},
        {"HTTP/1.1 101 Switching Protocols\r\n\r\n", ERROR_UNAVAILABLE, "", 0},
        {"HTTP/1.1 200 OK\r\n", ERROR_UNAVAILABLE, "", 0},
        {"SSH-2.0\r\n\r\n", ERROR_UNAVAILABLE, "", 0},
        {"", ERROR_UNAVAILABLE, "", 0},
    };
    struct outcome outcome;
    struct raw_server raw;
    open_world(&outcome, &(struct upstream_options){0});
    raw_open(&raw);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        answer_and_close(&outcome, &raw, rows[i].answer);
        enum error_code code = outcome.has_failed ? outcome.err.code : ERROR_NONE;
        if (code != rows[i].code || outcome.heads != rows[i].heads || strcmp(buffer_text(&outcome.body), rows[i].body) != 0) {
            fail_msg("row %zu: code %d, %d heads, \"%s\"", i, code, outcome.heads, buffer_text(&outcome.body));
        }
        run_what_is_ready(outcome.loop); /* the close of a kept connection is noticed here */
    }
    close(raw.listener);
    close_world(&outcome);
}

#define EMPTY_ANSWER "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"

/* Leaves one kept connection, whose other side is raw.peer. */
static void keep_one(struct outcome *outcome, struct raw_server *raw) {
    start_at(outcome, raw->port, "/", NULL, NULL, 0);
    run_until_accepted(raw, outcome->loop);
    run_until_requested(raw, outcome->loop);
    client_send(&raw->peer, EMPTY_ANSWER);
    RUN_UNTIL(outcome->loop, outcome->ends == 1);
}

static void test_a_dead_kept_connection_is_retried_once(void **state) {
    (void)state;
    struct outcome outcome;
    struct raw_server raw;
    open_world(&outcome, &(struct upstream_options){0});
    raw_open(&raw);
    keep_one(&outcome, &raw);
    /* the request arrives on the kept connection, which then dies without an answer */
    start_at(&outcome, raw.port, "/", NULL, "body", 4);
    run_until_requested(&raw, outcome.loop);
    client_close(&raw.peer);
    run_until_accepted(&raw, outcome.loop);
    RUN_UNTIL(outcome.loop, client_has(&raw.peer, "\r\n\r\nbody"));
    client_send(&raw.peer, EMPTY_ANSWER);
    RUN_UNTIL(outcome.loop, outcome.ends == 1);
    assert_false(outcome.has_failed);
    assert_string_equal(outcome.order, "he");
    buffer_clear(&raw.peer.in);

    /* once only */
    start_at(&outcome, raw.port, "/", NULL, NULL, 0);
    run_until_requested(&raw, outcome.loop);
    client_close(&raw.peer);
    run_until_accepted(&raw, outcome.loop);
    run_until_requested(&raw, outcome.loop);
    client_close(&raw.peer);
    RUN_UNTIL(outcome.loop, outcome.ends == 1);
    assert_int_equal(outcome.err.code, ERROR_UNAVAILABLE);

    /* not after a byte of an answer */
    keep_one(&outcome, &raw);
    start_at(&outcome, raw.port, "/", NULL, NULL, 0);
    run_until_requested(&raw, outcome.loop);
    client_send(&raw.peer, "H");
    client_close(&raw.peer);
    RUN_UNTIL(outcome.loop, outcome.ends == 1);
    assert_int_equal(outcome.err.code, ERROR_UNAVAILABLE);
    assert_false(raw_accepts(&raw, outcome.loop));
    close(raw.listener);
    close_world(&outcome);
}

static void test_what_is_not_clean_is_not_kept(void **state) {
    (void)state;
    static const char *const answers[] = {
        EMPTY_ANSWER "HTTP/1.1 200 OK\r\n", /* bytes nobody asked for */
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
    };
    struct outcome outcome;
    struct raw_server raw;
    open_world(&outcome, &(struct upstream_options){0});
    raw_open(&raw);
    for (size_t i = 0; i < ARRAY_LEN(answers); i++) {
        start_at(&outcome, raw.port, "/", NULL, NULL, 0);
        run_until_accepted(&raw, outcome.loop);
        run_until_requested(&raw, outcome.loop);
        client_send(&raw.peer, answers[i]);
        RUN_UNTIL(outcome.loop, outcome.ends == 1 && raw.peer.is_closed);
        assert_false(outcome.has_failed);
        client_close(&raw.peer);
    }
    /* one that speaks while idle */
    keep_one(&outcome, &raw);
    client_send(&raw.peer, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    RUN_UNTIL(outcome.loop, raw.peer.is_closed);
    client_close(&raw.peer);
    close(raw.listener);
    close_world(&outcome);
}

static void test_an_early_answer_to_a_long_request(void **state) {
    (void)state;
    struct outcome outcome;
    struct raw_server raw;
    open_world(&outcome, &(struct upstream_options){0});
    raw_open(&raw);
    cleanup_free char *much = xcalloc(1, 30000000);
    start_at(&outcome, raw.port, "/", NULL, much, 30000000);
    run_until_accepted(&raw, outcome.loop);
    RUN_UNTIL(outcome.loop, raw.peer.in.len > 0);
    watch_free(raw.peer.watch); /* reads no more */
    raw.peer.watch = NULL;
    client_send(&raw.peer, "HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno");
    RUN_UNTIL(outcome.loop, outcome.ends == 1);
    assert_false(outcome.has_failed);
    assert_int_equal(outcome.status, 413);
    assert_string_equal(buffer_text(&outcome.body), "no");
    client_close(&raw.peer);
    close(raw.listener);
    close_world(&outcome);
}

static void test_failures_and_timeouts(void **state) {
    (void)state;
    struct outcome outcome;
    struct raw_server raw;
    open_world(&outcome, &(struct upstream_options){.first_byte_timeout_ms = 30, .idle_timeout_ms = 40});
    raw_open(&raw);
    start_at(&outcome, free_port(), "/", NULL, NULL, 0);
    RUN_UNTIL(outcome.loop, outcome.ends == 1);
    assert_int_equal(outcome.err.code, ERROR_UNAVAILABLE);

    start_at(&outcome, raw.port, "/", NULL, NULL, 0); /* nobody accepts: the kernel does */
    RUN_UNTIL(outcome.loop, outcome.ends == 1);
    assert_int_equal(outcome.err.code, ERROR_TIMEOUT);
    assert_int_equal(outcome.heads, 0);

    start(&outcome, "/stream");
    RUN_UNTIL(outcome.loop, outcome.ends == 1);
    assert_int_equal(outcome.err.code, ERROR_TIMEOUT);
    assert_int_equal(outcome.heads, 1);
    RUN_UNTIL(outcome.loop, outcome.gone == 1);

    outcome.exchange = upstream_start(
        outcome.upstream, &(struct upstream_request){
                              .host = "not-numeric", .port = 1, .method = "GET", .target = "/", .on_end = on_end, .arg = &outcome});
    outcome.ends = 0;
    RUN_UNTIL(outcome.loop, outcome.ends == 1);
    assert_int_equal(outcome.err.code, ERROR_UNAVAILABLE);
    start(&outcome, "/a HTTP/1.1\r\nX: injected");
    RUN_UNTIL(outcome.loop, outcome.ends == 1);
    assert_int_equal(outcome.err.code, ERROR_INVALID);
    close(raw.listener);
    close_world(&outcome);
}

static void test_free_cancels(void **state) {
    (void)state;
    struct outcome outcome;
    open_world(&outcome, &(struct upstream_options){0});
    start(&outcome, "/a");
    RUN_UNTIL(outcome.loop, outcome.ends == 1); /* one kept */
    start(&outcome, "/stream");
    RUN_UNTIL(outcome.loop, outcome.heads == 1);
    upstream_free(outcome.upstream);
    RUN_UNTIL(outcome.loop, outcome.gone == 1);
    assert_int_equal(outcome.ends, 0);
    outcome.upstream = NULL;
    close_world(&outcome);
}

static void test_ipv6(void **state) {
    (void)state;
    struct outcome outcome;
    struct error err;
    int port = 0;
    open_world(&outcome, &(struct upstream_options){0});
    if (http_server_listen(outcome.server, "::1", 0, &port, &err) < 0) {
        close_world(&outcome);
        skip(); /* a machine without IPv6 */
    }
    for (int i = 0; i < 2; i++) {
        start_to(&outcome, "::1", port, "/host", NULL, NULL, 0);
        RUN_UNTIL(outcome.loop, outcome.ends == 1);
        cleanup_free char *host = xasprintf("[::1]:%d", port);
        assert_false(outcome.has_failed);
        assert_string_equal(buffer_text(&outcome.body), host);
    }
    assert_string_equal(outcome.peers[0], outcome.peers[1]); /* the connection was kept */
    close_world(&outcome);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_requests_on_a_kept_connection),
        cmocka_unit_test(test_ipv6),
        cmocka_unit_test(test_bytes_come_as_they_are_sent),
        cmocka_unit_test(test_cancel_is_seen_by_the_server),
        cmocka_unit_test(test_pause_stops_the_server),
        cmocka_unit_test(test_odd_answers),
        cmocka_unit_test(test_a_dead_kept_connection_is_retried_once),
        cmocka_unit_test(test_what_is_not_clean_is_not_kept),
        cmocka_unit_test(test_an_early_answer_to_a_long_request),
        cmocka_unit_test(test_failures_and_timeouts),
        cmocka_unit_test(test_free_cancels),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
