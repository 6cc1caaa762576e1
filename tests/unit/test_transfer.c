/* Outbound transfers against our own server. */
#include "io_support.h"

#include "io/transfer.h"
#include "io/url.h"

struct world {
    struct loop *loop;
    struct http_server *server;
    int port;
    struct transfers *transfers;
    struct http_request *held;
    int requests;
    int gone;
    char peer[64];
    char last_peer[64];
    struct buffer seen; /* "<method> <path>?<query> <content type>\n<body>" of the last request */
};

static void on_gone(void *arg) {
    struct world *world = arg;
    world->gone++;
    world->held = NULL;
}

static void handle(void *arg, struct http_request *request) {
    struct world *world = arg;
    const struct http_head *head = http_request_head(request);
    const char *type = http_fields_get(&head->fields, "Content-Type");
    size_t len = 0;
    const char *body = http_request_body(request, &len);
    world->requests++;
    (void)snprintf(world->last_peer, sizeof(world->last_peer), "%s", world->peer);
    (void)snprintf(world->peer, sizeof(world->peer), "%s", http_request_peer(request));
    buffer_clear(&world->seen);
    buffer_printf(&world->seen, "%s %s?%s %s\n", head->method, head->path, head->query, type != NULL ? type : "-");
    buffer_append(&world->seen, body, len);
    if (strcmp(head->path, "/hold") == 0 || strcmp(head->path, "/stream") == 0) {
        world->held = request;
        http_request_on_gone(request, on_gone, world);
        if (strcmp(head->path, "/stream") == 0) {
            http_stream_begin(request, 200, "application/json");
        }
    } else if (strcmp(head->path, "/redirect") == 0) {
        http_reply_field(request, "Location", "/elsewhere");
        http_reply(request, 302, NULL, NULL, 0);
    } else if (strcmp(head->path, "/busy") == 0) {
        http_reply_field(request, "Retry-After", "7");
        http_reply(request, 429, NULL, NULL, 0);
    } else if (strcmp(head->path, "/missing") == 0) {
        http_reply(request, 404, "text/plain", "no such thing", 13);
    } else if (strcmp(head->path, "/fields") == 0) {
        http_reply_field(request, "X-One", "first");
        http_reply_field(request, "x-one", "second");
        http_reply(request, 200, "text/plain", "hello", 5);
    } else if (strcmp(head->path, "/long-fields") == 0) {
        cleanup_free char *value = xcalloc(1, 40001);
        memset(value, 'x', 40000);
        http_reply_field(request, "X-One", value);
        http_reply_field(request, "X-Two", value);
        http_reply(request, 200, "text/plain", "hello", 5);
    } else if (strcmp(head->path, "/cut") == 0) {
        http_stream_begin(request, 200, "text/plain");
        (void)http_stream_write(request, "part", 4);
        http_stream_abort(request);
    } else {
        http_reply(request, 200, "text/plain", "hello", 5);
    }
}

static void world_open(struct world *world) {
    *world = (struct world){.loop = loop_new()};
    world->server = http_server_new(
        &(struct http_server_options){.loop = world->loop, .body_bytes_max = 8 * 1024 * 1024, .on_request = handle, .arg = world});
    world->port = start_server(world->server);
    world->transfers = transfers_new(world->loop);
}

static void world_close(struct world *world) {
    transfers_free(world->transfers);
    http_server_free(world->server);
    loop_free(world->loop);
    buffer_release(&world->seen);
}

/* A transfer and what became of it. */
struct outcome {
    struct world *world;
    struct transfer *transfer;
    int done;
    int status;
    int64_t retry_after_ms;
    struct error err;
    struct buffer body;
    char content_type[64];
    struct buffer streamed;
    int refuse_after; /* pieces; 0 = never */
    int pieces;
    bool cancels_itself;
    struct outcome *other; /* started or cancelled in on_done or on_data */
    bool starts_other;
    int heads;
    char *fields;   /* of the answer */
    char *redirect; /* of the answer */
};

