#include "kube/yaml.h"

#include <errno.h>
#include <yaml.h>

#define YAML_NODES_MAX 1000000 /* counted after aliases are followed: a "billion laughs" document ends here */
#define YAML_DEPTH_MAX 200

struct reader {
    yaml_document_t *document;
    size_t nodes;
    struct error *err;
};

static json_t *convert(struct reader *reader, int index, int depth);

static bool is_one_of(const char *text, const char *const *words) {
    for (; *words != NULL; words++) {
        if (strcmp(text, *words) == 0) {
            return true;
        }
    }
    return false;
}

/* A plain scalar by the core schema (YAML 1.2, 10.3.2). */
static json_t *plain_scalar(const char *text, size_t len) {
    static const char *const nulls[] = {"", "~", "null", "Null", "NULL", NULL};
    static const char *const trues[] = {"true", "True", "TRUE", NULL};
    static const char *const falses[] = {"false", "False", "FALSE", NULL};
    if (strlen(text) == len && is_one_of(text, nulls)) {
        return json_null();
    }
    if (is_one_of(text, trues)) {
        return json_true();
    }
    if (is_one_of(text, falses)) {
        return json_false();
    }
    bool starts_like_number = strchr("+-.0123456789", text[0]) != NULL;
    bool is_decimal = text[strspn(text, "+-.0123456789eE")] == '\0';
    if (starts_like_number && is_decimal) {
        char *end = NULL;
        errno = 0;
        long long integer = strtoll(text, &end, 10);
        if (*end == '\0' && errno == 0) {
            return json_integer(integer);
        }
        errno = 0;
        double real = strtod(text, &end);
        if (*end == '\0' && errno == 0 && text[strcspn(text, "0123456789")] != '\0') {
            return json_real(real);
        }
    }
    return json_stringn(text, len);
}

static json_t *convert_scalar(struct reader *reader, const yaml_node_t *node) {
    const char *text = (const char *)node->data.scalar.value;
    size_t len = node->data.scalar.length;
    bool is_plain = node->data.scalar.style == YAML_PLAIN_SCALAR_STYLE && strcmp((const char *)node->tag, YAML_STR_TAG) == 0;
    json_t *value = is_plain ? plain_scalar(text, len) : json_stringn(text, len);
    if (value == NULL) {
        error_set(reader->err, ERROR_INVALID, "line %zu: not valid UTF-8", node->start_mark.line + 1);
    }
    return value;
}

static json_t *convert_sequence(struct reader *reader, const yaml_node_t *node, int depth) {
    json_t *array = json_array();
    for (yaml_node_item_t *item = node->data.sequence.items.start; item < node->data.sequence.items.top; item++) {
        json_t *value = convert(reader, *item, depth + 1);
        if (value == NULL) {
            json_decref(array);
            return NULL;
        }
        json_array_append_new(array, value);
    }
    return array;
}

static int convert_pair(struct reader *reader, const yaml_node_pair_t *pair, json_t *object, int depth) {
    const yaml_node_t *key = yaml_document_get_node(reader->document, pair->key);
    if (key == NULL || key->type != YAML_SCALAR_NODE) {
        return error_set(reader->err, ERROR_INVALID, "line %zu: a key must be a string",
                         key != NULL ? key->start_mark.line + 1 : 0);
    }
    const char *name = (const char *)key->data.scalar.value;
    if (json_object_get(object, name) != NULL) {
        return error_set(reader->err, ERROR_INVALID, "line %zu: key \"%s\" stands there twice", key->start_mark.line + 1, name);
    }
    json_t *value = convert(reader, pair->value, depth + 1);
    if (value == NULL) {
        return -1;
    }
    if (json_object_set_new(object, name, value) < 0) {
        return error_set(reader->err, ERROR_INVALID, "line %zu: not valid UTF-8", key->start_mark.line + 1);
    }
    return 0;
}

static json_t *convert_mapping(struct reader *reader, const yaml_node_t *node, int depth) {
    json_t *object = json_object();
    for (yaml_node_pair_t *pair = node->data.mapping.pairs.start; pair < node->data.mapping.pairs.top; pair++) {
        if (convert_pair(reader, pair, object, depth) < 0) {
            json_decref(object);
            return NULL;
        }
    }
    return object;
}

static json_t *convert(struct reader *reader, int index, int depth) {
    const yaml_node_t *node = yaml_document_get_node(reader->document, index);
    if (node == NULL) {
        error_set(reader->err, ERROR_INVALID, "empty node");
        return NULL;
    }
    if (depth > YAML_DEPTH_MAX || ++reader->nodes > YAML_NODES_MAX) {
        error_set(reader->err, ERROR_LIMIT, "line %zu: more than %d levels or %d values", node->start_mark.line + 1, YAML_DEPTH_MAX,
                  YAML_NODES_MAX);
        return NULL;
    }
    switch (node->type) {
    case YAML_SEQUENCE_NODE:
        return convert_sequence(reader, node, depth);
    case YAML_MAPPING_NODE:
        return convert_mapping(reader, node, depth);
    default:
        return convert_scalar(reader, node);
    }
}

/* 1: *ret_value holds a document; 0: the stream is at its end; -1: failed. */
static int parse_document(yaml_parser_t *parser, size_t *nodes, json_t **ret_value, struct error *err) {
    yaml_document_t document;
    if (!yaml_parser_load(parser, &document)) {
        return error_set(err, ERROR_INVALID, "not valid YAML: line %zu column %zu: %s", parser->problem_mark.line + 1,
                         parser->problem_mark.column + 1, parser->problem != NULL ? parser->problem : "unreadable");
    }
    int result = 0;
    if (yaml_document_get_root_node(&document) != NULL) {
        struct reader reader = {.document = &document, .nodes = *nodes, .err = err};
        *ret_value = convert(&reader, 1, 0);
        *nodes = reader.nodes;
        result = *ret_value != NULL ? 1 : -1;
    }
    yaml_document_delete(&document);
    return result;
}

json_t *yaml_parse_all(const char *text, size_t len, struct error *err) {
    yaml_parser_t parser;
    if (!yaml_parser_initialize(&parser)) {
        error_set(err, ERROR_INTERNAL, "no memory for a YAML parser");
        return NULL;
    }
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, len);
    json_t *documents = json_array();
    size_t nodes = 0;
    json_t *value = NULL;
    int got = 0;
    while ((got = parse_document(&parser, &nodes, &value, err)) > 0) {
        if (json_is_null(value)) {
            json_decref(value);
        } else {
            json_array_append_new(documents, value);
        }
    }
    yaml_parser_delete(&parser);
    if (got < 0) {
        json_decref(documents);
        return NULL;
    }
    return documents;
}
