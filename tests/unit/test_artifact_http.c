/* What holds for every exchange of a source: which addresses, how far redirects go and with what, when it is tried again. */
#include "artifact/address.h"
#include "artifact/http.h"
#include "artifact/source.h"

#include "io/http_server.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "http_peer.h"

static bool is_allowed(const char *text, const char *const *allowed) {
    struct sockaddr_in ipv4 = {.sin_family = AF_INET};
    struct sockaddr_in6 ipv6 = {.sin6_family = AF_INET6};
    if (inet_pton(AF_INET, text, &ipv4.sin_addr) == 1) {
        return address_is_allowed((const struct sockaddr *)&ipv4, allowed);
    }
    assert_int_equal(inet_pton(AF_INET6, text, &ipv6.sin6_addr), 1);
    return address_is_allowed((const struct sockaddr *)&ipv6, allowed);
}

static void test_addresses(void **state) {
    (void)state;
    static const char *const fine[] = {"127.0.0.1",
                                       "10.0.0.1",
                                       "192.168.1.1",
                                       "100.64.0.1",
                                       "8.8.8.8",
                                       "::1",
                                       "fd00::1",
                                       "2001:db8::1",
                                       "::ffff:10.0.0.1",
                                       "64:ff9b::808:808",
                                       "64:ff9b:1::808:808",
                                       "64:ff9b:1:808:8:800::",
                                       "::ffff:0:8.8.8.8",
                                       "2001:0:808:808::f7f7:f7f7",
                                       "2001:db8::5efe:10.0.0.1",
                                       "2002:808:808::1",
                                       "169.253.255.255",
                                       "169.255.0.1"};
    static const char *const refused[] = {"169.254.169.254",
                                          "169.254.0.1",
                                          "169.254.170.23",
                                          "100.100.100.200",
                                          "168.63.129.16",
                                          "192.0.0.192",
                                          "0.0.0.0",
                                          "224.0.0.1",
                                          "255.255.255.255",
                                          "fe80::1",
                                          "febf::1",
                                          "fd00:ec2::254",
                                          "fd00:ec2::23",
                                          "fd20:ce::254",
                                          "ff02::1",
                                          "::ffff:169.254.169.254",
                                          "::169.254.169.254",
                                          "64:ff9b::a9fe:a9fe",
                                          "64:ff9b:1::a9fe:a9fe",
                                          "64:ff9b:1:a9fe:a9:fe00::",   /* a.b.c.d in the 48 bits after /48 */
                                          "64:ff9b:1:a9:fe:a9fe::",     /* /56 */
                                          "64:ff9b:1:0:a9:fea9:fe00:0", /* /64 */
                                          "2002:a9fe:a9fe::1",
                                          "::ffff:0:169.254.169.254",
                                          "2001:0:a9fe:a9fe::1", /* Teredo's server */
                                          "2001::5601:5601",     /* and client, inverted */
                                          "2001:db8::5efe:169.254.169.254",
                                          "2001:db8::200:5efe:100.100.100.200",
                                          "::"};
    static const char *const opened[] = {"169.254.169.0/24", "fd00:ec2::254", NULL};
    for (size_t i = 0; i < ARRAY_LEN(fine); i++) {
        if (!is_allowed(fine[i], NULL)) {
            fail_msg("%s is refused", fine[i]);
        }
    }
    for (size_t i = 0; i < ARRAY_LEN(refused); i++) {
        if (is_allowed(refused[i], NULL)) {
            fail_msg("%s is allowed", refused[i]);
        }
    }
    assert_true(is_allowed("169.254.169.254", opened));
    assert_true(is_allowed("::ffff:169.254.169.254", opened));
    assert_true(is_allowed("fd00:ec2::254", opened));
    assert_false(is_allowed("169.254.170.2", opened));
    assert_false(is_allowed("fd00:ec2::255", opened));
}

static void test_percent(void **state) {
    (void)state;
    assert_int_equal(artifact_percent(0, 0), 0);
    assert_int_equal(artifact_percent(5, 0), 0);
    assert_int_equal(artifact_percent(41, 100), 41);
    assert_int_equal(artifact_percent(99, 100), 99);
    assert_int_equal(artifact_percent(250, 100), 100);
    assert_int_equal(artifact_percent(UINT64_MAX / 2, UINT64_MAX), 50);
}

