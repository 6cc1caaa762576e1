#include "adapter/selector.h"

#include "adapter/syntax.h"

#include <ctype.h>
#include <string.h>

#define TERMS_MAX 256
#define VALUES_MAX 256

enum term_operator { TERM_IN, TERM_NOT_IN, TERM_EXISTS, TERM_NOT_EXISTS };

struct term {
    enum term_operator op;
    char *key;
    char **values;
    size_t value_count;
};

struct selector {
    struct term *terms;
    size_t count;
};

/* ---- building ---- */

static struct term *add_term(struct selector *selector, enum term_operator op, const char *key, size_t key_len) {
    selector->terms = xrealloc(selector->terms, (selector->count + 1) * sizeof(*selector->terms));
    struct term *term = &selector->terms[selector->count++];
    *term = (struct term){.op = op, .key = xstrndup(key, key_len)};
    return term;
}

static void add_value(struct term *term, const char *value, size_t len) {
    term->values = xrealloc(term->values, (term->value_count + 1) * sizeof(*term->values));
    term->values[term->value_count++] = xstrndup(value, len);
}

void selector_free(struct selector *selector) {
    if (selector == NULL) {
        return;
    }
    for (size_t i = 0; i < selector->count; i++) {
        for (size_t k = 0; k < selector->terms[i].value_count; k++) {
            free(selector->terms[i].values[k]);
        }
        free(selector->terms[i].values);
        free(selector->terms[i].key);
    }
    free(selector->terms);
    free(selector);
}

static void cleanup_selector(struct selector **selector) {
    selector_free(*selector);
}

/* ---- metav1.LabelSelector ---- */

static int read_match_labels(const json_t *labels, struct selector *selector, struct error *err) {
    if (labels != NULL && !json_is_null(labels) && !json_is_object(labels)) {
        return error_set(err, ERROR_INVALID, "matchLabels: expected an object");
    }
    const char *key = NULL;
    json_t *value = NULL;
    json_object_foreach((json_t *)labels, key, value) {
        const char *text = json_string_value(value);
        if (!syntax_is_label_key(key)) {
            return error_set(err, ERROR_INVALID, "matchLabels: \"%.100s\" is not a label key", key);
        }
        if (text == NULL || !syntax_is_label_value(text)) {
            return error_set(err, ERROR_INVALID, "matchLabels[%.100s]: expected a label value, found %.100s", key,
                             text != NULL ? text : "another type");
        }
        if (selector->count == TERMS_MAX) {
            return error_set(err, ERROR_INVALID, "more than %d requirements", TERMS_MAX);
        }
        add_value(add_term(selector, TERM_IN, key, strlen(key)), text, strlen(text));
    }
    return 0;
}

static int read_expression_values(const json_t *values, size_t at, struct term *term, struct error *err) {
    bool wants_values = term->op == TERM_IN || term->op == TERM_NOT_IN;
    if (json_array_size(values) > VALUES_MAX) {
        return error_set(err, ERROR_INVALID, "matchExpressions[%zu].values: more than %d", at, VALUES_MAX);
    }
    if (wants_values != (json_array_size(values) > 0)) {
        return error_set(err, ERROR_INVALID, "matchExpressions[%zu].values: %s", at,
                         wants_values ? "must be given when the operator is In or NotIn"
                                      : "may not be given when the operator is Exists or DoesNotExist");
    }
    for (size_t i = 0; i < json_array_size(values); i++) {
        const char *text = json_string_value(json_array_get(values, i));
        if (text == NULL || !syntax_is_label_value(text)) {
            return error_set(err, ERROR_INVALID, "matchExpressions[%zu].values[%zu]: expected a label value", at, i);
        }
        add_value(term, text, strlen(text));
    }
    return 0;
}

