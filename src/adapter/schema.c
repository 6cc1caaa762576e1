#include "adapter/schema.h"

#include <string.h>

/* ---- walking: unknown fields, pruning, defaults ---- */

static const struct schema_field *find_field(const struct schema_field *fields, const char *name) {
    for (const struct schema_field *field = fields; field->name != NULL; field++) {
        if (strcmp(field->name, name) == 0) {
            return field;
        }
    }
    return NULL;
}

/* Where a value is, as a chain on the stack: its text is made only where something is told of it. */
struct place {
    const struct place *parent; /* NULL = the object itself */
    const char *name;           /* of a member; NULL = the item `index` */
    size_t index;
};

static void append_place(struct buffer *text, const struct place *place) {
    if (place == NULL) {
        return;
    }
    append_place(text, place->parent);
    if (place->name == NULL) {
        buffer_printf(text, "[%zu]", place->index);
    } else {
        buffer_printf(text, "%s%s", text->len > 0 ? "." : "", place->name);
    }
}

static void unknown_in(const struct schema_field *row, const json_t *object, const struct place *place, json_t *paths) {
    const char *key = NULL;
    json_t *value = NULL;
    json_object_foreach((json_t *)object, key, value) {
        const struct schema_field *field = find_field(row->children, key);
        const struct place below = {.parent = place, .name = key};
        if (field == NULL && !row->is_open) {
            cleanup_buffer struct buffer path = BUFFER_INIT;
            append_place(&path, &below);
            json_array_append_new(paths, json_string(buffer_text(&path)));
        } else if (field != NULL && field->type == SCHEMA_OBJECT) {
            unknown_in(field, value, &below, paths);
        } else if (field != NULL && field->type == SCHEMA_OBJECTS) {
            for (size_t i = 0; i < json_array_size(value); i++) {
                const struct place item = {.parent = &below, .index = i};
                unknown_in(field, json_array_get(value, i), &item, paths);
            }
        }
    }
}

void schema_unknown_fields(const struct schema_field *root, const json_t *object, json_t *paths) {
    unknown_in(root, object, NULL, paths);
}

void schema_prune(const struct schema_field *root, json_t *object) {
    const char *key = NULL;
    json_t *value = NULL;
    void *next = NULL;
    json_object_foreach_safe(object, next, key, value) {
        const struct schema_field *field = find_field(root->children, key);
        if (field == NULL) {
            if (!root->is_open) {
                json_object_del(object, key);
            }
        } else if (field->type == SCHEMA_OBJECT) {
            schema_prune(field, value);
        } else if (field->type == SCHEMA_OBJECTS) {
            for (size_t i = 0; i < json_array_size(value); i++) {
                schema_prune(field, json_array_get(value, i));
            }
        }
    }
}

static void drop_nulls(json_t *object) {
    const char *key = NULL;
    json_t *value = NULL;
    void *next = NULL;
    json_object_foreach_safe(object, next, key, value) {
        if (json_is_null(value)) {
            json_object_del(object, key);
        }
    }
}

void schema_default(const struct schema_field *root, json_t *object) {
    if (!json_is_object(object)) {
        return;
    }
    for (const struct schema_field *field = root->children; field->name != NULL; field++) {
        json_t *value = json_object_get(object, field->name);
        if (json_is_null(value)) {
            json_object_del(object, field->name);
            value = NULL;
        }
        if (value == NULL && field->fallback != NULL) {
            json_object_set_new(object, field->name, json_string(field->fallback));
        } else if (field->type == SCHEMA_OBJECT) {
            schema_default(field, value);
        } else if (field->type == SCHEMA_STRING_MAP) {
            drop_nulls(value);
        } else if (field->type == SCHEMA_OBJECTS) {
            for (size_t i = 0; i < json_array_size(value); i++) {
                schema_default(field, json_array_get(value, i));
            }
        }
    }
}

/* ---- validation ---- */

static void add_cause(json_t *causes, const char *reason, const struct place *place, const char *format, ...) DAVIT_PRINTF(4, 5);
static void add_cause(json_t *causes, const char *reason, const struct place *place, const char *format, ...) {
    char message[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof(message), format, arguments);
    va_end(arguments);
    cleanup_buffer struct buffer field = BUFFER_INIT;
    cleanup_buffer struct buffer text = BUFFER_INIT;
    append_place(&field, place);
    json_append_string(&text, message, strlen(message)); /* a cut message may end within a character */
    json_t *safe = json_loadb(text.data, text.len, JSON_DECODE_ANY, NULL);
    json_array_append_new(causes, json_pack("{s:s, s:o, s:s}", "reason", reason, "message", safe, "field", buffer_text(&field)));
}

