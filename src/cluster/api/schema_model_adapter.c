#include "adapter/model_adapter_rules.h"
#include "cluster/api/documents.h"

static json_t *schema_of(const struct schema_field *row);

static void set_string(json_t *schema, const char *name, const char *value) {
    if (value != NULL) {
        json_object_set_new(schema, name, json_string(value));
    }
}

static void set_number(json_t *schema, const char *name, bool has_value, int64_t value) {
    if (has_value) {
        json_object_set_new(schema, name, json_integer(value));
    }
}

/* What a string may be: of the row itself, or of the strings in its list or map. */
static void set_string_bounds(json_t *schema, const struct schema_field *row) {
    set_number(schema, "minLength", row->min_length > 0, row->min_length);
    set_number(schema, "maxLength", row->max_length > 0, row->max_length);
    set_string(schema, "pattern", row->pattern);
    for (const char *const *value = row->values; value != NULL && *value != NULL; value++) {
        json_t *values = json_object_get(schema, "enum");
        if (values == NULL) {
            json_object_set_new(schema, "enum", values = json_array());
        }
        json_array_append_new(values, json_string(*value));
    }
}

static json_t *rule_of(const struct schema_rule *rule) {
    json_t *schema = json_pack("{s:s, s:s}", "rule", rule->cel, "message", rule->message);
    if (rule->member != NULL) {
        json_object_set_new(schema, "fieldPath", json_sprintf(".%s", rule->member));
    }
    if (rule->is_transition) {
        json_object_set_new(schema, "optionalOldSelf", json_true());
    }
    return schema;
}

static void set_rules(json_t *schema, const struct schema_field *row) {
    json_t *rules = json_array();
    for (size_t i = 0; i < SCHEMA_RULES_MAX && row->rules[i].cel != NULL; i++) {
        json_array_append_new(rules, rule_of(&row->rules[i]));
    }
    if (json_array_size(rules) > 0) {
        json_object_set(schema, "x-kubernetes-validations", rules);
    }
    json_decref(rules);
}

static void set_members(json_t *schema, const struct schema_field *row) {
    json_t *properties = json_object();
    json_t *required = json_array();
    for (const struct schema_field *field = row->children; field->name != NULL; field++) {
        json_object_set_new(properties, field->name, schema_of(field));
        if (field->is_required) {
            json_array_append_new(required, json_string(field->name));
        }
    }
    json_object_set_new(schema, "properties", properties);
    if (json_array_size(required) > 0) {
        json_object_set(schema, "required", required);
    }
    json_decref(required);
}

static json_t *string_schema(const struct schema_field *row) {
    json_t *schema = json_pack("{s:s}", "type", "string");
    set_string_bounds(schema, row);
    return schema;
}

static json_t *item_schema(const struct schema_field *row) {
    json_t *schema = json_pack("{s:s}", "type", "object");
    set_members(schema, row);
    set_rules(schema, row);
    return schema;
}

static json_t *schema_of(const struct schema_field *row) {
    json_t *schema = json_object();
    set_string(schema, "type", schema_type_name(row->type));
    set_string(schema, "description", row->description);
    set_string(schema, "default", row->fallback);
    bool is_list = row->type == SCHEMA_OBJECTS || row->type == SCHEMA_STRINGS;
    set_number(schema, is_list ? "maxItems" : "maxProperties", row->max_items > 0, row->max_items);
    set_number(schema, "minimum", row->has_minimum, row->minimum);
    set_number(schema, "maximum", row->has_maximum, row->maximum);
    set_string(schema, "x-kubernetes-map-type", row->is_atomic ? "atomic" : NULL);
    switch (row->type) {
    case SCHEMA_STRING:
        set_string_bounds(schema, row);
        break;
    case SCHEMA_TIME:
        set_string(schema, "format", "date-time");
        break;
    case SCHEMA_INT32:
        set_string(schema, "format", "int32");
        break;
    case SCHEMA_INT64:
        set_string(schema, "format", "int64");
        break;
    case SCHEMA_INT_OR_STRING:
        json_object_set_new(schema, "anyOf", json_pack("[{s:s},{s:s}]", "type", "integer", "type", "string"));
        json_object_set_new(schema, "x-kubernetes-int-or-string", json_true());
        break;
    case SCHEMA_OBJECT:
        set_members(schema, row);
        break;
    case SCHEMA_STRING_MAP:
        json_object_set_new(schema, "additionalProperties", string_schema(row));
        break;
    case SCHEMA_OBJECTS:
        json_object_set_new(schema, "items", item_schema(row));
        return schema; /* rules of a list's row are its items' */
    case SCHEMA_STRINGS:
        json_object_set_new(schema, "items", string_schema(row));
        break;
    }
    set_rules(schema, row);
    return schema;
}

json_t *schema_model_adapter(void) {
    return schema_of(&model_adapter_schema);
}
