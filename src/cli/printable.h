/* Text of others for a terminal: what a model, a server or an object says must not steer it. Pure. */
#ifndef DAVIT_CLI_PRINTABLE_H
#define DAVIT_CLI_PRINTABLE_H

#include "base/buffer.h"

/* Control characters (C0, DEL, C1) but LF and TAB become U+FFFD. */
void printable_append(struct buffer *out, const char *text, size_t len);
/* The same for text that has to stay on one line: LF and TAB become a space. */
void printable_append_line(struct buffer *out, const char *text);

#endif
