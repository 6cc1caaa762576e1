/* What a Secret gives to an HTTP source, as header fields. Pure.
 *
 *   http_authorization or authorization  the value of Authorization as it stands
 *   token                                Authorization: Bearer <token>
 *   username and password                Authorization: Basic ...
 *   headers                              {"X-Api-Key": "..."}, a JSON object as text
 *
 * At most one of them may say Authorization. Nothing here may change what a request is or where its body ends: Host, Range,
 * Content-Length and their like are refused. Messages name keys and header names, never values. */
#ifndef DAVIT_ARTIFACT_WEB_HEADERS_H
#define DAVIT_ARTIFACT_WEB_HEADERS_H

#include "artifact/artifact.h"

#define SOURCE_HTTP_HEADERS_MAX 12
#define SOURCE_HTTP_HEADERS_BYTES_MAX 16384 /* of "headers" */

struct source_http_headers {
    char *fields[SOURCE_HTTP_HEADERS_MAX]; /* "Name: value" */
    size_t count;
    const char *authorization; /* the key or what else Authorization came from, for messages; NULL = none is sent */
};

/* secrets: NULL = none. user_info: "user:password" of the URL, NULL = none; the Secret wins. ERROR_INVALID. The caller releases
 * *ret in any case. */
int source_http_headers_read(const struct artifact_secrets *secrets, const char *user_info, struct source_http_headers *ret,
                             struct error *err) DAVIT_MUST_USE;
void source_http_headers_release(struct source_http_headers *headers);

#endif
