#include "artifact/s3/sigv4.h"

#include "artifact/percent.h"
#include "io/http.h"

#include <openssl/crypto.h>
#include <openssl/hmac.h>
#include <string.h>
#include <time.h>

#define QUERY_PARTS_MAX 64

void sigv4_date(int64_t wall_ms, char out[SIGV4_DATE_BYTES]) {
    time_t seconds = (time_t)(wall_ms / 1000);
    struct tm utc = {0};
    (void)gmtime_r(&seconds, &utc);
    if (strftime(out, SIGV4_DATE_BYTES, "%Y%m%dT%H%M%SZ", &utc) == 0) {
        abort(); /* no clock is in the year 10000 */
    }
}

void sigv4_append_path(struct buffer *out, const char *path) {
    while (*path != '\0') {
        size_t len = strcspn(path, "/");
        cleanup_free char *part = xstrndup(path, len);
        http_append_percent_encoded(out, part);
        path += len;
        if (*path == '/') {
            buffer_append_char(out, '/');
            path++;
        }
    }
}

/* ---- the query ---- */

/* One name or value, decoded and encoded again, so that every spelling is signed as one. */
static char *canonical_part(const char *text, size_t len) {
    cleanup_free char *plain = percent_decode(text, len, false);
    struct buffer out = BUFFER_INIT;
    plain = plain != NULL ? plain : xstrndup(text, len);
    http_append_percent_encoded(&out, plain);
    return buffer_take(&out);
}

struct parameter {
    char *name;
    char *value;
};

static int compare_parameters(const void *left, const void *right) {
    const struct parameter *a = left;
    const struct parameter *b = right;
    int by_name = strcmp(a->name, b->name);
    return by_name != 0 ? by_name : strcmp(a->value, b->value);
}

static struct parameter take_parameter(const char *text, size_t len) {
    const char *equals = memchr(text, '=', len);
    size_t name_len = equals != NULL ? (size_t)(equals - text) : len;
    return (struct parameter){
        .name = canonical_part(text, name_len),
        .value = equals != NULL ? canonical_part(equals + 1, len - name_len - 1) : xstrdup(""),
    };
}

void sigv4_canonical_query(struct buffer *out, const char *query) {
    struct parameter parameters[QUERY_PARTS_MAX] = {{0}};
    size_t count = 0;
    for (const char *at = query; *at != '\0' && count < QUERY_PARTS_MAX;) {
        size_t len = strcspn(at, "&");
        if (len > 0) {
            parameters[count++] = take_parameter(at, len);
        }
        at += at[len] == '&' ? len + 1 : len;
    }
    qsort(parameters, count, sizeof(parameters[0]), compare_parameters);
    for (size_t i = 0; i < count; i++) {
        buffer_printf(out, "%s%s=%s", i > 0 ? "&" : "", parameters[i].name, parameters[i].value);
        free(parameters[i].name);
        free(parameters[i].value);
    }
}

/* ---- the canonical request ---- */

/* Without spaces at the ends, and one where there are several. */
static void append_squeezed(struct buffer *out, const char *value) {
    bool is_begun = false;
    bool is_space_due = false;
    for (; *value != '\0'; value++) {
        bool is_space = *value == ' ' || *value == '\t';
        if (!is_space) {
            if (is_space_due) {
                buffer_append_char(out, ' ');
            }
            buffer_append_char(out, *value);
            is_begun = true;
        }
        is_space_due = is_space && is_begun;
    }
}

static int compare_fields(const void *left, const void *right) {
    const struct sigv4_field *a = left;
    const struct sigv4_field *b = right;
    return strcmp(a->name, b->name);
}

static void sort_fields(const struct sigv4_request *request, struct sigv4_field out[SIGV4_FIELDS_MAX]) {
    memcpy(out, request->fields, sizeof(request->fields));
    qsort(out, request->field_count, sizeof(out[0]), compare_fields);
}

static void append_names(struct buffer *out, const struct sigv4_request *request) {
    struct sigv4_field fields[SIGV4_FIELDS_MAX];
    sort_fields(request, fields);
    for (size_t i = 0; i < request->field_count; i++) {
        buffer_printf(out, "%s%s", i > 0 ? ";" : "", fields[i].name);
    }
}

void sigv4_canonical_request(struct buffer *out, const struct sigv4_request *request) {
    struct sigv4_field fields[SIGV4_FIELDS_MAX];
    sort_fields(request, fields);
    buffer_printf(out, "%s\n%s\n", request->method, request->path);
    sigv4_canonical_query(out, request->query);
    buffer_append_char(out, '\n');
    for (size_t i = 0; i < request->field_count; i++) {
        buffer_printf(out, "%s:", fields[i].name);
        append_squeezed(out, fields[i].value);
        buffer_append_char(out, '\n');
    }
    buffer_append_char(out, '\n');
    append_names(out, request);
    buffer_printf(out, "\n%s", request->payload_sha256);
}

/* ---- the signature ---- */

static void append_scope(struct buffer *out, const struct sigv4_scope *scope) {
    buffer_printf(out, "%.8s/%s/%s/aws4_request", scope->date, scope->region, scope->service);
}

void sigv4_string_to_sign(struct buffer *out, const struct sigv4_request *request, const struct sigv4_scope *scope) {
    cleanup_buffer struct buffer canonical = BUFFER_INIT;
    char hex[HASH_HEX_BYTES];
    sigv4_canonical_request(&canonical, request);
    struct hash hash = hash_bytes(buffer_text(&canonical), canonical.len);
    hash_hex(&hash, hex);
    buffer_printf(out, "AWS4-HMAC-SHA256\n%s\n", scope->date);
    append_scope(out, scope);
    buffer_printf(out, "\n%s", hex);
}

static struct hash keyed(const void *key, size_t key_len, const char *text, size_t len) {
    struct hash hash;
    if (HMAC(EVP_sha256(), key, (int)key_len, (const unsigned char *)text, len, hash.bytes, NULL) == NULL) {
        abort(); /* out of memory */
    }
    return hash;
}

static struct hash signing_key(const struct sigv4_scope *scope) {
    cleanup_free char *seed = xasprintf("AWS4%s", scope->secret_key);
    struct hash key = keyed(seed, strlen(seed), scope->date, 8);
    const char *const parts[] = {scope->region, scope->service, "aws4_request"};
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        key = keyed(key.bytes, HASH_BYTES, parts[i], strlen(parts[i]));
    }
    OPENSSL_cleanse(seed, strlen(seed));
    return key;
}

void sigv4_authorization(struct buffer *out, const struct sigv4_request *request, const struct sigv4_scope *scope) {
    cleanup_buffer struct buffer text = BUFFER_INIT;
    char signature[HASH_HEX_BYTES];
    sigv4_string_to_sign(&text, request, scope);
    struct hash key = signing_key(scope);
    struct hash hash = keyed(key.bytes, HASH_BYTES, buffer_text(&text), text.len);
    OPENSSL_cleanse(&key, sizeof(key));
    hash_hex(&hash, signature);
    buffer_printf(out, "AWS4-HMAC-SHA256 Credential=%s/", scope->access_key);
    append_scope(out, scope);
    buffer_append_text(out, ", SignedHeaders=");
    append_names(out, request);
    buffer_printf(out, ", Signature=%s", signature);
}
