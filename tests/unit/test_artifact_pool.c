/* Fetches for callers on a loop: joined, bounded, cancelled, ended. */
#include "io_support.h"

#include "artifact/cache/cache.h"
#include "artifact/pool.h"
#include "base/file.h"

#include <stdatomic.h>
#include <sys/stat.h>

/* A server whose weights come when the test says so. */
struct world {
    struct loop *loop; /* of the server and of the callers */
    struct http_server *server;
    int port;
    int downloads; /* of the weights */
    int stalls;    /* held back */
    struct http_request *held;
    bool holds;
    char *folder;
    struct artifact_options options;
    struct artifact_cache *cache;
    struct artifact_pool *pool;
};

static const char config[] = "{\"peft_type\":\"LORA\",\"r\":4,\"lora_alpha\":8,\"target_modules\":[\"q_proj\"]}";

/* One tensor of no interest. */
static char *weights(size_t *ret_len) {
    static const char header[] = "{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]}}";
    size_t header_len = sizeof(header) - 1;
    char *bytes = xcalloc(1, 8 + header_len + 16);
    bytes[0] = (char)header_len;
    memcpy(bytes + 8, header, header_len);
    *ret_len = 8 + header_len + 16;
    return bytes;
}

static void send_weights(struct http_request *request) {
    size_t len = 0;
    cleanup_free char *bytes = weights(&len);
    http_reply_field(request, "ETag", "\"w\"");
    http_reply(request, 200, "application/octet-stream", bytes, len);
}

/* Two megabytes from a server that says no size and knows no ranges. */
static void send_long(struct http_request *request, bool is_get) {
    size_t len = 2u << 20;
    cleanup_free char *zeros = xcalloc(1, len);
    http_reply(request, is_get ? 200 : 405, "application/octet-stream", zeros, is_get ? len : 0);
}

/* Of a file of a million gigabytes. */
static void send_first_byte(struct http_request *request, bool is_get) {
    http_reply_field(request, "Content-Range", "bytes 0-0/1000000000000000");
    http_reply_field(request, "ETag", "\"h\"");
    http_reply(request, is_get ? 206 : 405, "application/octet-stream", "x", is_get ? 1 : 0);
}

static void on_gone(void *arg) {
    ((struct world *)arg)->held = NULL;
}

static void handle(void *arg, struct http_request *request) {
    struct world *world = arg;
    const struct http_head *head = http_request_head(request);
    bool is_get = strcmp(head->method, "GET") == 0;
    if (strstr(head->path, "/adapter_config.json") != NULL) {
        http_reply_field(request, "ETag", "\"c\"");
        http_reply(request, 200, "application/json", config, sizeof(config) - 1);
    } else if (strstr(head->path, "/adapter_model.safetensors") == NULL) {
        http_reply(request, 404, NULL, NULL, 0);
    } else if (strstr(head->path, "/long/") != NULL) {
        send_long(request, is_get);
    } else if (strstr(head->path, "/huge/") != NULL) {
        send_first_byte(request, is_get);
    } else if (is_get && world->holds) {
        world->downloads++;
        world->held = request;
        http_request_on_gone(request, on_gone, world);
    } else {
        world->downloads += is_get;
        send_weights(request);
    }
}

static void world_open(struct world *world, unsigned threads) {
    struct error err;
    char folder[] = "/tmp/davit-test-XXXXXX";
    *world = (struct world){.loop = loop_new()};
    assert_non_null(mkdtemp(folder));
    world->folder = xstrdup(folder);
    world->server = http_server_new(
        &(struct http_server_options){.loop = world->loop, .body_bytes_max = 1024, .on_request = handle, .arg = world});
    world->port = start_server(world->server);
    world->options = (struct artifact_options){.cache = world->folder, .timeout_ms = 20000};
    world->cache = artifact_cache_open(&world->options, &err);
    assert_non_null(world->cache);
    world->pool = artifact_pool_new(world->loop, world->cache, threads);
}

static void world_close(struct world *world) {
    artifact_pool_free(world->pool);
    artifact_cache_close(world->cache);
    http_server_free(world->server);
    loop_free(world->loop);
    cleanup_free char *command = xasprintf("rm -rf '%s'", world->folder);
    assert_int_equal(system(command), 0);
    free(world->folder);
}

