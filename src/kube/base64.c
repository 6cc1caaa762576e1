#include "kube/base64.h"

static int digit_value(char digit) {
    if (digit >= 'A' && digit <= 'Z') {
        return digit - 'A';
    }
    if (digit >= 'a' && digit <= 'z') {
        return digit - 'a' + 26;
    }
    if (digit >= '0' && digit <= '9') {
        return digit - '0' + 52;
    }
    return digit == '+' ? 62 : digit == '/' ? 63 : -1;
}

static bool is_space(char byte) {
    return byte == ' ' || byte == '\t' || byte == '\r' || byte == '\n';
}

int base64_decode(const char *text, struct buffer *out, struct error *err) {
    unsigned bits = 0;
    unsigned digits = 0;
    unsigned padding = 0;
    for (; *text != '\0'; text++) {
        if (is_space(*text)) {
            continue;
        }
        if (*text == '=') {
            padding++;
            continue;
        }
        int value = digit_value(*text);
        if (value < 0 || padding > 0) {
            return error_set(err, ERROR_INVALID, "not valid base64");
        }
        bits = bits << 6 | (unsigned)value;
        digits++;
        if (digits % 4 == 0) {
            char bytes[3] = {(char)(bits >> 16), (char)(bits >> 8), (char)bits};
            buffer_append(out, bytes, sizeof(bytes));
            bits = 0;
        }
    }
    unsigned rest = digits % 4;
    if (rest == 1 || (padding != 0 && rest + padding != 4)) {
        return error_set(err, ERROR_INVALID, "not valid base64: cut short");
    }
    if (rest >= 2) {
        bits <<= 6 * (4 - rest);
        buffer_append_char(out, (char)(bits >> 16));
    }
    if (rest == 3) {
        buffer_append_char(out, (char)(bits >> 8));
    }
    return 0;
}

void base64_encode(const void *bytes, size_t len, struct buffer *out) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const unsigned char *at = bytes;
    for (; len > 0; at += 3, len -= len < 3 ? len : 3) {
        unsigned bits = (unsigned)at[0] << 16 | (len > 1 ? (unsigned)at[1] << 8 : 0) | (len > 2 ? at[2] : 0);
        buffer_append_char(out, digits[bits >> 18]);
        buffer_append_char(out, digits[bits >> 12 & 63]);
        buffer_append_char(out, len > 1 ? digits[bits >> 6 & 63] : '=');
        buffer_append_char(out, len > 2 ? digits[bits & 63] : '=');
    }
}
