/* The gateway's data path against real engines (small HTTP servers) and raw clients, all on loopback: what streams, what is tried
 * again, what is cancelled, what is held back and what is refused. */
#include "gateway/worker.h"

#include "base/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "http_peer.h"

#define ENGINES 3
#define FLOOD_BYTES (64L * 1024 * 1024)

/* ---- engines ---- */

enum behaviour {
    ECHO,        /* tells what it was asked */
    SSE_BY_HAND, /* events when the test says so */
    FLOOD,       /* FLOOD_BYTES as fast as they go */
    BUSY,        /* 503 */
    STALE,       /* 404 as vLLM says it of an unknown model */
    STALE_SGLANG,
    NEVER_LOADED_SGLANG,
    STALE_IN_STREAM,  /* 200, and the refusal as the first event */
    OTHER_IN_STREAM,  /* another refusal there */
    QUOTED_IN_STREAM, /* generated text that reads like one */
    OTHER_400,
    NAMED,        /* an engine that knows the model as `known_as`, and answers under that name */
    NAMED_EVENTS, /* the same as server-sent events */
    OTHER_404,
    FAILS,        /* 500 */
    CUT_AT_ONCE,  /* closes without a head */
    CUT_IN_PLAIN, /* closes in the middle of a plain body */
    CUT_IN_SSE,   /* closes in the middle of an event */
    HANGS,
    REFUSES, /* nobody listens on its port */
};

struct engine {
    struct http_server *server;
    int port;
    enum behaviour behaviour;
    atomic_int hits;
    atomic_int gone;
    atomic_long written;
    struct http_request *request; /* that waits */
    const char *known_as;
};

struct house {
    struct loop_thread loop;
    struct gateway_metrics metrics;
    struct worker worker;
    int port;
    struct engine engines[ENGINES];
};

static struct house house;

static void forget_request(void *arg) {
    struct engine *engine = arg;
    engine->request = NULL;
    atomic_fetch_add(&engine->gone, 1);
}

static void flood(void *arg) {
    static char zeros[64 * 1024];
    struct engine *engine = arg;
    enum http_stream_state state = HTTP_STREAM_OK;
    while (state == HTTP_STREAM_OK && atomic_load(&engine->written) < FLOOD_BYTES) {
        atomic_fetch_add(&engine->written, (long)sizeof(zeros));
        state = http_stream_write(engine->request, zeros, sizeof(zeros));
    }
    if (state == HTTP_STREAM_OK) {
        http_stream_end(engine->request);
        engine->request = NULL;
    }
}

static void echo(struct engine *engine, struct http_request *request) {
    size_t len = 0;
    const char *body = http_request_body(request, &len);
    const struct http_fields *fields = &http_request_head(request)->fields;
    static const char *const shown[] = {"Authorization", "X-Request-Id", "X-Secret", "Transfer-Encoding", "Content-Length", "Host"};
    cleanup_buffer struct buffer text = BUFFER_INIT;
    buffer_printf(&text, "{\"engine\":%d,\"target\":\"%s\"", (int)(engine - house.engines), http_request_head(request)->target);
    for (size_t i = 0; i < ARRAY_LEN(shown); i++) {
        const char *value = http_fields_get(fields, shown[i]);
        buffer_printf(&text, ",\"%s\":\"%s\"", shown[i], value != NULL ? value : "-");
    }
    buffer_append_text(&text, ",\"body\":");
    json_append_string(&text, body, len);
    buffer_append_char(&text, '}');
    http_reply_field(request, "X-Engine", "yes");
    http_reply(request, 200, "application/json", text.data, text.len);
}

static void reply_text(struct http_request *request, int status, const char *text) {
    http_reply(request, status, "application/json", text, strlen(text));
}

static void reply_stale(struct http_request *request) {
    reply_text(
        request, 404,
        "{\"error\":{\"message\":\"The model `m` does not exist.\",\"type\":\"NotFoundError\",\"param\":\"model\",\"code\":404}}");
}

/* In pieces that end anywhere. */
static void answer_stream(struct http_request *request, const char *events) {
    size_t len = strlen(events);
    http_stream_begin(request, 200, "text/event-stream; charset=utf-8");
    for (size_t at = 0; at < len; at += 7) {
        (void)http_stream_write(request, events + at, len - at < 7 ? len - at : 7);
    }
    http_stream_end(request);
}

/* What is not its business: "model" elsewhere in the answer stays as it is. */
static void answer_named(struct engine *engine, struct http_request *request) {
    size_t len = 0;
    const char *body = http_request_body(request, &len);
    cleanup_json json_t *asked = json_parse(body, len, NULL);
    if (strcmp(json_string_at(asked, "model", ""), engine->known_as) != 0) {
        reply_stale(request);
        return;
    }
    cleanup_buffer struct buffer text = BUFFER_INIT;
    const char *length = http_fields_get(&http_request_head(request)->fields, "Content-Length");
    const char *encoding = http_fields_get(&http_request_head(request)->fields, "Accept-Encoding");
    buffer_printf(&text,
                  "{\"length\":%s, \"model\" : \"%s\",\"encoding\":\"%s\",\"choices\":[{\"model\":\"%s\"}],\"body\":", length,
                  engine->known_as, encoding != NULL ? encoding : "-", engine->known_as);
    json_append_string(&text, body, len);
    buffer_append_char(&text, '}');
    if (engine->behaviour == NAMED) {
        http_reply(request, 200, "application/json", text.data, text.len);
        return;
    }
    cleanup_free char *events =
        xasprintf("data: %s\n\ndata: {\"n\":2,\"model\":\"%s\"}\n\ndata: [DONE]\n\n", text.data, engine->known_as);
    answer_stream(request, events);
}

