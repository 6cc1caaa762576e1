/* The HTTP server, seen through raw sockets: what a client sees, and what a handler sees of a client. */
#include "io_support.h"

#include "io/http_server_parts.h"

#include <fcntl.h>
#include <sys/resource.h>

/* What the handlers of a test share. A request's path says what becomes of it. */
struct world {
    struct loop *loop;
    struct http_server *server;
    int port;
    struct http_request *held; /* "/hold" and "/stream": the test answers */
    int requests;
    int gone;
    int drained;
    char last_body[64];
};

static void on_gone(void *arg) {
    struct world *world = arg;
    world->gone++;
    world->held = NULL;
}

static void on_drained_ends(void *arg) {
    struct world *world = arg;
    world->drained++;
    http_stream_end(world->held);
    world->held = NULL;
}

static void handle(void *arg, struct http_request *request) {
    struct world *world = arg;
    const char *path = http_request_head(request)->path;
    size_t len = 0;
    const char *body = http_request_body(request, &len);
    world->requests++;
    (void)snprintf(world->last_body, sizeof(world->last_body), "%s", body);
    if (strcmp(path, "/hold") == 0 || strcmp(path, "/stream") == 0) {
        world->held = request;
        http_request_on_gone(request, on_gone, world);
        if (strcmp(path, "/stream") == 0) {
            http_stream_begin(request, 200, "text/event-stream");
        }
    } else if (strcmp(path, "/stream-now") == 0) {
        http_stream_begin(request, 200, "text/plain");
        (void)http_stream_write(request, "one", 3);
        (void)http_stream_write(request, "", 0);
        (void)http_stream_write(request, "two", 3);
        http_stream_end(request);
    } else if (strcmp(path, "/abort") == 0) {
        http_stream_begin(request, 200, "text/plain");
        (void)http_stream_write(request, "part", 4);
        http_stream_abort(request);
    } else if (strcmp(path, "/empty") == 0) {
        http_reply(request, 204, NULL, NULL, 0);
    } else {
        http_reply_field(request, "X-Path", path);
        http_reply_field(request, "X-Bad", "a\r\nInjected: yes");
        http_reply_field(request, "Connection", "evil");
        http_reply(request, 200, "text/plain", body, len);
    }
}

static void world_open(struct world *world, const struct http_server_options *extra) {
    struct http_server_options options = *extra;
    *world = (struct world){.loop = loop_new()};
    options.loop = world->loop;
    options.body_bytes_max = options.body_bytes_max != 0 ? options.body_bytes_max : 100000;
    options.on_request = handle;
    options.arg = world;
    world->server = http_server_new(&options);
    world->port = start_server(world->server);
}

static void world_close(struct world *world) {
    http_server_free(world->server);
    loop_free(world->loop);
}

#define GET(path) "GET " path " HTTP/1.1\r\nHost: a\r\n\r\n"
#define GET_CLOSE(path) "GET " path " HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"

/* What comes until the server closes. */
static char *exchange(struct world *world, const char *text) {
    struct client client;
    client_open(&client, world->loop, world->port);
    client_send(&client, text);
    RUN_UNTIL(world->loop, client.is_closed);
    char *answer = xstrdup(buffer_text(&client.in));
    client_close(&client);
    return answer;
}

static void test_one_answer(void **state) {
    (void)state;
    struct world world;
    world_open(&world, &(struct http_server_options){0});
    cleanup_free char *answer =
        exchange(&world, "POST /a%20b HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello");
    assert_true(strncmp(answer, "HTTP/1.1 200 OK\r\nDate: ", 23) == 0);
    assert_non_null(strstr(answer, " GMT\r\n"));
    assert_non_null(strstr(answer, "\r\nContent-Type: text/plain\r\n"));
    assert_non_null(strstr(answer, "\r\nX-Path: /a b\r\n"));
    assert_non_null(strstr(answer, "\r\nContent-Length: 5\r\n"));
    assert_non_null(strstr(answer, "\r\nConnection: close\r\n"));
    assert_non_null(strstr(answer, "\r\n\r\nhello"));
    assert_null(strstr(answer, "Injected"));
    assert_null(strstr(answer, "evil"));
    world_close(&world);
}

