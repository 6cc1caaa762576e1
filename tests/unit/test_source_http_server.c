/* Adapters on web servers of all kinds: what is asked, what is found, what is said when it cannot be had. */
#include "artifact/source.h"

#include "base/file.h"
#include "io/http_server.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "http_peer.h"

#define CONFIG "{\"peft_type\":\"LORA\"}"
#define WEIGHTS_BYTES (2u << 20)

enum kind {
    NO_HEAD = 1,             /* 405 */
    HEAD_FORBIDDEN = 2,      /* 403, as a URL signed for GET has it */
    HEAD_IS_EMPTY = 4,       /* Content-Length: 0 whatever there is */
    NO_RANGE = 8,            /* the whole file in any case */
    NO_VALIDATORS = 16,      /* neither ETag nor Last-Modified */
    WEAK = 32,               /* W/"..." */
    PAGES = 64,              /* 200 and a web page for what there is not */
    FORBIDS_STRANGERS = 128, /* 403 for what there is not, as S3 has it without the right to list */
    PICKLE_ONLY = 256,
    TOKENIZER = 512,
    NO_CONFIG = 1024,
    BUSY = 2048, /* 503 */
};

struct server {
    struct loop_thread loop;
    struct http_server *server;
    int port;
    int kind;
    const char *key;   /* Authorization; NULL = none wanted */
    const char *query; /* wanted with every file; NULL = any */
    const char *to;    /* another server, which everything is redirected to; NULL = none */
    struct buffer log; /* "METHOD path[ range][ auth]\n"; read when nothing is under way */
    char etag[32];
    char *weights;
};

static const char *field(struct http_request *request, const char *name) {
    return http_fields_get(&http_request_head(request)->fields, name);
}

static bool has_file(const struct server *server, const char *name) {
    static const struct {
        const char *name;
        int needs;
        int lacks;
    } rows[] = {{"adapter_config.json", 0, NO_CONFIG},
                {"adapter_model.safetensors", 0, PICKLE_ONLY},
                {"adapter_model.bin", PICKLE_ONLY, 0},
                {"tokenizer_config.json", TOKENIZER, 0}};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if (strcmp(rows[i].name, name) == 0) {
            return (server->kind & rows[i].needs) == rows[i].needs && (server->kind & rows[i].lacks) == 0;
        }
    }
    return false;
}

static void send_file(struct server *server, struct http_request *request, const char *name) {
    bool is_head = strcmp(http_request_head(request)->method, "HEAD") == 0;
    bool is_weights = strncmp(name, "adapter_model", 13) == 0;
    const char *bytes = is_weights ? server->weights : CONFIG;
    size_t len = is_weights ? WEIGHTS_BYTES : strlen(CONFIG);
    if ((server->kind & NO_VALIDATORS) == 0) {
        cleanup_free char *etag = xasprintf("%s\"%s-%s\"", (server->kind & WEAK) != 0 ? "W/" : "", server->etag, name);
        http_reply_field(request, "ETag", etag);
    }
    if (is_head && (server->kind & HEAD_IS_EMPTY) != 0) {
        http_reply(request, 200, "application/octet-stream", "", 0);
    } else if (field(request, "range") != NULL && (server->kind & NO_RANGE) == 0) {
        cleanup_free char *range = xasprintf("bytes 0-0/%zu", len);
        http_reply_field(request, "Content-Range", range);
        http_reply(request, 206, "application/octet-stream", bytes, 1);
    } else {
        http_reply(request, 200, "application/octet-stream", bytes, len);
    }
}

static void say(struct http_request *request, int status, const char *type) {
    http_reply(request, status, type, "<html>no</html>", 15);
}

