#include "artifact/web/url.h"

#include <stdbool.h>
#include <string.h>
#include <strings.h>

static const char *const own_files[] = {"adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"};
static const char *const archives[] = {".zip", ".tar", ".tar.gz", ".tgz", ".tar.zst", ".tar.xz", ".tar.bz2"};

static int hex_digit(char byte) {
    static const char digits[] = "0123456789abcdef";
    const char *at = byte != '\0' ? strchr(digits, byte | 0x20) : NULL;
    return at != NULL ? (int)(at - digits) : -1;
}

/* %XX decoded; NULL for a wrong one and for control characters. */
static char *decode(const char *text, size_t len) {
    cleanup_free char *out = xmalloc(len + 1);
    size_t used = 0;
    for (size_t i = 0; i < len; i++) {
        int byte = (unsigned char)text[i];
        if (byte == '%') {
            int high = i + 2 < len ? hex_digit(text[i + 1]) : -1;
            int low = i + 2 < len ? hex_digit(text[i + 2]) : -1;
            byte = high >= 0 && low >= 0 ? high * 16 + low : 0;
            i += 2;
        }
        if (byte < 0x20 || byte == 0x7f) {
            return NULL;
        }
        out[used++] = (char)byte;
    }
    out[used] = '\0';
    return take_pointer(out);
}

static int check_bytes(const char *text, struct error *err) {
    size_t len = strlen(text);
    if (len > SOURCE_HTTP_URL_BYTES_MAX) {
        return error_set(err, ERROR_INVALID, "the URL has %zu bytes; expected at most %d", len, SOURCE_HTTP_URL_BYTES_MAX);
    }
    for (size_t i = 0; i < len; i++) {
        unsigned char byte = (unsigned char)text[i];
        if (byte <= 0x20 || byte >= 0x7f || byte == '\\') {
            return error_set(err, ERROR_INVALID, "byte %zu of the URL is 0x%02x: expected it percent-encoded", i + 1, byte);
        }
    }
    return 0;
}

static bool ends_with(const char *text, size_t len, const char *end) {
    size_t end_len = strlen(end);
    return len > end_len && strncasecmp(text + len - end_len, end, end_len) == 0;
}

static bool is_own_file(const char *name, size_t len) {
    for (size_t i = 0; i < ARRAY_LEN(own_files); i++) {
        if (strlen(own_files[i]) == len && memcmp(own_files[i], name, len) == 0) {
            return true;
        }
    }
    return false;
}

static int check_path(const char *path, size_t len, struct error *err) {
    for (size_t i = 0; i < ARRAY_LEN(archives); i++) {
        if (ends_with(path, len, archives[i])) {
            return error_set(err, ERROR_UNSUPPORTED,
                             "%.*s is an archive, which is not unpacked: expected the URL of a folder with %s", (int)len, path,
                             own_files[0]);
        }
    }
    return 0;
}

/* The length of the path up to its folder: what names a file of an adapter means where it lies. */
static size_t folder_len(const char *path, size_t len) {
    size_t name = len;
    while (name > 0 && path[name - 1] != '/') {
        name--;
    }
    return is_own_file(path + name, len - name) ? name : len;
}

int source_http_url_parse(const char *text, struct source_http_url *ret, struct error *err) {
    size_t scheme_len = strncasecmp(text, "http://", 7) == 0 ? 7 : strncasecmp(text, "https://", 8) == 0 ? 8 : 0;
    if (scheme_len == 0) {
        return error_set(err, ERROR_INVALID, "expected http://host/folder or https://host/folder");
    }
    if (check_bytes(text, err) < 0) {
        return -1;
    }
    const char *authority = text + scheme_len;
    size_t authority_len = strcspn(authority, "/?#");
    const char *host = authority;
    for (size_t i = 0; i < authority_len; i++) {
        host = authority[i] == '@' ? authority + i + 1 : host;
    }
    const char *path = authority + authority_len;
    size_t path_len = strcspn(path, "?#");
    const char *query = path + path_len;
    if (host == path || *host == ':') {
        return error_set(err, ERROR_INVALID, "the URL names no host: expected http://host/folder or https://host/folder");
    }
    if (check_path(path, path_len, err) < 0) {
        return -1;
    }
    cleanup_free char *user_info = host > authority ? decode(authority, (size_t)(host - authority) - 1) : NULL;
    if (host > authority && user_info == NULL) {
        return error_set(err, ERROR_INVALID, "the user name and password of the URL are not percent-encoded as they must be");
    }
    path_len = folder_len(path, path_len);
    bool has_slash = path_len > 0 && path[path_len - 1] == '/';
    *ret = (struct source_http_url){
        .folder = xasprintf("%.*s%.*s%.*s%s", (int)scheme_len, text, (int)(authority + authority_len - host), host, (int)path_len,
                            path, has_slash ? "" : "/"),
        .query = xstrndup(query, *query == '?' ? strcspn(query, "#") : 0),
        .user_info = take_pointer(user_info),
    };
    return 0;
}

void source_http_url_release(struct source_http_url *url) {
    free(url->folder);
    free(url->query);
    free(url->user_info);
    *url = (struct source_http_url){0};
}

char *source_http_url_file(const struct source_http_url *url, const char *name) {
    return xasprintf("%s%s%s", url->folder, name, url->query);
}