#define NOT_LOADED "The following requested LoRA adapters are not loaded: m"

static const char *const streams[] = {
    [STALE_IN_STREAM] = ": hello\r\n\r\ndata: {\"error\":{\"object\":\"error\",\"message\":\"" NOT_LOADED
                        "\",\"type\":\"BadRequestError\",\"param\":null,\"code\":400}}\r\n\r\ndata: [DONE]\r\n\r\n",
    [OTHER_IN_STREAM] = "data: {\"error\":{\"message\":\"out of memory\"}}\n\ndata: [DONE]\n\n",
    [QUOTED_IN_STREAM] = "data: {\"message\":\"" NOT_LOADED "\"}\n\ndata: {\"error\":\"" NOT_LOADED "\"}\n\n",
};

static void engine_on_request(void *arg, struct http_request *request) {
    static const char events[] = "data: {\"n\":1}\n\ndata: {\"n\":2}\n\ndata: {\"cut";
    struct engine *engine = arg;
    atomic_fetch_add(&engine->hits, 1);
    switch (engine->behaviour) {
    case ECHO:
    case REFUSES:
        echo(engine, request);
        return;
    case BUSY:
        reply_text(request, 503, "{\"error\":{\"message\":\"busy\"}}");
        return;
    case STALE:
        reply_stale(request);
        return;
    case STALE_SGLANG:
        reply_text(request, 400,
                   "{\"object\":\"error\",\"message\":\"The following requested LoRA adapters are not loaded: m\\nLoaded adapters: "
                   "dict_keys([]).\",\"type\":\"BadRequestError\",\"param\":null,\"code\":400}");
        return;
    case NEVER_LOADED_SGLANG:
        reply_text(request, 400,
                   "{\"object\":\"error\",\"message\":\"Got LoRA adapter that has never been loaded: m\\nAll loaded adapters: "
                   "dict_keys([]).\",\"type\":\"BadRequestError\",\"param\":null,\"code\":400}");
        return;
    case STALE_IN_STREAM:
    case OTHER_IN_STREAM:
    case QUOTED_IN_STREAM:
        answer_stream(request, streams[engine->behaviour]);
        return;
    case OTHER_400:
        reply_text(request, 400, "{\"error\":{\"message\":\"max_tokens must be at least 1\"}}");
        return;
    case NAMED:
    case NAMED_EVENTS:
        answer_named(engine, request);
        return;
    case OTHER_404:
        reply_text(request, 404, "{\"detail\":\"Not Found\"}");
        return;
    case FAILS:
        reply_text(request, 500, "{\"error\":{\"message\":\"broken\"}}");
        return;
    case CUT_AT_ONCE:
        http_stream_abort(request);
        return;
    case CUT_IN_PLAIN:
        http_stream_begin(request, 200, "application/json");
        (void)http_stream_write(request, "{\"half\":", 8);
        http_stream_abort(request);
        return;
    case CUT_IN_SSE:
        http_stream_begin(request, 200, "text/event-stream; charset=utf-8");
        (void)http_stream_write(request, events, sizeof(events) - 1);
        http_stream_abort(request);
        return;
    case SSE_BY_HAND:
        http_stream_begin(request, 200, "text/event-stream; charset=utf-8");
        break;
    case FLOOD:
        http_stream_begin(request, 200, "application/octet-stream");
        http_stream_on_drained(request, flood, engine);
        break;
    case HANGS:
        break;
    }
    engine->request = request;
    http_request_on_gone(request, forget_request, engine);
    if (engine->behaviour == FLOOD) {
        flood(engine);
    }
}

/* ---- the house ---- */

struct route_plan {
    const char *name;
    const char *parent; /* NULL = a base model */
    bool is_sglang;
    const char *engine_names[ENGINES];
};

static void set_route(void *arg) {
    const struct route_plan *plan = arg;
    struct route_model *model = route_model_new(plan->name, ENGINES);
    model->is_adapter = plan->parent != NULL;
    model->root = xstrdup("/root");
    model->parent = plan->parent != NULL ? xstrdup(plan->parent) : NULL;
    for (unsigned i = 0; i < ENGINES && house.engines[i].port != 0; i++) {
        struct route_endpoint *endpoint = route_endpoint_new(NULL);
        endpoint->host = xstrdup("127.0.0.1");
        endpoint->port = house.engines[i].port;
        endpoint->pod = xasprintf("pod-%u", i);
        endpoint->base = xstrdup(plan->parent != NULL ? plan->parent : plan->name);
        endpoint->is_sglang = plan->is_sglang;
        route_model_add(model, endpoint, plan->engine_names[i]);
    }
    struct route_model **models = xcalloc(1, sizeof(struct route_model *));
    models[0] = model;
    worker_swap_snapshot(&house.worker, route_snapshot_new(models, 1));
}

