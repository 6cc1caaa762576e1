/* Walks over the text of JSON without making values of it, for those who need a few of many. What it steps over it does not judge:
 * whoever needs a value parses that. Pure. */
#ifndef DAVIT_BASE_JSON_CURSOR_H
#define DAVIT_BASE_JSON_CURSOR_H

#include <stdbool.h>
#include <stddef.h>

struct json_cursor {
    const char *at, *end;
};

struct json_span {
    const char *text; /* in the text that is walked over; NULL = not there, or a string written with escapes */
    size_t len;
};

/* All step over blanks before what they take. */
void json_cursor_blanks(struct json_cursor *cursor);
bool json_cursor_take(struct json_cursor *cursor, char byte);                    /* false: another byte is next */
bool json_cursor_string(struct json_cursor *cursor, struct json_span *ret_text); /* between its quotes */
bool json_cursor_skip(struct json_cursor *cursor);                               /* whatever value is there */
/* The next key of an object, up to its value; `count` members of it were read. false: there is none, or it is no JSON. */
bool json_cursor_member(struct json_cursor *cursor, size_t count, struct json_span *ret_key);
bool json_span_is(const struct json_span *span, const char *text);

#endif
