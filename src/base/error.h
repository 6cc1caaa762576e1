/* Errors: a code, the HTTP status it maps to, and a message that names the thing, what was expected and what was found.
 *
 * A function that can fail takes `struct error *err` last and returns a negative number on failure. Context is added on the
 * way up with error_wrap. A `struct error` owns nothing: declare it, pass it, forget it. */
#ifndef DAVIT_BASE_ERROR_H
#define DAVIT_BASE_ERROR_H

#include "base/alloc.h"

#include <stdbool.h>

enum error_code {
    ERROR_NONE = 0,
    ERROR_INVALID,      /* bad input: will never work as it is          400 */
    ERROR_UNAUTHORIZED, /* no or wrong credentials                      401 */
    ERROR_DENIED,       /* known, not allowed                           403 */
    ERROR_NOT_FOUND,    /* the thing named does not exist               404 */
    ERROR_EXISTS,       /* the thing named exists already               409 */
    ERROR_CONFLICT,     /* somebody else changed it, or owns it         409 */
    ERROR_LIMIT,        /* larger than a stated limit                   413 */
    ERROR_BUSY,         /* a queue is full, try again later             429 */
    ERROR_UNSUPPORTED,  /* understood and not done by this program      501 */
    ERROR_UNAVAILABLE,  /* a peer cannot be reached or is not ready     503 */
    ERROR_TIMEOUT,      /* a deadline passed                            504 */
    ERROR_IO,           /* the operating system refused                 500 */
    ERROR_INTERNAL,     /* this program is wrong                        500 */
};

#define ERROR_MESSAGE_BYTES 1024

struct error {
    enum error_code code;
    int http_status;
    bool is_final; /* trying again soon is no use, though the code may say so: somebody has to change something first */
    char message[ERROR_MESSAGE_BYTES]; /* cut when longer */
};

/* Fills *err (may be NULL) and returns -1, so that `return error_set(...)` reads well. */
int error_set(struct error *err, enum error_code code, const char *format, ...) DAVIT_PRINTF(3, 4);
/* The same for errno: appends ": <strerror>"; ENOENT becomes ERROR_NOT_FOUND, EACCES ERROR_DENIED, else ERROR_IO. */
int error_set_errno(struct error *err, const char *format, ...) DAVIT_PRINTF(2, 3);
/* Puts "<context>: " before the message, keeps the code; returns -1. */
int error_wrap(struct error *err, const char *format, ...) DAVIT_PRINTF(2, 3);

int error_code_http_status(enum error_code code);
/* The nearest code for an HTTP status >= 400. */
enum error_code error_code_from_http_status(int status);

#endif
