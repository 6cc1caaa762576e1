#include "runtime/lora_request.h"

#include <string.h>

enum field_type { FIELD_STRING, FIELD_STRINGS, FIELD_BOOL, FIELD_INT };

struct field {
    const char *name; /* an empty row ends the list */
    enum field_type type;
    bool is_required; /* else it may be null or absent */
};

struct form {
    const char *model; /* as in the reference's error locations */
    struct field fields[8];
};

/* Tried in this order; the first that fits is it. */
static const struct form forms[][2] = {
    [LORA_LOAD] =
        {
            {"LoadLoraAdapterRuntimeRequest",
             {{"lora_name", FIELD_STRING, true},
              {"artifact_url", FIELD_STRING, true},
              {"credentials_secret", FIELD_STRING, false},
              {"credentials", FIELD_STRINGS, false},
              {"additional_config", FIELD_STRINGS, false},
              {"local_dir", FIELD_STRING, false}}},
            {"LoadLoraAdapterRequest", {{"lora_name", FIELD_STRING, true}, {"lora_path", FIELD_STRING, true}}},
        },
    [LORA_UNLOAD] =
        {
            {"UnloadLoraAdapterRuntimeRequest", {{"lora_name", FIELD_STRING, true}, {"cleanup_local", FIELD_BOOL, false}}},
            {"UnloadLoraAdapterRequest", {{"lora_name", FIELD_STRING, true}, {"lora_int_id", FIELD_INT, false}}},
        },
};

static const struct {
    const char *type;
    const char *message;
} type_errors[] = {
    [FIELD_STRING] = {"string_type", "Input should be a valid string"},
    [FIELD_STRINGS] = {"dict_type", "Input should be a valid dictionary"},
    [FIELD_BOOL] = {"bool_type", "Input should be a valid boolean"},
    [FIELD_INT] = {"int_type", "Input should be a valid integer"},
};

static void add_error(json_t *errors, const char *type, const char *message, const json_t *input, const char *const *where) {
    json_t *location = json_array();
    json_array_append_new(location, json_string("body"));
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

static bool has_type(const json_t *value, const struct field *field) {
    if (json_is_null(value)) {
        return !field->is_required && field->type != FIELD_BOOL;
    }
    switch (field->type) {
    case FIELD_STRING:
        return json_is_string(value);
    case FIELD_STRINGS:
        return json_is_object(value);
    case FIELD_BOOL:
        return json_is_boolean(value);
    case FIELD_INT:
        return json_is_integer(value);
    }
    return false;
}

/* The values of a map must be strings. */
static void check_strings(const struct form *form, const struct field *field, const json_t *value, json_t *errors) {
    const char *key;
    json_t *item;
    json_object_foreach((json_t *)value, key, item) {
        if (!json_is_string(item)) {
            const char *where[] = {form->model, field->name, key, NULL};
            add_error(errors, type_errors[FIELD_STRING].type, type_errors[FIELD_STRING].message, item, where);
        }
    }
}

static const struct field *find_field(const struct form *form, const char *name) {
    for (const struct field *field = form->fields; field->name != NULL; field++) {
        if (strcmp(field->name, name) == 0) {
            return field;
        }
    }
    return NULL;
}

/* Appends what is wrong with the body as this form. `shown`: the body without secrets. */
static void check_form(const struct form *form, const json_t *body, const json_t *shown, json_t *errors) {
    if (!json_is_object(body)) {
        const char *where[] = {form->model, NULL};
        add_error(errors, "model_attributes_type", "Input should be a valid dictionary or object to extract fields from", shown,
                  where);
        return;
    }
    for (const struct field *field = form->fields; field->name != NULL; field++) {
        const char *where[] = {form->model, field->name, NULL};
        const json_t *value = json_object_get(body, field->name);
        if (value == NULL && field->is_required) {
            add_error(errors, "missing", "Field required", shown, where);
        } else if (value != NULL && !has_type(value, field)) {
            add_error(errors, type_errors[field->type].type, type_errors[field->type].message, json_object_get(shown, field->name),
                      where);
        } else if (field->type == FIELD_STRINGS) {
            check_strings(form, field, json_object_get(shown, field->name), errors);
        }
    }
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)shown, key, value) {
        if (find_field(form, key) == NULL) {
            const char *where[] = {form->model, key, NULL};
            add_error(errors, "extra_forbidden", "Extra inputs are not permitted", value, where);
        }
    }
}

/* A copy in which strings inside of credentials and additional_config are starred, and those two when they are strings themselves.
 */
static json_t *without_secrets(const json_t *body) {
    static const char *const secret[] = {"credentials", "additional_config"};
    json_t *copy = json_deep_copy(body);
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

int lora_request_parse(enum lora_verb verb, const char *bytes, size_t len, struct lora_request *ret_request,
                       struct buffer *detail) {
    struct error err = {0};
    cleanup_json json_t *body = json_parse(bytes, len, &err);
    if (body == NULL) {
        return refuse_syntax(&err, detail);
    }
    cleanup_json json_t *shown = without_secrets(body);
    cleanup_json json_t *errors = json_array();
    for (size_t i = 0; i < 2; i++) {
        size_t before = json_array_size(errors);
        check_form(&forms[verb][i], body, shown, errors);
        if (json_array_size(errors) == before) {
            *ret_request = (struct lora_request){
                .is_direct = i == 1,
                .name = json_string_at(body, "lora_name", ""),
                .source = json_string_at(body, i == 1 ? "lora_path" : "artifact_url", ""),
            };
            ret_request->body = take_pointer(body);
            return 0;
        }
    }
    append_detail(detail, errors);
    return -1;
}

void lora_request_release(struct lora_request *request) {
    json_decref(request->body);
    *request = (struct lora_request){0};
}

static bool is_alphanumeric(char byte) {
    return (byte >= '0' && byte <= '9') || (byte >= 'A' && byte <= 'Z') || (byte >= 'a' && byte <= 'z');
}

bool is_lora_name(const char *name) {
    size_t len = strlen(name);
    if (len == 0 || len > 128 || !is_alphanumeric(name[0])) {
        return false;
    }
    for (size_t i = 1; i < len; i++) {
        if (!is_alphanumeric(name[i]) && strchr("._-", name[i]) == NULL) {
            return false;
        }
    }
    return true;
}
