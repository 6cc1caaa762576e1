#include "artifact/gcs/api.h"

#include "artifact/gcs/google_base64.h"
#include "base/json.h"
#include "io/http.h"

#include <string.h>
#include <strings.h>

#define SERVICE "https://storage.googleapis.com"
#define PAGE_OBJECTS 1000
#define PAGE_VALUES_MAX (PAGE_OBJECTS * 8)
#define PAGE_TOKEN_BYTES_MAX 4096
#define WORDS_BYTES_MAX 300

static const char *const own_files[] = {"adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"};

/* ---- places ---- */

static bool is_bucket_name(const char *name, size_t len) {
    return len >= 3 && len <= 222 && strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-_.") >= len && *name != '.' &&
           memchr(name, '/', len) == NULL;
}

static int check_object_name(const char *name, struct error *err) {
    size_t len = strlen(name);
    if (len > GCS_OBJECT_BYTES_MAX - 64) {
        return error_set(err, ERROR_INVALID, "the folder has %zu bytes: expected at most %d", len, GCS_OBJECT_BYTES_MAX - 64);
    }
    for (size_t i = 0; i < len; i++) {
        unsigned char byte = (unsigned char)name[i];
        if (byte < 0x20 || byte == 0x7f) {
            return error_set(err, ERROR_INVALID, "the folder's name holds a control character");
        }
    }
    return 0;
}

int gcs_place_parse(const char *url, struct gcs_place *ret, struct error *err) {
    size_t scheme_len = strncmp(url, "gs://", 5) == 0 ? 5 : strncmp(url, "gcs://", 6) == 0 ? 6 : 0;
    const char *bucket = url + scheme_len;
    size_t bucket_len = strcspn(bucket, "/");
    const char *object = bucket[bucket_len] == '/' ? bucket + bucket_len + 1 : "";
    if (scheme_len == 0 || !is_bucket_name(bucket, bucket_len)) {
        return error_set(err, ERROR_INVALID,
                         "expected gs://bucket/folder with a bucket's name of 3 to 222 lower-case letters, digits, "
                         "\"-\", \"_\" and \".\"");
    }
    if (check_object_name(object, err) < 0) {
        return -1;
    }
    const char *slash = strrchr(object, '/');
    const char *name = slash != NULL ? slash + 1 : object;
    size_t len = strlen(object);
    for (size_t i = 0; i < ARRAY_LEN(own_files); i++) {
        len = strcmp(own_files[i], name) == 0 ? (size_t)(name - object) : len;
    }
    bool needs_slash = len > 0 && object[len - 1] != '/';
    *ret = (struct gcs_place){
        .bucket = xstrndup(bucket, bucket_len),
        .prefix = xasprintf("%.*s%s", (int)len, object, needs_slash ? "/" : ""),
    };
    return 0;
}

void gcs_place_release(struct gcs_place *place) {
    free(place->bucket);
    free(place->prefix);
    *place = (struct gcs_place){0};
}

/* ---- URLs ---- */

char *gcs_endpoint(const char *emulator_host) {
    if (emulator_host == NULL || *emulator_host == '\0') {
        return xstrdup(SERVICE);
    }
    size_t len = strlen(emulator_host);
    while (len > 0 && emulator_host[len - 1] == '/') {
        len--;
    }
    bool has_scheme = strstr(emulator_host, "://") != NULL;
    return xasprintf("%s%.*s", has_scheme ? "" : "http://", (int)len, emulator_host);
}

char *gcs_list_url(const char *endpoint, const struct gcs_place *place, const char *page_token) {
    struct buffer url = BUFFER_INIT;
    buffer_printf(&url, "%s/storage/v1/b/", endpoint);
    http_append_percent_encoded(&url, place->bucket);
    buffer_printf(&url, "/o?delimiter=%%2F&maxResults=%d&prefix=", PAGE_OBJECTS);
    http_append_percent_encoded(&url, place->prefix);
    buffer_append_text(&url, "&fields=items(name,size,generation,md5Hash,crc32c,contentEncoding),nextPageToken");
    if (page_token != NULL) {
        buffer_append_text(&url, "&pageToken=");
        http_append_percent_encoded(&url, page_token);
    }
    return buffer_take(&url);
}

char *gcs_object_url(const char *endpoint, const char *bucket, const char *object, const char *generation) {
    struct buffer url = BUFFER_INIT;
    buffer_printf(&url, "%s/storage/v1/b/", endpoint);
    http_append_percent_encoded(&url, bucket);
    buffer_append_text(&url, "/o/");
    http_append_percent_encoded(&url, object);
    buffer_append_text(&url, "?alt=media&generation=");
    http_append_percent_encoded(&url, generation);
    return buffer_take(&url);
}

/* ---- pages ---- */

