/* Base64 (RFC 4648, standard alphabet) as it stands in kubeconfig files and in the `data` of a Secret. */
#ifndef DAVIT_KUBE_BASE64_H
#define DAVIT_KUBE_BASE64_H

#include "base/buffer.h"
#include "base/error.h"

/* Appends the decoded bytes; white space is skipped. ERROR_INVALID without the offending text: it may be a secret. */
int base64_decode(const char *text, struct buffer *out, struct error *err) DAVIT_MUST_USE;
void base64_encode(const void *bytes, size_t len, struct buffer *out); /* appends, padded */

#endif
