/* Base64 as Google's interfaces use it. Pure. */
#ifndef DAVIT_ARTIFACT_GCS_GOOGLE_BASE64_H
#define DAVIT_ARTIFACT_GCS_GOOGLE_BASE64_H

#include "base/buffer.h"

/* Appends; RFC 4648, 5, without padding, as JWTs have it. */
void google_base64url(struct buffer *out, const void *bytes, size_t len);
/* Exactly `len` (at most 64) bytes in standard base64, as lower-case hexadecimal digits; false for anything else. `out` takes 2 *
 * len + 1. */
bool google_base64_to_hex(const char *text, size_t len, char *out);

#endif
