/* Keys that are asked for: by one for all who need them at a time. */
#include "artifact/s3/aws_key_cache.h"
#include "io/http_server.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "http_peer.h"

#define CALLERS 12
#define ANSWER_MS 300 /* enough for all to ask who would */

static const char keys_xml[] =
    "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>AK</AccessKeyId>"
    "<SecretAccessKey>s3cret</SecretAccessKey><SessionToken>token</SessionToken><Expiration>2999-01-01T00:00:00Z</Expiration>"
    "</Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>";

/* STS: it takes its time. */
struct world {
    struct loop_thread loop;
    struct http_server *server;
    struct timer answer;
    struct http_request *held[CALLERS];
    atomic_int requests;
    atomic_int status;
    struct aws_identity identity;
    char token_file[32];
};

static void on_answer(void *arg) {
    struct world *world = arg;
    int status = atomic_load(&world->status);
    for (int i = 0; i < CALLERS; i++) {
        if (world->held[i] != NULL) {
            http_reply(world->held[i], status, "text/xml", keys_xml, status == 200 ? sizeof(keys_xml) - 1 : 0);
            world->held[i] = NULL;
        }
    }
}

static void on_request(void *arg, struct http_request *request) {
    struct world *world = arg;
    int number = atomic_fetch_add(&world->requests, 1);
    assert_true(number < CALLERS);
    world->held[number] = request;
    timer_set(&world->answer, ANSWER_MS);
}

static void world_open(struct world *world, const char *role) {
    struct error err;
    int port = 0;
    *world = (struct world){.loop.loop = loop_new(), .status = 200, .token_file = "/tmp/davit-test-XXXXXX"};
    timer_init(&world->answer, world->loop.loop, on_answer, world);
    world->server = http_server_new(&(struct http_server_options){
        .loop = world->loop.loop, .body_bytes_max = 4096, .connections_max = 32, .on_request = on_request, .arg = world});
    assert_int_equal(http_server_listen(world->server, "127.0.0.1", 0, &port, &err), 0);
    int fd = mkstemp(world->token_file);
    assert_int_equal(write(fd, "jwt", 3), 3);
    close(fd);
    world->identity = (struct aws_identity){.kind = AWS_WEB_IDENTITY,
                                            .origin = xstrdup("the web identity"),
                                            .url = xasprintf("http://127.0.0.1:%d/", port),
                                            .role_arn = xstrdup(role),
                                            .session_name = xstrdup("davit"),
                                            .token_file = xstrdup(world->token_file)};
    loop_thread_start(&world->loop);
}

static void world_close(struct world *world) {
    loop_thread_stop(&world->loop);
    http_server_free(world->server);
    timer_release(&world->answer);
    loop_free(world->loop.loop);
    aws_identity_release(&world->identity);
    (void)unlink(world->token_file);
}

struct caller {
    pthread_t thread;
    const struct world *world;
    int result;
    struct aws_keys keys;
    struct error err;
};

static void *call(void *arg) {
    struct caller *caller = arg;
    struct artifact_options options = {0};
    struct artifact_progress progress = {0};
    struct artifact_http *http = artifact_http_new(&options, &progress);
    caller->result = aws_identity_keys(http, &caller->world->identity, &caller->keys, &caller->err);
    artifact_http_free(http);
    return NULL;
}

static void call_all(struct world *world, struct caller callers[CALLERS]) {
    for (int i = 0; i < CALLERS; i++) {
        callers[i] = (struct caller){.world = world};
        assert_int_equal(pthread_create(&callers[i].thread, NULL, call, &callers[i]), 0);
    }
    for (int i = 0; i < CALLERS; i++) {
        pthread_join(callers[i].thread, NULL);
    }
}

static void test_one_asks_for_all(void **state) {
    (void)state;
    struct world world;
    struct caller callers[CALLERS];
    world_open(&world, "role-a");
    call_all(&world, callers);
    for (int i = 0; i < CALLERS; i++) {
        assert_int_equal(callers[i].result, 0);
        assert_string_equal(callers[i].keys.access_key, "AK");
        aws_keys_release(&callers[i].keys);
    }
    assert_int_equal(atomic_load(&world.requests), 1);
    world_close(&world);
}

static void test_a_refusal_is_for_all_who_waited(void **state) {
    (void)state;
    struct world world;
    struct caller callers[CALLERS];
    world_open(&world, "role-b");
    atomic_store(&world.status, 403);
    call_all(&world, callers);
    for (int i = 0; i < CALLERS; i++) {
        assert_int_equal(callers[i].result, -1);
        assert_int_equal(callers[i].err.code, ERROR_UNAUTHORIZED);
        assert_non_null(strstr(callers[i].err.message, "the web identity"));
    }
    int asked = atomic_load(&world.requests);
    assert_true(asked < CALLERS / 2); /* one, but for those who came after its answer */
    /* Nobody who comes later is told what was. */
    atomic_store(&world.status, 200);
    struct caller late = {.world = &world};
    (void)call(&late);
    assert_int_equal(late.result, 0);
    assert_int_equal(atomic_load(&world.requests), asked + 1);
    aws_keys_release(&late.keys);
    world_close(&world);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_asks_for_all),
        cmocka_unit_test(test_a_refusal_is_for_all_who_waited),
    };
    return cmocka_run_group_tests_name("aws_keys", tests, NULL, NULL);
}
