#include "adapter/syntax.h"

#include "adapter/names.h"

#include <string.h>

#define LOWER "abcdefghijklmnopqrstuvwxyz"
#define UPPER "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define DIGITS "0123456789"

static bool is_one_of(char c, const char *set) {
    return c != '\0' && strchr(set, c) != NULL;
}

/* Only of `inner`, and beginning and ending with one of `outer`. */
static bool is_word(const char *text, size_t len, const char *inner, const char *outer) {
    return len > 0 && strspn(text, inner) >= len && is_one_of(text[0], outer) && is_one_of(text[len - 1], outer);
}

static bool is_subdomain(const char *text, size_t len) {
    const char *end = text + len;
    while (true) {
        const char *dot = memchr(text, '.', (size_t)(end - text));
        const char *stop = dot != NULL ? dot : end;
        if (!is_word(text, (size_t)(stop - text), LOWER DIGITS "-", LOWER DIGITS)) {
            return false;
        }
        if (dot == NULL) {
            return true;
        }
        text = dot + 1;
    }
}

/* `text` without "<subdomain>/", NULL when what stands before the slash is none. */
static const char *after_prefix(const char *text) {
    const char *slash = strchr(text, '/');
    if (slash == NULL) {
        return text;
    }
    return is_subdomain(text, (size_t)(slash - text)) ? slash + 1 : NULL;
}

static bool is_label_word(const char *text) {
    size_t len = strlen(text);
    return len <= 63 && is_word(text, len, LOWER UPPER DIGITS "-_.", LOWER UPPER DIGITS);
}

bool syntax_is_service_name(const char *text) {
    return is_word(text, strlen(text), LOWER DIGITS "-", LOWER DIGITS) && is_one_of(text[0], LOWER);
}

bool syntax_is_subdomain(const char *text) {
    return is_subdomain(text, strlen(text));
}

bool syntax_is_label_key(const char *text) {
    const char *name = after_prefix(text);
    return name != NULL && is_label_word(name);
}

bool syntax_is_label_value(const char *text) {
    return *text == '\0' || is_label_word(text);
}

bool syntax_is_data_key(const char *text) {
    return *text != '\0' && text[strspn(text, LOWER UPPER DIGITS "-._")] == '\0';
}

bool syntax_is_printable(const char *text) {
    for (; *text != '\0'; text++) {
        if ((unsigned char)*text < 0x20 || *text == 0x7f) {
            return false;
        }
    }
    return true;
}

bool syntax_is_visible(const char *text) {
    for (; *text != '\0'; text++) {
        if (*text < '!' || *text > '~') {
            return false;
        }
    }
    return true;
}

bool syntax_is_digest(const char *text) {
    size_t prefix = strlen(DIGEST_PREFIX);
    if (*text == '\0') {
        return true;
    }
    text += strncmp(text, DIGEST_PREFIX, prefix) == 0 ? prefix : 0;
    return strlen(text) == 64 && strspn(text, DIGITS "abcdef") == 64;
}

bool syntax_is_reason(const char *text) {
    return is_word(text, strlen(text), LOWER UPPER DIGITS "_,:", LOWER UPPER DIGITS "_") && is_one_of(text[0], LOWER UPPER);
}

bool syntax_is_condition_type(const char *text) {
    const char *name = after_prefix(text);
    return name != NULL && is_word(name, strlen(name), LOWER UPPER DIGITS "-_.", LOWER UPPER DIGITS);
}
