#include "artifact/s3/api.h"

#include "artifact/s3/sigv4.h"
#include "io/http.h"
#include "io/url.h"

#include <string.h>

#define BUCKET_BYTES_MAX 255
#define PREFIX_BYTES_MAX 960 /* a name still fits behind it */
#define PAGE_OBJECTS "1000"
#define SERVICE "s3"

static const char *const own_files[] = {"adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"};

/* ---- places ---- */

static bool is_bucket_name(const char *name, size_t len) {
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.";
    return len > 0 && len <= BUCKET_BYTES_MAX && strspn(name, allowed) >= len && name[0] != '.';
}

/* What a path on the way could be changed to is refused: it would be another object than the one that was signed for. */
static int check_prefix(const char *prefix, struct error *err) {
    if (strlen(prefix) > PREFIX_BYTES_MAX) {
        return error_set(err, ERROR_INVALID, "the folder has %zu bytes: expected at most %d", strlen(prefix), PREFIX_BYTES_MAX);
    }
    for (const char *at = prefix; *at != '\0'; at++) {
        if ((unsigned char)*at < 0x20 || *at == 0x7f) {
            return error_set(err, ERROR_INVALID, "the folder's name holds a control character");
        }
    }
    for (const char *at = prefix; *at != '\0';) {
        size_t len = strcspn(at, "/");
        if ((len == 1 && at[0] == '.') || (len == 2 && at[0] == '.' && at[1] == '.')) {
            return error_set(err, ERROR_INVALID, "the folder's name has a part \"%.*s\"", (int)len, at);
        }
        at += at[len] == '/' ? len + 1 : len;
    }
    return 0;
}

int s3_place_parse(const char *url, struct s3_place *ret, struct error *err) {
    bool is_tos = strncmp(url, "tos://", 6) == 0;
    bool is_s3 = strncmp(url, "s3://", 5) == 0;
    const char *bucket = url + (is_tos ? 6 : is_s3 ? 5 : 0);
    size_t bucket_len = strcspn(bucket, "/");
    const char *key = bucket[bucket_len] == '/' ? bucket + bucket_len + 1 : "";
    if ((!is_tos && !is_s3) || !is_bucket_name(bucket, bucket_len)) {
        return error_set(err, ERROR_INVALID,
                         "expected %s://bucket/folder with letters, digits, \"-\", \"_\" and \".\" in the bucket's name",
                         is_tos ? "tos" : "s3");
    }
    if (check_prefix(key, err) < 0) {
        return -1;
    }
    const char *slash = strrchr(key, '/');
    const char *name = slash != NULL ? slash + 1 : key;
    size_t len = strlen(key);
    for (size_t i = 0; i < ARRAY_LEN(own_files); i++) {
        len = strcmp(own_files[i], name) == 0 ? (size_t)(name - key) : len;
    }
    bool needs_slash = len > 0 && key[len - 1] != '/';
    *ret = (struct s3_place){
        .is_tos = is_tos,
        .bucket = xstrndup(bucket, bucket_len),
        .prefix = xasprintf("%.*s%s", (int)len, key, needs_slash ? "/" : ""),
    };
    return 0;
}

void s3_place_release(struct s3_place *place) {
    free(place->bucket);
    free(place->prefix);
    *place = (struct s3_place){0};
}

/* ---- targets ---- */

