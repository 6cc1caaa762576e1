/* TLS: certificates made once, renewed under the same authority, and a round trip between our server and our transfers. */
#include "io_support.h"

#include "base/file.h"
#include "io/tls.h"
#include "io/transfer.h"

#include <ftw.h>
#include <openssl/ssl.h>
#include <sys/stat.h>

static const char *const names[] = {"localhost", "davit.example", "127.0.0.1", "::1", NULL};

struct folder {
    char path[64];
};

static void folder_open(struct folder *folder) {
    (void)snprintf(folder->path, sizeof(folder->path), "/tmp/davit-test-XXXXXX");
    assert_non_null(mkdtemp(folder->path));
}

static int remove_one(const char *path, const struct stat *info, int type, struct FTW *where) {
    (void)info;
    (void)type;
    (void)where;
    return remove(path);
}

static void folder_close(struct folder *folder) {
    (void)nftw(folder->path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static char *read_text(const struct folder *folder, const char *name) {
    struct buffer text = BUFFER_INIT;
    struct error err;
    cleanup_free char *path = path_join(folder->path, name);
    assert_int_equal(file_read(path, 65536, &text, &err), 0);
    return buffer_take(&text);
}

static mode_t mode_of(const struct folder *folder, const char *name) {
    struct stat info;
    cleanup_free char *path = path_join(folder->path, name);
    assert_int_equal(stat(path, &info), 0);
    return info.st_mode & 0777;
}

static void make(const struct folder *folder, const char *const *wanted) {
    struct error err = {0};
    if (tls_make_certificates(folder->path, wanted, &err) < 0) {
        fail_msg("%s", err.message);
    }
}

static void test_certificates_are_made_once(void **state) {
    (void)state;
    struct folder folder;
    folder_open(&folder);
    make(&folder, names);
    assert_int_equal(mode_of(&folder, "ca.key"), 0600);
    assert_int_equal(mode_of(&folder, "server.key"), 0600);
    cleanup_free char *ca = read_text(&folder, "ca.crt");
    cleanup_free char *server = read_text(&folder, "server.crt");
    make(&folder, names);
    cleanup_free char *same = read_text(&folder, "server.crt");
    assert_string_equal(server, same);
    /* another name: a new certificate of the same authority, since clients know that one */
    make(&folder, (const char *const[]){"localhost", "127.1.2.3", NULL});
    cleanup_free char *other = read_text(&folder, "server.crt");
    cleanup_free char *same_ca = read_text(&folder, "ca.crt");
    assert_string_not_equal(server, other);
    assert_string_equal(ca, same_ca);
    /* without the authority's key there is no way but a new one */
    cleanup_free char *key = path_join(folder.path, "ca.key");
    assert_int_equal(unlink(key), 0);
    make(&folder, names);
    cleanup_free char *new_ca = read_text(&folder, "ca.crt");
    assert_string_not_equal(ca, new_ca);
    folder_close(&folder);
}

static void test_bad_files_are_named(void **state) {
    (void)state;
    struct folder folder;
    struct error err = {0};
    folder_open(&folder);
    make(&folder, names);
    cleanup_free char *cert = path_join(folder.path, "server.crt");
    cleanup_free char *key = path_join(folder.path, "server.key");
    cleanup_free char *ca_key = path_join(folder.path, "ca.key");
    assert_null(tls_server_context("/nowhere.crt", key, &err));
    assert_non_null(strstr(err.message, "/nowhere.crt"));
    assert_null(tls_server_context(cert, ca_key, &err)); /* not its key */
    assert_non_null(strstr(err.message, "ca.key"));
    struct ssl_ctx_st *context = tls_server_context(cert, key, &err);
    assert_non_null(context);
    tls_context_free(context);
    folder_close(&folder);
}

/* ---- round trips ---- */

struct world {
    struct loop *loop;
    struct folder folder;
    struct ssl_ctx_st *tls;
    struct http_server *server;
    int port;
    struct transfers *transfers;
    struct http_request *held;
    int gone;
    int done;
    int status;
    struct error err;
    struct buffer body;
    char host[64];       /* of the last request */
    struct buffer offer; /* of protocols */
};

static void on_gone(void *arg) {
    struct world *world = arg;
    world->gone++;
    world->held = NULL;
}

static void handle(void *arg, struct http_request *request) {
    struct world *world = arg;
    const char *path = http_request_head(request)->path;
    const char *host = http_fields_get(&http_request_head(request)->fields, "host");
    size_t len = 0;
    const char *body = http_request_body(request, &len);
    (void)snprintf(world->host, sizeof(world->host), "%s", host != NULL ? host : "");
    if (strcmp(path, "/hold") == 0) {
        world->held = request;
        http_request_on_gone(request, on_gone, world);
        http_stream_begin(request, 200, "text/plain");
        return;
    }
    http_reply(request, 200, "text/plain", body, len);
}

static void world_open(struct world *world) {
    struct error err;
    *world = (struct world){.loop = loop_new()};
    folder_open(&world->folder);
    make(&world->folder, names);
    cleanup_free char *cert = path_join(world->folder.path, "server.crt");
    cleanup_free char *key = path_join(world->folder.path, "server.key");
    world->tls = tls_server_context(cert, key, &err);
    assert_non_null(world->tls);
    world->server = http_server_new(&(struct http_server_options){
        .loop = world->loop, .tls = world->tls, .body_bytes_max = 10000000, .on_request = handle, .arg = world});
    world->port = start_server(world->server);
    world->transfers = transfers_new(world->loop);
}

static void world_close(struct world *world) {
    transfers_free(world->transfers);
    http_server_free(world->server);
    loop_free(world->loop);
    tls_context_free(world->tls);
    folder_close(&world->folder);
    buffer_release(&world->body);
    buffer_release(&world->offer);
}

static void on_done(void *arg, const struct transfer_response *response, const struct error *err) {
    struct world *world = arg;
    world->done++;
    buffer_clear(&world->body);
    if (err != NULL) {
        world->err = *err;
        return;
    }
    world->status = response->status;
    buffer_append(&world->body, response->body, response->body_len);
}

static struct transfer *start(struct world *world, const char *host, const char *path, const char *ca_file, const char *body,
                              size_t len) {
    cleanup_free char *url = xasprintf("https://%s:%d%s", host, world->port, path);
    cleanup_free char *ca = path_join(world->folder.path, ca_file);
    world->done = 0;
    return transfer_start(
        world->transfers,
        &(struct transfer_request){
            .method = "POST", .url = url, .ca_file = ca, .body = body, .body_len = len, .on_done = on_done, .arg = world});
}

static void test_round_trip(void **state) {
    (void)state;
    struct world world;
    world_open(&world);
    (void)start(&world, "127.0.0.1", "/a", "ca.crt", "hello", 5);
    RUN_UNTIL(world.loop, world.done == 1);
    assert_int_equal(world.status, 200);
    assert_string_equal(buffer_text(&world.body), "hello");
    /* both ways more than any buffer holds */
    cleanup_free char *much = xmalloc(5000000);
    for (size_t i = 0; i < 5000000; i++) {
        much[i] = (char)(i * 7 + i / 251);
    }
    (void)start(&world, "localhost", "/a", "ca.crt", much, 5000000);
    RUN_UNTIL(world.loop, world.done == 1);
    assert_int_equal(world.body.len, 5000000);
    assert_memory_equal(world.body.data, much, 5000000);
    world_close(&world);
}

static void test_strangers_are_refused(void **state) {
    (void)state;
    struct world world;
    struct folder stranger;
    world_open(&world);
    folder_open(&stranger);
    make(&stranger, names);
    cleanup_free char *other = xasprintf("../%s/ca.crt", stranger.path + strlen("/tmp/"));
    (void)start(&world, "127.0.0.1", "/a", other, NULL, 0);
    RUN_UNTIL(world.loop, world.done == 1);
    assert_int_equal(world.err.code, ERROR_UNAVAILABLE);
    assert_non_null(strstr(world.err.message, "certificate"));
    /* an address that is not in the certificate */
    (void)start(&world, "127.0.0.2", "/a", "ca.crt", NULL, 0);
    int port = 0;
    struct error err;
    assert_int_equal(http_server_listen(world.server, "127.0.0.2", world.port, &port, &err), 0);
    RUN_UNTIL(world.loop, world.done == 1);
    assert_int_equal(world.err.code, ERROR_UNAVAILABLE);
    /* a client that does not speak TLS does not disturb */
    struct client client;
    client_open(&client, world.loop, world.port);
    client_send(&client, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    RUN_UNTIL(world.loop, client.is_closed);
    client_close(&client);
    (void)start(&world, "127.0.0.1", "/a", "ca.crt", "x", 1);
    RUN_UNTIL(world.loop, world.done == 1);
    assert_string_equal(buffer_text(&world.body), "x");
    folder_close(&stranger);
    world_close(&world);
}

static void run_request(struct world *world, struct transfer_request request, const char *host) {
    cleanup_free char *url = xasprintf("https://%s:%d/a", host, world->port);
    request.method = "POST";
    request.url = url;
    request.body = "x";
    request.body_len = 1;
    request.on_done = on_done;
    request.arg = world;
    world->done = 0;
    world->err = (struct error){0};
    (void)transfer_start(world->transfers, &request);
    RUN_UNTIL(world->loop, world->done == 1);
}

static void test_authority_as_text(void **state) {
    (void)state;
    struct world world;
    struct folder stranger;
    world_open(&world);
    folder_open(&stranger);
    make(&stranger, names);
    cleanup_free char *ca = read_text(&world.folder, "ca.crt");
    cleanup_free char *other_ca = read_text(&stranger, "ca.crt");
    run_request(&world, (struct transfer_request){.ca_pem = ca}, "127.0.0.1");
    assert_int_equal(world.err.code, ERROR_NONE);
    run_request(&world, (struct transfer_request){.ca_pem = other_ca}, "127.0.0.1");
    assert_int_equal(world.err.code, ERROR_UNAVAILABLE);
    run_request(&world, (struct transfer_request){.ca_pem = "no certificate"}, "127.0.0.1");
    assert_int_equal(world.err.code, ERROR_UNAVAILABLE);
    run_request(&world, (struct transfer_request){.is_unverified = true}, "127.0.0.1");
    assert_int_equal(world.err.code, ERROR_NONE);
    folder_close(&stranger);
    world_close(&world);
}

static void test_another_name_is_proved(void **state) {
    (void)state;
    struct world world;
    world_open(&world);
    cleanup_free char *ca = read_text(&world.folder, "ca.crt");
    int port = 0;
    struct error err;
    assert_int_equal(http_server_listen(world.server, "127.0.0.2", world.port, &port, &err), 0);
    run_request(&world, (struct transfer_request){.ca_pem = ca, .tls_server_name = "davit.example"}, "127.0.0.2");
    assert_int_equal(world.err.code, ERROR_NONE);
    cleanup_free char *authority = xasprintf("127.0.0.2:%d", world.port);
    assert_string_equal(world.host, authority);
    run_request(&world, (struct transfer_request){.ca_pem = ca, .tls_server_name = "other.example"}, "127.0.0.1");
    assert_int_equal(world.err.code, ERROR_UNAVAILABLE);
    world_close(&world);
}

static int accept_certificate(int is_good, X509_STORE_CTX *context) {
    (void)is_good;
    return X509_STORE_CTX_get_error_depth(context) >= 0;
}

static void test_client_certificates(void **state) {
    (void)state;
    struct world world;
    world_open(&world);
    SSL_CTX_set_verify(world.tls, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, accept_certificate);
    cleanup_free char *ca = read_text(&world.folder, "ca.crt");
    cleanup_free char *cert = read_text(&world.folder, "server.crt");
    cleanup_free char *key = read_text(&world.folder, "server.key");
    cleanup_free char *cert_file = path_join(world.folder.path, "server.crt");
    cleanup_free char *key_file = path_join(world.folder.path, "server.key");
    run_request(&world, (struct transfer_request){.ca_pem = ca}, "127.0.0.1");
    assert_int_not_equal(world.err.code, ERROR_NONE);
    run_request(&world, (struct transfer_request){.ca_pem = ca, .client_cert_pem = cert, .client_key_pem = key}, "127.0.0.1");
    assert_int_equal(world.err.code, ERROR_NONE);
    run_request(&world, (struct transfer_request){.ca_pem = ca, .client_cert_file = cert_file, .client_key_file = key_file},
                "127.0.0.1");
    assert_int_equal(world.err.code, ERROR_NONE);
    run_request(&world, (struct transfer_request){.ca_pem = ca}, "127.0.0.1"); /* nobody else's connection is used */
    assert_int_not_equal(world.err.code, ERROR_NONE);
    world_close(&world);
}

/* Offered protocols, each with its length before it (RFC 7301, 3.1). */
static int look_at_offer(SSL *ssl, const unsigned char **chosen, unsigned char *chosen_len, const unsigned char *offer,
                         unsigned len, void *arg) {
    (void)ssl;
    struct world *world = arg;
    buffer_append(&world->offer, offer, len);
    *chosen = offer + 1;
    *chosen_len = offer[0];
    return SSL_TLSEXT_ERR_OK;
}

/* libcurl 7.88 loses data of paused HTTP/2 streams: it must not come to that, whatever the server would like. */
static void test_http_1_1_is_all_that_is_offered(void **state) {
    (void)state;
    struct world world;
    world_open(&world);
    SSL_CTX_set_alpn_select_cb(world.tls, look_at_offer, &world);
    (void)start(&world, "127.0.0.1", "/a", "ca.crt", "x", 1);
    RUN_UNTIL(world.loop, world.done == 1);
    assert_string_equal(buffer_text(&world.offer), "\x08http/1.1");
    world_close(&world);
}

static void test_a_client_that_leaves_is_noticed(void **state) {
    (void)state;
    struct world world;
    world_open(&world);
    struct transfer *transfer = start(&world, "127.0.0.1", "/hold", "ca.crt", NULL, 0);
    RUN_UNTIL(world.loop, world.held != NULL);
    (void)http_stream_write(world.held, "x", 1);
    run_what_is_ready(world.loop);
    transfer_cancel(transfer);
    RUN_UNTIL(world.loop, world.gone == 1);
    world_close(&world);
}

static void test_streams_over_tls(void **state) {
    (void)state;
    struct world world;
    world_open(&world);
    (void)start(&world, "127.0.0.1", "/hold", "ca.crt", NULL, 0);
    RUN_UNTIL(world.loop, world.held != NULL);
    cleanup_free char *piece = xcalloc(1, 100000);
    for (int i = 0; i < 30; i++) {
        (void)http_stream_write(world.held, piece, 100000);
        (void)event_base_loop(loop_event_base(world.loop), EVLOOP_NONBLOCK);
    }
    http_stream_end(world.held);
    RUN_UNTIL(world.loop, world.done == 1);
    assert_int_equal(world.body.len, 3000000);
    world_close(&world);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_certificates_are_made_once),
        cmocka_unit_test(test_bad_files_are_named),
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_strangers_are_refused),
        cmocka_unit_test(test_authority_as_text),
        cmocka_unit_test(test_another_name_is_proved),
        cmocka_unit_test(test_client_certificates),
        cmocka_unit_test(test_http_1_1_is_all_that_is_offered),
        cmocka_unit_test(test_a_client_that_leaves_is_noticed),
        cmocka_unit_test(test_streams_over_tls),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
