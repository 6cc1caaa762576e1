#include "runtime/access.h"

#include "base/file.h"

#include <string.h>
#include <strings.h>

int access_read_token(const char *path, char **ret_token, struct error *err) {
    cleanup_buffer struct buffer text = BUFFER_INIT;
    if (file_read(path, ACCESS_TOKEN_BYTES_MAX, &text, err) < 0) {
        return -1;
    }
    size_t len = text.len;
    while (len > 0 && strchr("\r\n \t", text.data[len - 1]) != NULL) {
        len--;
    }
    for (size_t i = 0; i < len; i++) {
        if (text.data[i] <= 0x20 || text.data[i] >= 0x7f) {
            return error_set(err, ERROR_INVALID, "%s: expected one token of printable characters on one line", path);
        }
    }
    if (len == 0) {
        return error_set(err, ERROR_INVALID, "%s is empty: expected a token", path);
    }
    *ret_token = xstrndup(text.data, len);
    explicit_bzero(text.data, text.len);
    return 0;
}

/* Takes as long for every token of the right length. */
static bool shows(const char *value, const char *token) {
    static const char scheme[] = "Bearer ";
    if (value == NULL || strncasecmp(value, scheme, sizeof(scheme) - 1) != 0) {
        return false;
    }
    const char *shown = value + sizeof(scheme) - 1;
    size_t len = strlen(token);
    unsigned char difference = 0;
    if (strlen(shown) != len) {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        difference |= (unsigned char)(shown[i] ^ token[i]);
    }
    return difference == 0;
}

bool access_is_allowed(const char *token, const struct http_fields *fields, const char **ret_engines) {
    const char *authorization = http_fields_get(fields, "Authorization");
    *ret_engines = authorization;
    if (token == NULL || shows(http_fields_get(fields, "X-Davit-Authorization"), token)) {
        return true;
    }
    *ret_engines = NULL;
    return shows(authorization, token);
}