static void on_done(void *arg, const struct transfer_response *response, const struct error *err);

static int on_data(void *arg, const char *bytes, size_t len) {
    struct outcome *outcome = arg;
    buffer_append(&outcome->streamed, bytes, len);
    outcome->pieces++;
    if (outcome->cancels_itself) {
        transfer_cancel(outcome->transfer);
    }
    if (outcome->other != NULL && outcome->other->transfer != NULL) {
        transfer_cancel(outcome->other->transfer);
        outcome->other->transfer = NULL;
    }
    return outcome->pieces == outcome->refuse_after ? -1 : 0;
}

static void start(struct world *world, struct outcome *outcome, const char *path, struct transfer_request request) {
    cleanup_free char *url = xasprintf("http://user:secret@127.0.0.1:%d%s", world->port, path);
    request.url = request.url != NULL ? request.url : url;
    request.method = request.method != NULL ? request.method : "GET";
    request.on_done = on_done;
    request.arg = outcome;
    outcome->world = world;
    outcome->transfer = transfer_start(world->transfers, &request);
    assert_int_equal(outcome->done, 0);
}

static void on_done(void *arg, const struct transfer_response *response, const struct error *err) {
    struct outcome *outcome = arg;
    outcome->done++;
    outcome->transfer = NULL;
    assert_true((response == NULL) != (err == NULL));
    if (err != NULL) {
        outcome->err = *err;
    } else {
        outcome->status = response->status;
        outcome->retry_after_ms = response->retry_after_ms;
        assert_int_equal(response->body[response->body_len], '\0');
        buffer_append(&outcome->body, response->body, response->body_len);
        (void)snprintf(outcome->content_type, sizeof(outcome->content_type), "%s", response->content_type);
        outcome->fields = xstrdup(response->fields);
        outcome->redirect = response->redirect != NULL ? xstrdup(response->redirect) : NULL;
    }
    if (outcome->other != NULL && outcome->starts_other) {
        start(outcome->world, outcome->other, "/next", (struct transfer_request){0});
    } else if (outcome->other != NULL && outcome->other->transfer != NULL) {
        transfer_cancel(outcome->other->transfer);
        outcome->other->transfer = NULL;
    }
}

static void outcome_release(struct outcome *outcome) {
    buffer_release(&outcome->body);
    buffer_release(&outcome->streamed);
    free(outcome->fields);
    free(outcome->redirect);
    *outcome = (struct outcome){0};
}

static void test_collected(void **state) {
    (void)state;
    static const struct {
        const char *method;
        const char *path;
        const char *body;
        const char *header;
        int status;
        const char *seen;
    } rows[] = {
        {"GET", "/a?b=c", NULL, NULL, 200, "GET /a?b=c -\n"},
        {"POST", "/a", "{}", "Content-Type: application/json", 200, "POST /a? application/json\n{}"},
        {"POST", "/a", "x=y", NULL, 200, "POST /a? -\nx=y"},
        {"POST", "/a", NULL, NULL, 200, "POST /a? -\n"},
        {"PUT", "/a", "x", NULL, 200, "PUT /a? -\nx"},
        {"PATCH", "/a", "[]", "content-type: application/json-patch+json", 200, "PATCH /a? application/json-patch+json\n[]"},
        {"DELETE", "/a", NULL, NULL, 200, "DELETE /a? -\n"},
        {"DELETE", "/a", "{}", NULL, 200, "DELETE /a? -\n{}"},
        {"HEAD", "/a", NULL, NULL, 200, "HEAD /a? -\n"},
        {"GET", "/missing", NULL, NULL, 404, "GET /missing? -\n"},
        {"GET", "/redirect", NULL, NULL, 302, "GET /redirect? -\n"},
    };
    struct world world;
    world_open(&world);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct outcome outcome = {0};
        const char *headers[] = {rows[i].header, NULL};
        start(&world, &outcome, rows[i].path,
              (struct transfer_request){.method = rows[i].method,
                                        .headers = rows[i].header != NULL ? headers : NULL,
                                        .body = rows[i].body,
                                        .body_len = rows[i].body != NULL ? strlen(rows[i].body) : 0});
        RUN_UNTIL(world.loop, outcome.done == 1);
        assert_int_equal(outcome.status, rows[i].status);
        assert_string_equal(buffer_text(&world.seen), rows[i].seen);
        if (rows[i].status == 200) {
            assert_string_equal(buffer_text(&outcome.body), strcmp(rows[i].method, "HEAD") == 0 ? "" : "hello");
            assert_string_equal(outcome.content_type, "text/plain");
        }
        if (i != 0) {
            assert_string_equal(world.peer, world.last_peer); /* the connection is kept */
        }
        outcome_release(&outcome);
    }
    world_close(&world);
}

