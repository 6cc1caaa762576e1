/* Texts that are kept for long and read seldom, in a sixth of their memory: deflated, with the words that such texts are made of
 * known beforehand. Pure. */
#ifndef DAVIT_CONTROLLER_PACKED_H
#define DAVIT_CONTROLLER_PACKED_H

#include "base/buffer.h"

/* Appends the text, packed. */
void packed_append(struct buffer *out, const char *text, size_t len);
/* The text, of the caller's, with a NUL behind it; NULL when the bytes are not what packed_append wrote. */
char *packed_read(const char *bytes, size_t len, size_t *ret_len);

#endif
