#include "kube/glance.h"

#include <string.h>

struct cursor {
    const char *at, *end;
};

static void skip_blanks(struct cursor *cursor) {
    while (cursor->at < cursor->end && (*cursor->at == ' ' || *cursor->at == '\t' || *cursor->at == '\n' || *cursor->at == '\r')) {
        cursor->at++;
    }
}

static bool take(struct cursor *cursor, char byte) {
    skip_blanks(cursor);
    if (cursor->at == cursor->end || *cursor->at != byte) {
        return false;
    }
    cursor->at++;
    return true;
}

/* From the first quote to behind the last; *ret_span is what is between them, without text when there are escapes. */
static bool take_string(struct cursor *cursor, struct kube_span *ret_span) {
    if (!take(cursor, '"')) {
        return false;
    }
    const char *begin = cursor->at;
    bool has_escape = false;
    while (cursor->at < cursor->end && *cursor->at != '"') {
        bool is_escape = *cursor->at == '\\' && cursor->at + 1 < cursor->end;
        has_escape |= is_escape;
        cursor->at += is_escape ? 2 : 1;
    }
    *ret_span = (struct kube_span){.text = has_escape ? NULL : begin, .len = (size_t)(cursor->at - begin)};
    return take(cursor, '"');
}

/* Whatever is there; brackets are counted, not told apart. */
static bool skip_value(struct cursor *cursor) {
    size_t depth = 0;
    skip_blanks(cursor);
    while (cursor->at < cursor->end) {
        struct kube_span ignored;
        char byte = *cursor->at;
        if (byte == '"') {
            if (!take_string(cursor, &ignored)) {
                return false;
            }
        } else if (byte == '{' || byte == '[') {
            depth++;
            cursor->at++;
        } else if (depth > 0 && (byte == '}' || byte == ']')) {
            depth--;
            cursor->at++;
        } else if (depth == 0 && (byte == ',' || byte == '}' || byte == ']')) {
            return true; /* behind a number or a word */
        } else {
            cursor->at++;
            continue; /* in a number or a word */
        }
        if (depth == 0) {
            return true;
        }
    }
    return false;
}

/* The next key of an object, up to its value. `count` members were read before it. */
static bool next_member(struct cursor *cursor, size_t count, struct kube_span *ret_key) {
    return (count == 0 || take(cursor, ',')) && take_string(cursor, ret_key) && take(cursor, ':');
}

static bool is_text(const struct kube_span *span, const char *text) {
    return span->text != NULL && span->len == strlen(text) && memcmp(span->text, text, span->len) == 0;
}

static bool read_metadata(struct cursor *cursor, struct kube_glance *glance) {
    const struct {
        const char *key;
        struct kube_span *value;
    } strings[] = {{"namespace", &glance->namespace},
                   {"name", &glance->name},
                   {"uid", &glance->uid},
                   {"resourceVersion", &glance->resource_version}};
    struct kube_span key;
    if (!take(cursor, '{')) {
        return false;
    }
    for (size_t count = 0;; count++) {
        const char *begin = cursor->at;
        if (take(cursor, '}')) {
            return true;
        }
        if (!next_member(cursor, count, &key)) {
            return false;
        }
        size_t i = 0;
        while (i < ARRAY_LEN(strings) && !is_text(&key, strings[i].key)) {
            i++;
        }
        skip_blanks(cursor);
        bool is_string = cursor->at < cursor->end && *cursor->at == '"';
        if (i < ARRAY_LEN(strings) && is_string ? !take_string(cursor, strings[i].value) : !skip_value(cursor)) {
            return false;
        }
        if (is_text(&key, "managedFields")) {
            /* The comma before it, or the one behind it where it is the first. */
            struct cursor behind = *cursor;
            if (count == 0 && take(&behind, ',')) {
                count--;
                *cursor = behind;
            }
            glance->managed_fields = (struct kube_span){.text = begin, .len = (size_t)(cursor->at - begin)};
        }
    }
}

static bool read_object(struct cursor *cursor, struct kube_glance *glance) {
    struct kube_span key;
    if (!take(cursor, '{')) {
        return false;
    }
    for (size_t count = 0; next_member(cursor, count, &key); count++) {
        if (is_text(&key, "metadata")) {
            return read_metadata(cursor, glance);
        }
        if (!skip_value(cursor)) {
            return false;
        }
    }
    return false;
}

bool kube_glance_object(const char *text, size_t len, struct kube_glance *ret_glance) {
    struct cursor cursor = {text, text + len};
    *ret_glance = (struct kube_glance){0};
    return read_object(&cursor, ret_glance);
}

bool kube_glance_event(const char *text, size_t len, struct kube_glance *ret_glance) {
    struct cursor cursor = {text, text + len};
    struct kube_span key;
    *ret_glance = (struct kube_glance){0};
    return take(&cursor, '{') && next_member(&cursor, 0, &key) && is_text(&key, "type") &&
           take_string(&cursor, &ret_glance->type) && next_member(&cursor, 1, &key) && is_text(&key, "object") &&
           read_object(&cursor, ret_glance);
}

json_t *kube_glance_identity(const struct kube_glance *glance) {
    const struct {
        const char *key;
        const struct kube_span *value;
    } strings[] = {{"namespace", &glance->namespace},
                   {"name", &glance->name},
                   {"uid", &glance->uid},
                   {"resourceVersion", &glance->resource_version}};
    json_t *metadata = json_object();
    for (size_t i = 0; i < ARRAY_LEN(strings); i++) {
        const struct kube_span *value = strings[i].value;
        if (value->text != NULL) {
            (void)json_object_set_new(metadata, strings[i].key,
                                      json_stringn(value->text, value->len)); /* not of what is no UTF-8 */
        }
    }
    return json_pack("{s:o}", "metadata", metadata);
}

json_t *kube_glance_parse(const struct kube_glance *glance, const char *text, size_t len, struct error *err) {
    const struct kube_span *cut = &glance->managed_fields;
    if (cut->text == NULL) {
        return json_parse(text, len, err);
    }
    cleanup_buffer struct buffer rest = BUFFER_INIT;
    size_t before = (size_t)(cut->text - text), behind = before + cut->len;
    buffer_reserve(&rest, len - cut->len);
    buffer_append(&rest, text, before);
    buffer_append(&rest, text + behind, len - behind);
    return json_parse(rest.data, rest.len, err);
}
