/* Who may ask the sidecar. Without a token: anybody who reaches it, as with the reference. With one: who shows it, as
 *   X-Davit-Authorization: Bearer <token>   beside an Authorization that is the engine's, or
 *   Authorization: Bearer <token>           which then goes no further. Pure. */
#ifndef DAVIT_RUNTIME_ACCESS_H
#define DAVIT_RUNTIME_ACCESS_H

#include "io/http.h"

#define ACCESS_TOKEN_BYTES_MAX 4096

/* Reads the token out of a file: one line of printable characters. ERROR_INVALID never shows it. *ret_token is of the caller's. */
int access_read_token(const char *path, char **ret_token, struct error *err) DAVIT_MUST_USE;
/* token NULL = anybody. *ret_engines: the Authorization that is for the engine, borrowed from `fields`; NULL = none. */
bool access_is_allowed(const char *token, const struct http_fields *fields, const char **ret_engines);

#endif