/* A gateway and one engine for each behaviour; they answer model "m". */
static void build(size_t count, const enum behaviour *behaviours, const char *parent) {
    struct error err = {0};
    memset(&house, 0, sizeof(house));
    house.loop.loop = loop_new();
    gateway_metrics_init(&house.metrics);
    worker_init(&house.worker, &(struct worker_options){.loop = house.loop.loop, .metrics = &house.metrics});
    assert_int_equal(worker_listen(&house.worker, "127.0.0.1", 0, &house.port, &err), 0);
    for (size_t i = 0; i < count; i++) {
        struct engine *engine = &house.engines[i];
        engine->behaviour = behaviours[i];
        if (behaviours[i] == REFUSES) {
            engine->port = closed_port();
            continue;
        }
        engine->server = http_server_new(&(struct http_server_options){.loop = house.loop.loop,
                                                                       .body_bytes_max = GATEWAY_BODY_BYTES_MAX,
                                                                       .connections_max = 100,
                                                                       .on_request = engine_on_request,
                                                                       .arg = engine});
        assert_int_equal(http_server_listen(engine->server, "127.0.0.1", 0, &engine->port, &err), 0);
    }
    set_route(&(struct route_plan){.name = "m", .parent = parent});
    loop_thread_start(&house.loop);
}

static void clear(void) {
    loop_thread_stop(&house.loop);
    worker_release(&house.worker);
    for (size_t i = 0; i < ENGINES; i++) {
        if (house.engines[i].server != NULL) {
            http_server_free(house.engines[i].server);
        }
    }
    gateway_metrics_release(&house.metrics);
    loop_free(house.loop.loop);
}

static const char *const good_body = "{\"prompt\":\"hi\",\"model\":\"m\"}";

static int ask(struct buffer *body) {
    return exchange(house.port, "/v1/completions", "", good_body, body);
}

static bool metrics_hold(const char *line) {
    struct buffer page = BUFFER_INIT;
    assert_int_equal(exchange(house.port, "/metrics", "", NULL, &page), 200);
    bool found = strstr(buffer_text(&page), line) != NULL;
    buffer_release(&page);
    return found;
}

/* ---- passing on ---- */

static void test_passes_a_request_on(void **state) {
    (void)state;
    build(1, (enum behaviour[]){ECHO}, NULL);
    struct client client;
    cleanup_buffer struct buffer body = BUFFER_INIT;
    client_open(&client, house.port);
    client_post(&client, "/v1/chat/completions?x=%20y",
                "Authorization: Bearer key\r\nX-Secret: drop\r\nConnection: X-Secret\r\nX-Request-Id: mine\r\n", good_body);
    assert_int_equal(client_read_head(&client), 200);
    assert_string_equal(http_fields_get(&client.head.fields, "X-Request-Id"), "mine");
    assert_string_equal(http_fields_get(&client.head.fields, "X-Engine"), "yes");
    assert_string_equal(http_fields_get(&client.head.fields, "target-pod"), "pod-0");
    assert_string_equal(http_fields_get(&client.head.fields, "Content-Type"), "application/json");
    assert_int_equal(client_read_body(&client, &body), 1);
    cleanup_json json_t *told = json_parse(body.data, body.len, NULL);
    assert_string_equal(json_string_at(told, "target", ""), "/v1/chat/completions?x=%20y");
    assert_string_equal(json_string_at(told, "Authorization", ""), "Bearer key");
    assert_string_equal(json_string_at(told, "X-Request-Id", ""), "mine");
    assert_string_equal(json_string_at(told, "X-Secret", ""), "-");
    assert_string_equal(json_string_at(told, "Transfer-Encoding", ""), "-");
    assert_string_equal(json_string_at(told, "body", ""), good_body);
    client_close(&client);
    /* Without an id one is made, and both sides see the same. */
    client_open(&client, house.port);
    client_post(&client, "/v1/completions", "", good_body);
    assert_int_equal(client_read_head(&client), 200);
    char *id = xstrdup(http_fields_get(&client.head.fields, "X-Request-Id"));
    assert_int_equal(strlen(id), 36);
    buffer_clear(&body);
    assert_int_equal(client_read_body(&client, &body), 1);
    assert_non_null(strstr(body.data, id));
    free(id);
    client_close(&client);
    assert_true(metrics_hold("davit_gateway_requests_total{model=\"m\",code=\"200\"} 2"));
    assert_true(metrics_hold("davit_gateway_in_flight 0"));
    clear();
}

static void test_a_large_body_and_keep_alive(void **state) {
    (void)state;
    build(1, (enum behaviour[]){ECHO}, NULL);
    size_t len = 8 * 1024 * 1024;
    char *big = xmalloc(len + 1);
    memset(big, 'a', len);
    memcpy(big, "{\"prompt\":\"", 11);
    memcpy(big + len - 15, "\",\"model\" :\"m\"}", 15);
    big[len] = '\0';
    cleanup_buffer struct buffer body = BUFFER_INIT;
    struct client client;
    client_open(&client, house.port);
    for (int i = 0; i < 2; i++) {
        client_post(&client, "/v1/completions", "", i == 0 ? big : good_body);
        assert_int_equal(client_read_head(&client), 200);
        buffer_clear(&body);
        assert_int_equal(client_read_body(&client, &body), 1);
        assert_true(i != 0 || body.len > len);
    }
    client_close(&client);
    free(big);
    clear();
}

static void write_event(void *arg) {
    struct engine *engine = &house.engines[0];
    const char *text = arg;
    if (text != NULL) {
        (void)http_stream_write(engine->request, text, strlen(text));
    } else {
        http_stream_end(engine->request);
        engine->request = NULL;
    }
}

static void engine_says(const char *text) {
    char *copy = text != NULL ? xstrdup(text) : NULL;
    loop_thread_do(&house.loop, write_event, copy);
    free(copy);
}