static void test_hosts_and_lists(void **state) {
    (void)state;
    static const char *const opened[] = {"169.254.169.254", NULL};
    static const char *const bad[] = {"10.0.0.0/33", "10.0.0", "::/129", "host", "10.0.0.0/", "10.0.0.0/+8", ""};
    struct error err;
    assert_false(address_host_is_allowed("169.254.169.254", NULL));
    assert_false(address_host_is_allowed("Metadata.Google.Internal.", NULL));
    assert_false(address_host_is_allowed("fe80::1%eth0", NULL));
    assert_true(address_host_is_allowed("metadata.google.internal", opened));
    assert_true(address_host_is_allowed("models.example", NULL));
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        const char *const list[] = {"10.0.0.0/8", bad[i], NULL};
        assert_int_equal(address_check_list(list, &err), -1);
        assert_non_null(strstr(err.message, bad[i]));
    }
    assert_int_equal(address_check_list(opened, &err), 0);
    assert_int_equal(address_check_list(NULL, &err), 0);
}

/* ---- a server that does as its paths say ---- */

struct server {
    struct loop_thread loop;
    struct http_server *server;
    int port;
    atomic_int requests;
    atomic_int secrets; /* requests with the secret */
    char *elsewhere;    /* where /leave leads */
};

static void redirect(struct http_request *request, int status, const char *to) {
    http_reply_field(request, "Location", to);
    http_reply(request, status, NULL, NULL, 0);
}

static void on_request(void *arg, struct http_request *request) {
    struct server *server = arg;
    const struct http_head *head = http_request_head(request);
    const char *path = head->path;
    size_t len = 0;
    const char *body = http_request_body(request, &len);
    int number = atomic_fetch_add(&server->requests, 1) + 1;
    if (http_fields_get(&head->fields, "Authorization") != NULL) {
        (void)atomic_fetch_add(&server->secrets, 1);
    }
    if (strcmp(path, "/leave") == 0) {
        redirect(request, 307, server->elsewhere);
    } else if (strcmp(path, "/stay") == 0) {
        redirect(request, 302, "file?x=%20y");
    } else if (strcmp(path, "/round") == 0) {
        redirect(request, 301, "/round");
    } else if (strcmp(path, "/see-other") == 0) {
        redirect(request, 303, "/echo");
    } else if (strcmp(path, "/metadata") == 0) {
        redirect(request, 302, "http://169.254.169.254/latest/meta-data");
    } else if (strcmp(path, "/files") == 0) {
        redirect(request, 302, "file:///etc/passwd");
    } else if (strcmp(path, "/busy-once") == 0 && number == 1) {
        http_reply(request, 503, NULL, NULL, 0);
    } else if (strcmp(path, "/busy") == 0) {
        http_reply(request, 502, "text/plain", "no", 2);
    } else if (strcmp(path, "/cut-once") == 0 && number == 1) {
        http_stream_begin(request, 200, "text/plain");
        (void)http_stream_write(request, "par", 3);
        http_stream_abort(request);
    } else if (strcmp(path, "/hold") == 0) {
        http_stream_begin(request, 200, "text/plain");
    } else {
        cleanup_free char *text = xasprintf("%s %s?%s %.*s", head->method, path, head->query, (int)len, body);
        http_reply_field(request, "X-Kind", "echo");
        http_reply(request, 200, "text/plain", text, strlen(text));
    }
}

static void server_open(struct server *server) {
    struct error err = {0};
    *server = (struct server){0};
    server->loop.loop = loop_new();
    server->server = http_server_new(&(struct http_server_options){
        .loop = server->loop.loop, .body_bytes_max = 1024, .connections_max = 16, .on_request = on_request, .arg = server});
    assert_int_equal(http_server_listen(server->server, "127.0.0.1", 0, &server->port, &err), 0);
    loop_thread_start(&server->loop);
}

static void server_close(struct server *server) {
    loop_thread_stop(&server->loop);
    http_server_free(server->server);
    loop_free(server->loop.loop);
    free(server->elsewhere);
}

