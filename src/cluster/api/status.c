#include "cluster/api/status.h"

#include "cluster/api/resources.h"

#include <stdarg.h>

static json_t *status_make(const char *outcome, int code) {
    return json_pack("{s:s, s:s, s:{}, s:s, s:i}", "kind", "Status", "apiVersion", "v1", "metadata", "status", outcome, "code",
                     code);
}

static json_t *details_of(const struct resource *resource, const char *name, const char *kind) {
    json_t *details = json_object();
    if (name != NULL && *name != '\0') {
        json_object_set_new(details, "name", json_string(name));
    }
    if (*resource->group != '\0') {
        json_object_set_new(details, "group", json_string(resource->group));
    }
    json_object_set_new(details, "kind", json_string(kind));
    return details;
}

static json_t *status_fill(int code, const char *reason, const char *message) {
    json_t *status = status_make("Failure", code);
    json_object_set_new(status, "reason", json_string(reason));
    json_t *text = json_string(message);
    json_object_set_new(status, "message", text != NULL ? text : json_string("the request is not valid UTF-8"));
    return status;
}

json_t *status_error(int code, const char *reason, const char *format, ...) {
    va_list args;
    va_start(args, format);
    char text[4096];
    (void)vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    return status_fill(code, reason, text);
}

json_t *status_error_on(const struct resource *resource, const char *name, int code, const char *reason, const char *format, ...) {
    va_list args;
    va_start(args, format);
    char text[4096];
    (void)vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    json_t *status = status_fill(code, reason, text);
    json_object_set_new(status, "details", details_of(resource, name, resource->plural));
    return status;
}

/* "modeladapters.model.aibrix.ai", or "pods" for the core group. */
static char *qualified(const char *what, const struct resource *resource) {
    return *resource->group != '\0' ? xasprintf("%s.%s", what, resource->group) : xstrdup(what);
}

json_t *status_not_found(const struct resource *resource, const char *name) {
    cleanup_free char *what = qualified(resource->plural, resource);
    return status_error_on(resource, name, 404, "NotFound", "%s \"%s\" not found", what, name);
}

json_t *status_exists(const struct resource *resource, const char *name) {
    cleanup_free char *what = qualified(resource->plural, resource);
    return status_error_on(resource, name, 409, "AlreadyExists", "%s \"%s\" already exists", what, name);
}

json_t *status_conflict(const struct resource *resource, const char *name, const char *why) {
    cleanup_free char *what = qualified(resource->plural, resource);
    return status_error_on(resource, name, 409, "Conflict", "Operation cannot be fulfilled on %s \"%s\": %s", what, name, why);
}

json_t *status_invalid(const struct resource *resource, const char *name, json_t *causes) {
    cleanup_buffer struct buffer message = BUFFER_INIT;
    cleanup_free char *what = qualified(resource->kind, resource);
    bool many = json_array_size(causes) > 1;
    buffer_printf(&message, "%s \"%s\" is invalid: %s", what, name, many ? "[" : "");
    size_t i = 0;
    const json_t *cause = NULL;
    json_array_foreach(causes, i, cause) {
        buffer_printf(&message, "%s%s: %s", i > 0 ? ", " : "", json_string_at(cause, "field", ""),
                      json_string_at(cause, "message", ""));
    }
    buffer_append_text(&message, many ? "]" : "");
    json_t *status = status_fill(422, "Invalid", buffer_text(&message));
    json_t *details = details_of(resource, name, resource->kind);
    json_object_set_new(details, "causes", causes);
    json_object_set_new(status, "details", details);
    return status;
}

json_t *status_success(const struct resource *resource, const char *name, const char *uid) {
    json_t *status = status_make("Success", 200);
    json_object_del(status, "code");
    json_t *details = details_of(resource, name, resource->plural);
    json_object_set_new(details, "uid", json_string(uid));
    json_object_set_new(status, "details", details);
    return status;
}

json_t *status_expired(const char *message) {
    return status_fill(410, "Expired", message);
}

int status_code(const json_t *status) {
    return (int)json_int_at(status, "code", 200);
}

static void cause_append(json_t *causes, const char *reason, const char *field, const char *message) {
    json_t *text = json_string(message);
    json_t *where = json_string(field);
    json_array_append_new(causes, json_pack("{s:s, s:o, s:o}", "reason", reason, "message",
                                            text != NULL ? text : json_string("Invalid value"), "field",
                                            where != NULL ? where : json_string("")));
}

void cause_add(json_t *causes, const char *reason, const char *field, const char *format, ...) {
    va_list args;
    va_start(args, format);
    char text[1024];
    (void)vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    cause_append(causes, reason, field, text);
}

void cause_required(json_t *causes, const char *field) {
    cause_append(causes, "FieldValueRequired", field, "Required value");
}

void cause_invalid(json_t *causes, const char *field, const char *value, const char *why) {
    cause_add(causes, "FieldValueInvalid", field, "Invalid value: \"%s\": %s", value, why);
}