static bool is_number(const char *text) {
    size_t len = strlen(text);
    return len > 0 && len <= 19 && strspn(text, "0123456789") == len;
}

static uint64_t number_of(const char *text) {
    uint64_t value = 0;
    for (; *text != '\0'; text++) {
        value = value * 10 + (uint64_t)(*text - '0');
    }
    return value;
}

static int read_object(const json_t *object, const struct gcs_place *place, const struct source_filter *filter,
                       struct artifact_listing *listing, struct error *err) {
    const char *name = json_string_at(object, "name", "");
    const char *size = json_string_at(object, "size", "");
    const char *generation = json_string_at(object, "generation", "");
    size_t prefix_len = strlen(place->prefix);
    if (strncmp(name, place->prefix, prefix_len) != 0 || !source_is_needed(name + prefix_len, filter)) {
        return 0;
    }
    if (!is_number(size) || !is_number(generation)) {
        return error_set(err, ERROR_INVALID, "the listing of bucket %s says no size or generation of %.200s", place->bucket, name);
    }
    struct artifact_file *file = source_add_file(listing, name + prefix_len, err);
    if (file == NULL) {
        return -1;
    }
    file->key = xstrdup(name);
    file->etag = xstrdup(generation);
    file->bytes = number_of(size);
    if (strcmp(json_string_at(object, "contentEncoding", ""), "gzip") == 0) {
        file->bytes = UINT64_MAX; /* it comes unpacked; size and checksums are of the packed bytes */
        return 0;
    }
    if (!google_base64_to_hex(json_string_at(object, "md5Hash", ""), 16, file->md5)) {
        file->md5[0] = '\0';
        file->crc32c[0] = '\0';
        (void)google_base64_to_hex(json_string_at(object, "crc32c", ""), 4, file->crc32c);
    }
    return 0;
}

int gcs_page_read(const char *text, size_t len, const struct gcs_place *place, const struct source_filter *filter,
                  struct artifact_listing *listing, char **ret_next, struct error *err) {
    cleanup_json json_t *page = json_parse_bounded(text, len, PAGE_VALUES_MAX, err);
    const json_t *items = json_object_get(page, "items"); /* absent when there are none */
    const char *next = json_string_at(page, "nextPageToken", "");
    if (page == NULL) {
        return error_wrap(err, "the listing of bucket %s", place->bucket);
    }
    if (!json_is_object(page) || (items != NULL && !json_is_array(items)) || strlen(next) > PAGE_TOKEN_BYTES_MAX) {
        return error_set(err, ERROR_INVALID, "the listing of bucket %s is none: expected {\"items\":[...]}", place->bucket);
    }
    size_t i;
    json_t *object;
    json_array_foreach(items, i, object) {
        if (read_object(object, place, filter, listing, err) < 0) {
            return -1;
        }
    }
    *ret_next = *next != '\0' ? xstrdup(next) : NULL;
    return 0;
}

/* ---- refusals ---- */

/* The service's own words, printable and short. */
static char *words_of(const char *text, size_t len) {
    cleanup_json json_t *answer = len > 0 && text[0] == '{' ? json_parse_bounded(text, len, 256, NULL) : NULL;
    const char *message = json_string_at(answer, "error.message", NULL);
    char *words = message != NULL ? xstrndup(message, strnlen(message, WORDS_BYTES_MAX))
                                  : xstrndup(text, answer == NULL && text[0] != '<' ? strnlen(text, WORDS_BYTES_MAX) : 0);
    size_t used = 0;
    for (size_t i = 0; words[i] != '\0'; i++) {
        words[i] = words[i] < 0x20 || words[i] >= 0x7f ? ' ' : words[i];
        used = words[i] != ' ' ? i + 1 : used;
    }
    words[used] = '\0';
    return words;
}

void gcs_explain(int status, const char *text, size_t len, const char *shown, const char *who, struct error *err) {
    static const struct {
        int status;
        enum error_code code;
    } rows[] = {{401, ERROR_UNAUTHORIZED}, {403, ERROR_DENIED},      {404, ERROR_NOT_FOUND},
                {408, ERROR_UNAVAILABLE},  {412, ERROR_UNAVAILABLE}, {429, ERROR_UNAVAILABLE}};
    enum error_code code = status >= 500 ? ERROR_UNAVAILABLE : ERROR_INVALID;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        code = rows[i].status == status ? rows[i].code : code;
    }
    cleanup_free char *words = words_of(text, len);
    bool is_about_us = code == ERROR_UNAUTHORIZED || code == ERROR_DENIED;
    cleanup_free char *as = !is_about_us ? xstrdup("") : who != NULL ? xasprintf(" as %s", who) : xstrdup(" without credentials");
    error_set(err, code, "%s: HTTP %d%s%s%s", shown, status, as, *words != '\0' ? ": " : "", words);
}