struct caller {
    struct artifact_ticket *ticket;
    int done;
    struct error err;
    char *folder;
};

static void on_fetched(void *arg, const struct artifact_found *found, const struct error *err) {
    struct caller *caller = arg;
    caller->done++;
    caller->ticket = NULL;
    if (err != NULL) {
        caller->err = *err;
    } else {
        caller->folder = xstrdup(found->folder);
    }
}

static void call(struct world *world, struct caller *caller, const char *path, const char *digest) {
    struct error err;
    cleanup_free char *url = xasprintf("http://127.0.0.1:%d%s", world->port, path);
    const struct artifact_wanted wanted = {.url = url, .revision = "", .digest = digest, .version = ""};
    *caller = (struct caller){0};
    caller->ticket = artifact_pool_start(world->pool, &wanted, on_fetched, caller, &err);
    assert_non_null(caller->ticket);
}

static void test_callers_of_the_same_join(void **state) {
    (void)state;
    struct world world;
    struct caller callers[50];
    world_open(&world, 4);
    world.holds = true;
    for (size_t i = 0; i < ARRAY_LEN(callers); i++) {
        call(&world, &callers[i], "/sql", "");
    }
    RUN_UNTIL(world.loop, world.held != NULL);
    assert_non_null(strstr(artifact_ticket_words(callers[0].ticket), "downloading"));
    artifact_ticket_leave(callers[7].ticket); /* one has enough; the rest wait on */
    send_weights(world.held);
    RUN_UNTIL(world.loop, callers[49].done == 1);
    for (size_t i = 0; i < ARRAY_LEN(callers); i++) {
        assert_int_equal(callers[i].done, i == 7 ? 0 : 1);
        assert_true(i == 7 || strcmp(callers[i].folder, callers[0].folder) == 0);
        free(i == 0 ? NULL : callers[i].folder);
    }
    assert_int_equal(world.downloads, 1);
    free(callers[0].folder);
    world_close(&world);
}

/* Whoever timed out and asks again finds the download further on. */
static void test_a_fetch_goes_on_without_callers(void **state) {
    (void)state;
    struct world world;
    struct caller first, second;
    world_open(&world, 1);
    world.holds = true;
    call(&world, &first, "/sql", "");
    RUN_UNTIL(world.loop, world.held != NULL);
    artifact_ticket_leave(first.ticket);
    run_what_is_ready(world.loop);
    assert_non_null(world.held);
    call(&world, &second, "/sql", "");
    send_weights(world.held);
    RUN_UNTIL(world.loop, second.done == 1);
    assert_int_equal(first.done, 0);
    assert_non_null(second.folder);
    assert_int_equal(world.downloads, 1);
    free(second.folder);
    world_close(&world);
}

static void test_errors_and_a_queue(void **state) {
    (void)state;
    struct world world;
    struct caller wrong, right;
    world_open(&world, 1);
    call(&world, &wrong, "/sql", "0000000000000000000000000000000000000000000000000000000000000000");
    call(&world, &right, "/sql", ""); /* another digest is another fetch, which waits for the one thread */
    assert_string_equal(artifact_ticket_words(right.ticket), "waiting for other downloads");
    RUN_UNTIL(world.loop, wrong.done == 1 && right.done == 1);
    assert_int_equal(wrong.err.code, ERROR_INVALID);
    assert_non_null(strstr(wrong.err.message, "expected weights with SHA-256 0000"));
    assert_non_null(right.folder);
    assert_int_equal(world.downloads, 1); /* what is whole stays, whoever has no use for it */
    free(right.folder);
    world_close(&world);
}

static void test_the_queue_is_bounded(void **state) {
    (void)state;
    struct world world;
    struct caller callers[ARTIFACT_POOL_WAITING_MAX];
    struct error err;
    world_open(&world, 1);
    world.holds = true;
    for (size_t i = 0; i < ARRAY_LEN(callers); i++) {
        call(&world, &callers[i], "/sql", "");
    }
    const struct artifact_wanted wanted = {.url = "http://127.0.0.1:1/other", .revision = "", .digest = "", .version = ""};
    assert_null(artifact_pool_start(world.pool, &wanted, on_fetched, &callers[0], &err));
    assert_int_equal(err.code, ERROR_BUSY);
    RUN_UNTIL(world.loop, world.held != NULL);
    world_close(&world); /* while one runs and all wait: no callbacks */
    assert_int_equal(callers[0].done, 0);
}