static void on_request(void *arg, struct http_request *request) {
    struct server *server = arg;
    const struct http_head *head = http_request_head(request);
    const char *name = strrchr(head->path, '/') + 1;
    bool is_head = strcmp(head->method, "HEAD") == 0;
    const char *auth = field(request, "authorization");
    buffer_printf(&server->log, "%s %s%s%s%s%s\n", head->method, head->path, field(request, "range") != NULL ? " range" : "",
                  auth != NULL ? " auth" : "", field(request, "x-key") != NULL ? " x-key" : "",
                  head->query[0] != '\0' ? " query" : "");
    if (server->to != NULL) {
        cleanup_free char *to = xasprintf("%s%s", server->to, head->path);
        http_reply_field(request, "Location", to);
        say(request, 302, "text/html");
    } else if ((server->kind & BUSY) != 0) {
        say(request, 503, "text/html");
    } else if (server->key != NULL && (auth == NULL || strcmp(auth, server->key) != 0)) {
        say(request, auth == NULL ? 401 : 403, "text/html");
    } else if (server->query != NULL && strcmp(head->query, server->query) != 0) {
        say(request, 403, "text/html");
    } else if (is_head && (server->kind & (NO_HEAD | HEAD_FORBIDDEN)) != 0) {
        say(request, (server->kind & NO_HEAD) != 0 ? 405 : 403, "text/html");
    } else if (!has_file(server, name)) {
        say(request,
            (server->kind & PAGES) != 0               ? 200
            : (server->kind & FORBIDS_STRANGERS) != 0 ? 403
                                                      : 404,
            "text/html; charset=utf-8");
    } else {
        send_file(server, request, name);
    }
}

static void server_open(struct server *server, int kind) {
    struct error err = {0};
    *server = (struct server){.kind = kind, .etag = "v1"};
    server->weights = xcalloc(1, WEIGHTS_BYTES);
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
    buffer_release(&server->log);
    free(server->weights);
}

/* ---- the source, as artifact_fetch uses it ---- */

struct visit {
    struct artifact_options options;
    struct artifact_progress progress;
    struct artifact_http *http;
    struct artifact_secrets secrets;
    struct artifact_listing listing;
    void *source;
    struct error err;
};

/* 0 when the list came. */
static int visit_open(struct visit *visit, const struct server *server, const char *path, const char *key, const char *value) {
    cleanup_free char *url = xasprintf("http://127.0.0.1:%d%s", server->port, path);
    visit->http = artifact_http_new(&visit->options, &visit->progress);
    if (key != NULL) {
        visit->secrets.items[visit->secrets.count++] = (struct artifact_secret){key, value};
    }
    const struct artifact_wanted wanted = {.url = url, .revision = "", .digest = "", .version = "", .secrets = &visit->secrets};
    const struct source_args args = {.options = &visit->options, .wanted = &wanted, .http = visit->http};
    if (source_http.open(&args, &visit->source, &visit->err) < 0) {
        return -1;
    }
    return source_http.list(visit->source, &visit->listing, &visit->err);
}

static void visit_close(struct visit *visit) {
    artifact_listing_release(&visit->listing);
    if (visit->source != NULL) {
        source_http.close(visit->source);
    }
    artifact_http_free(visit->http);
}

/* "name bytes etag", a line a file; or "error: CODE message" */
static char *seen(int kind, const char *path, const char *key, const char *value, const char *wanted_key,
                  const char *wanted_query) {
    struct server server;
    struct visit visit = {0};
    struct buffer out = BUFFER_INIT;
    server_open(&server, kind);
    server.key = wanted_key;
    server.query = wanted_query;
    int result = visit_open(&visit, &server, path, key, value);
    if (result < 0) {
        buffer_printf(&out, "error: %d %s", (int)visit.err.code, visit.err.message);
    }
    for (size_t i = 0; result == 0 && i < visit.listing.count; i++) {
        const struct artifact_file *file = &visit.listing.files[i];
        buffer_printf(&out, "%s %lld %s\n", file->name, (long long)file->bytes, file->etag != NULL ? file->etag : "-");
    }
    if (result == 0) {
        buffer_printf(&out, "%s", visit.listing.version[0] != '\0' ? "versioned" : "unversioned");
    }
    visit_close(&visit);
    server_close(&server);
    return buffer_take(&out);
}

