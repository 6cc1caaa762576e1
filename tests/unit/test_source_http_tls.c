/* https:// with an authority of one's own: who proves another name, has ended or is vouched for by nobody is refused, in words that
 * say which. */
#include "artifact/source.h"

#include "base/file.h"
#include "io/http_server.h"
#include "io/tls.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "http_peer.h"
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#define DAY_S (24L * 3600)

static struct {
    struct loop_thread loop;
    struct ssl_ctx_st *tls;
    struct http_server *server;
    int port;
    char folder[64];
    char *ca_file;
    char *cert_file;
    char *key_file;
    EVP_PKEY *ca_key;
    X509 *ca;
    atomic_int requests;
} world;

static void on_request(void *arg, struct http_request *request) {
    (void)arg;
    atomic_fetch_add(&world.requests, 1);
    http_reply_field(request, "ETag", "\"v1\"");
    http_reply(request, 200, "application/octet-stream", "{}", 2);
}

/* ---- certificates ---- */

static void set_extension(X509 *certificate, X509 *issuer, int nid, const char *value) {
    X509V3_CTX context;
    X509V3_set_ctx_nodb(&context);
    X509V3_set_ctx(&context, issuer, certificate, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
    assert_non_null(extension);
    assert_int_equal(X509_add_ext(certificate, extension, -1), 1);
    X509_EXTENSION_free(extension);
}

/* issuer NULL = signs itself, as an authority. */
static X509 *make_certificate(EVP_PKEY *key, EVP_PKEY *issuer_key, X509 *issuer, const char *name, long from_s, long until_s) {
    X509 *certificate = X509_new();
    (void)X509_set_version(certificate, 2);
    (void)ASN1_INTEGER_set(X509_get_serialNumber(certificate), issuer != NULL ? 2 : 1);
    (void)X509_gmtime_adj(X509_getm_notBefore(certificate), from_s);
    (void)X509_gmtime_adj(X509_getm_notAfter(certificate), until_s);
    (void)X509_set_pubkey(certificate, key);
    (void)X509_NAME_add_entry_by_txt(X509_get_subject_name(certificate), "CN", MBSTRING_ASC, (const unsigned char *)name, -1, -1,
                                     0);
    issuer = issuer != NULL ? issuer : certificate;
    (void)X509_set_issuer_name(certificate, X509_get_subject_name(issuer));
    if (issuer == certificate) {
        set_extension(certificate, issuer, NID_basic_constraints, "critical,CA:TRUE");
    } else {
        set_extension(certificate, issuer, NID_subject_alt_name, name);
    }
    assert_true(X509_sign(certificate, issuer_key, EVP_sha256()) > 0);
    return certificate;
}

static void write_certificate(const char *path, X509 *certificate) {
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(PEM_write_X509(file, certificate), 1);
    (void)fclose(file);
}

static void write_server(const char *name, long from_s, long until_s) {
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *certificate = make_certificate(key, world.ca_key, world.ca, name, from_s, until_s);
    write_certificate(world.cert_file, certificate);
    FILE *file = fopen(world.key_file, "w");
    assert_non_null(file);
    assert_int_equal(PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL), 1);
    (void)fclose(file);
    X509_free(certificate);
    EVP_PKEY_free(key);
}

static void serve(const char *name, long from_s, long until_s) {
    struct error err = {0};
    write_server(name, from_s, until_s);
    world.tls = tls_server_context(world.cert_file, world.key_file, &err);
    assert_non_null(world.tls);
    world.loop.loop = loop_new();
    world.server = http_server_new(&(struct http_server_options){
        .loop = world.loop.loop, .tls = world.tls, .body_bytes_max = 1024, .connections_max = 16, .on_request = on_request});
    assert_int_equal(http_server_listen(world.server, "127.0.0.1", 0, &world.port, &err), 0);
    loop_thread_start(&world.loop);
}

