#include "base/json_cursor.h"

#include <string.h>

void json_cursor_blanks(struct json_cursor *cursor) {
    while (cursor->at < cursor->end && (*cursor->at == ' ' || *cursor->at == '\t' || *cursor->at == '\n' || *cursor->at == '\r')) {
        cursor->at++;
    }
}

bool json_cursor_take(struct json_cursor *cursor, char byte) {
    json_cursor_blanks(cursor);
    if (cursor->at == cursor->end || *cursor->at != byte) {
        return false;
    }
    cursor->at++;
    return true;
}

bool json_cursor_string(struct json_cursor *cursor, struct json_span *ret_span) {
    if (!json_cursor_take(cursor, '"')) {
        return false;
    }
    const char *begin = cursor->at;
    bool has_escape = false;
    while (cursor->at < cursor->end && *cursor->at != '"') {
        bool is_escape = *cursor->at == '\\' && cursor->at + 1 < cursor->end;
        has_escape |= is_escape;
        cursor->at += is_escape ? 2 : 1;
    }
    *ret_span = (struct json_span){.text = has_escape ? NULL : begin, .len = (size_t)(cursor->at - begin)};
    return json_cursor_take(cursor, '"');
}

/* Brackets are counted, not told apart. */
bool json_cursor_skip(struct json_cursor *cursor) {
    size_t depth = 0;
    json_cursor_blanks(cursor);
    while (cursor->at < cursor->end) {
        struct json_span ignored;
        char byte = *cursor->at;
        if (byte == '"') {
            if (!json_cursor_string(cursor, &ignored)) {
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

bool json_cursor_member(struct json_cursor *cursor, size_t count, struct json_span *ret_key) {
    return (count == 0 || json_cursor_take(cursor, ',')) && json_cursor_string(cursor, ret_key) && json_cursor_take(cursor, ':');
}

bool json_span_is(const struct json_span *span, const char *text) {
    return span->text != NULL && span->len == strlen(text) && memcmp(span->text, text, span->len) == 0;
}