static void test_streams_event_by_event(void **state) {
    (void)state;
    build(1, (enum behaviour[]){SSE_BY_HAND}, NULL);
    cleanup_buffer struct buffer body = BUFFER_INIT;
    struct client client;
    client_open(&client, house.port);
    client_post(&client, "/v1/completions", "", "{\"model\":\"m\",\"stream\":true}");
    assert_int_equal(client_read_head(&client), 200); /* before the first event */
    assert_string_equal(http_fields_get(&client.head.fields, "Content-Type"), "text/event-stream; charset=utf-8");
    static const char *const events[] = {"data: one\n\n", "data: two\n\n", ": comment\r\n\r\n", "data: three\n\ndata: four\n\n"};
    for (size_t i = 0; i < ARRAY_LEN(events); i++) {
        engine_says(events[i]);
        client_read_until(&client, &body, events[i]); /* each arrives before the next is written */
    }
    engine_says("data: fi");
    engine_says("ve\n");
    engine_says("\n");
    client_read_until(&client, &body, "data: five\n\n");
    engine_says("data: [DONE]\n\n");
    engine_says(NULL);
    assert_int_equal(client_read_body(&client, &body), 1);
    assert_string_equal(body.data,
                        "data: one\n\ndata: two\n\n: comment\r\n\r\ndata: three\n\ndata: four\n\ndata: five\n\ndata: [DONE]\n\n");
    client_close(&client);
    clear();
}

/* ---- trying again ---- */

static void test_tries_again_before_the_first_byte(void **state) {
    (void)state;
    static const enum behaviour bad[] = {REFUSES, BUSY, CUT_AT_ONCE, STALE, STALE_SGLANG, NEVER_LOADED_SGLANG};
    cleanup_buffer struct buffer body = BUFFER_INIT;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        build(2, (enum behaviour[]){bad[i], ECHO}, "base");
        for (int j = 0; j < 6; j++) {
            assert_int_equal(ask(&body), 200);
            assert_non_null(strstr(body.data, "\"engine\":1"));
        }
        assert_int_equal(atomic_load(&house.engines[1].hits), 6);
        assert_true(bad[i] == REFUSES || atomic_load(&house.engines[0].hits) > 0);
        assert_true(metrics_hold("davit_gateway_retries_total{reason=\""));
        clear();
    }
}

static void test_three_tries_at_most_and_each_endpoint_once(void **state) {
    (void)state;
    cleanup_buffer struct buffer body = BUFFER_INIT;
    build(3, (enum behaviour[]){BUSY, BUSY, BUSY}, NULL);
    assert_int_equal(ask(&body), 503);
    assert_string_equal(body.data, "{\"error\":{\"message\":\"busy\"}}"); /* the engine's own words */
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(atomic_load(&house.engines[i].hits), 1);
    }
    clear();
    build(2, (enum behaviour[]){REFUSES, CUT_AT_ONCE}, NULL);
    assert_int_equal(ask(&body), 503);
    cleanup_json json_t *told = json_parse(body.data, body.len, NULL);
    assert_string_equal(json_string_at(told, "error.type", ""), "overloaded_error");
    assert_string_equal(json_string_at(told, "error.code", ""), "service_unavailable");
    clear();
    build(2, (enum behaviour[]){STALE, STALE}, "base");
    assert_int_equal(ask(&body), 503);
    assert_non_null(strstr(body.data, "none of the endpoints asked has it loaded"));
    clear();
}

static void test_no_second_try_for_answers(void **state) {
    (void)state;
    static const struct {
        enum behaviour behaviour;
        const char *parent;
        int status;
    } rows[] = {
        {FAILS, "base", 500}, {OTHER_404, "base", 404},  {OTHER_400, "base", 400},
        {STALE, NULL, 404},   {STALE_SGLANG, NULL, 400}, /* of a base model it is the engine's answer */
    };
    cleanup_buffer struct buffer body = BUFFER_INIT;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        build(2, (enum behaviour[]){rows[i].behaviour, rows[i].behaviour}, rows[i].parent);
        assert_int_equal(ask(&body), rows[i].status);
        assert_int_equal(atomic_load(&house.engines[0].hits) + atomic_load(&house.engines[1].hits), 1);
        clear();
    }
}

static void test_no_second_try_after_the_first_byte(void **state) {
    (void)state;
    cleanup_buffer struct buffer body = BUFFER_INIT;
    struct client client;
    build(2, (enum behaviour[]){CUT_IN_PLAIN, CUT_IN_PLAIN}, NULL);
    client_open(&client, house.port);
    client_post(&client, "/v1/completions", "", good_body);
    assert_int_equal(client_read_head(&client), 200);
    assert_int_equal(client_read_body(&client, &body), -1); /* visibly cut */
    client_close(&client);
    assert_int_equal(atomic_load(&house.engines[0].hits) + atomic_load(&house.engines[1].hits), 1);
    assert_true(metrics_hold("davit_gateway_cut_responses_total 1"));
    clear();
    /* Server-sent events end with one that says so; the half event is not shown. */
    build(2, (enum behaviour[]){CUT_IN_SSE, CUT_IN_SSE}, NULL);
    assert_int_equal(exchange(house.port, "/v1/completions", "", "{\"model\":\"m\",\"stream\":true}", &body), 200);
    assert_string_equal(
        body.data, "data: {\"n\":1}\n\ndata: {\"n\":2}\n\n"
                   "data: {\"error\":{\"message\":\"the engine went away before its answer was complete\",\"type\":\"api_error\","
                   "\"param\":null,\"code\":\"upstream_cut\"}}\n\n");
    assert_int_equal(atomic_load(&house.engines[0].hits) + atomic_load(&house.engines[1].hits), 1);
    clear();
}