static int read_expression(const json_t *expression, size_t at, struct selector *selector, struct error *err) {
    static const struct {
        const char *name;
        enum term_operator op;
    } operators[] = {{"In", TERM_IN}, {"NotIn", TERM_NOT_IN}, {"Exists", TERM_EXISTS}, {"DoesNotExist", TERM_NOT_EXISTS}};
    const char *key = json_string_at(expression, "key", "");
    const char *name = json_string_at(expression, "operator", "");
    if (!syntax_is_label_key(key)) {
        return error_set(err, ERROR_INVALID, "matchExpressions[%zu].key: \"%.100s\" is not a label key", at, key);
    }
    for (size_t i = 0; i < ARRAY_LEN(operators); i++) {
        if (strcmp(name, operators[i].name) == 0) {
            struct term *term = add_term(selector, operators[i].op, key, strlen(key));
            return read_expression_values(json_at(expression, "values"), at, term, err);
        }
    }
    return error_set(err, ERROR_INVALID, "matchExpressions[%zu].operator: \"%.100s\" is not one of In, NotIn, Exists, DoesNotExist",
                     at, name);
}

int selector_parse_object(const json_t *label_selector, struct selector **ret_selector, struct error *err) {
    __attribute__((cleanup(cleanup_selector))) struct selector *selector = xcalloc(1, sizeof(*selector));
    if (!json_is_object(label_selector)) {
        return error_set(err, ERROR_INVALID, "expected a label selector (an object with matchLabels or matchExpressions)");
    }
    if (read_match_labels(json_at(label_selector, "matchLabels"), selector, err) < 0) {
        return -1;
    }
    const json_t *expressions = json_at(label_selector, "matchExpressions");
    if (expressions != NULL && !json_is_null(expressions) && !json_is_array(expressions)) {
        return error_set(err, ERROR_INVALID, "matchExpressions: expected an array");
    }
    if (json_array_size(expressions) + selector->count > TERMS_MAX) {
        return error_set(err, ERROR_INVALID, "more than %d requirements", TERMS_MAX);
    }
    for (size_t i = 0; i < json_array_size(expressions); i++) {
        if (read_expression(json_array_get(expressions, i), i, selector, err) < 0) {
            return -1;
        }
    }
    *ret_selector = take_pointer(selector);
    return 0;
}

/* ---- the string form ---- */

struct scanner {
    const char *text;
    const char *at;
};

static void skip_space(struct scanner *scanner) {
    while (isspace((unsigned char)*scanner->at)) {
        scanner->at++;
    }
}

static bool take_char(struct scanner *scanner, char wanted) {
    skip_space(scanner);
    if (*scanner->at != wanted) {
        return false;
    }
    scanner->at++;
    return true;
}

/* The longest run of characters that keys and values consist of; may be empty. */
static size_t take_word(struct scanner *scanner, const char **ret_word) {
    skip_space(scanner);
    *ret_word = scanner->at;
    while (isalnum((unsigned char)*scanner->at) || (*scanner->at != '\0' && strchr("._-/", *scanner->at) != NULL)) {
        scanner->at++;
    }
    return (size_t)(scanner->at - *ret_word);
}

static int unexpected(const struct scanner *scanner, const char *expected, struct error *err) {
    return error_set(err, ERROR_INVALID, "label selector: expected %s at position %zu, found \"%.40s\"", expected,
                     (size_t)(scanner->at - scanner->text), scanner->at);
}

static int take_value(struct scanner *scanner, struct term *term, struct error *err) {
    const char *value = NULL;
    size_t len = take_word(scanner, &value);
    cleanup_free char *text = xstrndup(value, len);
    if (!syntax_is_label_value(text)) {
        scanner->at = value;
        return unexpected(scanner, "a label value", err);
    }
    if (term->value_count == VALUES_MAX) {
        return error_set(err, ERROR_INVALID, "label selector: more than %d values", VALUES_MAX);
    }
    add_value(term, value, len);
    return 0;
}

