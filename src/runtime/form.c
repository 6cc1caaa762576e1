#include "runtime/form.h"

#include "io/url.h"

#include <string.h>

static const struct {
    const char *type;
    const char *message;
} type_errors[] = {
    [FORM_STRING] = {"string_type", "Input should be a valid string"},
    [FORM_STRINGS] = {"dict_type", "Input should be a valid dictionary"},
    [FORM_OBJECT] = {"dict_type", "Input should be a valid dictionary"},
    [FORM_BOOL] = {"bool_type", "Input should be a valid boolean"},
    [FORM_INT] = {"int_type", "Input should be a valid integer"},
};

static const char no_model[] = "";

static void add_error(json_t *errors, const char *type, const char *message, const json_t *input, const char *const *where) {
    json_t *location = json_array();
    json_array_append_new(location, json_string("body"));
    where += where[0] == no_model ? 1 : 0;
    for (; *where != NULL; where++) {
        json_array_append_new(location, json_string(*where));
    }
    json_t *error = json_object();
    json_object_set_new(error, "type", json_string(type));
    json_object_set_new(error, "loc", location);
    json_object_set_new(error, "msg", json_string(message));
    json_object_set(error, "input", (json_t *)input);
    json_array_append_new(errors, error);
}

static bool has_type(const json_t *value, const struct form_field *field) {
    if (json_is_null(value)) {
        return !field->is_required && field->type != FORM_BOOL;
    }
    switch (field->type) {
    case FORM_STRING:
        return json_is_string(value);
    case FORM_STRINGS:
    case FORM_OBJECT:
        return json_is_object(value);
    case FORM_BOOL:
        return json_is_boolean(value);
    case FORM_INT:
        return json_is_integer(value);
    }
    return false;
}

static const char *name_of(const struct form *form) {
    return form->model != NULL ? form->model : no_model;
}

/* The values of a map must be strings. */
static void check_strings(const struct form *form, const struct form_field *field, const json_t *value, json_t *errors) {
    const char *key;
    json_t *item;
    json_object_foreach((json_t *)value, key, item) {
        if (!json_is_string(item)) {
            const char *where[] = {name_of(form), field->name, key, NULL};
            add_error(errors, type_errors[FORM_STRING].type, type_errors[FORM_STRING].message, item, where);
        }
    }
}

static const struct form_field *find_field(const struct form *form, const char *name) {
    for (const struct form_field *field = form->fields; field->name != NULL; field++) {
        if (strcmp(field->name, name) == 0) {
            return field;
        }
    }
    return NULL;
}

/* Appends what is wrong with the body as this form. `shown`: the body without secrets. */
static void check_form(const struct form *form, const json_t *body, const json_t *shown, json_t *errors) {
    if (!json_is_object(body)) {
        const char *where[] = {name_of(form), NULL};
        add_error(errors, "model_attributes_type", "Input should be a valid dictionary or object to extract fields from", shown,
                  where);
        return;
    }
    for (const struct form_field *field = form->fields; field->name != NULL; field++) {
        const char *where[] = {name_of(form), field->name, NULL};
        const json_t *value = json_object_get(body, field->name);
        if (value == NULL && field->is_required) {
            add_error(errors, "missing", "Field required", shown, where);
        } else if (value != NULL && !has_type(value, field)) {
            add_error(errors, type_errors[field->type].type, type_errors[field->type].message, json_object_get(shown, field->name),
                      where);
        } else if (field->type == FORM_STRINGS) {
            check_strings(form, field, json_object_get(shown, field->name), errors);
        }
    }
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)shown, key, value) {
        if (find_field(form, key) == NULL) {
            const char *where[] = {name_of(form), key, NULL};
            add_error(errors, "extra_forbidden", "Extra inputs are not permitted", value, where);
        }
    }
}

static void strip_urls(json_t *body) {
    static const char *const urls[] = {"artifact_url", "lora_path", "model_uri"};
    for (size_t i = 0; i < ARRAY_LEN(urls); i++) {
        const char *url = json_c_string(json_object_get(body, urls[i]));
        if (url != NULL) {
            cleanup_free char *shown = url_for_people(url);
            json_object_set_new(body, urls[i], json_string(shown));
        }
    }
}

/* A copy in which strings inside of what may be secret are starred, and so are those members when they are strings themselves. */
static json_t *without_secrets(const json_t *body) {
    static const char *const secret[] = {"credentials", "additional_config", "download_extra_config"};
    json_t *copy = json_deep_copy(body);
    strip_urls(copy);
    for (size_t i = 0; i < ARRAY_LEN(secret); i++) {
        json_t *value = json_object_get(copy, secret[i]);
        if (!json_is_object(value)) {
            if (value != NULL && !json_is_null(value)) {
                json_object_set_new(copy, secret[i], json_string("***"));
            }
            continue;
        }
        const char *key;
        json_t *item;
        void *next;
        json_object_foreach_safe(value, next, key, item) {
            if (json_is_string(item)) {
                json_object_set_new(value, key, json_string("***"));
            } else if (json_is_object(item) || json_is_array(item)) {
                json_object_set_new(value, key, json_object());
            }
        }
    }
    return copy;
}

static void append_detail(struct buffer *detail, json_t *errors) {
    buffer_append_text(detail, "{\"detail\":");
    json_append(detail, errors);
    buffer_append_char(detail, '}');
}

static int refuse_syntax(const struct error *err, struct buffer *detail) {
    cleanup_json json_t *errors = json_array();
    cleanup_json json_t *input = json_object();
    const char *where[] = {NULL};
    add_error(errors, "json_invalid", "JSON decode error", input, where);
    json_t *context = json_object();
    json_object_set_new(context, "error", json_string(err->message));
    json_object_set_new(json_array_get(errors, 0), "ctx", context);
    append_detail(detail, errors);
    return -1;
}

int form_parse(const struct form *forms, size_t count, const char *bytes, size_t len, json_t **ret_body, struct buffer *detail) {
    struct error err = {0};
    cleanup_json json_t *body = json_parse(bytes, len, &err);
    if (body == NULL) {
        return refuse_syntax(&err, detail);
    }
    cleanup_json json_t *shown = without_secrets(body);
    cleanup_json json_t *errors = json_array();
    for (size_t i = 0; i < count; i++) {
        size_t before = json_array_size(errors);
        check_form(&forms[i], body, shown, errors);
        if (json_array_size(errors) == before) {
            *ret_body = take_pointer(body);
            return (int)i;
        }
    }
    append_detail(detail, errors);
    return -1;
}
