/* Google's credentials: key files, signed assertions, answers of token_uri, tokens that are kept. */
#include "artifact/gcs/google_base64.h"
#include "artifact/gcs/google_credentials.h"
#include "artifact/gcs/google_token_cache.h"
#include "base/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <string.h>

#define ORIGIN "key.json"

/* ---- keys ---- */

static char *pem_of(EVP_PKEY *key) {
    BIO *bio = BIO_new(BIO_s_mem());
    char *text = NULL;
    assert_int_equal(PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL), 1);
    long len = BIO_get_mem_data(bio, &text);
    char *pem = xstrndup(text, (size_t)len);
    BIO_free(bio);
    return pem;
}

static struct google_credentials account(char *pem) {
    return (struct google_credentials){.kind = GOOGLE_SERVICE_ACCOUNT,
                                       .origin = xstrdup(ORIGIN),
                                       .email = xstrdup("me@project.iam.gserviceaccount.com"),
                                       .key_id = xstrdup("k1"),
                                       .private_key = pem,
                                       .token_uri = xstrdup("https://oauth2.googleapis.com/token")};
}

/* The part's bytes; of the caller's. */
static char *decode_part(const char *text, size_t len, size_t *ret_len) {
    cleanup_free char *padded = xasprintf("%.*s%s", (int)len, text, &"===="[4 - (4 - len % 4) % 4]);
    for (char *at = padded; *at != '\0'; at++) {
        *at = *at == '-' ? '+' : *at == '_' ? '/' : *at;
    }
    size_t padded_len = strlen(padded);
    char *out = xcalloc(1, padded_len + 1);
    assert_true(EVP_DecodeBlock((unsigned char *)out, (unsigned char *)padded, (int)padded_len) >= 0);
    *ret_len = padded_len / 4 * 3 - (padded_len - len);
    out[*ret_len] = '\0';
    return out;
}

static void test_a_jwt_is_verified_by_openssl(void **state) {
    (void)state;
    EVP_PKEY *key = EVP_RSA_gen(2048);
    struct google_credentials credentials = account(pem_of(key));
    cleanup_buffer struct buffer jwt = BUFFER_INIT;
    struct error err = {0};
    assert_int_equal(google_jwt(&credentials, 1700000000, &jwt, &err), 0);
    const char *claims_at = strchr(jwt.data, '.') + 1;
    const char *signature_at = strchr(claims_at, '.') + 1;
    assert_null(strpbrk(jwt.data, "+/= \n"));
    size_t len = 0;
    cleanup_free char *header = decode_part(jwt.data, (size_t)(claims_at - jwt.data) - 1, &len);
    assert_string_equal(header, "{\"alg\":\"RS256\",\"typ\":\"JWT\",\"kid\":\"k1\"}");
    cleanup_free char *claims = decode_part(claims_at, (size_t)(signature_at - claims_at) - 1, &len);
    assert_string_equal(claims, "{\"iss\":\"me@project.iam.gserviceaccount.com\","
                                "\"scope\":\"https://www.googleapis.com/auth/devstorage.read_only\","
                                "\"aud\":\"https://oauth2.googleapis.com/token\",\"iat\":1700000000,\"exp\":1700003600}");
    cleanup_free char *signature = decode_part(signature_at, strlen(signature_at), &len);
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    assert_int_equal(EVP_DigestVerifyInit(context, NULL, EVP_sha256(), NULL, key), 1);
    size_t signed_len = (size_t)(signature_at - jwt.data) - 1;
    assert_int_equal(EVP_DigestVerify(context, (unsigned char *)signature, len, (unsigned char *)jwt.data, signed_len), 1);
    jwt.data[3] ^= 1;
    assert_int_not_equal(EVP_DigestVerify(context, (unsigned char *)signature, len, (unsigned char *)jwt.data, signed_len), 1);
    EVP_MD_CTX_free(context);

    cleanup_buffer struct buffer form = BUFFER_INIT;
    assert_int_equal(google_token_form(&credentials, 1700000000, &form, &err), 0);
    assert_int_equal(strncmp(form.data, "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=eyJ", 77), 0);
    google_credentials_release(&credentials);
    EVP_PKEY_free(key);
}