static void expect_seen(int kind, const char *expected) {
    cleanup_free char *found = seen(kind, "/a/sql", NULL, NULL, NULL, NULL);
    if (strcmp(found, expected) != 0) {
        fail_msg("kind %d: \"%s\", expected \"%s\"", kind, found, expected);
    }
}

#define BOTH                                                                                                                       \
    "adapter_config.json 20 \"v1-adapter_config.json\"\nadapter_model.safetensors 2097152 \"v1-adapter_model.safetensors\"\n"

static void test_servers_of_all_kinds(void **state) {
    (void)state;
    expect_seen(0, BOTH "versioned");
    expect_seen(TOKENIZER, BOTH "tokenizer_config.json 20 \"v1-tokenizer_config.json\"\nversioned");
    expect_seen(NO_HEAD, BOTH "versioned");
    expect_seen(HEAD_FORBIDDEN, BOTH "versioned");
    expect_seen(HEAD_IS_EMPTY, BOTH "versioned");
    expect_seen(PAGES, BOTH "versioned");
    expect_seen(FORBIDS_STRANGERS, BOTH "versioned");
    expect_seen(NO_RANGE, BOTH "versioned");
    /* Weak validators tell versions apart, and are no condition. */
    expect_seen(WEAK, "adapter_config.json 20 -\nadapter_model.safetensors 2097152 -\nversioned");
    expect_seen(NO_VALIDATORS, "adapter_config.json 20 -\nadapter_model.safetensors 2097152 -\nunversioned");
    /* Neither HEAD nor ranges: a large file shows nothing before it comes. */
    expect_seen(NO_HEAD | NO_RANGE,
                "adapter_config.json 20 \"v1-adapter_config.json\"\nadapter_model.safetensors -1 -\nunversioned");
}

static void expect_error(int kind, const char *key, const char *value, const char *wanted_key, enum error_code code,
                         const char *words) {
    cleanup_free char *found = seen(kind, "/a/sql?sig=s3cret", key, value, wanted_key, NULL);
    cleanup_free char *beginning = xasprintf("error: %d http://127.0.0.1:", (int)code);
    if (strncmp(found, beginning, strlen(beginning)) != 0 || strstr(found, words) == NULL || strstr(found, "s3cret") != NULL) {
        fail_msg("kind %d: \"%s\", expected \"%s\" with \"%s\"", kind, found, beginning, words);
    }
}

static void test_errors_keep_their_meaning(void **state) {
    (void)state;
    expect_error(NO_CONFIG, NULL, NULL, NULL, ERROR_NOT_FOUND, "/a/sql/adapter_config.json: HTTP 404");
    expect_error(PICKLE_ONLY, NULL, NULL, NULL, ERROR_UNSUPPORTED, "has adapter_model.bin and no adapter_model.safetensors");
    expect_error(0, NULL, NULL, "Bearer x", ERROR_UNAUTHORIZED, "HTTP 401, credentials are wanted; no credentials were sent");
    expect_error(0, "token", "s3cret", "Bearer x", ERROR_DENIED, "HTTP 403, forbidden; credentials were sent, of \"token\"");
    expect_error(BUSY, NULL, NULL, NULL, ERROR_UNAVAILABLE, "503");
}

static void test_what_a_secret_and_a_query_open(void **state) {
    (void)state;
    cleanup_free char *by_token = seen(0, "/a/sql", "token", "t\n", "Bearer t", NULL);
    assert_string_equal(by_token, BOTH "versioned");
    cleanup_free char *by_headers = seen(0, "/a/sql", "headers", "{\"Authorization\":\"x\"}", "x", NULL);
    assert_string_equal(by_headers, BOTH "versioned");
    cleanup_free char *by_query = seen(HEAD_FORBIDDEN, "/a/sql?sig=a%2Fb&se=1#x", NULL, NULL, NULL, "sig=a%2Fb&se=1");
    assert_string_equal(by_query, BOTH "versioned");
}