static void test_large_bodies(void **state) {
    (void)state;
    struct world world;
    struct outcome outcome = {0};
    world_open(&world);
    cleanup_free char *body = xmalloc(5000000);
    memset(body, 'x', 5000000);
    start(&world, &outcome, "/a", (struct transfer_request){.method = "POST", .body = body, .body_len = 5000000});
    free(take_pointer(body)); /* it was copied */
    RUN_UNTIL(world.loop, outcome.done == 1);
    assert_int_equal(world.seen.len, 5000000 + strlen("POST /a? -\n"));
    outcome_release(&outcome);
    start(&world, &outcome, "/a", (struct transfer_request){.body_bytes_max = 4});
    RUN_UNTIL(world.loop, outcome.done == 1);
    assert_int_equal(outcome.err.code, ERROR_LIMIT);
    outcome_release(&outcome);
    start(&world, &outcome, "/a", (struct transfer_request){.body_bytes_max = 5});
    RUN_UNTIL(world.loop, outcome.done == 1);
    assert_int_equal(outcome.status, 200);
    outcome_release(&outcome);
    world_close(&world);
}

static void check_streamed(size_t receive_bytes) {
    struct world world;
    struct outcome outcome = {0};
    world_open(&world);
    start(&world, &outcome, "/stream", (struct transfer_request){.on_data = on_data, .receive_bytes = receive_bytes});
    RUN_UNTIL(world.loop, world.held != NULL);
    (void)http_stream_write(world.held, "one", 3);
    RUN_UNTIL(world.loop, strcmp(buffer_text(&outcome.streamed), "one") == 0); /* as it comes */
    (void)http_stream_write(world.held, "two", 3);
    RUN_UNTIL(world.loop, strcmp(buffer_text(&outcome.streamed), "onetwo") == 0);
    http_stream_end(world.held);
    RUN_UNTIL(world.loop, outcome.done == 1);
    assert_int_equal(outcome.status, 200);
    assert_string_equal(buffer_text(&outcome.body), "");
    outcome_release(&outcome);
    /* what is not a success is collected */
    start(&world, &outcome, "/missing", (struct transfer_request){.on_data = on_data, .receive_bytes = receive_bytes});
    RUN_UNTIL(world.loop, outcome.done == 1);
    assert_string_equal(buffer_text(&outcome.streamed), "");
    assert_string_equal(buffer_text(&outcome.body), "no such thing");
    outcome_release(&outcome);
    /* a receiver that refuses ends it */
    outcome.refuse_after = 1;
    start(&world, &outcome, "/a", (struct transfer_request){.on_data = on_data, .receive_bytes = receive_bytes});
    RUN_UNTIL(world.loop, outcome.done == 1);
    assert_int_equal(outcome.err.code, ERROR_IO);
    outcome_release(&outcome);
    world_close(&world);
}

static void test_streamed(void **state) {
    (void)state;
    check_streamed(0);
    check_streamed(1 << 17);
}