static void test_spreads_by_what_is_under_way(void **state) {
    (void)state;
    build(2, (enum behaviour[]){HANGS, ECHO}, NULL);
    cleanup_buffer struct buffer body = BUFFER_INIT;
    struct client client;
    /* The first request hangs at engine 0; from then on all go to engine 1. */
    client_open(&client, house.port);
    client_post(&client, "/v1/completions", "", good_body);
    wait_until(atomic_load(&house.engines[0].hits) == 1);
    for (int i = 0; i < 10; i++) {
        assert_int_equal(ask(&body), 200);
    }
    assert_int_equal(atomic_load(&house.engines[0].hits), 1);
    client_close(&client);
    clear();
}

/* ---- clients that leave, and slow ones ---- */

static void test_a_client_that_leaves_cancels(void **state) {
    (void)state;
    static const enum behaviour behaviours[] = {HANGS, SSE_BY_HAND};
    for (size_t i = 0; i < ARRAY_LEN(behaviours); i++) {
        build(1, &behaviours[i], NULL);
        struct client client;
        client_open(&client, house.port);
        client_post(&client, "/v1/completions", "", good_body);
        wait_until(atomic_load(&house.engines[0].hits) == 1);
        assert_int_equal(atomic_load(&house.engines[0].gone), 0);
        client_close(&client);
        wait_until(atomic_load(&house.engines[0].gone) == 1);
        wait_until(metrics_hold("davit_gateway_requests_total{model=\"m\",code=\"499\"} 1"));
        assert_true(metrics_hold("davit_gateway_in_flight 0"));
        clear();
    }
}

static void test_a_slow_client_is_not_buffered_for(void **state) {
    (void)state;
    build(1, (enum behaviour[]){FLOOD}, NULL);
    struct engine *engine = &house.engines[0];
    cleanup_buffer struct buffer body = BUFFER_INIT;
    struct client client;
    client_open(&client, house.port);
    client_post(&client, "/v1/completions", "", good_body);
    /* Nobody reads: the engine comes to a halt when the buffers between are full. */
    long before = -1;
    for (int quiet = 0; quiet < 100;) {
        long now = atomic_load(&engine->written);
        quiet = now == before && now > 0 ? quiet + 1 : 0;
        before = now;
        usleep(5000);
    }
    print_message("a client that does not read: the engine halted after %ld KiB of %ld\n", before / 1024, FLOOD_BYTES / 1024);
    assert_true(before < FLOOD_BYTES / 2);
    /* It reads: everything comes. */
    assert_int_equal(client_read_head(&client), 200);
    size_t total = 0;
    int step;
    do {
        buffer_clear(&body);
        step = client_read_body_some(&client, &body);
        total += body.len;
    } while (step == 0);
    assert_int_equal(step, 1);
    assert_int_equal(total, FLOOD_BYTES);
    client_close(&client);
    /* A client that leaves while the engine is held back. */
    atomic_store(&engine->written, 0);
    client_open(&client, house.port);
    client_post(&client, "/v1/completions", "", good_body);
    wait_until(atomic_load(&engine->written) > 0);
    client_close(&client);
    wait_until(atomic_load(&engine->gone) == 1);
    clear();
}

/* ---- refusals ---- */

static void expect_refusal(const char *path, const char *request_body, int status, const char *part) {
    cleanup_buffer struct buffer body = BUFFER_INIT;
    assert_int_equal(exchange(house.port, path, "", request_body, &body), status);
    if (strstr(buffer_text(&body), part) == NULL) {
        fail_msg("%s: %s lacks %s", path, body.data, part);
    }
    cleanup_json json_t *told = json_parse(body.data, body.len, NULL);
    assert_non_null(json_at(told, "error.message"));
}

static void no_endpoints(void *arg) {
    (void)arg;
    house.engines[0].port = 0;
    set_route(&(struct route_plan){.name = "m"});
}

static void test_refusals(void **state) {
    (void)state;
    build(1, (enum behaviour[]){ECHO}, NULL);
    expect_refusal("/v1/completions", "{\"model\":\"nope\"}", 400,
                   "{\"error\":{\"message\":\"model nope does not "
                   "exist\",\"type\":\"invalid_request_error\",\"param\":\"model\",\"code\":\"model_not_found\"}}");
    expect_refusal("/v1/completions", "{\"prompt\":\"x\"}", 400, "'model' is a required property");
    expect_refusal("/v1/completions", "{\"prompt\":\"x\",\"model\":\"\"}", 400, "'model' is a required property");
    expect_refusal("/v1/completions", "{\"model\": ", 400,
                   "error processing request body: the JSON is cut off: it ends at byte 10 (a value was expected)");
    expect_refusal("/v1/completions", "{\"model\":\"m\",\"mod\\u0065l\":\"m\"}", 400, "given twice");
    expect_refusal("/v1/completions", "", 400, "error processing request body");
    expect_refusal("/v1/load_lora_adapter", good_body, 404, "unknown request path");
    expect_refusal("/v1/unload_lora_adapter", good_body, 404, "unknown request path");
    expect_refusal("/v1/%6coad_lora_adapter", good_body, 404, "unknown request path");
    expect_refusal("/v1/load_lora_adapter/", good_body, 404, "unknown request path");
    expect_refusal("/v1//load_lora_adapter", good_body, 404, "unknown request path");
    expect_refusal("/tokenize", good_body, 404, "unknown request path /tokenize: those of the API begin with /v1/");
    expect_refusal("/v1/completions", NULL, 405, "method not allowed");
    expect_refusal("/v1/models", good_body, 405, "method not allowed: use GET");
    expect_refusal("/v1/models/m", good_body, 405, "method not allowed: use GET");
    expect_refusal("/v1/models/nope", NULL, 404, "model nope does not exist");
    assert_int_equal(atomic_load(&house.engines[0].hits), 0);
    assert_true(metrics_hold("davit_gateway_requests_total{model=\"unknown\",code=\"400\"}"));
    loop_thread_do(&house.loop, no_endpoints, NULL);
    expect_refusal("/v1/completions", good_body, 503, "error on getting pods for model m");
    clear();
}

