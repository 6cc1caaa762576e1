/* Several workers on one port: routes that change under load, loads that are counted over all of them, an orderly end. */
#include "gateway/worker_threads.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "http_peer.h"

#define WORKERS 3
#define ENGINES 2
#define CLIENTS 6
#define REQUESTS 60

struct engine {
    struct http_server *server;
    int port;
    atomic_int hits;
    bool holds; /* answers when the test says so */
    struct http_request *held;
};

static struct {
    struct loop_thread engines_loop;
    struct loop_thread control;
    struct gateway_metrics metrics;
    struct worker_threads *workers;
    int port;
    struct engine engines[ENGINES];
    struct route_load *loads[ENGINES]; /* as the table keeps them from snapshot to snapshot */
    struct route_endpoint *keepers[ENGINES];
    atomic_int drained; /* open requests + 1 */
} house;

static void forget(void *arg) {
    struct engine *engine = arg;
    engine->held = NULL;
}

static void serve(void *arg, struct http_request *request) {
    struct engine *engine = arg;
    atomic_fetch_add(&engine->hits, 1);
    if (engine->holds) {
        engine->held = request;
        http_request_on_gone(request, forget, engine);
        return;
    }
    http_reply(request, 200, "application/json", "{\"model\":\"m-1\"}", 15);
}

static struct route_endpoint *endpoint_new(size_t i) {
    struct route_endpoint *endpoint = route_endpoint_new(house.loads[i]);
    endpoint->host = xstrdup("127.0.0.1");
    endpoint->port = house.engines[i].port;
    endpoint->pod = xasprintf("pod-%zu", i);
    endpoint->base = xstrdup("base");
    house.loads[i] = endpoint->load;
    return endpoint;
}

/* A snapshot of new objects, as after a change of pods. */
static void swap_snapshot(void *arg) {
    (void)arg;
    struct route_model *model = route_model_new("m", ENGINES);
    model->is_adapter = true;
    model->root = xstrdup("/root");
    model->parent = xstrdup("base");
    for (size_t i = 0; i < ENGINES; i++) {
        route_model_add(model, endpoint_new(i), "m-1");
    }
    struct route_model **models = xcalloc(1, sizeof(struct route_model *));
    models[0] = model;
    worker_threads_swap_snapshot(house.workers, route_snapshot_new(models, 1));
}

static void build(void) {
    struct error err = {0};
    memset(&house, 0, sizeof(house));
    house.engines_loop.loop = loop_new();
    house.control.loop = loop_new();
    gateway_metrics_init(&house.metrics);
    for (size_t i = 0; i < ENGINES; i++) {
        struct engine *engine = &house.engines[i];
        engine->server = http_server_new(&(struct http_server_options){
            .loop = house.engines_loop.loop, .body_bytes_max = 1000, .on_request = serve, .arg = engine});
        assert_int_equal(http_server_listen(engine->server, "127.0.0.1", 0, &engine->port, &err), 0);
        house.keepers[i] = endpoint_new(i);
    }
    house.workers = worker_threads_new(
        &(struct worker_threads_options){.control = house.control.loop, .metrics = &house.metrics, .count = WORKERS});
    assert_int_equal(worker_threads_listen(house.workers, "127.0.0.1", 0, &house.port, &err), 0);
    assert_int_equal(worker_threads_start(house.workers, &err), 0);
    loop_thread_start(&house.engines_loop);
    loop_thread_start(&house.control);
    loop_thread_do(&house.control, swap_snapshot, NULL);
    cleanup_buffer struct buffer body = BUFFER_INIT;
    for (int i = 0; i < 50; i++) { /* each worker has its routes */
        wait_until(exchange(house.port, "/readyz", "", NULL, &body) == 200);
    }
}

static void clear(void) {
    loop_thread_stop(&house.control);
    worker_threads_free(house.workers);
    loop_thread_stop(&house.engines_loop);
    for (size_t i = 0; i < ENGINES; i++) {
        http_server_free(house.engines[i].server);
        route_endpoint_unref(house.keepers[i]);
    }
    gateway_metrics_release(&house.metrics);
    loop_free(house.control.loop);
    loop_free(house.engines_loop.loop);
}

static const char *const question = "{\"model\":\"m\"}";

