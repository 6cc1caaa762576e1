/* The bodies of errors, in each dialect. */
#ifndef DAVIT_TESTS_FAKE_ENGINE_WORDS_H
#define DAVIT_TESTS_FAKE_ENGINE_WORDS_H

#include "base/buffer.h"

/* vLLM from 0.10.1: {"error":{"message","type","param","code"}}. `param` may be NULL. */
void words_nested(struct buffer *out, int status, const char *type, const char *param, const char *message);
/* SGLang's OpenAI paths, and the sidecar's direct form: {"object":"error","message","type","param","code"}. */
void words_flat(struct buffer *out, int status, const char *type, const char *message);
/* {"error":"message"} */
void words_plain(struct buffer *out, const char *message);
/* The type that vLLM gives to a status. */
const char *words_type(int status);
/* vLLM's text of a validation error of one member: {'type': 'missing', 'loc': 'body.x', ...}. */
void words_invalid_member(struct buffer *out, const char *type, const char *member, const char *message, const char *input);

#endif
