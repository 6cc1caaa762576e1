#include "gateway/model_rename.h"

#include "base/json.h"

#include <string.h>

static const char data_field[] = "data:";

void model_rename_init(struct model_rename *rename, enum model_rename_form form, const char *from, const char *to) {
    *rename = (struct model_rename){.form = form, .from = from, .to = to, .held = BUFFER_INIT};
}

void model_rename_release(struct model_rename *rename) {
    buffer_release(&rename->held);
    *rename = (struct model_rename){0};
}

void model_rename_finish(struct model_rename *rename, struct buffer *out) {
    buffer_append(out, rename->held.data, rename->held.len);
    buffer_clear(&rename->held);
    rename->is_holding = false;
}

/* `quoted`: a whole string with its quotes. */
static bool is_name(const struct buffer *quoted, const char *name) {
    size_t len = strlen(name);
    if (quoted->len == len + 2 && memcmp(quoted->data + 1, name, len) == 0) {
        return true;
    }
    cleanup_json json_t *value = json_loadb(quoted->data, quoted->len, JSON_DECODE_ANY, NULL); /* with escapes in it */
    const char *text = json_string_value(value);
    return text != NULL && strcmp(text, name) == 0;
}

static void value_ends(struct model_rename *rename, struct buffer *out) {
    if (is_name(&rename->held, rename->from)) {
        json_append_string(out, rename->to, strlen(rename->to));
        buffer_clear(&rename->held);
    }
    model_rename_finish(rename, out);
}

/* Whether what is next belongs to an object whose "model" is renamed. */
static bool is_at_members(const struct model_rename *rename) {
    return (rename->depth == 1 && rename->is_object) || (rename->depth == 2 && rename->in_response);
}

static void string_begins(struct model_rename *rename) {
    rename->in_string = true;
    rename->is_key = is_at_members(rename) && rename->expects_key;
    rename->key_bytes = 0;
    rename->is_holding = is_at_members(rename) && rename->is_model;
}

static bool is_key(const struct model_rename *rename, const char *name) {
    return rename->is_key && rename->key_bytes == strlen(name) && memcmp(rename->key, name, rename->key_bytes) == 0;
}

static void value_opens(struct model_rename *rename, char byte) {
    if (rename->depth == 0) {
        rename->is_object = byte == '{';
        rename->expects_key = true;
    } else if (rename->depth == 1 && rename->is_response) {
        rename->in_response = byte == '{';
        rename->expects_key = true;
    }
    rename->depth++;
    rename->is_model = rename->is_model && !is_at_members(rename);
}

static void value_closes(struct model_rename *rename) {
    rename->in_response = rename->in_response && rename->depth > 2;
    rename->depth -= rename->depth > 0 ? 1 : 0;
}

/* A byte of a string, the closing quote included. */
static void see_in_string(struct model_rename *rename, char byte) {
    bool is_end = byte == '"' && !rename->is_escaped;
    rename->is_escaped = byte == '\\' && !rename->is_escaped;
    if (is_end) {
        rename->in_string = false;
    } else if (rename->is_key && rename->key_bytes < sizeof(rename->key)) {
        rename->key[rename->key_bytes++] = byte;
    }
}

static void see_outside(struct model_rename *rename, char byte) {
    switch (byte) {
    case '"':
        string_begins(rename);
        break;
    case '{':
    case '[':
        value_opens(rename, byte);
        break;
    case '}':
    case ']':
        value_closes(rename);
        break;
    case ':':
        if (is_at_members(rename)) {
            rename->expects_key = false;
            rename->is_model = is_key(rename, "model");
            rename->is_response = rename->depth == 1 && is_key(rename, "response");
        }
        break;
    case ',':
        if (is_at_members(rename)) {
            rename->expects_key = true;
            rename->is_model = false;
            rename->is_response = false;
        }
        break;
    default:
        break;
    }
}

static void json_starts_anew(struct model_rename *rename) {
    rename->depth = 0;
    rename->in_string = false;
    rename->is_escaped = false;
    rename->is_model = false;
    rename->is_response = false;
    rename->in_response = false;
}

/* Whether the byte belongs to the JSON of an event's data; a blank line ends the event. */
static bool is_in_data(struct model_rename *rename, char byte) {
    if (byte == '\n') {
        bool is_blank = rename->line_bytes == 0 && !rename->is_data && !rename->is_other_line;
        rename->line_bytes = 0;
        rename->is_data = false;
        rename->is_other_line = false;
        if (is_blank) {
            json_starts_anew(rename);
        }
        return false;
    }
    if (rename->is_data || rename->is_other_line || (byte == '\r' && rename->line_bytes == 0)) {
        return rename->is_data;
    }
    if (byte == data_field[rename->line_bytes]) {
        rename->line_bytes++;
        rename->is_data = rename->line_bytes == sizeof(data_field) - 1;
    } else {
        rename->is_other_line = true;
    }
    return false;
}

void model_rename_push(struct model_rename *rename, const char *bytes, size_t len, struct buffer *out) {
    size_t passed = 0; /* bytes before it were appended or are held */
    for (size_t at = 0; at < len; at++) {
        bool is_json = rename->form == MODEL_RENAME_JSON || is_in_data(rename, bytes[at]);
        bool was_holding = rename->is_holding;
        if (!is_json) {
            if (was_holding) { /* no string goes over lines */
                model_rename_finish(rename, out);
                passed = at;
            }
            continue;
        }
        if (rename->in_string) {
            see_in_string(rename, bytes[at]);
        } else {
            see_outside(rename, bytes[at]);
        }
        if (!rename->is_holding) {
            continue;
        }
        if (!was_holding) {
            buffer_append(out, bytes + passed, at - passed);
        }
        buffer_append_char(&rename->held, bytes[at]);
        passed = at + 1;
        if (!rename->in_string) {
            value_ends(rename, out);
        } else if (rename->held.len >= MODEL_RENAME_HELD_BYTES_MAX) {
            model_rename_finish(rename, out);
        }
    }
    buffer_append(out, bytes + passed, len - passed);
}
