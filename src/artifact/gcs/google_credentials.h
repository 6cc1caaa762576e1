/* Who one is towards Google: the files that Google's tools write, and what is sent for an access token. Pure.
 *
 *   service_account  signs a JWT with its RSA key (RFC 7523), which token_uri changes for an access token
 *   authorized_user  what `gcloud auth application-default login` leaves: a refresh token
 *
 * external_account, impersonated_service_account and others are ERROR_UNSUPPORTED. No message holds a value of a file. */
#ifndef DAVIT_ARTIFACT_GCS_GOOGLE_CREDENTIALS_H
#define DAVIT_ARTIFACT_GCS_GOOGLE_CREDENTIALS_H

#include "base/buffer.h"
#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

#define GOOGLE_CREDENTIALS_BYTES_MAX (64 * 1024)
#define GOOGLE_SCOPE "https://www.googleapis.com/auth/devstorage.read_only"
#define GOOGLE_TOKEN_BYTES_MAX 8192

enum google_kind {
    GOOGLE_ANONYMOUS,
    GOOGLE_SERVICE_ACCOUNT,
    GOOGLE_AUTHORIZED_USER,
    GOOGLE_ACCESS_TOKEN, /* one that somebody else got */
    GOOGLE_METADATA,     /* the machine's own, of its metadata server */
};

struct google_credentials {
    enum google_kind kind;
    bool is_operators; /* the process's own configuration, not an adapter's Secret */
    char *origin;      /* for messages: "the Secret's \"gcp_service_account_json\"", "/etc/key.json" */
    char *email;       /* client_email; NULL where there is none */
    char *key_id;
    char *private_key; /* PEM */
    char *token_uri;
    char *client_id;
    char *client_secret;
    char *refresh_token;
    char *access_token;
    char *metadata_host; /* "metadata.google.internal" */
};

/* Reads the text of a file. `origin` is copied. ERROR_INVALID or ERROR_UNSUPPORTED, beginning with `origin`. The caller releases
 * *ret on success. */
int google_credentials_parse(const char *text, size_t len, const char *origin, struct google_credentials *ret,
                             struct error *err) DAVIT_MUST_USE;
void google_credentials_release(struct google_credentials *credentials);

/* Appends the signed assertion of a service account, good from now_s on for an hour. ERROR_INVALID: the key is none. */
int google_jwt(const struct google_credentials *credentials, int64_t now_s, struct buffer *out, struct error *err) DAVIT_MUST_USE;
/* Appends the form that is sent to token_uri. */
int google_token_form(const struct google_credentials *credentials, int64_t now_s, struct buffer *out,
                      struct error *err) DAVIT_MUST_USE;
/* {"access_token":"...","expires_in":3599,...}. ERROR_INVALID. The caller frees *ret_token. */
int google_token_parse(const char *text, size_t len, char **ret_token, int64_t *ret_lifetime_s, struct error *err) DAVIT_MUST_USE;
/* What a refusal of token_uri says ({"error":"invalid_grant","error_description":"..."}), in printable words; of the caller's, ""
 * when nothing. Not repeated when it holds what was sent. */
char *google_token_refusal(const char *text, size_t len, const struct google_credentials *credentials);

#endif
