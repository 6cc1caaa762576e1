#include "cluster/api/fields.h"

#include "cluster/api/status.h"

#include <string.h>

static bool is_supported(const struct resource *resource, const char *path) {
    if (strcmp(path, "metadata.name") == 0 || (resource->is_namespaced && strcmp(path, "metadata.namespace") == 0)) {
        return true;
    }
    for (size_t i = 0; i < RESOURCE_FIELDS_MAX && resource->fields[i] != NULL; i++) {
        if (strcmp(path, resource->fields[i]) == 0) {
            return true;
        }
    }
    return false;
}

/* Copies up to `end`, with "\," "\=" and "\\" unescaped. */
static char *unescape(const char *text, const char *end) {
    char *out = xmalloc((size_t)(end - text) + 1);
    size_t len = 0;
    for (; text < end; text++) {
        if (*text == '\\' && text + 1 < end) {
            text++;
        }
        out[len++] = *text;
    }
    out[len] = '\0';
    return out;
}

static const char *find_unescaped(const char *text, const char *end, char wanted) {
    for (; text < end; text++) {
        if (*text == '\\') {
            text++;
        } else if (*text == wanted) {
            return text;
        }
    }
    return NULL;
}

static json_t *parse_term(const struct resource *resource, const char *text, const char *end, struct field_selector *selector) {
    const char *equals = find_unescaped(text, end, '=');
    if (equals == NULL || equals == text) {
        return status_error(400, "BadRequest", "invalid selector: '%.*s'; can't understand '%.*s'", (int)(end - text), text,
                            (int)(end - text), text);
    }
    if (selector->count == FIELD_TERMS_MAX) {
        return status_error(400, "BadRequest", "field selector: more than %d terms", FIELD_TERMS_MAX);
    }
    struct field_term *term = &selector->terms[selector->count++];
    term->is_negated = equals[-1] == '!';
    const char *value = equals + (equals + 1 < end && equals[1] == '=' ? 2 : 1);
    term->path = unescape(text, equals - (term->is_negated ? 1 : 0));
    term->value = unescape(value, end);
    if (!is_supported(resource, term->path)) {
        return status_error(400, "BadRequest",
                            "Unable to find \"%s%s%s, Resource=%s\" that match field selector: field label not supported: %s",
                            resource->group, *resource->group != '\0' ? "/" : "", resource->version, resource->plural, term->path);
    }
    return NULL;
}

json_t *field_selector_parse(const struct resource *resource, const char *text, struct field_selector *ret_selector) {
    *ret_selector = (struct field_selector){0};
    while (text != NULL && *text != '\0') {
        const char *end = text + strlen(text);
        const char *comma = find_unescaped(text, end, ',');
        const char *stop = comma != NULL ? comma : end;
        if (stop > text) {
            json_t *status = parse_term(resource, text, stop, ret_selector);
            if (status != NULL) {
                return status;
            }
        }
        text = comma != NULL ? comma + 1 : end;
    }
    return NULL;
}

void field_selector_release(struct field_selector *selector) {
    for (size_t i = 0; i < selector->count; i++) {
        free(selector->terms[i].path);
        free(selector->terms[i].value);
    }
    *selector = (struct field_selector){0};
}

/* The value as a field selector sees it: strings as they are, numbers and booleans as text, missing as "". */
static bool value_equals(const json_t *value, const char *wanted) {
    if (json_is_string(value)) {
        return strcmp(json_string_value(value), wanted) == 0;
    }
    if (json_is_integer(value)) {
        char text[32];
        (void)snprintf(text, sizeof(text), "%lld", (long long)json_integer_value(value));
        return strcmp(text, wanted) == 0;
    }
    if (json_is_true(value)) {
        return strcmp(wanted, "true") == 0;
    }
    return *wanted == '\0' || (json_is_false(value) && strcmp(wanted, "false") == 0);
}

bool field_selector_matches(const struct field_selector *selector, const json_t *object) {
    for (size_t i = 0; i < selector->count; i++) {
        const struct field_term *term = &selector->terms[i];
        const json_t *value = json_at(object, term->path);
        bool is_equal = value_equals(value, term->value);
        if (value == NULL && strcmp(term->path, "spec.unschedulable") == 0) {
            is_equal = strcmp(term->value, "false") == 0;
        }
        if (is_equal == term->is_negated) {
            return false;
        }
    }
    return true;
}

const char *field_selector_name(const struct field_selector *selector) {
    for (size_t i = 0; i < selector->count; i++) {
        if (strcmp(selector->terms[i].path, "metadata.name") == 0 && !selector->terms[i].is_negated) {
            return selector->terms[i].value;
        }
    }
    return NULL;
}