const char *schema_type_name(enum schema_type type) {
    switch (type) {
    case SCHEMA_STRING:
    case SCHEMA_TIME:
        return "string";
    case SCHEMA_INT32:
    case SCHEMA_INT64:
        return "integer";
    case SCHEMA_OBJECT:
    case SCHEMA_STRING_MAP:
        return "object";
    case SCHEMA_OBJECTS:
    case SCHEMA_STRINGS:
        return "array";
    case SCHEMA_INT_OR_STRING:
        break;
    }
    return NULL;
}

static bool has_type(const json_t *value, enum schema_type type) {
    switch (type) {
    case SCHEMA_STRING:
    case SCHEMA_TIME:
        return json_is_string(value);
    case SCHEMA_INT32: /* an API server does not hold the format against a value */
    case SCHEMA_INT64:
        return json_is_integer(value);
    case SCHEMA_INT_OR_STRING:
        return json_is_integer(value) || json_is_string(value);
    case SCHEMA_OBJECT:
    case SCHEMA_STRING_MAP:
        return json_is_object(value);
    case SCHEMA_OBJECTS:
    case SCHEMA_STRINGS:
        return json_is_array(value);
    }
    return false;
}

static void wrong_type(json_t *causes, const struct place *place, const json_t *value, enum schema_type wanted) {
    static const char *const names[] = {"object", "array", "string", "integer", "number", "boolean", "boolean", "null"};
    const char *found = names[json_typeof(value)];
    const char *name = schema_type_name(wanted);
    add_cause(causes, "FieldValueTypeInvalid", place, "Invalid value: \"%s\": must be of type %s: \"%s\"", found,
              name != NULL ? name : "integer,string", found);
}

static size_t count_characters(const char *text, size_t len) {
    size_t count = 0;
    for (size_t i = 0; i < len; i++) {
        count += ((unsigned char)text[i] & 0xc0) != 0x80;
    }
    return count;
}

static bool is_allowed(const char *const *values, const char *text, struct buffer *ret_list) {
    for (; *values != NULL; values++) {
        if (strcmp(*values, text) == 0) {
            return true;
        }
        buffer_printf(ret_list, "%s\"%s\"", ret_list->len > 0 ? ", " : "", *values);
    }
    return false;
}

static void check_string(const struct schema_field *row, const json_t *value, const struct place *place, json_t *causes) {
    const char *text = json_string_value(value);
    size_t len = count_characters(text, json_string_length(value));
    cleanup_buffer struct buffer allowed = BUFFER_INIT;
    if (row->max_length > 0 && len > (size_t)row->max_length) {
        add_cause(causes, "FieldValueTooLong", place, "Too long: may not be longer than %d", row->max_length);
    } else if (len < (size_t)row->min_length) {
        add_cause(causes, "FieldValueInvalid", place, "Invalid value: \"%.100s\": should be at least %d chars long", text,
                  row->min_length);
    } else if (row->pattern != NULL && !row->matches(text)) {
        add_cause(causes, "FieldValueInvalid", place, "Invalid value: \"%.100s\": %s%s", text,
                  row->pattern_message != NULL ? row->pattern_message : "should match ",
                  row->pattern_message != NULL ? "" : row->pattern);
    } else if (row->values != NULL && !is_allowed(row->values, text, &allowed)) {
        add_cause(causes, "FieldValueNotSupported", place, "Unsupported value: \"%.100s\": supported values: %s", text,
                  buffer_text(&allowed));
    }
}

static void check_integer(const struct schema_field *row, const json_t *value, const struct place *place, json_t *causes) {
    long long number = json_integer_value(value);
    if (row->has_minimum && number < row->minimum) {
        add_cause(causes, "FieldValueInvalid", place, "Invalid value: %lld: should be greater than or equal to %lld", number,
                  (long long)row->minimum);
    } else if (row->has_maximum && number > row->maximum) {
        add_cause(causes, "FieldValueInvalid", place, "Invalid value: %lld: should be less than or equal to %lld", number,
                  (long long)row->maximum);
    }
}

