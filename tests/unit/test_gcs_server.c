/* gs:// against a small service on loopback: pages, generations, and whose token goes along. */
#include "artifact/gcs/google_token.h"
#include "artifact/source.h"

#include "base/file.h"
#include "base/json.h"
#include "io/http_server.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "http_peer.h"
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>

#define BUCKET "/storage/v1/b/models/o"
#define USER(port)                                                                                                                 \
    xasprintf("{\"type\":\"authorized_user\",\"client_id\":\"c\",\"client_secret\":\"s3cret\",\"refresh_token\":\"r3fresh\","      \
              "\"token_uri\":\"http://127.0.0.1:%d/token\"}",                                                                      \
              port)

struct service {
    struct loop_thread loop;
    struct http_server *server;
    int port;
    int pages;            /* of the listing; the files are on the last two */
    int tokens;           /* given out: "t1", "t2", ... */
    int first_good;       /* older ones are refused with 401 */
    bool wants_token;     /* else anybody may ask */
    bool refuses_tokens;  /* token_uri says invalid_grant */
    bool is_machine_bare; /* the metadata server knows no service account */
    const char *generation;
    struct buffer log; /* "METHOD path?query\n", and "form: ..."; read when nothing is under way */
};

static void answer(struct http_request *request, int status, const char *text) {
    http_reply(request, status, "application/json", text, strlen(text));
}

static void give_token(struct service *service, struct http_request *request, bool is_metadata) {
    size_t len = 0;
    const char *form = http_request_body(request, &len);
    buffer_printf(&service->log, "form: %s\n", form);
    if (service->refuses_tokens) {
        answer(request, 400, "{\"error\":\"invalid_grant\",\"error_description\":\"Account not found\"}");
        return;
    }
    if (is_metadata && service->is_machine_bare) {
        answer(request, 404, "no service account");
        return;
    }
    cleanup_free char *text =
        xasprintf("{\"access_token\":\"t%d\",\"expires_in\":3599,\"token_type\":\"Bearer\"}", ++service->tokens);
    if (is_metadata) {
        http_reply_field(request, "Metadata-Flavor", "Google");
    }
    answer(request, 200, text);
}

static bool is_welcome(const struct service *service, struct http_request *request, int *ret_status) {
    const char *shown = http_fields_get(&http_request_head(request)->fields, "authorization");
    *ret_status = 401;
    if (!service->wants_token) {
        return true;
    }
    return shown != NULL && strncmp(shown, "Bearer t", 8) == 0 && strtol(shown + 8, NULL, 10) >= service->first_good;
}

static void give_page(const struct service *service, struct http_request *request) {
    cleanup_free char *token = http_query_get(http_request_head(request)->query, "pageToken");
    int page = token != NULL ? (int)strtol(token + 1, NULL, 10) : 0;
    const char *name = page == service->pages - 2   ? "adapter_config.json"
                       : page == service->pages - 1 ? "adapter_model.safetensors"
                                                    : "README.md";
    cleanup_json json_t *answer_of =
        json_pack("{s:[{s:s+,s:s,s:s}]}", "items", "name", "a/sql/", name, "size", "7", "generation", service->generation);
    if (page < service->pages - 1) {
        cleanup_free char *next = xasprintf("p%d", page + 1);
        json_object_set_new(answer_of, "nextPageToken", json_string(next));
    }
    cleanup_free char *text = json_text(answer_of);
    answer(request, 200, text);
}

static void on_request(void *arg, struct http_request *request) {
    struct service *service = arg;
    const struct http_head *head = http_request_head(request);
    int status = 0;
    buffer_printf(&service->log, "%s %s?%s\n", head->method, head->path, head->query);
    if (strcmp(head->path, "/token") == 0) {
        give_token(service, request, false);
    } else if (strncmp(head->path, "/computeMetadata/", 17) == 0) {
        give_token(service, request, true);
    } else if (!is_welcome(service, request, &status)) {
        answer(request, status, "{\"error\":{\"code\":401,\"message\":\"Anonymous caller does not have access\"}}");
    } else if (strcmp(head->path, BUCKET) == 0) {
        give_page(service, request);
    } else {
        answer(request, 404, "{\"error\":{\"code\":404,\"message\":\"The specified bucket does not exist.\"}}");
    }
}

/* ---- a test's surroundings: a service, and an environment that names nothing else ---- */

