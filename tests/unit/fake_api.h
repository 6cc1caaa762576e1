/* A Kubernetes API that says what a test tells it to: one HTTP server on the test's loop, and a loop that runs until a condition
 * holds. */
#ifndef DAVIT_TESTS_FAKE_API_H
#define DAVIT_TESTS_FAKE_API_H

#include "base/clock.h"
#include "base/json.h"
#include "io/http_server.h"
#include "io/transfer.h"
#include "kube/client.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

struct fake_api {
    struct loop *loop;
    struct http_server *server;
    struct transfers *transfers;
    struct kube_client *client;
    struct kube_config config;
    int port;
    struct timer poll;
    bool (*is_reached)(void *arg);
    void *is_reached_arg;
    int64_t deadline_ms;
    bool timed_out;
};

static inline void fake_api_poll(void *arg) {
    struct fake_api *api = arg;
    api->timed_out = clock_now_ms() >= api->deadline_ms;
    if (api->timed_out || api->is_reached(api->is_reached_arg)) {
        loop_stop(api->loop);
    } else {
        timer_set(&api->poll, 2);
    }
}

/* Runs the loop until the condition holds; fails the test after ten seconds. */
static inline void fake_api_run_until(struct fake_api *api, bool (*is_reached)(void *arg), void *arg) {
    api->is_reached = is_reached;
    api->is_reached_arg = arg;
    api->deadline_ms = clock_now_ms() + 10000;
    timer_set(&api->poll, 0);
    loop_run(api->loop);
    assert_false(api->timed_out);
}

static inline void fake_api_init(struct fake_api *api, void (*on_request)(void *arg, struct http_request *request), void *arg) {
    struct error err;
    *api = (struct fake_api){.loop = loop_new()};
    api->server = http_server_new(&(struct http_server_options){
        .loop = api->loop, .body_bytes_max = 1 << 20, .connections_max = 100, .on_request = on_request, .arg = arg});
    assert_int_equal(http_server_listen(api->server, "127.0.0.1", 0, &api->port, &err), 0);
    api->config.server = xasprintf("http://127.0.0.1:%d", api->port);
    api->config.namespace = xstrdup("default");
    api->config.token = xstrdup("s3cret-token");
    api->transfers = transfers_new(api->loop);
    api->client = kube_client_new(api->loop, api->transfers, &api->config, "davit-test", 4);
    timer_init(&api->poll, api->loop, fake_api_poll, api);
}

static inline void fake_api_release(struct fake_api *api) {
    timer_release(&api->poll);
    kube_client_free(api->client);
    transfers_free(api->transfers);
    http_server_free(api->server);
    loop_free(api->loop);
    kube_config_release(&api->config);
}

static inline void fake_api_reply(struct http_request *request, int status, const char *text) {
    http_reply(request, status, "application/json", text, strlen(text));
}

#endif
