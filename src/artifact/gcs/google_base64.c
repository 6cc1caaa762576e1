#include "artifact/gcs/google_base64.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>

#define DECODED_BYTES_MAX 64

void google_base64url(struct buffer *out, const void *bytes, size_t len) {
    cleanup_free char *text = xmalloc(4 * ((len + 2) / 3) + 1);
    int text_len = EVP_EncodeBlock((unsigned char *)text, bytes, (int)len);
    for (int i = 0; i < text_len && text[i] != '='; i++) {
        buffer_append_char(out, text[i] == '+' ? '-' : text[i] == '/' ? '_' : text[i]);
    }
}

bool google_base64_to_hex(const char *text, size_t len, char *out) {
    unsigned char bytes[DECODED_BYTES_MAX + 2];
    size_t text_len = strlen(text);
    if (len > DECODED_BYTES_MAX || text_len != 4 * ((len + 2) / 3) ||
        EVP_DecodeBlock(bytes, (const unsigned char *)text, (int)text_len) != (int)(text_len / 4 * 3)) {
        return false;
    }
    /* EVP_DecodeBlock takes padding for zeros. */
    size_t padding = text_len / 4 * 3 - len;
    if (strcspn(text, "=") != text_len - padding) {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        (void)snprintf(out + 2 * i, 3, "%02x", bytes[i]);
    }
    return true;
}
