#include "engine/api/api_error.h"

#include "base/json.h"

#include <stdarg.h>
#include <string.h>

void api_error_release(struct api_error *error) {
    buffer_release(&error->message);
}

int api_error_set(struct api_error *error, int status, const char *type, const char *param, const char *format, ...) {
    error->status = status;
    error->type = type;
    (void)snprintf(error->param, sizeof(error->param), "%s", param != NULL ? param : "");
    char *text = NULL;
    va_list arguments;
    va_start(arguments, format);
    if (vasprintf(&text, format, arguments) < 0) {
        text = NULL;
    }
    va_end(arguments);
    buffer_clear(&error->message);
    buffer_append_text(&error->message, text != NULL ? text : "");
    free(text);
    return -1;
}

void api_error_body(const struct api_error *error, struct buffer *out) {
    buffer_append_text(out, "{\"error\":{\"message\":");
    json_append_string(out, buffer_text(&error->message), error->message.len);
    buffer_append_text(out, ",\"type\":");
    json_append_string(out, error->type, strlen(error->type));
    buffer_append_text(out, ",\"param\":");
    if (error->param[0] != '\0') {
        json_append_string(out, error->param, strlen(error->param));
    } else {
        buffer_append_text(out, "null");
    }
    buffer_printf(out, ",\"code\":%d}}", error->status);
}

int api_error_from_engine(struct api_error *error, const struct error *cause) {
    switch (cause->code) {
    case ERROR_NOT_FOUND:
        return api_error_set(error, 404, "NotFoundError", "model", "%s", cause->message);
    case ERROR_INVALID:
    case ERROR_LIMIT:
    case ERROR_UNSUPPORTED:
        return api_error_set(error, 400, "BadRequestError", NULL, "%s", cause->message);
    case ERROR_BUSY:
    case ERROR_UNAVAILABLE:
        return api_error_set(error, 503, "ServiceUnavailableError", NULL, "%s", cause->message);
    default:
        return api_error_set(error, 500, "InternalServerError", NULL, "%s", cause->message);
    }
}

int api_error_from_load(struct api_error *error, const struct error *cause, const char *name, const char *path) {
    switch (cause->code) {
    case ERROR_EXISTS:
        return api_error_set(error, 400, "InvalidUserInput", NULL,
                             "The lora adapter '%s' has already been loaded. If you want to load the adapter in place, set "
                             "'load_inplace' to True.",
                             name);
    case ERROR_NOT_FOUND:
    case ERROR_UNAUTHORIZED: /* towards a source, not towards this engine; vLLM too has only this answer then */
    case ERROR_DENIED: {
        static const char usual[] = "No adapter found for ";
        bool says_more = strncmp(cause->message, usual, sizeof(usual) - 1) != 0; /* a source's reason */
        return api_error_set(error, 404, "NotFoundError", NULL, "Loading lora %s failed: %s%s%s%s", name, usual, path,
                             says_more ? ": " : "", says_more ? cause->message : "");
    }
    case ERROR_LIMIT: /* vLLM would throw another adapter out; this engine never takes one away by itself */
    case ERROR_UNAVAILABLE:
    case ERROR_TIMEOUT:
    case ERROR_BUSY:
        return api_error_set(error, 503, "ServiceUnavailableError", NULL, "Loading lora %s failed: %s", name, cause->message);
    default:
        return api_error_set(
            error, 500, "InternalServerError", NULL,
            "Call to add_lora method failed: Worker failed with error '%s', please check the stack trace above for "
            "the root cause",
            cause->message);
    }
}

int api_error_from_unload(struct api_error *error, const struct error *cause, const char *name) {
    if (cause->code == ERROR_NOT_FOUND) {
        return api_error_set(error, 404, "NotFoundError", NULL, "The lora adapter '%s' cannot be found.", name);
    }
    return api_error_set(error, cause->code == ERROR_BUSY ? 503 : 500,
                         cause->code == ERROR_BUSY ? "ServiceUnavailableError" : "InternalServerError", NULL,
                         "Failed to remove lora adapter '%s' from the engine: %s", name, cause->message);
}

void schema_errors_release(struct schema_errors *errors) {
    buffer_release(&errors->lines);
}

void schema_errors_add(struct schema_errors *errors, const char *type, const char *location, const char *message,
                       const char *input) {
    errors->count++;
    if (errors->count == 1) {
        (void)snprintf(errors->first_location, sizeof(errors->first_location), "%s", location);
    }
    if (errors->count <= SCHEMA_ERRORS_MAX) {
        buffer_printf(&errors->lines, "\n  {'type': '%s', 'loc': '%s', 'msg': '%s', 'input': '%s'}", type, location, message,
                      input);
    }
}

int schema_errors_finish(const struct schema_errors *errors, struct api_error *error) {
    if (errors->count == 0) {
        return 0;
    }
    return api_error_set(error, 400, "Bad Request", errors->first_location, "%d validation error%s:%s", errors->count,
                         errors->count == 1 ? "" : "s", buffer_text(&errors->lines));
}

void append_python_float(struct buffer *out, double value) {
    char text[40];
    for (int precision = 1; precision <= 17; precision++) {
        (void)snprintf(text, sizeof(text), "%.*g", precision, value);
        if (strtod(text, NULL) == value) {
            break;
        }
    }
    /* "%g" turns to exponents earlier than Python does (1e+02 for 100.0). */
    if (value < 1e15 && value > -1e15 && value == (double)(long long)value) {
        (void)snprintf(text, sizeof(text), "%.1f", value);
    }
    buffer_append_text(out, text);
}
