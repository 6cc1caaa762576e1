#include "artifact/web/headers.h"

#include "base/json.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <string.h>
#include <strings.h>

/* What libcurl and the downloader say themselves, and what is about one connection only (RFC 9110, 7.6.1). */
static const char *const reserved[] = {
    "Host",
    "Range",
    "Content-Length",
    "Content-Type",
    "Transfer-Encoding",
    "Connection",
    "Keep-Alive",
    "TE",
    "Trailer",
    "Upgrade",
    "Expect",
    "If-Match",
    "If-None-Match",
    "If-Range",
    "If-Unmodified-Since",
    "If-Modified-Since",
    "Proxy-Authorization",
    "Proxy-Connection",
    "Accept-Encoding",
};

static bool is_reserved(const char *name) {
    for (size_t i = 0; i < ARRAY_LEN(reserved); i++) {
        if (strcasecmp(reserved[i], name) == 0) {
            return true;
        }
    }
    return false;
}

/* A token of RFC 9110, 5.6.2. */
static bool is_field_name(const char *name) {
    static const char letters[] = "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    size_t len = strlen(name);
    return len > 0 && len <= 128 && strspn(name, letters) == len;
}

static bool is_field_value(const char *value) {
    for (const unsigned char *at = (const unsigned char *)value; *at != '\0'; at++) {
        if ((*at < 0x20 && *at != '\t') || *at == 0x7f) {
            return false;
        }
    }
    return true;
}

static int add(struct source_http_headers *headers, const char *key, const char *name, const char *value, struct error *err) {
    if (headers->count == SOURCE_HTTP_HEADERS_MAX) {
        return error_set(err, ERROR_INVALID, "\"%s\": expected at most %d header fields", key, SOURCE_HTTP_HEADERS_MAX);
    }
    if (!is_field_value(value)) {
        return error_set(err, ERROR_INVALID, "\"%s\": the value of %s holds a line break or another control character", key, name);
    }
    if (strcasecmp(name, "Authorization") == 0) {
        if (headers->authorization != NULL) {
            return error_set(err, ERROR_INVALID, "\"%s\" and \"%s\" both say Authorization: expected one of them",
                             headers->authorization, key);
        }
        headers->authorization = key;
    }
    headers->fields[headers->count++] = xasprintf("%s: %s", name, value);
    return 0;
}

static int add_basic(struct source_http_headers *headers, const char *key, const char *user_info, struct error *err) {
    size_t len = strlen(user_info);
    if (len > SOURCE_HTTP_HEADERS_BYTES_MAX) {
        return error_set(err, ERROR_INVALID, "\"%s\": the user name and password have %zu bytes", key, len);
    }
    cleanup_free char *encoded = xmalloc(4 * ((len + 2) / 3) + 1);
    (void)EVP_EncodeBlock((unsigned char *)encoded, (const unsigned char *)user_info, (int)len);
    cleanup_free char *value = xasprintf("Basic %s", encoded);
    int result = add(headers, key, "Authorization", value, err);
    OPENSSL_cleanse(encoded, strlen(encoded));
    OPENSSL_cleanse(value, strlen(value));
    return result;
}

/* Files that hold a token mostly end with a line break. */
static size_t trimmed_len(const char *text) {
    size_t len = strlen(text);
    while (len > 0 && strchr("\r\n\t ", text[len - 1]) != NULL) {
        len--;
    }
    return len;
}

/* The keys that stand for Authorization, each with what is put before its value. */
static int add_authorization(const struct artifact_secrets *secrets, struct source_http_headers *headers, struct error *err) {
    static const struct {
        const char *key;
        const char *scheme;
    } rows[] = {{"http_authorization", ""}, {"authorization", ""}, {"token", "Bearer "}};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const char *given = artifact_secret(secrets, (const char *const[]){rows[i].key, NULL});
        if (given == NULL) {
            continue;
        }
        cleanup_free char *value = xasprintf("%s%.*s", rows[i].scheme, (int)trimmed_len(given), given);
        return add(headers, rows[i].key, "Authorization", value, err);
    }
    const char *user = artifact_secret(secrets, (const char *const[]){"username", NULL});
    const char *password = artifact_secret(secrets, (const char *const[]){"password", NULL});
    if (user == NULL && password == NULL) {
        return 0;
    }
    if (user == NULL || strchr(user, ':') != NULL) {
        return error_set(err, ERROR_INVALID, "\"username\": expected a name without a colon beside \"password\"");
    }
    cleanup_free char *user_info = xasprintf("%s:%s", user, password != NULL ? password : "");
    int result = add_basic(headers, "username", user_info, err);
    OPENSSL_cleanse(user_info, strlen(user_info));
    return result;
}

static int add_map(const char *text, struct source_http_headers *headers, struct error *err) {
    static const char key[] = "headers";
    size_t len = strlen(text);
    if (len > SOURCE_HTTP_HEADERS_BYTES_MAX) {
        return error_set(err, ERROR_INVALID, "\"%s\" has %zu bytes; expected at most %d", key, len, SOURCE_HTTP_HEADERS_BYTES_MAX);
    }
    /* The parser's words may repeat what is secret. */
    cleanup_json json_t *map = json_parse_bounded(text, len, 2 * SOURCE_HTTP_HEADERS_MAX + 4, NULL);
    if (!json_is_object(map)) {
        return error_set(err, ERROR_INVALID, "\"%s\": expected a JSON object of at most %d header fields, as text", key,
                         SOURCE_HTTP_HEADERS_MAX);
    }
    const char *name;
    json_t *value;
    json_object_foreach(map, name, value) {
        if (!is_field_name(name)) {
            return error_set(err, ERROR_INVALID, "\"%s\" holds a name that is no header field's", key);
        }
        if (is_reserved(name)) {
            return error_set(err, ERROR_INVALID, "\"%s\": %s may not be given", key, name);
        }
        if (json_c_string(value) == NULL) {
            return error_set(err, ERROR_INVALID, "\"%s\": the value of %s: expected text", key, name);
        }
        if (add(headers, key, name, json_c_string(value), err) < 0) {
            return -1;
        }
    }
    return 0;
}

int source_http_headers_read(const struct artifact_secrets *secrets, const char *user_info, struct source_http_headers *ret,
                             struct error *err) {
    *ret = (struct source_http_headers){0};
    const char *map = secrets != NULL ? artifact_secret(secrets, (const char *const[]){"headers", NULL}) : NULL;
    if ((secrets != NULL && add_authorization(secrets, ret, err) < 0) || (map != NULL && add_map(map, ret, err) < 0)) {
        return -1;
    }
    return user_info != NULL && ret->authorization == NULL ? add_basic(ret, "the URL", user_info, err) : 0;
}

void source_http_headers_release(struct source_http_headers *headers) {
    for (size_t i = 0; i < headers->count; i++) {
        OPENSSL_cleanse(headers->fields[i], strlen(headers->fields[i]));
        free(headers->fields[i]);
    }
    *headers = (struct source_http_headers){0};
}