static struct {
    struct service service;
    char folder[64];
    struct artifact_options options;
    struct artifact_progress progress;
    struct artifact_http *http;
    struct artifact_secrets secrets;
    struct artifact_listing listing;
    void *source;
    struct error err;
} world;

static void set_environment(const char *name, const char *value) {
    assert_int_equal(value != NULL ? setenv(name, value, 1) : unsetenv(name), 0);
}

static int build(void **state) {
    (void)state;
    struct error err = {0};
    memset(&world, 0, sizeof(world));
    struct service *service = &world.service;
    *service = (struct service){.pages = 2, .first_good = 1, .generation = "17"};
    service->loop.loop = loop_new();
    service->server = http_server_new(&(struct http_server_options){
        .loop = service->loop.loop, .body_bytes_max = 65536, .connections_max = 16, .on_request = on_request, .arg = service});
    assert_int_equal(http_server_listen(service->server, "127.0.0.1", 0, &service->port, &err), 0);
    loop_thread_start(&service->loop);
    (void)snprintf(world.folder, sizeof(world.folder), "/tmp/davit-gcs-XXXXXX");
    assert_non_null(mkdtemp(world.folder));
    cleanup_free char *host = xasprintf("127.0.0.1:%d", service->port);
    set_environment("STORAGE_EMULATOR_HOST", host);
    set_environment("HOME", world.folder);
    set_environment("CLOUDSDK_CONFIG", world.folder);
    set_environment("GOOGLE_APPLICATION_CREDENTIALS", NULL);
    set_environment("GCE_METADATA_HOST", NULL);
    set_environment("K_SERVICE", NULL);
    world.http = artifact_http_new(&world.options, &world.progress);
    return 0;
}

static void close_source(void) {
    artifact_listing_release(&world.listing);
    world.listing = (struct artifact_listing){0};
    if (world.source != NULL) {
        source_gcs.close(world.source);
        world.source = NULL;
    }
}

static int clear(void **state) {
    (void)state;
    close_source();
    artifact_http_free(world.http);
    loop_thread_stop(&world.service.loop);
    http_server_free(world.service.server);
    loop_free(world.service.loop.loop);
    buffer_release(&world.service.log);
    cleanup_free char *file = path_join(world.folder, "application_default_credentials.json");
    (void)remove(file);
    (void)remove(world.folder);
    return 0;
}

static int list_at(const char *url) {
    const struct artifact_wanted wanted = {.url = url, .revision = "", .digest = "", .version = "", .secrets = &world.secrets};
    const struct source_args args = {.options = &world.options, .wanted = &wanted, .http = world.http};
    close_source();
    if (source_gcs.open(&args, &world.source, &world.err) < 0) {
        return -1;
    }
    return source_gcs.list(world.source, &world.listing, &world.err);
}

static int list(void) {
    return list_at("gs://models/a/sql");
}

static void give_secret(const char *key, const char *value) {
    world.secrets.items[world.secrets.count++] = (struct artifact_secret){key, value};
}

static void expect_refused(enum error_code code, const char *words) {
    if (list() == 0 || world.err.code != code || strstr(world.err.message, words) == NULL) {
        fail_msg("%d %s: expected %d with \"%s\"", (int)world.err.code, world.err.message, (int)code, words);
    }
    assert_null(strstr(world.err.message, "s3cret"));
}

/* Whom the process is, when it is asked as itself. */
static void expect_identity(enum google_kind kind, const char *origin) {
    struct google_credentials identity;
    struct error err = {0};
    if (google_identity(&world.secrets, false, &identity, &err) < 0) {
        fail_msg("%s", err.message);
    }
    assert_int_equal(identity.kind, kind);
    assert_non_null(strstr(identity.origin, origin));
    google_credentials_release(&identity);
}

/* ---- tests ---- */

static void test_pages_and_generations(void **state) {
    (void)state;
    world.service.pages = 4;
    assert_int_equal(list(), 0);
    assert_int_equal(world.listing.count, 2);
    assert_string_equal(world.listing.files[0].name, "adapter_config.json");
    assert_int_equal(world.listing.files[1].bytes, 7);
    cleanup_free char *version = xstrdup(world.listing.version);
    struct artifact_request request;
    assert_int_equal(source_gcs.request(world.source, &world.listing.files[1], &request, &world.err), 0);
    assert_non_null(strstr(request.url, BUCKET "/a%2Fsql%2Fadapter_model.safetensors?alt=media&generation=17"));
    assert_int_equal(request.secret_header_count, 0);
    artifact_request_release(&request);
    assert_int_equal(list_at("gcs://models/a/sql/adapter_config.json"), 0);
    assert_string_equal(world.listing.version, version);
    world.service.generation = "18";
    assert_int_equal(list(), 0);
    assert_string_not_equal(world.listing.version, version);
}

