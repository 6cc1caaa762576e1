/* What is sent to token_uri: https://developers.google.com/identity/protocols/oauth2/service-account, "HTTP/REST"; RFC 7515, 7523.
 */
#include "artifact/gcs/google_base64.h"
#include "artifact/gcs/google_credentials.h"
#include "base/json.h"
#include "io/http.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <string.h>

#define JWT_LIFETIME_S 3600

static int no_passphrase(char *out, int len, int is_writing, void *arg) {
    (void)out, (void)len, (void)is_writing, (void)arg;
    return -1; /* never ask a terminal */
}

static EVP_PKEY *read_key(const struct google_credentials *credentials, struct error *err) {
    BIO *pem = BIO_new_mem_buf(credentials->private_key, (int)strlen(credentials->private_key));
    EVP_PKEY *key = pem != NULL ? PEM_read_bio_PrivateKey(pem, NULL, no_passphrase, NULL) : NULL;
    BIO_free(pem);
    ERR_clear_error();
    if (key != NULL && EVP_PKEY_get_base_id(key) != EVP_PKEY_RSA) {
        EVP_PKEY_free(key);
        key = NULL;
    }
    if (key == NULL) {
        error_set(err, ERROR_INVALID, "%s: \"private_key\": expected an RSA key in PEM, not encrypted", credentials->origin);
    }
    return key;
}

static void append_part(struct buffer *out, json_t *part) {
    cleanup_free char *text = json_text(part);
    google_base64url(out, text, strlen(text));
    json_decref(part);
}

static json_t *claims_of(const struct google_credentials *credentials, int64_t now_s) {
    return json_pack("{s:s,s:s,s:s,s:I,s:I}", "iss", credentials->email, "scope", GOOGLE_SCOPE, "aud", credentials->token_uri,
                     "iat", (json_int_t)now_s, "exp", (json_int_t)(now_s + JWT_LIFETIME_S));
}

static json_t *header_of(const struct google_credentials *credentials) {
    json_t *header = json_pack("{s:s,s:s}", "alg", "RS256", "typ", "JWT");
    if (credentials->key_id != NULL) {
        json_object_set_new(header, "kid", json_string(credentials->key_id));
    }
    return header;
}

static int append_signature(EVP_PKEY *key, struct buffer *out, size_t begin) {
    size_t len = 0;
    cleanup_free unsigned char *signature = NULL;
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    const unsigned char *text = (const unsigned char *)out->data + begin;
    bool is_ok = context != NULL && EVP_DigestSignInit(context, NULL, EVP_sha256(), NULL, key) == 1 &&
                 EVP_DigestSign(context, NULL, &len, text, out->len - begin) == 1;
    if (is_ok) {
        signature = xmalloc(len);
        is_ok = EVP_DigestSign(context, signature, &len, text, out->len - begin) == 1;
    }
    EVP_MD_CTX_free(context);
    ERR_clear_error();
    if (!is_ok) {
        return -1;
    }
    buffer_append_char(out, '.');
    google_base64url(out, signature, len);
    return 0;
}

int google_jwt(const struct google_credentials *credentials, int64_t now_s, struct buffer *out, struct error *err) {
    EVP_PKEY *key = read_key(credentials, err);
    if (key == NULL) {
        return -1;
    }
    size_t begin = out->len;
    append_part(out, header_of(credentials));
    buffer_append_char(out, '.');
    append_part(out, claims_of(credentials, now_s));
    int result = append_signature(key, out, begin);
    EVP_PKEY_free(key);
    return result == 0 ? 0 : error_set(err, ERROR_INVALID, "%s: \"private_key\" does not sign", credentials->origin);
}

static void append_field(struct buffer *out, const char *name, const char *value) {
    buffer_printf(out, "%s%s=", out->len > 0 ? "&" : "", name);
    http_append_percent_encoded(out, value);
}

int google_token_form(const struct google_credentials *credentials, int64_t now_s, struct buffer *out, struct error *err) {
    if (credentials->kind == GOOGLE_AUTHORIZED_USER) {
        append_field(out, "grant_type", "refresh_token");
        append_field(out, "client_id", credentials->client_id);
        append_field(out, "client_secret", credentials->client_secret);
        append_field(out, "refresh_token", credentials->refresh_token);
        return 0;
    }
    cleanup_buffer struct buffer jwt = BUFFER_INIT;
    if (google_jwt(credentials, now_s, &jwt, err) < 0) {
        return -1;
    }
    append_field(out, "grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer");
    append_field(out, "assertion", jwt.data);
    return 0;
}