static void test_a_version_is_of_names_sizes_and_validators(void **state) {
    (void)state;
    struct server server;
    char *versions[3];
    server_open(&server, 0);
    for (size_t i = 0; i < ARRAY_LEN(versions); i++) {
        struct visit visit = {0};
        (void)snprintf(server.etag, sizeof(server.etag), "%s", i < 2 ? "v1" : "v2");
        assert_int_equal(visit_open(&visit, &server, "/a/sql", NULL, NULL), 0);
        versions[i] = xstrdup(visit.listing.version);
        visit_close(&visit);
    }
    assert_int_equal(strlen(versions[0]), 64);
    assert_string_equal(versions[0], versions[1]);
    assert_string_not_equal(versions[0], versions[2]);
    for (size_t i = 0; i < ARRAY_LEN(versions); i++) {
        free(versions[i]);
    }
    server_close(&server);
}

/* What is secret stays with the server that it was given for; what is asked next has the condition of what was seen. */
static void test_a_redirect_leaves_secrets_behind(void **state) {
    (void)state;
    struct server from;
    struct server to;
    struct visit visit = {0};
    server_open(&from, 0);
    server_open(&to, 0);
    cleanup_free char *origin = xasprintf("http://127.0.0.1:%d", to.port);
    from.to = origin;
    visit.secrets.items[visit.secrets.count++] = (struct artifact_secret){"headers", "{\"X-Key\":\"k\"}"};
    assert_int_equal(visit_open(&visit, &from, "/a/sql", "token", "t"), 0);
    assert_int_equal(visit.listing.count, 2);
    assert_non_null(strstr(from.log.data, "HEAD /a/sql/adapter_config.json auth x-key\n"));
    assert_non_null(strstr(to.log.data, "HEAD /a/sql/adapter_config.json\n"));
    assert_null(strstr(to.log.data, "auth"));
    assert_null(strstr(to.log.data, "x-key"));
    struct artifact_request request;
    assert_int_equal(source_http.request(visit.source, &visit.listing.files[1], &request, &visit.err), 0);
    assert_int_equal(request.header_count, 1);
    assert_string_equal(request.headers[0], "If-Match: \"v1-adapter_model.safetensors\"");
    assert_int_equal(request.secret_header_count, 2);
    artifact_request_release(&request);
    struct artifact_reply changed = {.status = 412};
    source_http.explain(visit.source, &visit.listing.files[1], &changed, &visit.err);
    assert_int_equal(visit.err.code, ERROR_UNAVAILABLE);
    visit_close(&visit);
    server_close(&from);
    server_close(&to);
}

static void test_a_head_that_is_not_answered_is_not_asked_again(void **state) {
    (void)state;
    struct server server;
    struct visit visit = {0};
    server_open(&server, NO_HEAD);
    assert_int_equal(visit_open(&visit, &server, "/a/sql/adapter_model.safetensors", NULL, NULL), 0);
    const char *first = strstr(server.log.data, "HEAD ");
    assert_non_null(first);
    assert_null(strstr(first + 1, "HEAD "));
    assert_non_null(strstr(server.log.data, "/tokenizer_config.json"));
    assert_null(strstr(server.log.data, "/tokenizer.json")); /* where there is no tokenizer, its parts are not asked for */
    visit_close(&visit);
    server_close(&server);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_servers_of_all_kinds),
        cmocka_unit_test(test_errors_keep_their_meaning),
        cmocka_unit_test(test_what_a_secret_and_a_query_open),
        cmocka_unit_test(test_a_version_is_of_names_sizes_and_validators),
        cmocka_unit_test(test_a_redirect_leaves_secrets_behind),
        cmocka_unit_test(test_a_head_that_is_not_answered_is_not_asked_again),
    };
    return cmocka_run_group_tests_name("source_http_server", tests, NULL, NULL);
}
