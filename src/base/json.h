/* JSON by jansson, with what every role needs on top: limits when reading, paths, and stable text.
 *
 * Paths name members with dots ("spec.podSelector.matchLabels"); a key that holds a dot itself is read with json_object_get.
 * Borrowed results live as long as the document.
 *
 * Strings may hold U+0000. A C string out of a document is the whole string or nothing: json_c_string and json_string_at take one
 * with U+0000 in it for a value of another type, so no name is ever the beginning of another. Text of which every byte counts is
 * read with json_string_value and json_string_length together. */
#ifndef DAVIT_BASE_JSON_H
#define DAVIT_BASE_JSON_H

#include "base/buffer.h"
#include "base/error.h"

#include <jansson.h>
#include <stdint.h>

static inline void cleanup_json_pointer(json_t **value) {
    json_decref(*value);
}
#define cleanup_json __attribute__((cleanup(cleanup_json_pointer)))

/* Parses UTF-8 text. Duplicate keys are refused; depth is limited by jansson (2048). NULL and *err (ERROR_INVALID, with line and
 * column) on bad input. The caller owns the result. */
json_t *json_parse(const char *text, size_t len, struct error *err) DAVIT_MUST_USE;

/* The same for text of a stranger: ERROR_LIMIT, before anything is allocated, when it may hold more than `values_max` values. A
 * value of two bytes takes up to some 250 in memory. */
json_t *json_parse_bounded(const char *text, size_t len, size_t values_max, struct error *err) DAVIT_MUST_USE;

/* Compact text of a value; the caller frees it. */
char *json_text(const json_t *value);
/* Appends the compact text of a value. */
void json_append(struct buffer *out, const json_t *value);
/* Appends `text` as a JSON string with its quotes. Invalid UTF-8 becomes U+FFFD. */
void json_append_string(struct buffer *out, const char *text, size_t len);
/* A string, owned by the caller; never NULL, as json_string is for what is no UTF-8. Invalid UTF-8 becomes U+FFFD. */
json_t *json_string_lossy(const char *text);

/* The string as a C string, NULL when the value is none or holds U+0000. Borrowed. */
const char *json_c_string(const json_t *value);
/* Borrowed member at a path, NULL when any part is missing. */
json_t *json_at(const json_t *root, const char *path);
/* The C string, integer or boolean at a path, or `fallback` when it is missing or of another type. Borrowed. */
const char *json_string_at(const json_t *root, const char *path, const char *fallback);
int64_t json_int_at(const json_t *root, const char *path, int64_t fallback);
bool json_bool_at(const json_t *root, const char *path, bool fallback);

/* RFC 7386: applies `patch` to `target` (consumed) and returns the result, owned by the caller. `patch` is borrowed. */
json_t *json_merge_patch(json_t *target, const json_t *patch);

#endif