bool s3_region_is_valid(const char *region) {
    size_t len = strlen(region);
    return len > 0 && len <= S3_REGION_BYTES_MAX && region[0] != '-' &&
           strspn(region, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-") == len;
}

/* One label of a host's name, as a certificate for *.host has room for. */
static bool is_label(const char *bucket) {
    size_t len = strlen(bucket);
    return len >= 3 && len <= 63 && strspn(bucket, "abcdefghijklmnopqrstuvwxyz0123456789-") == len && bucket[0] != '-' &&
           bucket[len - 1] != '-';
}

static bool is_virtual(const struct s3_server *server, const char *bucket) {
    bool by_itself = server->origin == NULL && is_label(bucket);
    return server->style == S3_STYLE_VIRTUAL || (server->style == S3_STYLE_AUTO && by_itself);
}

void s3_target_init(const struct s3_server *server, const char *bucket, const char *region, const char *key,
                    struct s3_target *ret) {
    cleanup_free char *amazons = xasprintf("https://s3.%s.amazonaws.com%s", region, strncmp(region, "cn-", 3) == 0 ? ".cn" : "");
    const char *origin = server->origin != NULL ? server->origin : amazons;
    const char *host = strstr(origin, "://") + 3;
    cleanup_buffer struct buffer path = BUFFER_INIT;
    bool has_own_host = is_virtual(server, bucket);
    sigv4_append_path(&path, server->path != NULL ? server->path : "");
    if (!has_own_host) {
        buffer_append_char(&path, '/');
        http_append_percent_encoded(&path, bucket);
    }
    if (key != NULL) {
        buffer_append_char(&path, '/');
        sigv4_append_path(&path, key);
    }
    if (path.len == 0) {
        buffer_append_char(&path, '/');
    }
    *ret = (struct s3_target){
        .host = has_own_host ? xasprintf("%s.%s", bucket, host) : xstrdup(host),
        .path = buffer_take(&path),
    };
    ret->origin = xasprintf("%.*s%s", (int)(host - origin), origin, ret->host);
}

void s3_target_release(struct s3_target *target) {
    free(target->origin);
    free(target->host);
    free(target->path);
    *target = (struct s3_target){0};
}

/* ---- requests ---- */

char *s3_list_query(const char *prefix, const char *token) {
    struct buffer query = BUFFER_INIT;
    if (token != NULL) {
        buffer_append_text(&query, "continuation-token=");
        http_append_percent_encoded(&query, token);
        buffer_append_char(&query, '&');
    }
    buffer_append_text(&query, "delimiter=%2F&encoding-type=url&list-type=2&max-keys=" PAGE_OBJECTS "&prefix=");
    http_append_percent_encoded(&query, prefix);
    return buffer_take(&query);
}

static void add_signed(struct sigv4_request *request, const char *name, const char *value, struct artifact_request *ret) {
    request->fields[request->field_count++] = (struct sigv4_field){name, value};
    artifact_request_secret_header(ret, "%s: %s", name, value);
}

void s3_request_init(const char *method, const struct s3_target *target, const char *query, const char *region,
                     const struct aws_keys *keys, int64_t wall_ms, struct artifact_request *ret) {
    *ret = (struct artifact_request){
        .method = xstrdup(method),
        .url = xasprintf("%s%s%s%s", target->origin, target->path, *query != '\0' ? "?" : "", query),
        .is_redirect_final = true,
    };
    if (keys->access_key == NULL) {
        artifact_request_header(ret, "x-amz-checksum-mode: ENABLED");
        return;
    }
    struct sigv4_scope scope = {
        .access_key = keys->access_key, .secret_key = keys->secret_key, .region = region, .service = SERVICE};
    struct sigv4_request request = {
        .method = method,
        .path = target->path,
        .query = query,
        .fields = {{"host", target->host}},
        .field_count = 1,
        .payload_sha256 = SIGV4_EMPTY_SHA256,
    };
    cleanup_buffer struct buffer authorization = BUFFER_INIT;
    sigv4_date(wall_ms, scope.date);
    add_signed(&request, "x-amz-checksum-mode", "ENABLED", ret);
    add_signed(&request, "x-amz-content-sha256", SIGV4_EMPTY_SHA256, ret);
    add_signed(&request, "x-amz-date", scope.date, ret);
    if (keys->session_token != NULL) {
        add_signed(&request, "x-amz-security-token", keys->session_token, ret);
    }
    sigv4_authorization(&authorization, &request, &scope);
    artifact_request_secret_header(ret, "Authorization: %s", buffer_text(&authorization));
}
