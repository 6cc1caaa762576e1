#include "artifact/gcs/google_credentials.h"

#include "base/json.h"

#include <openssl/crypto.h>
#include <stddef.h>
#include <string.h>
#include <strings.h>

#define TOKEN_URI_DEFAULT "https://oauth2.googleapis.com/token"
#define VALUES_MAX 256
#define REFUSAL_BYTES_MAX 256
#define LIFETIME_S_MAX (24 * 3600)

static void free_secret(char *text) {
    if (text != NULL) {
        OPENSSL_cleanse(text, strlen(text));
        free(text);
    }
}

void google_credentials_release(struct google_credentials *credentials) {
    free(credentials->origin);
    free(credentials->email);
    free(credentials->key_id);
    free_secret(credentials->private_key);
    free(credentials->token_uri);
    free(credentials->client_id);
    free_secret(credentials->client_secret);
    free_secret(credentials->refresh_token);
    free_secret(credentials->access_token);
    free(credentials->metadata_host);
    *credentials = (struct google_credentials){0};
}

/* ---- files ---- */

struct member {
    const char *name;
    size_t offset;
    bool is_required;
};

static int read_members(const json_t *file, const struct member *members, struct google_credentials *credentials,
                        struct error *err) {
    for (; members->name != NULL; members++) {
        const json_t *value = json_object_get(file, members->name);
        const char *text = json_c_string(value);
        if ((text == NULL || *text == '\0') && (members->is_required || (value != NULL && text == NULL))) {
            return error_set(err, ERROR_INVALID, "%s: \"%s\" is %s: expected text", credentials->origin, members->name,
                             value != NULL ? "no text or empty" : "missing");
        }
        if (text != NULL) {
            *(char **)((char *)credentials + members->offset) = xstrdup(text);
        }
    }
    return 0;
}

/* An address that only this machine answers at. */
static bool is_loopback(const char *authority, size_t len) {
    static const char *const hosts[] = {"localhost", "127.0.0.1", "[::1]"};
    for (size_t i = 0; i < sizeof(hosts) / sizeof(hosts[0]); i++) {
        size_t host_len = strlen(hosts[i]);
        if (len >= host_len && strncasecmp(authority, hosts[i], host_len) == 0 &&
            (len == host_len ||
             (authority[host_len] == ':' && strspn(authority + host_len + 1, "0123456789") >= len - host_len - 1))) {
            return true;
        }
    }
    return false;
}

/* A signed assertion and a refresh token travel there. */
static int check_token_uri(const struct google_credentials *credentials, struct error *err) {
    const char *uri = credentials->token_uri;
    size_t scheme_len = strncasecmp(uri, "https://", 8) == 0 ? 8 : strncasecmp(uri, "http://", 7) == 0 ? 7 : 0;
    bool is_plain = strspn(uri, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~:/[]%") == strlen(uri);
    size_t len = scheme_len > 0 ? strcspn(strstr(uri, "://") + 3, "/?#") : 0;
    if (len == 0 || !is_plain || (scheme_len == 7 && !is_loopback(uri + scheme_len, len))) {
        return error_set(err, ERROR_INVALID, "%s: \"token_uri\": expected an https:// URL (http:// on this machine only)",
                         credentials->origin);
    }
    return 0;
}

#define MEMBER(member_name, field, needed)                                                                                         \
    { .name = (member_name), .offset = offsetof(struct google_credentials, field), .is_required = (needed) }

static int read_file(const json_t *file, struct google_credentials *credentials, struct error *err) {
    static const struct {
        const char *type;
        enum google_kind kind;
        struct member members[6];
    } rows[] = {
        {"service_account",
         GOOGLE_SERVICE_ACCOUNT,
         {MEMBER("client_email", email, true), MEMBER("private_key", private_key, true), MEMBER("private_key_id", key_id, false),
          MEMBER("token_uri", token_uri, false)}},
        {"authorized_user",
         GOOGLE_AUTHORIZED_USER,
         {MEMBER("client_id", client_id, true), MEMBER("client_secret", client_secret, true),
          MEMBER("refresh_token", refresh_token, true), MEMBER("token_uri", token_uri, false)}},
    };
    static const char *const unsupported[] = {"external_account", "external_account_authorized_user",
                                              "impersonated_service_account", "gdch_service_account"};
    const char *type = json_string_at(file, "type", "");
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if (strcmp(rows[i].type, type) == 0) {
            credentials->kind = rows[i].kind;
            return read_members(file, rows[i].members, credentials, err);
        }
    }
    for (size_t i = 0; i < ARRAY_LEN(unsupported); i++) {
        if (strcmp(unsupported[i], type) == 0) {
            return error_set(err, ERROR_UNSUPPORTED,
                             "%s: credentials of type %s are not done here: expected service_account or authorized_user",
                             credentials->origin, type);
        }
    }
    return error_set(err, ERROR_INVALID, "%s: \"type\": expected service_account or authorized_user", credentials->origin);
}