static void check_item_string(const struct schema_field *row, const json_t *item, const struct place *place, json_t *causes) {
    if (json_is_string(item)) {
        check_string(row, item, place, causes);
    } else {
        wrong_type(causes, place, item, SCHEMA_STRING);
    }
}

static void check_value(const struct schema_field *row, const json_t *value, const json_t *old, const struct place *place,
                        json_t *causes);

static void check_object(const struct schema_field *row, const json_t *object, const json_t *old, const struct place *place,
                         json_t *causes) {
    for (const struct schema_field *field = row->children; field->name != NULL; field++) {
        const json_t *value = json_object_get(object, field->name);
        const struct place below = {.parent = place, .name = field->name};
        if (value != NULL && !json_is_null(value)) {
            check_value(field, value, json_object_get(old, field->name), &below, causes);
        } else if (field->is_required) {
            add_cause(causes, "FieldValueRequired", &below, "Required value");
        }
    }
}

static void check_map(const struct schema_field *row, const json_t *map, const json_t *old, const struct place *place,
                      json_t *causes) {
    const char *key = NULL;
    json_t *value = NULL;
    json_object_foreach((json_t *)map, key, value) {
        const json_t *old_value = json_object_get(old, key);
        if (!json_is_null(value) && (old_value == NULL || !json_equal(value, (json_t *)old_value))) {
            const struct place below = {.parent = place, .name = key};
            check_item_string(row, value, &below, causes);
        }
    }
}

/* Lists are atomic: an item has no earlier self. */
static void check_list(const struct schema_field *row, const json_t *list, const struct place *place, json_t *causes) {
    struct schema_field item = *row;
    item.type = SCHEMA_OBJECT;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const struct place below = {.parent = place, .index = i};
        if (row->type == SCHEMA_OBJECTS) {
            check_value(&item, json_array_get(list, i), NULL, &below, causes);
        } else {
            check_item_string(row, json_array_get(list, i), &below, causes);
        }
    }
}

static bool check_count(const struct schema_field *row, const json_t *value, const struct place *place, json_t *causes) {
    size_t count = json_is_array(value) ? json_array_size(value) : json_object_size(value);
    if (row->max_items == 0 || count <= (size_t)row->max_items) {
        return true;
    }
    add_cause(causes, "FieldValueTooMany", place, "Too many: %zu: must have at most %d items", count, row->max_items);
    return false;
}

static void check_rules(const struct schema_field *row, const json_t *value, const struct place *place, json_t *causes) {
    for (size_t i = 0; i < SCHEMA_RULES_MAX && row->rules[i].holds != NULL; i++) {
        if (row->rules[i].holds(value)) {
            continue;
        }
        cleanup_free char *found = json_is_string(value) || json_is_integer(value) ? json_text(value) : xstrdup("\"object\"");
        const struct place member = {.parent = place, .name = row->rules[i].member};
        add_cause(causes, "FieldValueInvalid", row->rules[i].member != NULL ? &member : place, "Invalid value: %.200s: %s", found,
                  row->rules[i].message);
    }
}

static void check_value(const struct schema_field *row, const json_t *value, const json_t *old, const struct place *place,
                        json_t *causes) {
    if (old != NULL && json_equal((json_t *)value, (json_t *)old)) {
        return;
    }
    if (!has_type(value, row->type)) {
        wrong_type(causes, place, value, row->type);
        return;
    }
    size_t before = json_array_size(causes);
    bool is_list = row->type == SCHEMA_OBJECTS || row->type == SCHEMA_STRINGS;
    if (is_list || row->type == SCHEMA_STRING_MAP) {
        if (!check_count(row, value, place, causes)) {
            return;
        }
        if (is_list) {
            check_list(row, value, place, causes);
        } else {
            check_map(row, value, old, place, causes);
        }
    } else if (row->type == SCHEMA_OBJECT) {
        check_object(row, value, old, place, causes);
    } else if (json_is_string(value)) {
        check_string(row, value, place, causes);
    } else {
        check_integer(row, value, place, causes);
    }
    if (json_array_size(causes) == before && row->type != SCHEMA_OBJECTS) { /* rules of a list's row are its items' */
        check_rules(row, value, place, causes);
    }
}

int schema_validate(const struct schema_field *root, const json_t *object, const json_t *old_object, json_t *causes) {
    size_t before = json_array_size(causes);
    check_value(root, object, old_object, NULL, causes);
    return (int)(json_array_size(causes) - before);
}
