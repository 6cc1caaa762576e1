/* Stop strings: text in, text that may be sent on out. Pure.
 *
 * What might be the beginning of a stop string is held back until it is one or cannot become one. The stop string that is complete
 * first wins (of those that end at the same byte, the longest), so the result does not depend on how the text is cut into tokens.
 */
#ifndef DAVIT_ENGINE_API_STOP_STRINGS_H
#define DAVIT_ENGINE_API_STOP_STRINGS_H

#include "base/buffer.h"

#define STOP_STRINGS_MAX 64
#define STOP_STRING_BYTES_MAX 1024

struct stop_strings {
    const char *const *list; /* borrowed; none is empty */
    size_t count;
    bool include;       /* the stop string itself is part of the text */
    struct buffer held; /* not yet sent on */
};

void stop_strings_init(struct stop_strings *stops, const char *const *list, size_t count, bool include);
void stop_strings_release(struct stop_strings *stops);
/* Takes `text` and appends to `out` what may be sent on. Returns the index of the stop string that is now complete (nothing may be
 * pushed afterwards), or -1. With `armed` false the text passes unsearched (min_tokens), what was held included. */
int stop_strings_push(struct stop_strings *stops, const char *text, size_t len, bool armed, struct buffer *out);
/* The text has ended: appends what was held back. */
void stop_strings_flush(struct stop_strings *stops, struct buffer *out);

#endif