static void test_keys_that_do_not_sign(void **state) {
    (void)state;
    EVP_PKEY *curve = EVP_EC_gen("P-256");
    char *pems[] = {pem_of(curve), xstrdup("-----BEGIN PRIVATE KEY-----\ns3cret\n-----END PRIVATE KEY-----\n"), xstrdup("s3cret"),
                    xstrdup("-----BEGIN ENCRYPTED PRIVATE KEY-----\ns3cret\n-----END ENCRYPTED PRIVATE KEY-----\n")};
    EVP_PKEY_free(curve);
    for (size_t i = 0; i < ARRAY_LEN(pems); i++) {
        struct google_credentials credentials = account(pems[i]);
        cleanup_buffer struct buffer jwt = BUFFER_INIT;
        struct error err = {0};
        assert_int_equal(google_jwt(&credentials, 1, &jwt, &err), -1);
        assert_int_equal(err.code, ERROR_INVALID);
        assert_string_equal(err.message, ORIGIN ": \"private_key\": expected an RSA key in PEM, not encrypted");
        google_credentials_release(&credentials);
    }
}

/* ---- files ---- */

static void test_files(void **state) {
    (void)state;
    static const char user[] =
        "{\"type\":\"authorized_user\",\"client_id\":\"c\",\"client_secret\":\"s&s\",\"refresh_token\":\"r\","
        "\"universe_domain\":\"googleapis.com\"}";
    struct google_credentials credentials;
    struct error err = {0};
    assert_int_equal(google_credentials_parse(user, sizeof(user) - 1, ORIGIN, &credentials, &err), 0);
    assert_int_equal(credentials.kind, GOOGLE_AUTHORIZED_USER);
    assert_string_equal(credentials.token_uri, "https://oauth2.googleapis.com/token");
    cleanup_buffer struct buffer form = BUFFER_INIT;
    assert_int_equal(google_token_form(&credentials, 0, &form, &err), 0);
    assert_string_equal(form.data, "grant_type=refresh_token&client_id=c&client_secret=s%26s&refresh_token=r");
    google_credentials_release(&credentials);

    static const char service[] =
        "{\"type\":\"service_account\",\"client_email\":\"e\",\"private_key\":\"k\",\"private_key_id\":\"i\","
        "\"token_uri\":\"http://127.0.0.1:8080/token\"}";
    assert_int_equal(google_credentials_parse(service, sizeof(service) - 1, ORIGIN, &credentials, &err), 0);
    assert_int_equal(credentials.kind, GOOGLE_SERVICE_ACCOUNT);
    assert_string_equal(credentials.token_uri, "http://127.0.0.1:8080/token");
    google_credentials_release(&credentials);
}

