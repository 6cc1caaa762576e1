/* Text to token ids and back: byte-level BPE of the GPT-2 family, built from a GGUF file's vocabulary. Immutable after
 * tokenizer_new; any thread may use it. */
#ifndef DAVIT_ENGINE_TOKENIZER_TOKENIZER_H
#define DAVIT_ENGINE_TOKENIZER_TOKENIZER_H

#include "base/buffer.h"
#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>

struct gguf; /* engine/format/gguf.h */
struct tokenizer;

/* Copies what it needs from `gguf`. ERROR_UNSUPPORTED names a tokenizer model or split rule that is not known. */
int tokenizer_new(const struct gguf *gguf, struct tokenizer **ret_tokenizer, struct error *err) DAVIT_MUST_USE;
void tokenizer_free(struct tokenizer *tokenizer);

struct token_list {
    int *ids;
    size_t count;
    size_t capacity;
};
void token_list_release(struct token_list *list);

/* Appends the ids of UTF-8 `text` (invalid bytes are encoded as bytes). With `parse_special`, the text of special tokens such as
 * <|im_start|> becomes those tokens. ERROR_LIMIT when more than `limit` ids would come of it; what cannot have fewer, by the
 * lengths of the vocabulary's tokens, is refused before any work. */
int tokenizer_encode(const struct tokenizer *tokenizer, const char *text, size_t len, bool parse_special, size_t limit,
                     struct token_list *out, struct error *err) DAVIT_MUST_USE;
/* Appends the bytes of one token; special tokens give nothing when `skip_special`. The bytes of one token need not be whole UTF-8.
 */
void tokenizer_decode_append(const struct tokenizer *tokenizer, int token, bool skip_special, struct buffer *out);
/* How many bytes at the start of `text` are whole UTF-8 sequences: what may be sent on while a character is incomplete. */
size_t tokenizer_complete_utf8(const char *text, size_t len);

int tokenizer_vocab_size(const struct tokenizer *tokenizer);
int tokenizer_bos(const struct tokenizer *tokenizer);
int tokenizer_eos(const struct tokenizer *tokenizer);
bool tokenizer_adds_bos(const struct tokenizer *tokenizer);

struct chat_message {
    const char *role;
    const char *content; /* may hold NUL */
    size_t content_len;
};
/* Appends the ChatML prompt of the messages, with the model's default system message in front when the first is not of role
 * "system", and the opening of the assistant's turn when `add_generation_prompt`. */
void tokenizer_render_chat(const struct chat_message *messages, size_t count, bool add_generation_prompt, struct buffer *out);

#endif
