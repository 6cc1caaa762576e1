/* Splitting text into the pieces within which tokens are merged, and what UTF-8 is. */
#ifndef DAVIT_ENGINE_TOKENIZER_SPLIT_H
#define DAVIT_ENGINE_TOKENIZER_SPLIT_H

#include "base/error.h"

#include <stddef.h>

struct split;

/* `rule` is the value of tokenizer.ggml.pre. ERROR_UNSUPPORTED when it is not known. */
int split_new(const char *rule, size_t rule_len, struct split **ret_split, struct error *err) DAVIT_MUST_USE;
void split_free(struct split *split);

/* Calls `fn` for each piece in order; together they are the text. Bytes that are not UTF-8 come as pieces of one byte. A negative
 * result of `fn` ends it and is returned. */
typedef int split_fn(void *arg, const char *piece, size_t len);
int split_each(const struct split *split, const char *text, size_t len, split_fn *fn, void *arg) DAVIT_MUST_USE;

/* Length of the UTF-8 sequence (RFC 3629) at the start of `text`: 1..4; 0 when it is none; -1 when it could become one with more
 * bytes. */
int utf8_sequence_len(const char *text, size_t len);

#endif