static void test_bad_files(void **state) {
    (void)state;
#define SERVICE(uri) "{\"type\":\"service_account\",\"client_email\":\"e\",\"private_key\":\"s3cret\",\"token_uri\":\"" uri "\"}"
    static const struct {
        const char *text;
        enum error_code code;
        const char *words;
    } rows[] = {
        {"", ERROR_INVALID, "is no JSON object"},
        {"s3cret", ERROR_INVALID, "is no JSON object"},
        {"[\"s3cret\"]", ERROR_INVALID, "is no JSON object"},
        {"{\"private_key\":\"s3cret\"}", ERROR_INVALID, "\"type\": expected service_account or authorized_user"},
        {"{\"type\":\"s3cret\"}", ERROR_INVALID, "\"type\": expected"},
        {"{\"type\":\"external_account\"}", ERROR_UNSUPPORTED, "credentials of type external_account are not done here"},
        {"{\"type\":\"impersonated_service_account\"}", ERROR_UNSUPPORTED, "impersonated_service_account"},
        {"{\"type\":\"service_account\",\"private_key\":\"s3cret\"}", ERROR_INVALID, "\"client_email\" is missing"},
        {"{\"type\":\"service_account\",\"client_email\":\"e\",\"private_key\":\"\"}", ERROR_INVALID, "\"private_key\" is no text"},
        {"{\"type\":\"service_account\",\"client_email\":\"e\",\"private_key\":[\"s3cret\"]}", ERROR_INVALID,
         "\"private_key\" is no text"},
        {"{\"type\":\"authorized_user\",\"client_id\":\"c\",\"client_secret\":\"s3cret\"}", ERROR_INVALID,
         "\"refresh_token\" is missing"},
        {SERVICE("http://evil.example/token"), ERROR_INVALID, "\"token_uri\": expected an https:// URL"},
        {SERVICE("http://127.0.0.1.evil.example/"), ERROR_INVALID, "token_uri"},
        {SERVICE("http://localhost:80@evil.example/"), ERROR_INVALID, "token_uri"},
        {SERVICE("file:///etc/passwd"), ERROR_INVALID, "token_uri"},
        {SERVICE("https:///token"), ERROR_INVALID, "token_uri"},
        {SERVICE("https://h/\\r\\nX: y"), ERROR_INVALID, "token_uri"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct google_credentials credentials;
        struct error err = {0};
        assert_int_equal(google_credentials_parse(rows[i].text, strlen(rows[i].text), ORIGIN, &credentials, &err), -1);
        bool is_right = err.code == rows[i].code && strncmp(err.message, ORIGIN, strlen(ORIGIN)) == 0 &&
                        strstr(err.message, rows[i].words) != NULL && strstr(err.message, "s3cret") == NULL;
        if (!is_right) {
            fail_msg("%s: %s", rows[i].text, err.message);
        }
    }
}

/* ---- answers ---- */

static void test_answers(void **state) {
    (void)state;
    static const struct {
        const char *text;
        const char *token; /* NULL = refused */
        int64_t lifetime_s;
    } rows[] = {
        {"{\"access_token\":\"ya29.x\",\"expires_in\":3599,\"token_type\":\"Bearer\"}", "ya29.x", 3599},
        {"{\"access_token\":\"x\"}", "x", 0},
        {"{\"access_token\":\"x\",\"expires_in\":-5}", "x", 0},
        {"{\"access_token\":\"x\",\"expires_in\":9223372036854775807}", "x", 86400},
        {"{\"access_token\":\"\"}", NULL, 0},
        {"{\"access_token\":\"a b\"}", NULL, 0},
        {"{\"access_token\":\"a\\r\\nX: y\"}", NULL, 0},
        {"{\"error\":\"invalid_grant\"}", NULL, 0},
        {"no", NULL, 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        cleanup_free char *token = NULL;
        int64_t lifetime_s = -1;
        struct error err = {0};
        int result = google_token_parse(rows[i].text, strlen(rows[i].text), &token, &lifetime_s, &err);
        assert_int_equal(result, rows[i].token != NULL ? 0 : -1);
        if (result == 0) {
            assert_string_equal(token, rows[i].token);
            assert_int_equal(lifetime_s, rows[i].lifetime_s);
        }
    }
}

static void test_refusals_repeat_no_secret(void **state) {
    (void)state;
    struct google_credentials credentials = {.client_secret = xstrdup("s3cret"), .refresh_token = xstrdup("r3fresh")};
    static const struct {
        const char *text;
        const char *words;
    } rows[] = {
        {"{\"error\":\"invalid_grant\",\"error_description\":\"Invalid JWT Signature.\"}", "invalid_grant: Invalid JWT Signature."},
        {"{\"error\":\"invalid_client\"}", "invalid_client"},
        {"{\"error\":\"x\",\"error_description\":\"line\\nline\"}", "x: line?line"},
        {"{\"error\":\"x\",\"error_description\":\"you sent s3cret\"}", ""},
        {"{\"error\":\"x\",\"error_description\":\"you sent r3fresh\"}", ""},
        {"{\"error\":\"x\",\"error_description\":\"you sent eyJhbGciOiJSUzI1NiJ9\"}", ""},
        {"<html>", ""},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        cleanup_free char *words = google_token_refusal(rows[i].text, strlen(rows[i].text), &credentials);
        assert_string_equal(words, rows[i].words);
    }
    google_credentials_release(&credentials);
}

/* ---- tokens that are kept ---- */

static void expect_cached(const struct google_credentials *credentials, int64_t now_ms, const char *token) {
    cleanup_free char *found = google_token_cached(credentials, now_ms);
    assert_string_equal(found != NULL ? found : "-", token);
}

static void test_tokens_are_kept_for_a_while(void **state) {
    (void)state;
    struct google_credentials one = {.kind = GOOGLE_SERVICE_ACCOUNT, .email = xstrdup("one"), .private_key = xstrdup("a")};
    struct google_credentials other_key = {.kind = GOOGLE_SERVICE_ACCOUNT, .email = xstrdup("one"), .private_key = xstrdup("b")};
    expect_cached(&one, 0, "-");
    google_token_keep(&one, "t1", 1000);
    expect_cached(&one, 999, "t1");
    expect_cached(&one, 1000, "-");
    expect_cached(&other_key, 0, "-"); /* who has another key has shown nothing yet */
    google_token_keep(&one, "t2", 2000);
    google_token_drop(&one, "t1"); /* another thread has a newer one already */
    expect_cached(&one, 0, "t2");
    google_token_drop(&one, "t2");
    expect_cached(&one, 0, "-");
    /* Bounded: the one that ends soonest goes. */
    google_token_keep(&one, "soon", 10);
    google_token_keep(&other_key, "late", 100000);
    for (int i = 0; i < GOOGLE_TOKENS_MAX - 1; i++) {
        struct google_credentials many = {.kind = GOOGLE_METADATA, .metadata_host = xasprintf("host%d", i)};
        google_token_keep(&many, "m", 1000 + i);
        google_credentials_release(&many);
    }
    expect_cached(&one, 0, "-");
    expect_cached(&other_key, 0, "late");
    google_credentials_release(&one);
    google_credentials_release(&other_key);
}

static void test_base64(void **state) {
    (void)state;
    static const struct {
        const char *text;
        size_t len;
        const char *hex; /* NULL = refused */
    } rows[] = {
        {"1B2M2Y8AsgTpgAmY7PhCfg==", 16, "d41d8cd98f00b204e9800998ecf8427e"},
        {"AAAAAA==", 4, "00000000"},
        {"4waSgw==", 4, "e3069283"},
        {"4waSgw==", 3, NULL},
        {"4waSgw", 4, NULL},
        {"4waS", 4, NULL},
        {"====", 1, NULL},
        {"4wa?gw==", 4, NULL},
        {"", 4, NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char hex[129] = "";
        assert_int_equal(google_base64_to_hex(rows[i].text, rows[i].len, hex), rows[i].hex != NULL);
        if (rows[i].hex != NULL) {
            assert_string_equal(hex, rows[i].hex);
        }
    }
    cleanup_buffer struct buffer out = BUFFER_INIT;
    google_base64url(&out, "\xfb\xef\xff", 3);
    google_base64url(&out, "\xff", 1);
    assert_string_equal(out.data, "--__"
                                  "_w");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_jwt_is_verified_by_openssl),
        cmocka_unit_test(test_keys_that_do_not_sign),
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_bad_files),
        cmocka_unit_test(test_answers),
        cmocka_unit_test(test_refusals_repeat_no_secret),
        cmocka_unit_test(test_tokens_are_kept_for_a_while),
        cmocka_unit_test(test_base64),
    };
    return cmocka_run_group_tests_name("google", tests, NULL, NULL);
}
