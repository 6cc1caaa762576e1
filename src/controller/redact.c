#include "controller/redact.h"

#include <string.h>

#define SECRET_BYTES_MIN 4
#define PIECE_BYTES_MIN 8 /* of a secret that is found only in parts */

/* Quoting writes these otherwise than they are, each language in its own way (JSON, Python, shells). */
#define ESCAPED "\"\\'<>& \t\r\n"

static void overwrite(char *text, size_t len, const char *piece, size_t piece_len) {
    char *at = text, *end = text + len;
    while ((at = memmem(at, (size_t)(end - at), piece, piece_len)) != NULL) {
        memset(at, '*', piece_len);
        at += piece_len;
    }
}

void redact_text(char *text, size_t len, const char *secret) {
    size_t secret_len = secret != NULL ? strlen(secret) : 0;
    if (secret_len < SECRET_BYTES_MIN) {
        return;
    }
    overwrite(text, len, secret, secret_len);
    for (const char *at = secret; *at != '\0';) {
        size_t piece_len = strcspn(at, ESCAPED);
        if (piece_len >= PIECE_BYTES_MIN) {
            overwrite(text, len, at, piece_len);
        }
        at += piece_len;
        at += strspn(at, ESCAPED);
    }
}

/* "hf_endpoint", "aws_region", ...: whoever is told that a server does not answer has to know which. What could be signed, or names
 * a user, is overwritten all the same. */
static bool is_place(const char *key, const char *value) {
    return (strcasestr(key, "endpoint") != NULL || strcasestr(key, "region") != NULL) && strpbrk(value, "@?#") == NULL;
}

void redact_values(char *text, size_t len, const json_t *secrets) {
    const char *key = NULL;
    json_t *value = NULL;
    json_object_foreach((json_t *)secrets, key, value) {
        const char *secret = json_string_value(value);
        if (secret != NULL && !is_place(key, secret)) {
            redact_text(text, len, secret);
        }
    }
}
