#include "base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const int http_statuses[] = {
    [ERROR_NONE] = 200,      [ERROR_INVALID] = 400,     [ERROR_UNAUTHORIZED] = 401, [ERROR_DENIED] = 403,
    [ERROR_NOT_FOUND] = 404, [ERROR_EXISTS] = 409,      [ERROR_CONFLICT] = 409,     [ERROR_LIMIT] = 413,
    [ERROR_BUSY] = 429,      [ERROR_UNSUPPORTED] = 501, [ERROR_UNAVAILABLE] = 503,  [ERROR_TIMEOUT] = 504,
    [ERROR_IO] = 500,        [ERROR_INTERNAL] = 500,
};

int error_code_http_status(enum error_code code) {
    return (size_t)code < ARRAY_LEN(http_statuses) ? http_statuses[code] : 500;
}

enum error_code error_code_from_http_status(int status) {
    switch (status) {
    case 401:
        return ERROR_UNAUTHORIZED;
    case 403:
        return ERROR_DENIED;
    case 404:
        return ERROR_NOT_FOUND;
    case 409:
        return ERROR_CONFLICT;
    case 413:
        return ERROR_LIMIT;
    case 429:
        return ERROR_BUSY;
    case 501:
        return ERROR_UNSUPPORTED;
    case 502:
    case 503:
        return ERROR_UNAVAILABLE;
    case 408:
    case 504:
        return ERROR_TIMEOUT;
    default:
        return status < 500 ? ERROR_INVALID : ERROR_INTERNAL;
    }
}

int error_set(struct error *err, enum error_code code, const char *format, ...) {
    if (err == NULL) {
        return -1;
    }
    err->code = code;
    err->http_status = error_code_http_status(code);
    err->is_final = false;
    va_list args;
    va_start(args, format);
    (void)vsnprintf(err->message, sizeof(err->message), format, args);
    va_end(args);
    return -1;
}

int error_set_errno(struct error *err, const char *format, ...) {
    int number = errno;
    if (err == NULL) {
        return -1;
    }
    err->code = number == ENOENT ? ERROR_NOT_FOUND : number == EACCES ? ERROR_DENIED : ERROR_IO;
    err->http_status = error_code_http_status(err->code);
    err->is_final = false;
    va_list args;
    va_start(args, format);
    (void)vsnprintf(err->message, sizeof(err->message), format, args);
    va_end(args);
    size_t len = strlen(err->message);
    (void)snprintf(err->message + len, sizeof(err->message) - len, ": %s", strerror(number));
    return -1;
}

int error_wrap(struct error *err, const char *format, ...) {
    if (err == NULL) {
        return -1;
    }
    char old[ERROR_MESSAGE_BYTES];
    memcpy(old, err->message, sizeof(old));
    va_list args;
    va_start(args, format);
    (void)vsnprintf(err->message, sizeof(err->message), format, args);
    va_end(args);
    size_t len = strlen(err->message);
    (void)snprintf(err->message + len, sizeof(err->message) - len, ": %s", old);
    return -1;
}