static void test_keep_alive(void **state) {
    (void)state;
    struct world world;
    world_open(&world, &(struct http_server_options){0});
    struct client client;
    client_open(&client, world.loop, world.port);
    for (int i = 1; i <= 3; i++) {
        client_send(&client, GET("/x"));
        RUN_UNTIL(world.loop, count_of(buffer_text(&client.in), "Content-Length: 0\r\n\r\n") == i);
    }
    assert_int_equal(world.requests, 3);
    assert_false(client_has(&client, "Connection:"));
    client_close(&client);
    /* HTTP/1.0 closes, unless asked not to */
    cleanup_free char *answer = exchange(&world, "GET / HTTP/1.0\r\n\r\n");
    assert_non_null(strstr(answer, "Connection: close\r\n"));
    client_open(&client, world.loop, world.port);
    client_send(&client, "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    RUN_UNTIL(world.loop, client_has(&client, "Connection: keep-alive\r\n\r\n"));
    run_what_is_ready(world.loop);
    assert_false(client.is_closed);
    client_close(&client);
    world_close(&world);
}

static void test_pipelined_requests_are_answered_in_order(void **state) {
    (void)state;
    struct world world;
    world_open(&world, &(struct http_server_options){0});
    struct client client;
    client_open(&client, world.loop, world.port);
    client_send(
        &client,
        GET("/1")
            GET("/hold") "POST /3 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n" GET_CLOSE("/4"));
    RUN_UNTIL(world.loop, world.held != NULL && client_has(&client, "X-Path: /1\r\n"));
    run_what_is_ready(world.loop);
    assert_int_equal(world.requests, 2); /* one at a time */
    http_reply_field(world.held, "X-Path", "/2");
    http_reply(world.held, 200, NULL, "held", 4);
    RUN_UNTIL(world.loop, client.is_closed);
    const char *text = buffer_text(&client.in);
    const char *at = text;
    static const char *const order[] = {"/1", "/2", "held", "/3", "ab", "/4"};
    for (size_t i = 0; i < ARRAY_LEN(order); i++) {
        at = strstr(at, order[i]);
        assert_non_null(at);
    }
    client_close(&client);
    world_close(&world);
}

static void test_a_request_in_every_split(void **state) {
    (void)state;
    static const char text[] = "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    struct world world;
    world_open(&world, &(struct http_server_options){0});
    struct client client;
    client_open(&client, world.loop, world.port);
    for (size_t split = 1; split < sizeof(text) - 1; split++) {
        buffer_clear(&client.in);
        client_send_bytes(&client, text, split);
        run_what_is_ready(world.loop);
        client_send_bytes(&client, text + split, sizeof(text) - 1 - split);
        RUN_UNTIL(world.loop, client_has(&client, "\r\n\r\nhello"));
    }
    assert_int_equal(world.requests, sizeof(text) - 2);
    client_close(&client);
    world_close(&world);
}

static void test_refusals(void **state) {
    (void)state;
    static const struct {
        const char *text;
        const char *status;
    } rows[] = {
        {"GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 400 "},
        {"GET / HTTP/3.0\r\nHost: a\r\n\r\n", "HTTP/1.1 505 "},
        {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", "HTTP/1.1 501 "},
        {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\n",
         "HTTP/1.1 400 "},
        {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100001\r\nExpect: 100-continue\r\n\r\n", "HTTP/1.1 413 "},
        {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "HTTP/1.1 400 "},
        {"\x16\x03\x01", "HTTP/1.1 400 "},
    };
    struct world world;
    world_open(&world, &(struct http_server_options){0});
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        cleanup_free char *answer = exchange(&world, rows[i].text);
        if (strncmp(answer, rows[i].status, strlen(rows[i].status)) != 0) {
            fail_msg("row %zu: %s", i, answer);
        }
        assert_non_null(strstr(answer, "Connection: close\r\n"));
        assert_int_equal(count_of(answer, "\r\nDate: "), 1);
    }
    assert_int_equal(world.requests, 0);
    world_close(&world);
}

static const char *in_our_dialect(void *arg, const struct error *err, struct buffer *body) {
    (void)arg;
    buffer_printf(body, "{\"code\":%d}", err->http_status);
    return "application/json";
}

static void test_refusals_in_the_callers_dialect_reach_a_client_that_still_sends(void **state) {
    (void)state;
    struct world world;
    world_open(&world, &(struct http_server_options){.on_error = in_our_dialect, .body_bytes_max = 1000});
    struct client client;
    client_open(&client, world.loop, world.port);
    client_send(&client, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n10000\r\n");
    cleanup_free char *much = xcalloc(1, 65536);
    client_send_bytes(&client, much, 65536);
    RUN_UNTIL(world.loop, client.is_closed);
    assert_false(client.is_reset);
    assert_true(client_has(&client, "HTTP/1.1 413 "));
    assert_true(client_has(&client, "application/json\r\n"));
    assert_true(client_has(&client, "{\"code\":413}"));
    client_close(&client);
    world_close(&world);
}

static void test_expect_continue(void **state) {
    (void)state;
    struct world world;
    world_open(&world, &(struct http_server_options){0});
    struct client client;
    client_open(&client, world.loop, world.port);
    client_send(&client, "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    RUN_UNTIL(world.loop, client_has(&client, "HTTP/1.1 100 Continue\r\n\r\n"));
    client_send(&client, "hello");
    RUN_UNTIL(world.loop, client_has(&client, "\r\n\r\nhello"));
    client_close(&client);
    world_close(&world);
}

static void test_answers_without_body(void **state) {
    (void)state;
    struct world world;
    world_open(&world, &(struct http_server_options){0});
    cleanup_free char *empty = exchange(&world, GET_CLOSE("/empty"));
    assert_non_null(strstr(empty, "HTTP/1.1 204 No Content\r\n"));
    assert_null(strstr(empty, "Content-Length"));
    cleanup_free char *head = exchange(&world, "HEAD /x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc");
    assert_non_null(strstr(head, "Content-Length: 3\r\n"));
    assert_true(strcmp(head + strlen(head) - 4, "\r\n\r\n") == 0);
    cleanup_free char *stream = exchange(&world, "HEAD /stream-now HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert_true(strcmp(stream + strlen(stream) - 4, "\r\n\r\n") == 0);
    world_close(&world);
}

static void test_streams(void **state) {
    (void)state;
    struct world world;
    world_open(&world, &(struct http_server_options){0});
    cleanup_free char *chunked = exchange(&world, GET_CLOSE("/stream-now"));
    assert_non_null(strstr(chunked, "Transfer-Encoding: chunked\r\n"));
    assert_non_null(strstr(chunked, "\r\n\r\n3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"));
    cleanup_free char *plain = exchange(&world, "GET /stream-now HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    assert_null(strstr(plain, "Transfer-Encoding"));
    assert_non_null(strstr(plain, "\r\n\r\nonetwo"));
    world_close(&world);
}

static void test_each_write_leaves_at_once(void **state) {
    (void)state;
    struct world world;
    world_open(&world, &(struct http_server_options){0});
    struct client client;
    client_open(&client, world.loop, world.port);
    client_send(&client, GET("/stream"));
    RUN_UNTIL(world.loop, world.held != NULL && client_has(&client, "\r\n\r\n"));
    for (int i = 0; i < 3; i++) {
        (void)http_stream_write(world.held, "tick", 4);
        RUN_UNTIL(world.loop, count_of(buffer_text(&client.in), "tick") == i + 1);
    }
    assert_int_equal(http_server_open_requests(world.server), 1);
    http_stream_end(world.held);
    RUN_UNTIL(world.loop, client_has(&client, "0\r\n\r\n"));
    assert_int_equal(http_server_open_requests(world.server), 0);
    client_close(&client);
    world_close(&world);
}

static void test_an_aborted_stream_looks_cut(void **state) {
    (void)state;
    struct world world;
    struct client client;
    world_open(&world, &(struct http_server_options){0});
    cleanup_free char *chunked = exchange(&world, GET("/abort"));
    assert_non_null(strstr(chunked, "4\r\npart\r\n"));
    assert_null(strstr(chunked, "\r\n0\r\n"));
    client_open(&client, world.loop, world.port);
    client_send(&client, "GET /abort HTTP/1.0\r\n\r\n");
    RUN_UNTIL(world.loop, client.is_closed);
    assert_true(client.is_reset);
    client_close(&client);
    assert_int_equal(world.gone, 0);
    world_close(&world);
}

static void test_a_client_that_leaves_is_noticed(void **state) {
    (void)state;
    static const char *const requests[] = {GET("/hold"), GET("/stream"), GET("/stream") GET("/never")};
    struct world world;
    world_open(&world, &(struct http_server_options){0});
    for (size_t i = 0; i < ARRAY_LEN(requests); i++) {
        struct client client;
        client_open(&client, world.loop, world.port);
        client_send(&client, requests[i]);
        RUN_UNTIL(world.loop, world.held != NULL);
        client_close(&client);
        RUN_UNTIL(world.loop, world.gone == (int)i + 1);
    }
    assert_int_equal(world.requests, 3);
    assert_int_equal(http_server_open_requests(world.server), 0);
    world_close(&world);
}

static void test_a_half_closed_client_still_gets_an_answer_given_at_once(void **state) {
    (void)state;
    struct world world;
    world_open(&world, &(struct http_server_options){0});
    struct client client;
    client_open(&client, world.loop, world.port);
    client_send(&client, GET("/x"));
    (void)shutdown(client.fd, SHUT_WR);
    RUN_UNTIL(world.loop, client.is_closed);
    assert_true(client_has(&client, "HTTP/1.1 200 OK"));
    client_close(&client);
    world_close(&world);
}

static void test_backlog(void **state) {
    (void)state;
    struct world world;
    world_open(&world, &(struct http_server_options){.out_bytes_max = 64 * 1024});
    int fd = connect_loopback(world.port);
    assert_int_equal(send(fd, GET("/stream"), strlen(GET("/stream")), 0), (ssize_t)strlen(GET("/stream")));
    RUN_UNTIL(world.loop, world.held != NULL);
    http_stream_on_drained(world.held, on_drained_ends, &world);
    cleanup_free char *piece = xcalloc(1, 16 * 1024);
    size_t written = 0;
    while (http_stream_write(world.held, piece, 16 * 1024) == HTTP_STREAM_OK) {
        written += 16 * 1024;
        (void)event_base_loop(loop_event_base(world.loop), EVLOOP_NONBLOCK);
        assert_true(written < 64 * 1024 * 1024); /* a reader that does not read must stop the writer */
    }
    run_what_is_ready(world.loop);
    assert_int_equal(world.drained, 0);
    /* now it reads: the writer is told, and everything comes */
    struct client client = {.fd = fd};
    client.watch = watch_new(world.loop, fd, client_on_ready, &client);
    RUN_UNTIL(world.loop, client.in.len > written + 16 * 1024 && strcmp(client.in.data + client.in.len - 5, "0\r\n\r\n") == 0);
    assert_int_equal(world.drained, 1);
    client_close(&client);
    world_close(&world);
}

static void test_a_client_that_never_reads_is_cut(void **state) {
    (void)state;
    struct world world;
    world_open(&world, &(struct http_server_options){.out_bytes_max = 1024, .idle_timeout_ms = 50});
    struct client client;
    client_open(&client, world.loop, world.port);
    watch_free(client.watch);
    client.watch = NULL;
    client_send(&client, GET("/stream"));
    RUN_UNTIL(world.loop, world.held != NULL);
    cleanup_free char *much = xcalloc(1, 16 * 1024 * 1024);
    assert_int_equal(http_stream_write(world.held, much, 16 * 1024 * 1024), HTTP_STREAM_BACKLOG);
    RUN_UNTIL(world.loop, world.gone == 1);
    client_close(&client);
    world_close(&world);
}

static void test_timeouts(void **state) {
    (void)state;
    struct world world;
    world_open(&world, &(struct http_server_options){.idle_timeout_ms = 30, .read_timeout_ms = 40});
    cleanup_free char *idle = exchange(&world, "");
    assert_string_equal(idle, "");
    cleanup_free char *kept = exchange(&world, GET("/x"));
    assert_int_equal(count_of(kept, "HTTP/1.1"), 1);
    cleanup_free char *slow_head = exchange(&world, "GET / HTTP/1.1\r\n");
    assert_true(strncmp(slow_head, "HTTP/1.1 408 ", 13) == 0);
    cleanup_free char *slow_body = exchange(&world, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhell");
    assert_true(strncmp(slow_body, "HTTP/1.1 408 ", 13) == 0);
    /* a trickle does not extend the deadline */
    struct client client;
    client_open(&client, world.loop, world.port);
    client_send(&client, "GET / HTTP/1.1\r\nX: ");
    alarm(30);
    while (!client.is_closed) {
        (void)send(client.fd, "x", 1, MSG_NOSIGNAL);
        (void)event_base_loop(loop_event_base(world.loop), EVLOOP_ONCE);
    }
    alarm(0);
    assert_int_equal(world.requests, 1);
    client_close(&client);
    world_close(&world);
}

static void test_drain(void **state) {
    (void)state;
    struct world world;
    struct client idle;
    struct client busy;
    world_open(&world, &(struct http_server_options){0});
    client_open(&idle, world.loop, world.port);
    client_send(&idle, GET("/x"));
    client_open(&busy, world.loop, world.port);
    client_send(&busy, GET("/hold") GET("/after"));
    RUN_UNTIL(world.loop, client_has(&idle, "\r\n\r\n") && world.held != NULL);
    assert_int_equal(http_server_open_requests(world.server), 1);
    http_server_drain(world.server);
    RUN_UNTIL(world.loop, idle.is_closed);
    run_what_is_ready(world.loop);
    assert_false(busy.is_closed);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)world.port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), -1); /* nobody listens */
    close(fd);
    http_reply(world.held, 200, NULL, "done", 4);
    RUN_UNTIL(world.loop, busy.is_closed);
    assert_true(client_has(&busy, "Connection: close\r\n\r\ndone"));
    assert_int_equal(http_server_open_requests(world.server), 0);
    client_close(&idle);
    client_close(&busy);
    world_close(&world);
}

static void test_free_cuts_and_tells(void **state) {
    (void)state;
    struct world world;
    struct client client;
    world_open(&world, &(struct http_server_options){0});
    client_open(&client, world.loop, world.port);
    client_send(&client, GET("/stream"));
    RUN_UNTIL(world.loop, world.held != NULL);
    http_server_free(world.server);
    assert_int_equal(world.gone, 1);
    RUN_UNTIL(world.loop, client.is_closed);
    client_close(&client);
    loop_free(world.loop);
}

static void test_connections_max(void **state) {
    (void)state;
    struct world world;
    struct client clients[3];
    world_open(&world, &(struct http_server_options){.connections_max = 2});
    for (size_t i = 0; i < 3; i++) {
        client_open(&clients[i], world.loop, world.port);
        client_send(&clients[i], GET("/x"));
    }
    RUN_UNTIL(world.loop, client_has(&clients[0], "\r\n\r\n") && client_has(&clients[1], "\r\n\r\n"));
    run_what_is_ready(world.loop);
    assert_int_equal(world.requests, 2);
    client_close(&clients[0]);
    RUN_UNTIL(world.loop, client_has(&clients[2], "\r\n\r\n"));
    client_close(&clients[1]);
    client_close(&clients[2]);
    world_close(&world);
}

static void count_wake_up(void *arg) {
    (*(int *)arg)++;
}

/* Two bodies fit at a time, not three, whether their length is told or not; what is over makes room again. */
static void test_bodies_of_all_requests_are_bounded(void **state) {
    (void)state;
    struct world world;
    world_open(&world, &(struct http_server_options){.body_bytes_max = 1000, .bodies_bytes_max = 2500});
    cleanup_buffer struct buffer body = BUFFER_INIT;
    for (int i = 0; i < 1000; i++) {
        buffer_append_char(&body, 'a');
    }
    cleanup_free char *held = xasprintf("POST /hold HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n%s", body.data);
    struct client holder;
    struct client arriving;
    client_open(&holder, world.loop, world.port);
    client_send(&holder, held); /* the handler has it */
    RUN_UNTIL(world.loop, world.held != NULL);
    client_open(&arriving, world.loop, world.port);
    client_send_bytes(&arriving, held, strlen(held) - 1); /* arrives still */
    RUN_UNTIL(world.loop, world.server->bodies_bytes == 1999);
    /* By its length it is refused before any of it is sent. */
    cleanup_free char *told =
        exchange(&world, "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 900\r\nExpect: 100-continue\r\n\r\n");
    assert_non_null(strstr(told, "HTTP/1.1 503 "));
    assert_non_null(strstr(told, "\r\nRetry-After: 1\r\n"));
    assert_non_null(strstr(told, "the bodies of requests under way hold 1999 bytes of 2500"));
    cleanup_free char *chunked =
        xasprintf("POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n384\r\n%.900s\r\n0\r\n\r\n", body.data);
    cleanup_free char *untold = exchange(&world, chunked);
    assert_non_null(strstr(untold, "HTTP/1.1 503 "));
    /* A small one still fits. */
    cleanup_free char *small =
        exchange(&world, "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello");
    assert_non_null(strstr(small, "200 OK"));
    /* A client that leaves in the middle, and an answer, give back what they held. */
    client_close(&arriving);
    RUN_UNTIL(world.loop, world.server->bodies_bytes == 1000);
    http_reply(world.held, 200, NULL, "x", 1);
    assert_int_equal(world.server->bodies_bytes, 0);
    client_close(&holder);
    world_close(&world);
}

static void test_no_busy_loop_without_descriptors(void **state) {
    (void)state;
    struct world world;
    struct client client;
    struct rlimit old;
    struct timer timer;
    int fired = 0;
    int turns = 0;
    world_open(&world, &(struct http_server_options){0});
    client_open(&client, world.loop, world.port);
    client_send(&client, GET("/x"));
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    int next = open("/dev/null", O_RDONLY | O_CLOEXEC);
    close(next);
    struct rlimit none = {.rlim_cur = (rlim_t)next, .rlim_max = old.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    timer_init(&timer, world.loop, count_wake_up, &fired);
    timer_set(&timer, 50);
    alarm(30);
    for (; fired == 0; turns++) {
        (void)event_base_loop(loop_event_base(world.loop), EVLOOP_ONCE);
    }
    assert_true(turns < 10);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
    RUN_UNTIL(world.loop, client_has(&client, "\r\n\r\n"));
    timer_release(&timer);
    client_close(&client);
    world_close(&world);
}

static void test_listening(void **state) {
    (void)state;
    struct world world;
    struct error err;
    int port = 0;
    world_open(&world, &(struct http_server_options){0});
    assert_int_equal(http_server_listen(world.server, "127.0.0.1", world.port, &port, &err), -1);
    assert_int_equal(err.code, ERROR_IO);
    assert_non_null(strstr(err.message, "in use"));
    assert_int_equal(http_server_listen(world.server, "localhost", 0, &port, &err), -1);
    assert_int_equal(err.code, ERROR_INVALID);
    assert_int_equal(http_server_listen(world.server, "127.0.0.1", 70000, &port, &err), -1);
    assert_int_equal(http_server_listen(world.server, "127.0.0.2", 0, &port, &err), 0);
    /* a second server on the same port, as each further loop of the gateway has it */
    struct http_server *twin =
        http_server_new(&(struct http_server_options){.loop = world.loop, .on_request = handle, .arg = &world});
    assert_int_equal(http_server_listen_like(twin, world.server, &err), 0);
    http_server_drain(world.server);
    cleanup_free char *answer = exchange(&world, GET_CLOSE("/x"));
    assert_non_null(strstr(answer, "200 OK"));
    http_server_free(twin);
    world_close(&world);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_answer),
        cmocka_unit_test(test_keep_alive),
        cmocka_unit_test(test_pipelined_requests_are_answered_in_order),
        cmocka_unit_test(test_a_request_in_every_split),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_refusals_in_the_callers_dialect_reach_a_client_that_still_sends),
        cmocka_unit_test(test_expect_continue),
        cmocka_unit_test(test_answers_without_body),
        cmocka_unit_test(test_streams),
        cmocka_unit_test(test_each_write_leaves_at_once),
        cmocka_unit_test(test_an_aborted_stream_looks_cut),
        cmocka_unit_test(test_a_client_that_leaves_is_noticed),
        cmocka_unit_test(test_a_half_closed_client_still_gets_an_answer_given_at_once),
        cmocka_unit_test(test_backlog),
        cmocka_unit_test(test_a_client_that_never_reads_is_cut),
        cmocka_unit_test(test_timeouts),
        cmocka_unit_test(test_drain),
        cmocka_unit_test(test_free_cuts_and_tells),
        cmocka_unit_test(test_connections_max),
        cmocka_unit_test(test_bodies_of_all_requests_are_bounded),
        cmocka_unit_test(test_no_busy_loop_without_descriptors),
        cmocka_unit_test(test_listening),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