int google_credentials_parse(const char *text, size_t len, const char *origin, struct google_credentials *ret, struct error *err) {
    if (len > GOOGLE_CREDENTIALS_BYTES_MAX) {
        return error_set(err, ERROR_INVALID, "%s has %zu bytes: expected at most %d", origin, len, GOOGLE_CREDENTIALS_BYTES_MAX);
    }
    cleanup_json json_t *file = json_parse_bounded(text, len, VALUES_MAX, NULL); /* its words may repeat what is secret */
    if (!json_is_object(file)) {
        return error_set(err, ERROR_INVALID, "%s is no JSON object: expected a key file as Google writes it", origin);
    }
    struct google_credentials credentials = {.origin = xstrdup(origin)};
    int result = read_file(file, &credentials, err);
    if (result == 0 && credentials.token_uri == NULL) {
        credentials.token_uri = xstrdup(TOKEN_URI_DEFAULT);
    }
    result = result == 0 ? check_token_uri(&credentials, err) : result;
    if (result < 0) {
        google_credentials_release(&credentials);
        return -1;
    }
    *ret = credentials;
    return 0;
}

/* ---- answers of token_uri ---- */

static bool is_token(const char *text) {
    size_t len = strlen(text);
    for (size_t i = 0; i < len; i++) {
        if (text[i] <= 0x20 || text[i] >= 0x7f) {
            return false;
        }
    }
    return len > 0 && len <= GOOGLE_TOKEN_BYTES_MAX;
}

int google_token_parse(const char *text, size_t len, char **ret_token, int64_t *ret_lifetime_s, struct error *err) {
    cleanup_json json_t *answer = json_parse_bounded(text, len, VALUES_MAX, NULL);
    const char *token = json_string_at(answer, "access_token", "");
    int64_t lifetime_s = json_int_at(answer, "expires_in", 0);
    if (!is_token(token)) {
        return error_set(err, ERROR_INVALID, "the answer holds no \"access_token\"");
    }
    *ret_token = xstrdup(token);
    *ret_lifetime_s = lifetime_s < 0 ? 0 : lifetime_s > LIFETIME_S_MAX ? LIFETIME_S_MAX : lifetime_s;
    return 0;
}

static bool holds(const char *text, const char *secret) {
    return secret != NULL && *secret != '\0' && strstr(text, secret) != NULL;
}

char *google_token_refusal(const char *text, size_t len, const struct google_credentials *credentials) {
    cleanup_json json_t *answer = json_parse_bounded(text, len, VALUES_MAX, NULL);
    const char *code = json_string_at(answer, "error", "");
    const char *words = json_string_at(answer, "error_description", "");
    cleanup_free char *both = xasprintf("%.64s%s%.*s", code, *words != '\0' ? ": " : "", REFUSAL_BYTES_MAX, words);
    bool is_secret = holds(both, credentials->client_secret) || holds(both, credentials->refresh_token) ||
                     holds(both, "eyJ") /* a JWT begins so */;
    for (char *at = both; *at != '\0'; at++) {
        *at = *at < 0x20 || *at >= 0x7f ? '?' : *at;
    }
    return is_secret ? xstrdup("") : take_pointer(both);
}
