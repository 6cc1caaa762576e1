#include "cli/printable.h"

#include <string.h>

#define REPLACEMENT_CHARACTER "\xEF\xBF\xBD"

void printable_append(struct buffer *out, const char *text, size_t len) {
    for (size_t i = 0; i < len; i++) {
        unsigned char byte = (unsigned char)text[i];
        bool is_c1 = byte == 0xC2 && i + 1 < len && (unsigned char)text[i + 1] < 0xA0; /* U+0080 to U+009F in UTF-8 */
        if (is_c1 || byte == 0x7F || (byte < ' ' && byte != '\n' && byte != '\t')) {
            buffer_append_text(out, REPLACEMENT_CHARACTER);
            i += is_c1;
        } else {
            buffer_append_char(out, (char)byte);
        }
    }
}

void printable_append_line(struct buffer *out, const char *text) {
    size_t start = out->len;
    printable_append(out, text, strlen(text));
    for (size_t i = start; i < out->len; i++) {
        out->data[i] = out->data[i] == '\n' || out->data[i] == '\t' ? ' ' : out->data[i];
    }
}
