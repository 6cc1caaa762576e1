#include "cluster/api/object.h"
#include "cluster/api/status.h"
#include "cluster/api/validate.h"

#include <ctype.h>
#include <string.h>

#define ANNOTATIONS_BYTES_MAX (256 * 1024)
#define OWNERS_MAX 100
#define FINALIZERS_MAX 100

static bool is_lower_alnum(char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

static bool is_label_1123(const char *text, size_t len) {
    if (len == 0 || !is_lower_alnum(text[0]) || !is_lower_alnum(text[len - 1])) {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        if (!is_lower_alnum(text[i]) && text[i] != '-') {
            return false;
        }
    }
    return true;
}

static bool is_subdomain(const char *text, size_t len) {
    const char *end = text + len;
    while (true) {
        const char *dot = memchr(text, '.', (size_t)(end - text));
        const char *stop = dot != NULL ? dot : end;
        if (!is_label_1123(text, (size_t)(stop - text))) {
            return false;
        }
        if (dot == NULL) {
            return true;
        }
        text = dot + 1;
    }
}

const char *validate_name(enum name_rule rule, const char *name) {
    size_t len = strlen(name);
    switch (rule) {
    case NAME_SUBDOMAIN:
        return len > 253                  ? "must be no more than 253 characters"
               : !is_subdomain(name, len) ? "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, "
                                            "'-' or '.', and must start and end with an "
                                            "alphanumeric character (e.g. 'example.com')"
                                          : NULL;
    case NAME_LABEL:
        return len > 63                    ? "must be no more than 63 characters"
               : !is_label_1123(name, len) ? "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or "
                                             "'-', and must start and end with an "
                                             "alphanumeric character (e.g. 'my-name', or '123-abc')"
                                           : NULL;
    case NAME_DNS1035:
        return len > 63 ? "must be no more than 63 characters"
               : !is_label_1123(name, len) || !(name[0] >= 'a' && name[0] <= 'z')
                   ? "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic "
                     "character, and end with "
                     "an alphanumeric character (e.g. 'my-name', or 'abc-123')"
                   : NULL;
    default:
        return NULL;
    }
}

/* Letters, digits, '-', '_' and '.', beginning and ending with a letter or digit; at most 63. */
static bool is_qualified_part(const char *text, size_t len) {
    if (len == 0 || len > 63 || !isalnum((unsigned char)text[0]) || !isalnum((unsigned char)text[len - 1])) {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        if (!isalnum((unsigned char)text[i]) && strchr("-_.", text[i]) == NULL) {
            return false;
        }
    }
    return true;
}

static bool is_qualified_name(const char *key) {
    const char *slash = strchr(key, '/');
    if (slash == NULL) {
        return is_qualified_part(key, strlen(key));
    }
    size_t prefix_len = (size_t)(slash - key);
    return prefix_len <= 253 && is_subdomain(key, prefix_len) && is_qualified_part(slash + 1, strlen(slash + 1));
}

static const char bad_key[] =
    "a valid label key must consist of alphanumeric characters, '-', '_' or '.', must start and end with an alphanumeric character "
    "(e.g. 'MyName', "
    "or 'my.name'), be no more than 63 characters, with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')";

const char *validate_label(const char *key, const char *value) {
    if (!is_qualified_name(key)) {
        return bad_key;
    }
    if (*value != '\0' && !is_qualified_part(value, strlen(value))) {
        return "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and "
               "end with an "
               "alphanumeric character (e.g. 'MyValue', or 'my_value'), and be no more than 63 characters";
    }
    return NULL;
}

static bool require_object(const json_t *value, const char *field, json_t *causes) {
    if (value == NULL || json_is_null(value)) {
        return false;
    }
    if (!json_is_object(value)) {
        cause_add(causes, "FieldValueInvalid", field, "Invalid value: must be an object");
        return false;
    }
    return true;
}

static void validate_labels(const json_t *labels, json_t *causes) {
    if (!require_object(labels, "metadata.labels", causes)) {
        return;
    }
    const char *key = NULL;
    json_t *value = NULL;
    json_object_foreach((json_t *)labels, key, value) {
        const char *text = json_string_value(value);
        const char *why = text == NULL ? "must be a string" : validate_label(key, text);
        if (why != NULL) {
            cause_invalid(causes, "metadata.labels", text != NULL && why != bad_key ? text : key, why);
        }
    }
}

static void validate_annotations(const json_t *annotations, json_t *causes) {
    if (!require_object(annotations, "metadata.annotations", causes)) {
        return;
    }
    size_t total = 0;
    const char *key = NULL;
    json_t *value = NULL;
    json_object_foreach((json_t *)annotations, key, value) {
        if (!json_is_string(value)) {
            cause_invalid(causes, "metadata.annotations", key, "must be a string");
        }
        if (!is_qualified_name(key)) { /* upper case in the prefix is allowed by Kubernetes; nobody writes it */
            cause_invalid(causes, "metadata.annotations", key, "name part must be a qualified name of no more than 63 characters");
        }
        total += strlen(key) + json_string_length(value);
    }
    if (total > ANNOTATIONS_BYTES_MAX) {
        cause_add(causes, "FieldValueTooLong", "metadata.annotations", "Too long: must have at most %d bytes",
                  ANNOTATIONS_BYTES_MAX);
    }
}

static void validate_owners(const json_t *owners, json_t *causes) {
    if (owners == NULL || json_is_null(owners)) {
        return;
    }
    if (!json_is_array(owners) || json_array_size(owners) > OWNERS_MAX) {
        cause_add(causes, "FieldValueInvalid", "metadata.ownerReferences", "Invalid value: must be a list of at most %d references",
                  OWNERS_MAX);
        return;
    }
    size_t i = 0;
    const json_t *owner = NULL;
    json_array_foreach(owners, i, owner) {
        static const char *const required[] = {"apiVersion", "kind", "name", "uid"};
        for (size_t r = 0; r < ARRAY_LEN(required); r++) {
            const char *text = json_string_value(json_object_get(owner, required[r]));
            if (text == NULL || *text == '\0') {
                cleanup_free char *field = xasprintf("metadata.ownerReferences[%zu].%s", i, required[r]);
                cause_required(causes, field);
            }
        }
    }
}

static void validate_finalizers(const json_t *finalizers, const json_t *old_object, json_t *causes) {
    if (finalizers == NULL || json_is_null(finalizers)) {
        return;
    }
    if (!json_is_array(finalizers) || json_array_size(finalizers) > FINALIZERS_MAX) {
        cause_add(causes, "FieldValueInvalid", "metadata.finalizers", "Invalid value: must be a list of at most %d strings",
                  FINALIZERS_MAX);
        return;
    }
    bool is_deleting = old_object != NULL && object_is_deleting(old_object);
    size_t i = 0;
    const json_t *item = NULL;
    json_array_foreach(finalizers, i, item) {
        const char *name = json_string_value(item);
        if (name == NULL || !is_qualified_name(name)) {
            cause_invalid(causes, "metadata.finalizers", name != NULL ? name : "", "must be a qualified name");
        } else if (is_deleting && !object_has_finalizer(old_object, name)) {
            cause_add(
                causes, "FieldValueForbidden", "metadata.finalizers",
                "Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers []string{\"%s\"}",
                name);
        }
    }
}

void validate_meta(const struct resource *resource, const json_t *object, const json_t *old_object, json_t *causes) {
    if (old_object == NULL) { /* names never change */
        const char *name = object_name(object);
        const char *why = validate_name(resource->name_rule, name);
        if (*name == '\0') {
            cause_add(causes, "FieldValueRequired", "metadata.name", "Required value: name or generateName is required");
        } else if (why != NULL) {
            cause_invalid(causes, "metadata.name", name, why);
        }
    }
    const json_t *meta = object_meta(object);
    validate_labels(json_object_get(meta, "labels"), causes);
    validate_annotations(json_object_get(meta, "annotations"), causes);
    validate_owners(json_object_get(meta, "ownerReferences"), causes);
    validate_finalizers(json_object_get(meta, "finalizers"), old_object, causes);
}