static int take_values(struct scanner *scanner, struct term *term, struct error *err) {
    if (!take_char(scanner, '(')) {
        return unexpected(scanner, "'('", err);
    }
    do {
        if (take_value(scanner, term, err) < 0) {
            return -1;
        }
    } while (take_char(scanner, ','));
    return take_char(scanner, ')') ? 0 : unexpected(scanner, "',' or ')'", err);
}

static int take_requirement(struct scanner *scanner, struct selector *selector, struct error *err) {
    bool is_negated = take_char(scanner, '!');
    const char *key = NULL;
    size_t key_len = take_word(scanner, &key);
    cleanup_free char *text = xstrndup(key, key_len);
    if (!syntax_is_label_key(text)) {
        scanner->at = key;
        return unexpected(scanner, "a label key", err);
    }
    if (is_negated) {
        add_term(selector, TERM_NOT_EXISTS, key, key_len);
        return 0;
    }
    if (take_char(scanner, '=')) {
        (void)take_char(scanner, '=');
        return take_value(scanner, add_term(selector, TERM_IN, key, key_len), err);
    }
    if (take_char(scanner, '!')) {
        if (*scanner->at != '=') {
            return unexpected(scanner, "'='", err);
        }
        scanner->at++;
        return take_value(scanner, add_term(selector, TERM_NOT_IN, key, key_len), err);
    }
    const char *word = NULL;
    size_t word_len = take_word(scanner, &word);
    if (word_len == 2 && strncmp(word, "in", 2) == 0) {
        return take_values(scanner, add_term(selector, TERM_IN, key, key_len), err);
    }
    if (word_len == 5 && strncmp(word, "notin", 5) == 0) {
        return take_values(scanner, add_term(selector, TERM_NOT_IN, key, key_len), err);
    }
    if (word_len > 0) {
        scanner->at = word;
        return unexpected(scanner, "'=', '!=', 'in' or 'notin'", err);
    }
    add_term(selector, TERM_EXISTS, key, key_len);
    return 0;
}

int selector_parse_string(const char *text, struct selector **ret_selector, struct error *err) {
    __attribute__((cleanup(cleanup_selector))) struct selector *selector = xcalloc(1, sizeof(*selector));
    struct scanner scanner = {.text = text, .at = text};
    skip_space(&scanner);
    while (*scanner.at != '\0') {
        if (selector->count == TERMS_MAX) {
            return error_set(err, ERROR_INVALID, "label selector: more than %d requirements", TERMS_MAX);
        }
        if (take_requirement(&scanner, selector, err) < 0) {
            return -1;
        }
        if (take_char(&scanner, ',')) {
            skip_space(&scanner);
            if (*scanner.at == '\0') {
                return unexpected(&scanner, "a requirement after ','", err);
            }
        } else if (*scanner.at != '\0') {
            return unexpected(&scanner, "','", err);
        }
    }
    *ret_selector = take_pointer(selector);
    return 0;
}

/* ---- matching ---- */

bool selector_is_empty(const struct selector *selector) {
    return selector->count == 0;
}

static bool has_value(const struct term *term, const char *value) {
    for (size_t i = 0; i < term->value_count; i++) {
        if (strcmp(term->values[i], value) == 0) {
            return true;
        }
    }
    return false;
}

bool selector_matches(const struct selector *selector, const json_t *labels) {
    for (size_t i = 0; i < selector->count; i++) {
        const struct term *term = &selector->terms[i];
        const char *value = json_string_value(json_object_get(labels, term->key));
        bool is_met = false;
        switch (term->op) {
        case TERM_IN:
            is_met = value != NULL && has_value(term, value);
            break;
        case TERM_NOT_IN: /* also when the label is absent, as in Kubernetes */
            is_met = value == NULL || !has_value(term, value);
            break;
        case TERM_EXISTS:
            is_met = value != NULL;
            break;
        case TERM_NOT_EXISTS:
            is_met = value == NULL;
            break;
        }
        if (!is_met) {
            return false;
        }
    }
    return true;
}
