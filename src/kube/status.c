#include "kube/status.h"

#include "base/json.h"
#include "io/http.h"

#include <string.h>

static const struct reason_code {
    const char *reason; /* metav1.StatusReason */
    enum error_code code;
} reason_codes[] = {
    {"NotFound", ERROR_NOT_FOUND},
    {"AlreadyExists", ERROR_EXISTS},
    {"Conflict", ERROR_CONFLICT},
    {"Invalid", ERROR_INVALID},
    {"BadRequest", ERROR_INVALID},
    {"Unauthorized", ERROR_UNAUTHORIZED},
    {"Forbidden", ERROR_DENIED},
    {"TooManyRequests", ERROR_BUSY},
    {"Timeout", ERROR_TIMEOUT},
    {"ServerTimeout", ERROR_TIMEOUT},
    {"ServiceUnavailable", ERROR_UNAVAILABLE},
    {"UnsupportedMediaType", ERROR_UNSUPPORTED},
    {"RequestEntityTooLarge", ERROR_LIMIT},
};

void kube_status_error(int http_status, const char *body, size_t len, const char *what, struct error *err) {
    cleanup_json json_t *status = len > 0 ? json_parse(body, len, NULL) : NULL;
    const char *reason = json_string_at(status, "reason", "");
    enum error_code code = error_code_from_http_status(http_status);
    for (size_t i = 0; i < ARRAY_LEN(reason_codes); i++) {
        if (strcmp(reason_codes[i].reason, reason) == 0) {
            code = reason_codes[i].code;
        }
    }
    const char *message = json_string_at(status, "message", NULL);
    if (message != NULL && message[0] != '\0') {
        error_set(err, code, "%s: %s", what, message);
    } else {
        error_set(err, code, "%s: HTTP %d %s", what, http_status, http_reason_phrase(http_status));
    }
    err->http_status = http_status;
}