struct asked {
    struct artifact_options options;
    struct artifact_progress progress;
    struct artifact_request request;
    struct artifact_reply reply;
    struct error err;
};

static int ask(struct asked *asked, const struct server *server, const char *path) {
    struct artifact_http *http = artifact_http_new(&asked->options, &asked->progress);
    asked->request.url = xasprintf("http://127.0.0.1:%d%s", server->port, path);
    artifact_request_secret_header(&asked->request, "Authorization: Bearer s3cret");
    int result = artifact_http_ask(http, &asked->request, &asked->reply, &asked->err);
    artifact_http_free(http);
    assert_null(strstr(asked->err.message, "s3cret"));
    return result;
}

static void asked_release(struct asked *asked) {
    artifact_request_release(&asked->request);
    artifact_reply_release(&asked->reply);
    *asked = (struct asked){0};
}

static void test_an_answer(void **state) {
    (void)state;
    struct server server;
    struct asked asked = {0};
    server_open(&server);
    assert_int_equal(ask(&asked, &server, "/a?b=c"), 0);
    assert_int_equal(asked.reply.status, 200);
    assert_string_equal(buffer_text(&asked.reply.body), "GET /a?b=c ");
    cleanup_free char *kind = artifact_reply_field(&asked.reply, "X-KIND");
    assert_string_equal(kind, "echo");
    assert_int_equal(atomic_load(&server.secrets), 1);
    asked_release(&asked);
    asked.request.body_bytes_max = 3;
    assert_int_equal(ask(&asked, &server, "/a"), -1);
    assert_int_equal(asked.err.code, ERROR_LIMIT);
    asked_release(&asked);
    server_close(&server);
}

static void test_redirects(void **state) {
    (void)state;
    struct server from, to;
    struct asked asked = {0};
    server_open(&from);
    server_open(&to);
    from.elsewhere = xasprintf("http://127.0.0.1:%d/leave", to.port);
    to.elsewhere = xasprintf("http://127.0.0.1:%d/back", from.port);
    /* within the origin the secret goes along */
    assert_int_equal(ask(&asked, &from, "/stay"), 0);
    assert_string_equal(buffer_text(&asked.reply.body), "GET /file?x=%20y ");
    assert_int_equal(atomic_load(&from.secrets), 2);
    asked_release(&asked);
    /* another port is another origin; and what was left is not taken up again on the way back */
    assert_int_equal(ask(&asked, &from, "/leave"), 0);
    assert_string_equal(buffer_text(&asked.reply.body), "GET /back? ");
    assert_int_equal(atomic_load(&from.secrets), 3);
    assert_int_equal(atomic_load(&to.secrets), 0);
    assert_non_null(strstr(asked.reply.url, "/back"));
    asked_release(&asked);
    /* a body stays where it was meant to go */
    asked.request.method = xstrdup("POST");
    buffer_append_text(&asked.request.body, "s3cret");
    assert_int_equal(ask(&asked, &from, "/leave"), 0);
    assert_int_equal(asked.reply.status, 307);
    assert_int_equal(atomic_load(&to.requests), 1);
    asked_release(&asked);
    asked.request.method = xstrdup("POST");
    buffer_append_text(&asked.request.body, "s3cret");
    assert_int_equal(ask(&asked, &from, "/see-other"), 0);
    assert_string_equal(buffer_text(&asked.reply.body), "GET /echo? ");
    asked_release(&asked);
    asked.request.is_redirect_final = true;
    assert_int_equal(ask(&asked, &from, "/stay"), 0);
    assert_int_equal(asked.reply.status, 302);
    asked_release(&asked);
    server_close(&from);
    server_close(&to);
}