static int build(void **state) {
    (void)state;
    memset(&world, 0, sizeof(world));
    (void)snprintf(world.folder, sizeof(world.folder), "/tmp/davit-tls-XXXXXX");
    assert_non_null(mkdtemp(world.folder));
    world.ca_file = path_join(world.folder, "ca.crt");
    world.cert_file = path_join(world.folder, "server.crt");
    world.key_file = path_join(world.folder, "server.key");
    world.ca_key = EVP_EC_gen("P-256");
    world.ca = make_certificate(world.ca_key, world.ca_key, NULL, "test authority", -2 * DAY_S, 30 * DAY_S);
    write_certificate(world.ca_file, world.ca);
    return 0;
}

static int clear(void **state) {
    (void)state;
    if (world.server != NULL) {
        loop_thread_stop(&world.loop);
        http_server_free(world.server);
        loop_free(world.loop.loop);
        tls_context_free(world.tls);
    }
    X509_free(world.ca);
    EVP_PKEY_free(world.ca_key);
    char *const files[] = {world.ca_file, world.cert_file, world.key_file};
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        (void)remove(files[i]);
        free(files[i]);
    }
    (void)remove(world.folder);
    return 0;
}

/* 0 when the adapter's files were found. */
static int list(const char *ca_file, struct error *err) {
    struct artifact_options options = {.ca_file = ca_file};
    struct artifact_progress progress = {0};
    struct artifact_http *http = artifact_http_new(&options, &progress);
    struct artifact_listing listing = {0};
    const struct artifact_secrets secrets = {.items = {{"token", "s3cret"}}, .count = 1};
    cleanup_free char *url = xasprintf("https://127.0.0.1:%d/sql", world.port);
    const struct artifact_wanted wanted = {.url = url, .revision = "", .digest = "", .version = "", .secrets = &secrets};
    const struct source_args args = {.options = &options, .wanted = &wanted, .http = http};
    void *source = NULL;
    assert_int_equal(source_http.open(&args, &source, err), 0);
    int result = source_http.list(source, &listing, err);
    artifact_listing_release(&listing);
    source_http.close(source);
    artifact_http_free(http);
    return result;
}

static void expect_refused(const char *ca_file, const char *words) {
    struct error err = {0};
    assert_int_equal(list(ca_file, &err), -1);
    if (strstr(err.message, words) == NULL || strstr(err.message, "s3cret") != NULL) {
        fail_msg("\"%s\", expected \"%s\"", err.message, words);
    }
    assert_int_equal(err.code, ERROR_UNAVAILABLE);
    assert_true(err.is_final);
    assert_int_equal(atomic_load(&world.requests), 0); /* nothing was shown to it */
}

static void test_an_authority_of_ones_own(void **state) {
    (void)state;
    struct error err = {0};
    serve("IP:127.0.0.1", -DAY_S, DAY_S);
    if (list(world.ca_file, &err) < 0) {
        fail_msg("%s", err.message);
    }
    assert_true(atomic_load(&world.requests) > 0);
}

static void test_nobody_vouches(void **state) {
    (void)state;
    serve("IP:127.0.0.1", -DAY_S, DAY_S);
    expect_refused(NULL, "certificate");
}

static void test_another_name(void **state) {
    (void)state;
    serve("DNS:models.example", -DAY_S, DAY_S);
    expect_refused(world.ca_file, "127.0.0.1");
}

static void test_a_certificate_that_ended(void **state) {
    (void)state;
    serve("IP:127.0.0.1", -2 * DAY_S, -DAY_S);
    expect_refused(world.ca_file, "expired");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_an_authority_of_ones_own, build, clear),
        cmocka_unit_test_setup_teardown(test_nobody_vouches, build, clear),
        cmocka_unit_test_setup_teardown(test_another_name, build, clear),
        cmocka_unit_test_setup_teardown(test_a_certificate_that_ended, build, clear),
    };
    return cmocka_run_group_tests_name("source_http_tls", tests, NULL, NULL);
}
