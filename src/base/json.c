#include "base/json.h"

#include <string.h>

/* How many values the text can hold at most, were it JSON: every one but the first follows a bracket or a comma. */
static size_t count_values(const char *text, size_t len) {
    size_t count = 1;
    bool is_string = false;
    for (size_t i = 0; i < len; i++) {
        if (is_string && text[i] == '\\') {
            i++; /* what is escaped */
        } else if (is_string) {
            is_string = text[i] != '"';
        } else {
            is_string = text[i] == '"';
            count += text[i] == ',' || text[i] == '[' || text[i] == '{' ? 1 : 0;
        }
    }
    return count;
}

json_t *json_parse_bounded(const char *text, size_t len, size_t values_max, struct error *err) {
    size_t count = count_values(text, len);
    if (count > values_max) {
        error_set(err, ERROR_LIMIT, "the text may hold %zu values, at most %zu are allowed", count, values_max);
        return NULL;
    }
    return json_parse(text, len, err);
}

json_t *json_parse(const char *text, size_t len, struct error *err) {
    json_error_t where;
    json_t *value = json_loadb(text, len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_ALLOW_NUL, &where);
    if (value == NULL) {
        error_set(err, ERROR_INVALID, "not valid JSON: line %d column %d: %s", where.line, where.column, where.text);
    }
    return value;
}

char *json_text(const json_t *value) {
    char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
    return text != NULL ? text : xstrdup("null");
}

static int append_chunk(const char *bytes, size_t len, void *out) {
    buffer_append(out, bytes, len);
    return 0;
}

void json_append(struct buffer *out, const json_t *value) {
    (void)json_dump_callback(value, append_chunk, out, JSON_COMPACT | JSON_ENCODE_ANY);
}

/* Length of the UTF-8 sequence at text[0], 0 when it is not valid (RFC 3629). */
static size_t utf8_sequence(const unsigned char *text, size_t len) {
    unsigned char lead = text[0];
    size_t need = lead < 0x80                   ? 1
                  : lead >= 0xc2 && lead < 0xe0 ? 2
                  : lead >= 0xe0 && lead < 0xf0 ? 3
                  : lead >= 0xf0 && lead < 0xf5 ? 4
                                                : 0;
    if (need == 0 || need > len) {
        return 0;
    }
    for (size_t i = 1; i < need; i++) {
        if ((text[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    if ((lead == 0xe0 && text[1] < 0xa0) || (lead == 0xed && text[1] > 0x9f) || (lead == 0xf0 && text[1] < 0x90) ||
        (lead == 0xf4 && text[1] > 0x8f)) {
        return 0;
    }
    return need;
}

void json_append_string(struct buffer *out, const char *text, size_t len) {
    buffer_append_char(out, '"');
    for (size_t i = 0; i < len;) {
        unsigned char byte = (unsigned char)text[i];
        size_t sequence = utf8_sequence((const unsigned char *)text + i, len - i);
        if (sequence == 0) {
            buffer_append_text(out, "\xef\xbf\xbd");
            i++;
        } else if (byte == '"' || byte == '\\') {
            buffer_append_char(out, '\\');
            buffer_append_char(out, (char)byte);
            i++;
        } else if (byte == '\n') {
            buffer_append_text(out, "\\n");
            i++;
        } else if (byte < 0x20) {
            buffer_printf(out, "\\u%04x", byte);
            i++;
        } else {
            buffer_append(out, text + i, sequence);
            i += sequence;
        }
    }
    buffer_append_char(out, '"');
}

json_t *json_string_lossy(const char *text) {
    json_t *value = json_string(text);
    if (value == NULL) {
        cleanup_buffer struct buffer quoted = BUFFER_INIT;
        json_append_string(&quoted, text, strlen(text));
        value = json_loadb(buffer_text(&quoted), quoted.len, JSON_DECODE_ANY, NULL);
    }
    return value != NULL ? value : json_string("");
}

json_t *json_at(const json_t *root, const char *path) {
    const json_t *value = root;
    while (value != NULL && *path != '\0') {
        const char *dot = strchrnul(path, '.');
        value = json_object_getn(value, path, (size_t)(dot - path));
        path = *dot == '.' ? dot + 1 : dot;
    }
    return (json_t *)value;
}

const char *json_c_string(const json_t *value) {
    const char *text = json_string_value(value);
    return text != NULL && strlen(text) == json_string_length(value) ? text : NULL;
}

const char *json_string_at(const json_t *root, const char *path, const char *fallback) {
    const char *text = json_c_string(json_at(root, path));
    return text != NULL ? text : fallback;
}

int64_t json_int_at(const json_t *root, const char *path, int64_t fallback) {
    const json_t *value = json_at(root, path);
    return json_is_integer(value) ? json_integer_value(value) : fallback;
}

bool json_bool_at(const json_t *root, const char *path, bool fallback) {
    const json_t *value = json_at(root, path);
    return json_is_boolean(value) ? json_is_true(value) : fallback;
}

json_t *json_merge_patch(json_t *target, const json_t *patch) {
    if (!json_is_object(patch)) {
        json_decref(target);
        return json_deep_copy(patch);
    }
    if (!json_is_object(target)) {
        json_decref(target);
        target = json_object();
    }
    const char *key = NULL;
    json_t *value = NULL;
    json_object_foreach((json_t *)patch, key, value) {
        if (json_is_null(value)) {
            json_object_del(target, key);
        } else {
            json_t *old = json_incref(json_object_get(target, key));
            json_object_set_new(target, key, json_merge_patch(old, value));
        }
    }
    return target;
}