static void test_redirects_that_are_not_followed(void **state) {
    (void)state;
    struct server server;
    struct asked asked = {0};
    server_open(&server);
    assert_int_equal(ask(&asked, &server, "/metadata"), -1);
    assert_int_equal(asked.err.code, ERROR_DENIED);
    assert_non_null(strstr(asked.err.message, "169.254.169.254 is not allowed"));
    asked_release(&asked);
    /* not even those of the operator's own URLs */
    asked.request.is_operators = true;
    assert_int_equal(ask(&asked, &server, "/metadata"), -1);
    assert_int_equal(asked.err.code, ERROR_DENIED);
    asked_release(&asked);
    assert_int_equal(ask(&asked, &server, "/files"), -1);
    assert_int_equal(asked.err.code, ERROR_DENIED);
    asked_release(&asked);
    assert_int_equal(ask(&asked, &server, "/round"), -1);
    assert_int_equal(asked.err.code, ERROR_LIMIT);
    asked_release(&asked);
    server_close(&server);
}

static void test_tries(void **state) {
    (void)state;
    struct server server;
    struct asked asked = {0};
    static const struct {
        const char *path;
        bool is_one_try;
        int result;
        int status;
        int requests;
    } rows[] = {
        {"/busy-once", false, 0, 200, 2}, {"/busy-once", true, 0, 503, 1}, {"/busy", false, 0, 502, 4},
        {"/cut-once", false, 0, 200, 2},  {"/cut-once", true, -1, 0, 1},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        server_open(&server);
        asked.request.is_one_try = rows[i].is_one_try;
        assert_int_equal(ask(&asked, &server, rows[i].path), rows[i].result);
        assert_int_equal(asked.reply.status, rows[i].status);
        assert_int_equal(atomic_load(&server.requests), rows[i].requests);
        if (rows[i].result < 0) {
            assert_int_equal(asked.err.code, ERROR_UNAVAILABLE);
        }
        asked_release(&asked);
        server_close(&server);
    }
}

static void *cancel_when_asked(void *arg) {
    struct asked *asked = arg;
    atomic_store(&asked->progress.is_cancelled, true);
    return NULL;
}

static void test_the_end_of_a_fetch(void **state) {
    (void)state;
    struct server server;
    struct asked asked = {0};
    pthread_t thread;
    server_open(&server);
    asked.options.timeout_ms = 50;
    assert_int_equal(ask(&asked, &server, "/hold"), -1);
    assert_int_equal(asked.err.code, ERROR_TIMEOUT);
    asked_release(&asked);
    assert_int_equal(pthread_create(&thread, NULL, cancel_when_asked, &asked), 0);
    assert_int_equal(ask(&asked, &server, "/hold"), -1);
    pthread_join(thread, NULL);
    assert_int_equal(asked.err.code, ERROR_TIMEOUT);
    assert_non_null(strstr(asked.err.message, "cancelled"));
    asked_release(&asked);
    server_close(&server);
}

static void test_file_names(void **state) {
    (void)state;
    static const char *const bad[] = {"", ".", "..", "/etc/passwd", "a/b", "../a", "a\\b", "a\nb", "a\x7f", "a\xff"};
    struct artifact_listing listing = {0};
    struct error err;
    char long_name[257];
    memset(long_name, 'x', 256);
    long_name[256] = '\0';
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_null(source_add_file(&listing, bad[i], &err));
        assert_int_equal(err.code, ERROR_INVALID);
    }
    assert_null(source_add_file(&listing, long_name, &err));
    assert_non_null(source_add_file(&listing, long_name + 1, &err));
    assert_null(source_add_file(&listing, long_name + 1, &err));
    for (int i = 1; i < ARTIFACT_FILES_MAX; i++) {
        cleanup_free char *name = xasprintf("..%d", i);
        assert_non_null(source_add_file(&listing, name, &err));
    }
    assert_null(source_add_file(&listing, "one more", &err));
    assert_int_equal(err.code, ERROR_LIMIT);
    artifact_listing_release(&listing);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_addresses),       cmocka_unit_test(test_percent),
        cmocka_unit_test(test_hosts_and_lists), cmocka_unit_test(test_an_answer),
        cmocka_unit_test(test_redirects),       cmocka_unit_test(test_redirects_that_are_not_followed),
        cmocka_unit_test(test_tries),           cmocka_unit_test(test_the_end_of_a_fetch),
        cmocka_unit_test(test_file_names),
    };
    return cmocka_run_group_tests_name("artifact_http", tests, NULL, NULL);
}
