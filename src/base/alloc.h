/* Memory: allocation that does not fail, and cleanup of locals.
 *
 * Small allocations whose size the program itself chooses never fail: out of memory ends the process with a message that
 * names the size. What a peer, a file or a user sizes goes through `try_alloc`, after its stated limit was checked. */
#ifndef DAVIT_BASE_ALLOC_H
#define DAVIT_BASE_ALLOC_H

#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>

#define DAVIT_PRINTF(format_index, first) __attribute__((format(printf, format_index, first)))
#define DAVIT_MUST_USE __attribute__((warn_unused_result))

void *xmalloc(size_t size) __attribute__((malloc, returns_nonnull));
void *xcalloc(size_t count, size_t size) __attribute__((malloc, returns_nonnull));
void *xrealloc(void *old, size_t size) __attribute__((returns_nonnull));
char *xstrdup(const char *text) __attribute__((malloc, returns_nonnull));
char *xstrndup(const char *text, size_t len) __attribute__((malloc, returns_nonnull));
/* A formatted string of its own. */
char *xasprintf(const char *format, ...) DAVIT_PRINTF(1, 2) __attribute__((returns_nonnull));

/* count * size bytes, zeroed, 64-byte aligned; NULL when that overflows or memory is short. Free with free(). */
void *try_alloc(size_t count, size_t size) DAVIT_MUST_USE;

static inline void cleanup_free_pointer(void *pointer) {
    free(*(void **)pointer);
}
static inline void cleanup_close_fd(const int *fd) {
    if (*fd >= 0) {
        close(*fd);
    }
}
#define cleanup_free __attribute__((cleanup(cleanup_free_pointer)))
#define cleanup_close __attribute__((cleanup(cleanup_close_fd)))

/* Moves a pointer out of a variable that is cleaned up. */
#define take_pointer(variable)                                                                                                     \
    ({                                                                                                                             \
        __typeof__(variable) taken_ = (variable);                                                                                  \
        (variable) = NULL;                                                                                                         \
        taken_;                                                                                                                    \
    })

#define ARRAY_LEN(array) (sizeof(array) / sizeof((array)[0]))
#define container_of(pointer, type, member) ((type *)((char *)(pointer)-offsetof(type, member)))

#endif
