#include "engine/api/fields.h"

#include <math.h>
#include <string.h>

#define DESCRIBED_BYTES_MAX 80

/* Control characters as Python's repr shows them, so that the message goes on behind U+0000. */
static void describe_text(const char *text, size_t len, struct buffer *out) {
    for (size_t i = 0; i < len; i++) {
        if ((unsigned char)text[i] < 0x20) {
            buffer_printf(out, "\\x%02x", (unsigned)text[i]);
        } else {
            buffer_append_char(out, text[i]);
        }
    }
}

void fields_describe(const json_t *value, struct buffer *out) {
    if (json_is_object(value)) {
        buffer_printf(out, "<dict of %zu items>", json_object_size(value));
    } else if (json_is_array(value)) {
        buffer_printf(out, "<list of %zu items>", json_array_size(value));
    } else if (json_is_string(value)) {
        size_t len = json_string_length(value);
        size_t cut = len < DESCRIBED_BYTES_MAX ? len : DESCRIBED_BYTES_MAX;
        describe_text(json_string_value(value), cut, out);
        buffer_append_text(out, cut < len ? "..." : "");
    } else if (json_is_integer(value)) {
        buffer_printf(out, "%lld", (long long)json_integer_value(value));
    } else if (json_is_real(value)) {
        append_python_float(out, json_real_value(value));
    } else {
        buffer_append_text(out, json_is_true(value) ? "True" : json_is_false(value) ? "False" : "None");
    }
}

int fields_parse_body(const char *content_type, const char *body, size_t len, size_t values_max, json_t **ret_document,
                      struct api_error *error) {
    static const char json_type[] = "application/json";
    size_t type_len = sizeof(json_type) - 1;
    if (content_type == NULL || strncasecmp(content_type, json_type, type_len) != 0 ||
        strchr("; \t", content_type[type_len]) == NULL) {
        return api_error_set(error, 400, "Bad Request", NULL,
                             "1 validation error:\n  Unsupported Media Type: Only 'application/json' is allowed");
    }
    struct error err = {0};
    json_t *document = json_parse_bounded(body, len, values_max, &err);
    if (document == NULL) {
        return api_error_set(error, 400, "Bad Request", "body",
                             "1 validation error:\n  {'type': 'json_invalid', 'loc': 'body', 'msg': 'JSON decode error', 'input': "
                             "'<dict of 0 items>', 'ctx': {'error': '%s'}}",
                             err.message);
    }
    if (!json_is_object(document)) {
        struct schema_errors errors = {0};
        cleanup_buffer struct buffer input = BUFFER_INIT;
        fields_describe(document, &input);
        schema_errors_add(&errors, "model_attributes_type", "body",
                          "Input should be a valid dictionary or object to extract fields from", buffer_text(&input));
        int result = schema_errors_finish(&errors, error);
        schema_errors_release(&errors);
        json_decref(document);
        return result;
    }
    *ret_document = document;
    return 0;
}

static bool read_int(const json_t *value, int64_t *target) {
    if (json_is_integer(value)) {
        *target = json_integer_value(value);
        return true;
    }
    double real = json_is_real(value) ? json_real_value(value) : NAN;
    if (!(fabs(real) < 9e15) || real != floor(real)) {
        return false;
    }
    *target = (int64_t)real;
    return true;
}

/* Reads one value; on a mismatch gives the error's type and message. */
static bool read_value(const json_t *value, enum field_type type, void *target, const char **ret_type, const char **ret_message) {
    switch (type) {
    case FIELD_STRING:
        *ret_type = "string_type";
        *ret_message = json_is_string(value) ? "Input should be a string without U+0000" : "Input should be a valid string";
        if (json_c_string(value) == NULL) {
            return false;
        }
        *(const char **)target = json_c_string(value);
        return true;
    case FIELD_TEXT:
        *ret_type = "string_type";
        *ret_message = "Input should be a valid string";
        *(const json_t **)target = value;
        return json_is_string(value);
    case FIELD_BOOL:
        *ret_type = "bool_type";
        *ret_message = "Input should be a valid boolean";
        if (!json_is_boolean(value)) {
            return false;
        }
        *(bool *)target = json_is_true(value);
        return true;
    case FIELD_INT:
        *ret_type = json_is_real(value) ? "int_from_float" : "int_type";
        *ret_message = "Input should be a valid integer";
        return read_int(value, target);
    case FIELD_FLOAT:
        *ret_type = "float_type";
        *ret_message = "Input should be a valid number";
        if (!json_is_number(value)) {
            return false;
        }
        *(double *)target = json_number_value(value);
        return true;
    case FIELD_ANY:
        *(const json_t **)target = value;
        return true;
    }
    return false;
}

void fields_read(const json_t *object, const struct field_spec *table, void *target, struct schema_errors *errors) {
    for (const struct field_spec *spec = table; spec->name != NULL; spec++) {
        const json_t *value = json_object_get(object, spec->name);
        if (value == NULL || (json_is_null(value) && !spec->required)) {
            if (spec->required) {
                cleanup_free char *location = xasprintf("body.%s", spec->name);
                cleanup_buffer struct buffer input = BUFFER_INIT;
                fields_describe(object, &input);
                schema_errors_add(errors, "missing", location, "Field required", buffer_text(&input));
            }
            continue;
        }
        const char *type = NULL;
        const char *message = NULL;
        if (!read_value(value, spec->type, (char *)target + spec->offset, &type, &message)) {
            cleanup_free char *location = xasprintf("body.%s", spec->name);
            cleanup_buffer struct buffer input = BUFFER_INIT;
            fields_describe(value, &input);
            schema_errors_add(errors, type, location, message, buffer_text(&input));
        }
    }
}
