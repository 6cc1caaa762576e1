#include "base/buffer.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void buffer_release(struct buffer *buf) {
    free(buf->data);
    *buf = BUFFER_INIT;
}

void buffer_clear(struct buffer *buf) {
    buf->len = 0;
    if (buf->data != NULL) {
        buf->data[0] = '\0';
    }
}

void buffer_reserve(struct buffer *buf, size_t more) {
    size_t wanted = buf->len + more + 1;
    if (wanted <= buf->capacity) {
        return;
    }
    size_t capacity = buf->capacity != 0 ? buf->capacity : 64;
    while (capacity < wanted) {
        capacity *= 2;
    }
    buf->data = xrealloc(buf->data, capacity);
    buf->capacity = capacity;
}

void buffer_append(struct buffer *buf, const void *bytes, size_t len) {
    buffer_reserve(buf, len);
    if (len != 0) {
        memcpy(buf->data + buf->len, bytes, len);
    }
    buf->len += len;
    buf->data[buf->len] = '\0';
}

void buffer_append_text(struct buffer *buf, const char *text) {
    buffer_append(buf, text, strlen(text));
}

void buffer_append_char(struct buffer *buf, char byte) {
    buffer_append(buf, &byte, 1);
}

void buffer_printf(struct buffer *buf, const char *format, ...) {
    va_list args;
    va_start(args, format);
    va_list again;
    va_copy(again, args);
    int len = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (len > 0) {
        buffer_reserve(buf, (size_t)len);
        (void)vsnprintf(buf->data + buf->len, (size_t)len + 1, format, again);
        buf->len += (size_t)len;
    }
    va_end(again);
}

void buffer_consume(struct buffer *buf, size_t len) {
    if (len == 0) {
        return;
    }
    if (len >= buf->len) {
        buffer_clear(buf);
        return;
    }
    memmove(buf->data, buf->data + len, buf->len - len);
    buf->len -= len;
    buf->data[buf->len] = '\0';
}

char *buffer_take(struct buffer *buf) {
    char *data = buf->data != NULL ? buf->data : xstrdup("");
    *buf = BUFFER_INIT;
    return data;
}

const char *buffer_text(const struct buffer *buf) {
    return buf->data != NULL ? buf->data : "";
}