/* What came in one turn is handed on in one piece, and may be refused then, with more to come. */
static void test_large_pieces(void **state) {
    (void)state;
    enum { BODY_BYTES = 600000, PIECE_BYTES = 1 << 17 };
    struct world world;
    struct outcome outcome = {0};
    world_open(&world);
    cleanup_free char *body = xmalloc(BODY_BYTES);
    for (size_t i = 0; i < BODY_BYTES; i++) {
        body[i] = (char)(i % 251);
    }
    start(&world, &outcome, "/stream", (struct transfer_request){.on_data = on_data, .receive_bytes = PIECE_BYTES});
    RUN_UNTIL(world.loop, world.held != NULL);
    (void)http_stream_write(world.held, body, BODY_BYTES);
    http_stream_end(world.held);
    RUN_UNTIL(world.loop, outcome.done == 1);
    assert_int_equal(outcome.status, 200);
    assert_int_equal(outcome.streamed.len, BODY_BYTES);
    assert_memory_equal(outcome.streamed.data, body, BODY_BYTES);
    assert_true(outcome.pieces < BODY_BYTES / 16384); /* libcurl's own are no larger */
    outcome_release(&outcome);
    world.held = NULL;
    outcome = (struct outcome){.refuse_after = 2};
    start(&world, &outcome, "/stream", (struct transfer_request){.on_data = on_data, .receive_bytes = PIECE_BYTES});
    RUN_UNTIL(world.loop, world.held != NULL);
    for (const char *part = "ab"; *part != '\0'; part++) {
        (void)http_stream_write(world.held, part, 1);
        RUN_UNTIL(world.loop, outcome.streamed.len > 0);
    }
    RUN_UNTIL(world.loop, outcome.done == 1 && world.held == NULL);
    assert_int_equal(outcome.err.code, ERROR_IO);
    assert_string_equal(buffer_text(&outcome.streamed), "ab");
    outcome_release(&outcome);
    world_close(&world);
}

static void test_failures(void **state) {
    (void)state;
    struct world world;
    struct outcome outcome = {0};
    world_open(&world);
    cleanup_free char *nobody = xasprintf("http://user:secret@127.0.0.1:%d/path?token=secret#secret", free_port());
    const char *bad_header[] = {"A: b\r\nC: d", NULL};
    const struct {
        struct transfer_request request;
        const char *path;
        enum error_code code;
    } rows[] = {
        {{.url = nobody}, "", ERROR_UNAVAILABLE},
        {{.timeout_ms = 30}, "/hold?token=secret", ERROR_TIMEOUT},
        {{0}, "/cut?token=secret", ERROR_IO},
        {{.url = "ftp://user:secret@127.0.0.1/?secret"}, "", ERROR_INVALID},
        {{.url = "http://127.0.0.1:99999/?secret"}, "", ERROR_INVALID},
        {{.url = ""}, "", ERROR_INVALID},
        {{.headers = bad_header}, "/a", ERROR_INVALID},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        start(&world, &outcome, rows[i].path, rows[i].request);
        RUN_UNTIL(world.loop, outcome.done == 1);
        assert_int_equal(outcome.err.code, rows[i].code);
        assert_null(strstr(outcome.err.message, "secret"));
        assert_true(strncmp(outcome.err.message, "GET ", 4) == 0);
        outcome_release(&outcome);
    }
    RUN_UNTIL(world.loop, world.gone == 1); /* the one that timed out */
    world_close(&world);
}