static void test_forms_are_told_from_bad_json(void **state) {
    (void)state;
    build(1, (enum behaviour[]){ECHO}, NULL);
    static const char form[] =
        "POST /v1/audio/transcriptions HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\n"
        "Content-Length: 5\r\n\r\n--b--";
    cleanup_buffer struct buffer body = BUFFER_INIT;
    struct client client;
    client_open(&client, house.port);
    client_send(&client, form, sizeof(form) - 1);
    assert_int_equal(client_read_head(&client), 400);
    assert_int_equal(client_read_body(&client, &body), 1);
    assert_non_null(strstr(body.data, "it is a form (multipart); only JSON is routed"));
    client_close(&client);
    clear();
}

static void test_a_path_that_the_engine_does_not_serve(void **state) {
    (void)state;
    static const char *const parents[] = {NULL, "base"};
    for (size_t i = 0; i < ARRAY_LEN(parents); i++) {
        build(2, (enum behaviour[]){OTHER_404, OTHER_404}, parents[i]);
        expect_refusal(
            "/v1/chat/completion", good_body, 404,
            "{\"error\":{\"message\":\"unknown request path /v1/chat/completion: the engine of model m does not serve it\"");
        assert_int_equal(atomic_load(&house.engines[0].hits) + atomic_load(&house.engines[1].hits), 1);
        clear();
    }
}

/* Before any of it is sent, and in the client's dialect. */
static void test_a_body_that_is_too_large_is_refused_by_its_length(void **state) {
    (void)state;
    build(1, (enum behaviour[]){ECHO}, NULL);
    cleanup_buffer struct buffer body = BUFFER_INIT;
    cleanup_free char *head =
        xasprintf("POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", GATEWAY_BODY_BYTES_MAX + 1);
    struct client client;
    client_open(&client, house.port);
    client_send(&client, head, strlen(head));
    assert_int_equal(client_read_head(&client), 413);
    assert_int_equal(client_read_body(&client, &body), 1);
    assert_string_equal(
        body.data, "{\"error\":{\"message\":\"the request body is larger than 33554432 bytes\",\"type\":\"invalid_request_error\","
                   "\"param\":null,\"code\":null}}");
    client_close(&client);
    clear();
}

static void test_head_is_answered_like_get(void **state) {
    (void)state;
    static const char *const paths[] = {"/healthz", "/readyz", "/v1/models", "/v1/models/m"};
    build(1, (enum behaviour[]){ECHO}, NULL);
    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        cleanup_free char *head = xasprintf("HEAD %s HTTP/1.1\r\nHost: x\r\n\r\n", paths[i]);
        struct client client;
        client_open(&client, house.port);
        client_send(&client, head, strlen(head));
        assert_int_equal(client_read_head(&client), 200);
        client_close(&client);
    }
    clear();
}

static void test_pages(void **state) {
    (void)state;
    build(1, (enum behaviour[]){ECHO}, "base");
    cleanup_buffer struct buffer body = BUFFER_INIT;
    assert_int_equal(exchange(house.port, "/healthz", "", NULL, &body), 200);
    assert_int_equal(exchange(house.port, "/readyz", "", NULL, &body), 200);
    assert_int_equal(exchange(house.port, "/v1/models", "", NULL, &body), 200);
    assert_string_equal(body.data, "{\"object\":\"list\",\"data\":[{\"id\":\"m\",\"object\":\"model\",\"created\":0,\"owned_by\":"
                                   "\"davit\",\"root\":\"/root\",\"parent\":\"base\"}]}");
    assert_int_equal(exchange(house.port, "/v1/models/m", "", NULL, &body), 200);
    clear();
}

static void clear_routes(void *arg) {
    (void)arg;
    worker_swap_snapshot(&house.worker, NULL);
}

static void stop_being_ready(void *arg) {
    (void)arg;
    worker_stop_being_ready(&house.worker);
}

static void test_not_ready(void **state) {
    (void)state;
    build(1, (enum behaviour[]){ECHO}, NULL);
    cleanup_buffer struct buffer body = BUFFER_INIT;
    loop_thread_do(&house.loop, clear_routes, NULL);
    assert_int_equal(exchange(house.port, "/readyz", "", NULL, &body), 503);
    assert_int_equal(exchange(house.port, "/v1/models", "", NULL, &body), 503);
    assert_int_equal(ask(&body), 503);
    assert_int_equal(exchange(house.port, "/healthz", "", NULL, &body), 200);
    loop_thread_do(&house.loop, set_route, &(struct route_plan){.name = "m"});
    assert_int_equal(ask(&body), 200);
    loop_thread_do(&house.loop, stop_being_ready, NULL);
    assert_int_equal(exchange(house.port, "/readyz", "", NULL, &body), 503);
    assert_int_equal(ask(&body), 200); /* still served */
    clear();
}

