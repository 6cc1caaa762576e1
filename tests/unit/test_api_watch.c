/* Watches of the API: initial events and changes to clients that are slow or read nothing. */
#include "io_support.h"

#include "cluster/api/object.h"
#include "cluster/api/watch.h"

#include <malloc.h>
#include <sys/stat.h>
#include <unistd.h>

#define OBJECTS 2000
#define OBJECT_BYTES 8000
#define GROWTH_BYTES_MAX (4 * 1024 * 1024) /* all events together are four times that */

struct fixture {
    char folder[64];
    char *path;
    struct loop *loop;
    struct state *state;
    struct watch_hub *hub;
    struct http_server *http;
    const struct resource *resource;
    int port;
    int stored;
};

static void on_request(void *arg, struct http_request *request) {
    struct fixture *fixture = arg;
    watch_start(
        fixture->hub, request,
        &(struct watch_options){
            .resource = fixture->resource, .sends_initial_events = true, .marks_initial_events = true, .sends_bookmarks = true});
}

static void count_stored(void *arg, const struct error *err) {
    assert_null(err);
    ((struct fixture *)arg)->stored++;
}

static void put(struct transaction *transaction, const struct resource *resource, int number, char letter) {
    char text[OBJECT_BYTES];
    memset(text, letter, sizeof(text));
    cleanup_free char *name = xasprintf("item-%04d", number);
    cleanup_free char *key = object_key("ns", name);
    (void)transaction_put(
        transaction, resource, key,
        json_pack("{s:{s:s, s:s}, s:{s:s%}}", "metadata", "name", name, "namespace", "ns", "data", "v", text, sizeof(text)));
}

static void submit(struct fixture *fixture, struct transaction *transaction) {
    int wanted = fixture->stored + 1;
    transaction_submit(transaction, count_stored, fixture);
    RUN_UNTIL(fixture->loop, fixture->stored == wanted);
}

static void start(struct fixture *fixture, int64_t stall_ms) {
    struct error err = {0};
    fixture->hub = watch_hub_new(fixture->loop, fixture->state, stall_ms);
    fixture->http = http_server_new(
        &(struct http_server_options){.loop = fixture->loop, .out_bytes_max = 64 * 1024, .on_request = on_request, .arg = fixture});
    assert_int_equal(http_server_listen(fixture->http, "127.0.0.1", 0, &fixture->port, &err), 0);
    struct transaction *transaction = transaction_new(fixture->state);
    for (int i = 0; i < OBJECTS; i++) {
        put(transaction, fixture->resource, i, 'a');
    }
    submit(fixture, transaction);
}

static int set_up(void **state) {
    struct fixture *fixture = xcalloc(1, sizeof(*fixture));
    struct error err = {0};
    (void)snprintf(fixture->folder, sizeof(fixture->folder), "/tmp/davit-test-watch.XXXXXX");
    assert_non_null(mkdtemp(fixture->folder));
    fixture->path = xasprintf("%s/store.db", fixture->folder);
    fixture->resource = resource_find("", "v1", "configmaps");
    fixture->loop = loop_new();
    if (state_open(fixture->loop, fixture->path, &fixture->state, &err) < 0) {
        fail_msg("%s", err.message);
    }
    *state = fixture;
    return 0;
}

static int tear_down(void **state) {
    struct fixture *fixture = *state;
    http_server_free(fixture->http);
    watch_hub_free(fixture->hub);
    state_close(fixture->state);
    loop_free(fixture->loop);
    static const char *const suffixes[] = {"", "-wal", "-shm"};
    for (size_t i = 0; i < ARRAY_LEN(suffixes); i++) {
        cleanup_free char *path = xasprintf("%s%s", fixture->path, suffixes[i]);
        (void)unlink(path);
    }
    (void)rmdir(fixture->folder);
    free(fixture->path);
    free(fixture);
    return 0;
}

/* A client that has asked and reads nothing yet. */
static int ask(struct fixture *fixture) {
    static const char request[] = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)fixture->port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int small = 4096;
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small)), 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(send(fd, request, sizeof(request) - 1, 0), (ssize_t)sizeof(request) - 1);
    RUN_UNTIL(fixture->loop, watch_hub_count(fixture->hub) == 1);
    run_what_is_ready(fixture->loop);
    return fd;
}

/* Reads until `word` has come. */
static void read_until(struct fixture *fixture, int fd, struct buffer *in, const char *word) {
    char bytes[65536];
    size_t looked_bytes = 0; /* before them there is no `word` */
    alarm(60);
    while (in->len == 0 || strstr(in->data + looked_bytes, word) == NULL) {
        looked_bytes = in->len > strlen(word) ? in->len - strlen(word) : 0;
        ssize_t got = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT);
        buffer_append(in, bytes, got > 0 ? (size_t)got : 0);
        (void)event_base_loop(loop_event_base(fixture->loop), EVLOOP_NONBLOCK);
    }
    alarm(0);
}

static size_t heap_bytes(void) {
    struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
}

static void test_initial_events_are_written_as_they_are_taken(void **arg) {
    struct fixture *fixture = *arg;
    start(fixture, 60 * 1000);
    size_t before = heap_bytes();
    int fd = ask(fixture);
    assert_true(heap_bytes() < before + GROWTH_BYTES_MAX);
    struct transaction *transaction = transaction_new(fixture->state);
    put(transaction, fixture->resource, OBJECTS - 1, 'b'); /* not told yet */
    submit(fixture, transaction);
    cleanup_buffer struct buffer in = BUFFER_INIT;
    read_until(fixture, fd, &in, "MODIFIED");
    assert_int_equal(count_of(in.data, "\"ADDED\""), OBJECTS);
    assert_int_equal(count_of(in.data, "k8s.io/initial-events-end"), 1);
    /* As of the revision that the bookmark names, and what came later behind it. */
    cleanup_free char *bookmark = xasprintf("\"BOOKMARK\",\"object\":{\"kind\":\"ConfigMap\",\"apiVersion\":\"v1\",\"metadata\":{"
                                            "\"resourceVersion\":\"%d\"",
                                            OBJECTS);
    const char *end = strstr(in.data, bookmark);
    assert_non_null(end);
    assert_null(strstr(end, "ADDED"));
    assert_non_null(strstr(end, "MODIFIED"));
    assert_true(strstr(in.data, "item-0000") < strstr(in.data, "item-1999"));
    close(fd);
}

static void test_a_client_that_reads_nothing_is_cut_off(void **arg) {
    struct fixture *fixture = *arg;
    start(fixture, 50);
    int fd = ask(fixture);
    RUN_UNTIL(fixture->loop, watch_hub_count(fixture->hub) == 0);
    cleanup_buffer struct buffer in = BUFFER_INIT;
    char bytes[65536];
    ssize_t got = -1;
    alarm(30);
    while (got != 0) {
        got = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT);
        buffer_append(&in, bytes, got > 0 ? (size_t)got : 0);
        (void)event_base_loop(loop_event_base(fixture->loop), EVLOOP_NONBLOCK);
    }
    alarm(0);
    assert_true(count_of(in.data, "\"ADDED\"") < OBJECTS);
    assert_true(in.len < 5 || memcmp(in.data + in.len - 5, "0\r\n\r\n", 5) != 0); /* it can see that this was not all */
    close(fd);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_initial_events_are_written_as_they_are_taken, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_client_that_reads_nothing_is_cut_off, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
