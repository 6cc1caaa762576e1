#include "kube/glance.h"

#include <string.h>

static bool read_metadata(struct json_cursor *cursor, struct kube_glance *glance) {
    const struct {
        const char *key;
        struct json_span *value;
    } strings[] = {{"namespace", &glance->namespace},
                   {"name", &glance->name},
                   {"uid", &glance->uid},
                   {"resourceVersion", &glance->resource_version}};
    struct json_span key;
    if (!json_cursor_take(cursor, '{')) {
        return false;
    }
    for (size_t count = 0;; count++) {
        const char *begin = cursor->at;
        if (json_cursor_take(cursor, '}')) {
            return true;
        }
        if (!json_cursor_member(cursor, count, &key)) {
            return false;
        }
        size_t i = 0;
        while (i < ARRAY_LEN(strings) && !json_span_is(&key, strings[i].key)) {
            i++;
        }
        json_cursor_blanks(cursor);
        bool is_string = cursor->at < cursor->end && *cursor->at == '"';
        if (i < ARRAY_LEN(strings) && is_string ? !json_cursor_string(cursor, strings[i].value) : !json_cursor_skip(cursor)) {
            return false;
        }
        if (json_span_is(&key, "managedFields")) {
            /* The comma before it, or the one behind it where it is the first. */
            struct json_cursor behind = *cursor;
            if (count == 0 && json_cursor_take(&behind, ',')) {
                count--;
                *cursor = behind;
            }
            glance->managed_fields = (struct json_span){.text = begin, .len = (size_t)(cursor->at - begin)};
        }
    }
}

static bool read_object(struct json_cursor *cursor, struct kube_glance *glance) {
    struct json_span key;
    if (!json_cursor_take(cursor, '{')) {
        return false;
    }
    for (size_t count = 0; json_cursor_member(cursor, count, &key); count++) {
        if (json_span_is(&key, "metadata")) {
            return read_metadata(cursor, glance);
        }
        if (!json_cursor_skip(cursor)) {
            return false;
        }
    }
    return false;
}

bool kube_glance_object(const char *text, size_t len, struct kube_glance *ret_glance) {
    struct json_cursor cursor = {text, text + len};
    *ret_glance = (struct kube_glance){0};
    return read_object(&cursor, ret_glance);
}

bool kube_glance_event(const char *text, size_t len, struct kube_glance *ret_glance) {
    struct json_cursor cursor = {text, text + len};
    struct json_span key;
    *ret_glance = (struct kube_glance){0};
    return json_cursor_take(&cursor, '{') && json_cursor_member(&cursor, 0, &key) && json_span_is(&key, "type") &&
           json_cursor_string(&cursor, &ret_glance->type) && json_cursor_member(&cursor, 1, &key) && json_span_is(&key, "object") &&
           read_object(&cursor, ret_glance);
}

json_t *kube_glance_identity(const struct kube_glance *glance) {
    const struct {
        const char *key;
        const struct json_span *value;
    } strings[] = {{"namespace", &glance->namespace},
                   {"name", &glance->name},
                   {"uid", &glance->uid},
                   {"resourceVersion", &glance->resource_version}};
    json_t *metadata = json_object();
    for (size_t i = 0; i < ARRAY_LEN(strings); i++) {
        const struct json_span *value = strings[i].value;
        if (value->text != NULL) {
            (void)json_object_set_new(metadata, strings[i].key,
                                      json_stringn(value->text, value->len)); /* not of what is no UTF-8 */
        }
    }
    return json_pack("{s:o}", "metadata", metadata);
}

json_t *kube_glance_parse(const struct kube_glance *glance, const char *text, size_t len, struct error *err) {
    const struct json_span *cut = &glance->managed_fields;
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