static void test_sglang_gets_base_and_adapter(void **state) {
    (void)state;
    build(1, (enum behaviour[]){ECHO}, "base");
    cleanup_buffer struct buffer body = BUFFER_INIT;
    loop_thread_do(&house.loop, set_route, &(struct route_plan){.name = "m", .parent = "base", .is_sglang = true});
    assert_int_equal(ask(&body), 200);
    cleanup_json json_t *told = json_parse(body.data, body.len, NULL);
    assert_string_equal(json_string_at(told, "body", ""), "{\"prompt\":\"hi\",\"model\":\"base:m\"}");
    assert_string_equal(json_string_at(told, "Content-Length", ""), "32");
    clear();
}

/* A stream that begins with the engine's word that it does not have the adapter is no answer yet. */
static void test_sglang_refuses_in_a_stream(void **state) {
    (void)state;
    static const struct {
        enum behaviour first, second;
        bool is_base;
        int status;
        const char *words;
        int hits;
    } rows[] = {
        {STALE_IN_STREAM, ECHO, false, 200, "\"engine\":1", 2},
        {STALE_IN_STREAM, STALE_IN_STREAM, false, 503, "none of the endpoints asked has it loaded", 2},
        {OTHER_IN_STREAM, OTHER_IN_STREAM, false, 200, "out of memory", 1},
        {QUOTED_IN_STREAM, QUOTED_IN_STREAM, false, 200, NOT_LOADED, 1},
        {STALE_IN_STREAM, STALE_IN_STREAM, true, 200, NOT_LOADED, 1},
        {CUT_IN_SSE, CUT_IN_SSE, false, 200, "upstream_cut", 1},
    };
    cleanup_buffer struct buffer body = BUFFER_INIT;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        build(2, (enum behaviour[]){rows[i].first, rows[i].second}, rows[i].is_base ? NULL : "base");
        struct route_plan plan = {.name = "m", .parent = rows[i].is_base ? NULL : "base", .is_sglang = true};
        loop_thread_do(&house.loop, set_route, &plan);
        for (int j = 0; j < 2; j++) { /* whoever is asked first */
            assert_int_equal(ask(&body), rows[i].status);
            assert_non_null(strstr(buffer_text(&body), rows[i].words));
        }
        int hits = atomic_load(&house.engines[0].hits) + atomic_load(&house.engines[1].hits);
        assert_true(hits == 2 * rows[i].hits || (rows[i].second == ECHO && hits >= 2 && atomic_load(&house.engines[1].hits) == 2));
        clear();
    }
}

static const char *const odd_body = "{ \"prompt\" : \"model m\",\"x\":{\"model\":\"m\"}, \"model\" :\"m\" ,\"n\": 1.0e0 }";

/* Asks an engine that knows "m" as `known_as`; the answer's `model`, and what is "model" elsewhere in it. */
static void expect_named(const char *known_as, bool events) {
    cleanup_buffer struct buffer body = BUFFER_INIT;
    struct client client;
    client_open(&client, house.port);
    client_post(&client, "/v1/completions", "Accept-Encoding: gzip\r\n", odd_body);
    assert_int_equal(client_read_head(&client), 200);
    assert_int_equal(client_read_body(&client, &body), 1);
    client_close(&client);
    cleanup_free char *asked =
        xasprintf("{ \"prompt\" : \"model m\",\"x\":{\"model\":\"m\"}, \"model\" :\"%s\" ,\"n\": 1.0e0 }", known_as);
    cleanup_buffer struct buffer expected = BUFFER_INIT;
    bool is_same = strcmp(known_as, "m") == 0;
    buffer_printf(&expected, "%s{\"length\":%zu, \"model\" : \"m\",\"encoding\":\"%s\",\"choices\":[{\"model\":\"%s\"}],\"body\":",
                  events ? "data: " : "", strlen(asked), is_same ? "gzip" : "-", known_as);
    json_append_string(&expected, asked, strlen(asked));
    buffer_append_text(&expected, events ? "}\n\ndata: {\"n\":2,\"model\":\"m\"}\n\ndata: [DONE]\n\n" : "}");
    assert_string_equal(buffer_text(&body), buffer_text(&expected));
}

