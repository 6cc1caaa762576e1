/* Which header fields pass a proxy (RFC 9110, 7.6.1). Pure.
 *
 * Not passed: Connection and what it names, Keep-Alive, Proxy-*, TE, Trailer, Transfer-Encoding, Upgrade, and what either side
 * makes itself: Host, Content-Length, Expect, Date. Everything else, Authorization included, passes unchanged. */
#ifndef DAVIT_GATEWAY_PROXY_FIELDS_H
#define DAVIT_GATEWAY_PROXY_FIELDS_H

#include "io/http.h"

#define REQUEST_ID_FIELD "X-Request-Id"

bool proxy_field_passes(const struct http_fields *all, const char *name);
/* Copies what passes, and adds X-Request-Id when it is absent (a random UUID). */
int proxy_fields_for_upstream(const struct http_fields *from_client, struct http_fields *ret_fields,
                              struct error *err) DAVIT_MUST_USE;

#endif