static void test_what_was_fetched_is_kept_from_eviction(void **state) {
    (void)state;
    struct world world;
    struct caller caller;
    struct error err;
    struct stat status;
    uint64_t freed = 0;
    world_open(&world, 1);
    call(&world, &caller, "/sql", "");
    RUN_UNTIL(world.loop, caller.done == 1);
    assert_true(artifact_cache_holds(world.cache, caller.folder));
    assert_int_equal(artifact_cache_prune(world.cache, 0, &freed, &err), 0); /* just opened */
    artifact_cache_use(world.cache, caller.folder);
    assert_int_equal(artifact_cache_prune(world.cache, 0, &freed, &err), 0);
    /* another process: another handle */
    struct artifact_cache *other = artifact_cache_open(&world.options, &err);
    assert_int_equal(artifact_cache_prune(other, 0, &freed, &err), 0);
    artifact_cache_unuse(world.cache, caller.folder);
    assert_int_equal(stat(caller.folder, &status), 0);
    int64_t until_ms = clock_now_ms() + 20000;
    while (artifact_cache_prune(other, 0, &freed, &err) == 0) { /* a moment later */
        assert_true(clock_now_ms() < until_ms);
        (void)usleep(500);
    }
    assert_true(freed > 0);
    assert_int_equal(stat(caller.folder, &status), -1);
    artifact_cache_close(other);
    free(caller.folder);
    world_close(&world);
}

static bool is_unused(struct artifact_cache *cache) {
    struct artifact_cache_list list = {0};
    struct error err;
    assert_int_equal(artifact_cache_list(cache, &list, &err), 0);
    assert_int_equal(list.count, 1);
    bool is_in_use = list.items[0].is_in_use;
    artifact_cache_list_release(&list);
    return !is_in_use;
}

static void test_what_can_not_be_brought_costs_nothing(void **state) {
    (void)state;
    struct world world;
    struct caller small, huge;
    struct stat status;
    world_open(&world, 1);
    world.options.artifact_bytes_max = UINT64_MAX / 2;
    call(&world, &small, "/sql", "");
    RUN_UNTIL(world.loop, small.done == 1);
    artifact_cache_use(world.cache, small.folder);
    artifact_cache_unuse(world.cache, small.folder);
    RUN_UNTIL(world.loop, is_unused(world.cache));
    call(&world, &huge, "/huge/sql", "");
    RUN_UNTIL(world.loop, huge.done == 1);
    assert_int_equal(huge.err.code, ERROR_IO);
    assert_non_null(strstr(huge.err.message, "too full"));
    assert_int_equal(stat(small.folder, &status), 0); /* all of the cache would not be enough */
    free(small.folder);
    world_close(&world);
}

static void test_what_nobody_can_go_on_with_takes_no_room(void **state) {
    (void)state;
    struct world world;
    struct caller caller;
    struct artifact_cache_list list = {0};
    struct error err;
    world_open(&world, 1);
    world.options.artifact_bytes_max = 3u << 19;
    call(&world, &caller, "/long/sql", "");
    RUN_UNTIL(world.loop, caller.done == 1);
    assert_int_equal(caller.err.code, ERROR_LIMIT);
    assert_int_equal(artifact_cache_list(world.cache, &list, &err), 0);
    assert_true(list.staging_bytes < 64u << 10);
    artifact_cache_list_release(&list);
    world_close(&world);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_callers_of_the_same_join),
        cmocka_unit_test(test_a_fetch_goes_on_without_callers),
        cmocka_unit_test(test_errors_and_a_queue),
        cmocka_unit_test(test_the_queue_is_bounded),
        cmocka_unit_test(test_what_was_fetched_is_kept_from_eviction),
        cmocka_unit_test(test_what_can_not_be_brought_costs_nothing),
        cmocka_unit_test(test_what_nobody_can_go_on_with_takes_no_room),
    };
    return cmocka_run_group_tests_name("artifact_pool", tests, NULL, NULL);
}