static void test_an_engines_own_name_for_an_adapter(void **state) {
    (void)state;
    static const struct {
        bool is_sglang;
        const char *engine_name; /* NULL = none of its own */
        const char *known_as;
    } rows[] = {
        {false, NULL, "m"},
        {false, "m-0123456789abcdef", "m-0123456789abcdef"},
        {true, NULL, "base:m"},
        {true, "m-7", "base:m-7"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        for (int events = 0; events < 2; events++) {
            build(1, (enum behaviour[]){events != 0 ? NAMED_EVENTS : NAMED}, "base");
            house.engines[0].known_as = rows[i].known_as;
            loop_thread_do(
                &house.loop, set_route,
                &(struct route_plan){
                    .name = "m", .parent = "base", .is_sglang = rows[i].is_sglang, .engine_names = {rows[i].engine_name}});
            expect_named(rows[i].known_as, events != 0);
            clear();
        }
    }
}

/* Each engine knows the adapter under another name, and two of them lost it: whoever is asked first, the third is asked rightly. */
static void test_the_name_is_each_engines_own_through_retries(void **state) {
    (void)state;
    for (int events = 0; events < 2; events++) {
        enum behaviour behaviour = events != 0 ? NAMED_EVENTS : NAMED;
        build(3, (enum behaviour[]){behaviour, behaviour, behaviour}, "base");
        house.engines[0].known_as = "gone";
        house.engines[1].known_as = "gone";
        house.engines[2].known_as = "m-new";
        loop_thread_do(&house.loop, set_route,
                       &(struct route_plan){.name = "m", .parent = "base", .engine_names = {"m-old", NULL, "m-new"}});
        for (int i = 0; i < 9; i++) {
            expect_named("m-new", events != 0);
        }
        assert_true(atomic_load(&house.engines[0].hits) > 0 && atomic_load(&house.engines[1].hits) > 0);
        assert_int_equal(atomic_load(&house.engines[2].hits), 9);
        clear();
        /* And back to one that has the public name. */
        build(2, (enum behaviour[]){behaviour, behaviour}, "base");
        house.engines[0].known_as = "gone";
        house.engines[1].known_as = "m";
        loop_thread_do(&house.loop, set_route,
                       &(struct route_plan){.name = "m", .parent = "base", .engine_names = {"m-old", NULL}});
        cleanup_buffer struct buffer body = BUFFER_INIT;
        for (int i = 0; i < 4; i++) {
            assert_int_equal(ask(&body), 200);
            assert_non_null(strstr(body.data, "\"choices\":[{\"model\":\"m\"}]"));
        }
        assert_int_equal(atomic_load(&house.engines[1].hits), 4);
        clear();
    }
}

static void test_smuggling_is_refused(void **state) {
    (void)state;
    static const char *const requests[] = {
        "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 13\r\nTransfer-Encoding: "
        "chunked\r\n\r\nd\r\n{\"model\":\"m\"}\r\n0\r\n\r\n",
        "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 13\r\nContent-Length: 14\r\n\r\n{\"model\":\"m\"}",
        "POST /v1/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, "
        "identity\r\n\r\nd\r\n{\"model\":\"m\"}\r\n0\r\n\r\n",
        "POST /v1/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\nd\r\n{\"model\":\"m\"}\r\n0\r\n\r\n",
        "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length : 13\r\n\r\n{\"model\":\"m\"}",
        "POST /v1/completions HTTP/1.1\r\nHost: x\r\nX: a\r\n b\r\nContent-Length: 13\r\n\r\n{\"model\":\"m\"}",
        "POST /v1/completions HTTP/1.1\nHost: x\nContent-Length: 13\n\n{\"model\":\"m\"}",
        "POST /v1/completions HTTP/1.1\r\nHost: x\r\nX: a\rb\r\nContent-Length: 13\r\n\r\n{\"model\":\"m\"}",
        "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: +13\r\n\r\n{\"model\":\"m\"}",
        "POST /v1/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0xd\r\n{\"model\":\"m\"}\r\n0\r\n\r\n",
        "POST /v1/../v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 13\r\n\r\n{\"model\":\"m\"}",
        "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n{\"model\":\"m\"}",
    };
    build(1, (enum behaviour[]){ECHO}, NULL);
    for (size_t i = 0; i < ARRAY_LEN(requests); i++) {
        struct client client;
        cleanup_buffer struct buffer body = BUFFER_INIT;
        client_open(&client, house.port);
        client_send(&client, requests[i], strlen(requests[i]));
        int status = client_read_head(&client);
        if (status < 400 || status == 404 || (status > 499 && status != 501)) {
            fail_msg("status %d for %s", status, requests[i]);
        }
        (void)client_read_body(&client, &body);
        cleanup_json json_t *told = json_parse(buffer_text(&body), body.len, NULL);
        assert_non_null(json_at(told, "error.message"));
        client_close(&client);
    }
    assert_int_equal(atomic_load(&house.engines[0].hits), 0);
    clear();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_passes_a_request_on),
        cmocka_unit_test(test_a_large_body_and_keep_alive),
        cmocka_unit_test(test_streams_event_by_event),
        cmocka_unit_test(test_tries_again_before_the_first_byte),
        cmocka_unit_test(test_three_tries_at_most_and_each_endpoint_once),
        cmocka_unit_test(test_no_second_try_for_answers),
        cmocka_unit_test(test_no_second_try_after_the_first_byte),
        cmocka_unit_test(test_spreads_by_what_is_under_way),
        cmocka_unit_test(test_a_client_that_leaves_cancels),
        cmocka_unit_test(test_a_slow_client_is_not_buffered_for),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_forms_are_told_from_bad_json),
        cmocka_unit_test(test_a_path_that_the_engine_does_not_serve),
        cmocka_unit_test(test_a_body_that_is_too_large_is_refused_by_its_length),
        cmocka_unit_test(test_head_is_answered_like_get),
        cmocka_unit_test(test_pages),
        cmocka_unit_test(test_not_ready),
        cmocka_unit_test(test_sglang_gets_base_and_adapter),
        cmocka_unit_test(test_sglang_refuses_in_a_stream),
        cmocka_unit_test(test_an_engines_own_name_for_an_adapter),
        cmocka_unit_test(test_the_name_is_each_engines_own_through_retries),
        cmocka_unit_test(test_smuggling_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