static void *ask_many(void *arg) {
    atomic_int *answered = arg;
    struct buffer body = BUFFER_INIT;
    for (int i = 0; i < REQUESTS; i++) {
        if (exchange(house.port, "/v1/completions", "", question, &body) == 200 && strcmp(body.data, "{\"model\":\"m\"}") == 0) {
            atomic_fetch_add(answered, 1);
        }
    }
    buffer_release(&body);
    return NULL;
}

static unsigned outstanding(size_t i) {
    return atomic_load(&house.loads[i]->outstanding);
}

static void test_routes_change_under_load(void **state) {
    (void)state;
    build();
    pthread_t clients[CLIENTS];
    atomic_int answered = 0;
    for (size_t i = 0; i < CLIENTS; i++) {
        assert_int_equal(pthread_create(&clients[i], NULL, ask_many, &answered), 0);
    }
    for (int swaps = 0; swaps < 200; swaps++) {
        loop_thread_do(&house.control, swap_snapshot, NULL);
    }
    for (size_t i = 0; i < CLIENTS; i++) {
        pthread_join(clients[i], NULL);
    }
    assert_int_equal(atomic_load(&answered), CLIENTS * REQUESTS);
    assert_int_equal(atomic_load(&house.engines[0].hits) + atomic_load(&house.engines[1].hits), CLIENTS * REQUESTS);
    wait_until(outstanding(0) == 0 && outstanding(1) == 0);
    clear();
}

static void test_load_is_counted_over_all_workers(void **state) {
    (void)state;
    build();
    house.engines[0].holds = true;
    struct client client;
    cleanup_buffer struct buffer body = BUFFER_INIT;
    client_open(&client, house.port);
    for (int i = 0; atomic_load(&house.engines[0].hits) == 0; i++) { /* until one hangs there */
        assert_true(i < 1000);
        client_post(&client, "/v1/completions", "", question);
        wait_until(atomic_load(&house.engines[0].hits) + atomic_load(&house.engines[1].hits) > i);
        if (atomic_load(&house.engines[0].hits) == 0) {
            assert_int_equal(client_read_head(&client), 200);
            assert_int_equal(client_read_body(&client, &body), 1);
        }
    }
    for (int i = 0; i < 60; i++) { /* whichever worker takes it */
        assert_int_equal(exchange(house.port, "/v1/completions", "", question, &body), 200);
    }
    assert_int_equal(atomic_load(&house.engines[0].hits), 1);
    client_close(&client);
    clear();
}

static void on_drained(void *arg, int open_requests) {
    (void)arg;
    atomic_store(&house.drained, open_requests + 1);
}

static void drain(void *arg) {
    worker_threads_stop_being_ready(house.workers);
    worker_threads_drain(house.workers, *(int64_t *)arg, on_drained, NULL);
}

static void answer_held(void *arg) {
    struct engine *engine = arg;
    http_request_on_gone(engine->held, NULL, NULL);
    http_reply(engine->held, 200, "application/json", "{}", 2);
    engine->held = NULL;
}

static void test_drains(void **state) {
    (void)state;
    cleanup_buffer struct buffer body = BUFFER_INIT;
    for (int in_time = 0; in_time < 2; in_time++) {
        build();
        house.engines[0].holds = house.engines[1].holds = true;
        struct client client;
        client_open(&client, house.port);
        client_post(&client, "/v1/completions", "", question);
        wait_until(outstanding(0) + outstanding(1) == 1);
        struct engine *engine = &house.engines[outstanding(0) == 1 ? 0 : 1];
        wait_until(atomic_load(&engine->hits) == 1);
        int64_t drain_ms = in_time != 0 ? 20000 : 50;
        loop_thread_do(&house.control, drain, &drain_ms);
        if (in_time != 0) {
            assert_int_equal(atomic_load(&house.drained), 0);
            loop_thread_do(&house.engines_loop, answer_held, engine);
            assert_int_equal(client_read_head(&client), 200);
        }
        wait_until(atomic_load(&house.drained) == (in_time != 0 ? 1 : 2));
        client_close(&client);
        clear();
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_routes_change_under_load),
        cmocka_unit_test(test_load_is_counted_over_all_workers),
        cmocka_unit_test(test_drains),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
