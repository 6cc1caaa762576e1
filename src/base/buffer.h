/* A growable run of bytes. `data` is NULL or NUL-terminated after `len`, so that text can be printed as it stands.
 *
 * Growth is for data whose size was bounded by the caller before it is appended. */
#ifndef DAVIT_BASE_BUFFER_H
#define DAVIT_BASE_BUFFER_H

#include "base/alloc.h"

#include <stdbool.h>
#include <stddef.h>

struct buffer {
    char *data;
    size_t len;
    size_t capacity;
};

#define BUFFER_INIT ((struct buffer){0})
#define cleanup_buffer __attribute__((cleanup(buffer_release)))

void buffer_release(struct buffer *buf);
void buffer_clear(struct buffer *buf); /* len = 0, memory stays */
void buffer_reserve(struct buffer *buf, size_t more);
void buffer_append(struct buffer *buf, const void *bytes, size_t len);
void buffer_append_text(struct buffer *buf, const char *text);
void buffer_append_char(struct buffer *buf, char byte);
void buffer_printf(struct buffer *buf, const char *format, ...) DAVIT_PRINTF(2, 3);
void buffer_consume(struct buffer *buf, size_t len); /* drops bytes at the front */
/* Moves the bytes out as a NUL-terminated string of the caller's (never NULL); the buffer is empty afterwards. */
char *buffer_take(struct buffer *buf);
/* What the buffer holds as text, "" when it never held anything. Borrowed. */
const char *buffer_text(const struct buffer *buf);

#endif
