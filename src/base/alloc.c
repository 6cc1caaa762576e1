#include "base/alloc.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

static void *or_die(void *pointer, size_t size) {
    if (pointer == NULL) {
        (void)fprintf(stderr, "davit: out of memory: %zu bytes\n", size);
        abort();
    }
    return pointer;
}

void *xmalloc(size_t size) {
    return or_die(malloc(size != 0 ? size : 1), size);
}

void *xcalloc(size_t count, size_t size) {
    return or_die(calloc(count != 0 ? count : 1, size != 0 ? size : 1), size);
}

void *xrealloc(void *old, size_t size) {
    return or_die(realloc(old, size != 0 ? size : 1), size);
}

char *xstrdup(const char *text) {
    return or_die(strdup(text), strlen(text) + 1);
}

char *xstrndup(const char *text, size_t len) {
    return or_die(strndup(text, len), len + 1);
}

char *xasprintf(const char *format, ...) {
    char *text = NULL;
    va_list args;
    va_start(args, format);
    int len = vasprintf(&text, format, args);
    va_end(args);
    return or_die(len < 0 ? NULL : text, 0);
}

void *try_alloc(size_t count, size_t size) {
    size_t bytes = 0;
    if (__builtin_mul_overflow(count, size, &bytes) || bytes > SIZE_MAX - 63) {
        return NULL;
    }
    bytes = bytes == 0 ? 64 : (bytes + 63) & ~(size_t)63;
    void *pointer = aligned_alloc(64, bytes);
    if (pointer != NULL) {
        memset(pointer, 0, bytes);
    }
    return pointer;
}