static void test_listings_end(void **state) {
    (void)state;
    world.service.pages = 1000000;
    expect_refused(ERROR_LIMIT, "lists more than 64 pages");
}

static void test_what_there_is_not(void **state) {
    (void)state;
    assert_int_equal(list_at("gs://elsewhere/a"), -1);
    assert_int_equal(world.err.code, ERROR_NOT_FOUND);
    assert_string_equal(world.err.message, "gs://elsewhere/a/: HTTP 404: The specified bucket does not exist.");
    assert_int_equal(list_at("gs://models/other"), -1);
    assert_int_equal(world.err.code, ERROR_NOT_FOUND);
    assert_string_equal(world.err.message, "gs://models/other/ holds no adapter_config.json");
}

static void test_a_token_serves_many(void **state) {
    (void)state;
    EVP_PKEY *key = EVP_RSA_gen(2048);
    BIO *bio = BIO_new(BIO_s_mem());
    char *pem = NULL;
    assert_int_equal(PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL), 1);
    long pem_len = BIO_get_mem_data(bio, &pem);
    cleanup_free char *uri = xasprintf("http://localhost:%d/token", world.service.port);
    cleanup_json json_t *file = json_pack("{s:s,s:s,s:s%,s:s}", "type", "service_account", "client_email", "me@p.example",
                                          "private_key", pem, (size_t)pem_len, "token_uri", uri);
    cleanup_free char *text = json_text(file);
    BIO_free(bio);
    EVP_PKEY_free(key);
    give_secret("GCP_service_account_json", text);
    world.service.wants_token = true;
    world.service.pages = 5;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(list(), 0);
    }
    assert_int_equal(world.service.tokens, 1);
    assert_non_null(
        strstr(world.service.log.data, "form: grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion="));
    struct artifact_request request;
    assert_int_equal(source_gcs.request(world.source, &world.listing.files[0], &request, &world.err), 0);
    assert_string_equal(request.secret_headers[0], "Authorization: Bearer t1");
    assert_int_equal(request.header_count, 0);
    artifact_request_release(&request);
    assert_null(strstr(world.service.log.data, "Bearer"));
}

static void test_an_old_token_is_renewed_once(void **state) {
    (void)state;
    cleanup_free char *user = USER(world.service.port);
    give_secret("gcp_service_account_json", user);
    world.service.wants_token = true;
    assert_int_equal(list(), 0);
    world.service.first_good = 2;
    assert_int_equal(list(), 0);
    assert_int_equal(world.service.tokens, 2);
    world.service.first_good = 100;
    expect_refused(ERROR_UNAUTHORIZED, "gs://models/a/sql/: HTTP 401 as the Secret's \"gcp_service_account_json\"");
    assert_int_equal(world.service.tokens, 3);
    /* In the middle of a download: worth another try, with another token; the second time it is an answer. */
    world.service.first_good = 3;
    assert_int_equal(list(), 0);
    struct artifact_request request;
    struct artifact_reply reply = {.status = 401};
    for (int i = 0; i < 2; i++) {
        assert_int_equal(source_gcs.request(world.source, &world.listing.files[0], &request, &world.err), 0);
        artifact_request_release(&request);
        source_gcs.explain(world.source, &world.listing.files[0], &reply, &world.err);
        assert_int_equal(world.err.code, i == 0 ? ERROR_UNAVAILABLE : ERROR_UNAUTHORIZED);
    }
    reply.status = 404; /* the listing had it */
    source_gcs.explain(world.source, &world.listing.files[0], &reply, &world.err);
    assert_int_equal(world.err.code, ERROR_UNAVAILABLE);
    assert_non_null(strstr(world.err.message, "replaced meanwhile"));
}