static void test_urls_for_people(void **state) {
    (void)state;
    static const char *const rows[][2] = {
        {"https://host/a", "https://host/a"},
        {"https://user:secret@host:1/a@b?secret#secret", "https://host:1/a@b"},
        {"https://secret@host/", "https://host/"},
        {"s3://key:secret@bucket/a", "s3://bucket/a"},
        {"hf://org/repo@v1/a", "hf://org/repo@v1/a"},
        {"hf://gpt2@v1", "hf://gpt2@v1"}, /* a repository without an organisation, at a revision */
        {"huggingface://gpt2@refs/pr/1?secret", "huggingface://gpt2@refs/pr/1"},
        {"hf://user:secret@gpt2@v1", "hf://gpt2@v1"},
        {"hf://hf_secret@org/repo@v1", "hf://org/repo@v1"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        cleanup_free char *found = url_for_people(rows[i][0]);
        assert_string_equal(found, rows[i][1]);
    }
}

static void test_when_to_come_back(void **state) {
    (void)state;
    struct world world;
    struct outcome busy = {0}, other = {0};
    world_open(&world);
    start(&world, &busy, "/busy", (struct transfer_request){0});
    start(&world, &other, "/a", (struct transfer_request){0});
    RUN_UNTIL(world.loop, busy.done == 1 && other.done == 1);
    assert_int_equal(busy.status, 429);
    assert_int_equal(busy.retry_after_ms, 7000);
    assert_int_equal(other.retry_after_ms, 0);
    outcome_release(&busy);
    outcome_release(&other);
    world_close(&world);
}

/* Our own server stands in for the proxy: it is asked for a whole URL. */
static void test_proxy(void **state) {
    (void)state;
    struct world world;
    struct outcome outcome = {0};
    world_open(&world);
    cleanup_free char *proxy = xasprintf("http://127.0.0.1:%d", world.port);
    cleanup_free char *nobody = xasprintf("http://127.0.0.1:%d/x", free_port());
    start(&world, &outcome, "", (struct transfer_request){.url = "http://api.example/x", .proxy_url = proxy});
    RUN_UNTIL(world.loop, outcome.done == 1);
    assert_int_equal(outcome.status, 200);
    assert_int_equal(world.requests, 1);
    outcome_release(&outcome);
    start(&world, &outcome, "", (struct transfer_request){.url = nobody, .proxy_url = proxy}); /* loopback too */
    RUN_UNTIL(world.loop, outcome.done == 1);
    assert_int_equal(outcome.status, 200);
    outcome_release(&outcome);
    world_close(&world);
}

static bool never(void *arg) {
    ++*(int *)arg;
    return false;
}

static void test_the_right_to_send_is_asked_last(void **state) {
    (void)state;
    struct world world;
    struct outcome first = {0}, second = {0};
    int asked = 0;
    world_open(&world);
    start(&world, &first, "/a", (struct transfer_request){0});
    RUN_UNTIL(world.loop, first.done == 1);
    start(&world, &second, "/b", (struct transfer_request){.may_send = never, .may_send_arg = &asked}); /* on a kept connection */
    RUN_UNTIL(world.loop, second.done == 1);
    assert_int_equal(second.err.code, ERROR_DENIED);
    assert_int_equal(asked, 1);
    run_what_is_ready(world.loop);
    assert_int_equal(world.requests, 1);
    outcome_release(&first);
    outcome_release(&second);
    world_close(&world);
}

static int on_head(void *arg, const struct transfer_response *head) {
    struct outcome *outcome = arg;
    cleanup_free char *length = transfer_field(head->fields, "Content-Length");
    assert_int_equal(outcome->pieces, 0);
    assert_int_equal(head->status, 200);
    assert_string_equal(length, "5");
    outcome->heads++;
    return 0;
}

static void test_the_head_of_a_response(void **state) {
    (void)state;
    struct world world;
    struct outcome outcome = {0};
    world_open(&world);
    start(&world, &outcome, "/fields", (struct transfer_request){.wants_fields = true, .on_head = on_head, .on_data = on_data});
    RUN_UNTIL(world.loop, outcome.done == 1);
    assert_int_equal(outcome.heads, 1);
    assert_string_equal(buffer_text(&outcome.streamed), "hello");
    cleanup_free char *first = transfer_field(outcome.fields, "X-ONE");
    assert_string_equal(first, "first");
    assert_null(transfer_field(outcome.fields, "x-on"));
    outcome_release(&outcome);
    start(&world, &outcome, "/fields", (struct transfer_request){0});
    RUN_UNTIL(world.loop, outcome.done == 1);
    assert_string_equal(outcome.fields, "");
    outcome_release(&outcome);
    start(&world, &outcome, "/redirect?a=b", (struct transfer_request){0});
    RUN_UNTIL(world.loop, outcome.done == 1);
    assert_non_null(strstr(outcome.redirect, "/elsewhere"));
    outcome_release(&outcome);
    start(&world, &outcome, "/long-fields", (struct transfer_request){0});
    RUN_UNTIL(world.loop, outcome.done == 1);
    assert_int_equal(outcome.err.code, ERROR_LIMIT);
    outcome_release(&outcome);
    world_close(&world);
}

static void test_silence_ends_it(void **state) {
    (void)state;
    struct world world;
    struct outcome outcome = {0};
    world_open(&world);
    start(&world, &outcome, "/stream", (struct transfer_request){.stall_ms = 60, .on_data = on_data});
    RUN_UNTIL(world.loop, world.held != NULL);
    (void)http_stream_write(world.held, "one", 3);
    RUN_UNTIL(world.loop, outcome.done == 1 && world.gone == 1);
    assert_int_equal(outcome.err.code, ERROR_TIMEOUT);
    assert_non_null(strstr(outcome.err.message, "no byte came for 60 ms"));
    assert_string_equal(buffer_text(&outcome.streamed), "one");
    outcome_release(&outcome);
    start(&world, &outcome, "/a", (struct transfer_request){.stall_ms = 60});
    RUN_UNTIL(world.loop, outcome.done == 1);
    assert_int_equal(outcome.status, 200);
    outcome_release(&outcome);
    world_close(&world);
}

static bool judge(void *arg, const struct sockaddr *address) {
    assert_int_equal(address->sa_family, AF_INET);
    return *(bool *)arg;
}

static void test_addresses_are_judged(void **state) {
    (void)state;
    struct world world;
    struct outcome outcome = {0};
    bool is_fine = false;
    world_open(&world);
    start(&world, &outcome, "/a", (struct transfer_request){.may_connect = judge, .may_connect_arg = &is_fine});
    RUN_UNTIL(world.loop, outcome.done == 1);
    assert_int_equal(outcome.err.code, ERROR_DENIED);
    assert_non_null(strstr(outcome.err.message, "/a: the address 127.0.0.1 is not allowed"));
    assert_int_equal(world.requests, 0);
    outcome_release(&outcome);
    is_fine = true;
    start(&world, &outcome, "/a", (struct transfer_request){.may_connect = judge, .may_connect_arg = &is_fine});
    RUN_UNTIL(world.loop, outcome.done == 1);
    assert_int_equal(outcome.status, 200);
    outcome_release(&outcome);
    world_close(&world);
}

static void check_cancel(size_t receive_bytes) {
    struct world world;
    struct outcome outcome = {0};
    world_open(&world);
    /* before it began */
    start(&world, &outcome, "/a", (struct transfer_request){0});
    transfer_cancel(outcome.transfer);
    run_what_is_ready(world.loop);
    assert_int_equal(world.requests, 0);
    /* while it waits */
    start(&world, &outcome, "/hold", (struct transfer_request){0});
    RUN_UNTIL(world.loop, world.held != NULL);
    transfer_cancel(outcome.transfer);
    RUN_UNTIL(world.loop, world.gone == 1);
    /* from its own on_data */
    outcome.cancels_itself = true;
    start(&world, &outcome, "/stream", (struct transfer_request){.on_data = on_data, .receive_bytes = receive_bytes});
    RUN_UNTIL(world.loop, world.held != NULL);
    (void)http_stream_write(world.held, "one", 3);
    RUN_UNTIL(world.loop, world.gone == 2);
    assert_int_equal(outcome.pieces, 1);
    assert_int_equal(outcome.done, 0);
    outcome_release(&outcome);
    world_close(&world);
}

static void test_cancel(void **state) {
    (void)state;
    check_cancel(0);
    check_cancel(1 << 17);
}

static void check_callbacks_that_act_on_others(size_t receive_bytes) {
    struct world world;
    struct outcome first = {0};
    struct outcome second = {0};
    world_open(&world);
    /* on_done cancels another */
    first.other = &second;
    start(&world, &second, "/hold", (struct transfer_request){0});
    RUN_UNTIL(world.loop, world.held != NULL);
    start(&world, &first, "/a", (struct transfer_request){0});
    RUN_UNTIL(world.loop, first.done == 1 && world.gone == 1);
    assert_int_equal(second.done, 0);
    outcome_release(&first);
    /* on_data cancels another */
    start(&world, &second, "/hold", (struct transfer_request){0});
    RUN_UNTIL(world.loop, world.held != NULL);
    first.other = &second;
    start(&world, &first, "/a", (struct transfer_request){.on_data = on_data, .receive_bytes = receive_bytes});
    RUN_UNTIL(world.loop, first.done == 1 && world.gone == 2);
    assert_int_equal(second.done, 0);
    outcome_release(&first);
    /* on_done starts another */
    first.other = &second;
    first.starts_other = true;
    start(&world, &first, "/a", (struct transfer_request){0});
    RUN_UNTIL(world.loop, second.done == 1);
    assert_int_equal(second.status, 200);
    outcome_release(&first);
    outcome_release(&second);
    world_close(&world);
}

static void test_callbacks_that_act_on_others(void **state) {
    (void)state;
    check_callbacks_that_act_on_others(0);
    check_callbacks_that_act_on_others(1 << 17);
}

static void test_free_cancels(void **state) {
    (void)state;
    struct world world;
    struct outcome outcomes[3] = {{0}};
    world_open(&world);
    start(&world, &outcomes[0], "/hold", (struct transfer_request){0});
    RUN_UNTIL(world.loop, world.held != NULL);
    start(&world, &outcomes[1], "/hold", (struct transfer_request){0});
    (void)event_base_loop(loop_event_base(world.loop), EVLOOP_NONBLOCK);
    start(&world, &outcomes[2], "/a", (struct transfer_request){0});
    world_close(&world);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(outcomes[i].done, 0);
    }
}