static void test_refused_identities(void **state) {
    (void)state;
    cleanup_free char *user = USER(world.service.port);
    world.service.wants_token = true;
    expect_refused(ERROR_UNAUTHORIZED, "HTTP 401 without credentials: Anonymous caller");
    give_secret("gcp_service_account_json", user);
    world.service.refuses_tokens = true;
    world.service.first_good = 100; /* nor is one from before taken */
    expect_refused(ERROR_UNAUTHORIZED, "no access token: HTTP 400: invalid_grant: Account not found");
    world.secrets.count = 0;
    give_secret("gcp_access_token", "s3cret");
    expect_refused(ERROR_UNAUTHORIZED, "HTTP 401 as the Secret's \"gcp_access_token\"");
}

/* Never anybody else's identity instead. */
static void test_a_broken_secret_is_an_error(void **state) {
    (void)state;
    static const char *const broken[] = {"", "{", "{\"type\":\"service_account\",\"private_key\":\"s3cret\"}"};
    for (size_t i = 0; i < ARRAY_LEN(broken); i++) {
        world.secrets.count = 0;
        give_secret("gcp_service_account_json", broken[i]);
        expect_refused(ERROR_INVALID, "the Secret's \"gcp_service_account_json\"");
    }
    world.secrets.count = 0;
    give_secret("gcp_service_account_json", "{\"type\":\"external_account\"}");
    expect_refused(ERROR_UNSUPPORTED, "external_account");
    assert_int_equal(world.service.log.len, 0); /* nobody was asked */
}

static void write_user(const char *path) {
    cleanup_free char *text = USER(world.service.port);
    assert_int_equal(file_replace(path, text, strlen(text), 0600, NULL), 0);
}

static void test_the_process_in_googles_order(void **state) {
    (void)state;
    cleanup_free char *file = path_join(world.folder, "application_default_credentials.json");
    cleanup_free char *host = xasprintf("127.0.0.1:%d", world.service.port);
    give_secret("huggingface_token", "another's");
    expect_identity(GOOGLE_ANONYMOUS, "nobody");
    set_environment("GCE_METADATA_HOST", host);
    expect_identity(GOOGLE_METADATA, "the metadata server 127.0.0.1");
    write_user(file);
    expect_identity(GOOGLE_AUTHORIZED_USER, "application_default_credentials.json");
    cleanup_free char *other = path_join(world.folder, "no-such-file.json");
    set_environment("GOOGLE_APPLICATION_CREDENTIALS", other);
    struct google_credentials identity;
    struct error err = {0};
    assert_int_equal(google_identity(&world.secrets, false, &identity, &err), -1);
    assert_non_null(strstr(err.message, "GOOGLE_APPLICATION_CREDENTIALS"));
    set_environment("GOOGLE_APPLICATION_CREDENTIALS", file);
    expect_identity(GOOGLE_AUTHORIZED_USER, file);
    give_secret("gcp_access_token", "t");
    expect_identity(GOOGLE_ACCESS_TOKEN, "the Secret's");
}

static void test_the_machines_identity(void **state) {
    (void)state;
    cleanup_free char *host = xasprintf("127.0.0.1:%d", world.service.port);
    struct google_credentials machine = {
        .kind = GOOGLE_METADATA, .origin = xstrdup("m"), .metadata_host = xstrdup(host), .is_operators = true};
    char *token = NULL;
    world.service.is_machine_bare = true;
    assert_int_equal(google_token(world.http, &machine, &token, &world.err), 0);
    assert_null(token); /* public buckets are served to nobody in particular */
    world.service.is_machine_bare = false;
    assert_int_equal(google_token(world.http, &machine, &token, &world.err), 0);
    assert_string_equal(token, "t1");
    assert_non_null(strstr(world.service.log.data, "GET /computeMetadata/v1/instance/service-accounts/default/token?scopes=https"));
    free(token);
    google_credentials_release(&machine);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_pages_and_generations, build, clear),
        cmocka_unit_test_setup_teardown(test_listings_end, build, clear),
        cmocka_unit_test_setup_teardown(test_what_there_is_not, build, clear),
        cmocka_unit_test_setup_teardown(test_a_token_serves_many, build, clear),
        cmocka_unit_test_setup_teardown(test_an_old_token_is_renewed_once, build, clear),
        cmocka_unit_test_setup_teardown(test_refused_identities, build, clear),
        cmocka_unit_test_setup_teardown(test_a_broken_secret_is_an_error, build, clear),
        cmocka_unit_test_setup_teardown(test_the_process_in_googles_order, build, clear),
        cmocka_unit_test_setup_teardown(test_the_machines_identity, build, clear),
    };
    return cmocka_run_group_tests_name("gcs_server", tests, NULL, NULL);
}