static void test_many_at_once(void **state) {
    (void)state;
    struct world world;
    struct outcome outcomes[200] = {{0}};
    world_open(&world);
    for (size_t i = 0; i < ARRAY_LEN(outcomes); i++) {
        start(&world, &outcomes[i], "/a", (struct transfer_request){0});
    }
    for (size_t i = 0; i < ARRAY_LEN(outcomes); i++) {
        RUN_UNTIL(world.loop, outcomes[i].done == 1);
        assert_int_equal(outcomes[i].status, 200);
        outcome_release(&outcomes[i]);
    }
    world_close(&world);
}

int main(void) {
    (void)setenv("http_proxy", "http://127.0.0.1:1", 1); /* must not matter for loopback */
    (void)setenv("no_proxy", "example.com", 1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_collected),
        cmocka_unit_test(test_large_bodies),
        cmocka_unit_test(test_streamed),
        cmocka_unit_test(test_large_pieces),
        cmocka_unit_test(test_failures),
        cmocka_unit_test(test_urls_for_people),
        cmocka_unit_test(test_when_to_come_back),
        cmocka_unit_test(test_proxy),
        cmocka_unit_test(test_the_right_to_send_is_asked_last),
        cmocka_unit_test(test_the_head_of_a_response),
        cmocka_unit_test(test_silence_ends_it),
        cmocka_unit_test(test_addresses_are_judged),
        cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_callbacks_that_act_on_others),
        cmocka_unit_test(test_free_cancels),
        cmocka_unit_test(test_many_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
