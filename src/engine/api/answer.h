/* From the engine's events to what the client reads: text, logprobs, SSE events or one JSON body, byte for byte in vLLM's shape.
 * Pure.
 *
 * A token's bytes pass two gates: what is not yet whole UTF-8 waits for the next token, and what may be the beginning of a stop
 * string waits until it is decided. */
#ifndef DAVIT_ENGINE_API_ANSWER_H
#define DAVIT_ENGINE_API_ANSWER_H

#include "engine/api/openai_request.h"
#include "engine/engine.h"

struct answer {
    const struct openai_request *request;
    const struct tokenizer *tokenizer;
    char *id;        /* "cmpl-..." or "chatcmpl-..." */
    int64_t created; /* seconds */
    char *model;     /* as it is named in the answer */
    char *fingerprint;
    struct stop_strings stops;
    struct buffer incomplete; /* bytes that are not yet whole UTF-8 */
    struct buffer text;       /* since the last event that was built; of everything when not streaming */
    /* logprobs since then, as the insides of JSON arrays */
    struct buffer tokens; /* chat: the objects of "content" */
    struct buffer values;
    struct buffer tops;
    struct buffer offsets;
    size_t text_offset; /* code points of the tokens so far */
    bool has_begun;     /* the first SSE event was built */
    enum engine_finish finish;
    int stop_string; /* index, -1 = none */
    int stop_token;  /* -1 = none */
    int prompt_tokens;
    int cached_tokens;
    int generated_tokens;
};

/* `request` and `tokenizer` are borrowed, the texts copied. `echo` (may be NULL): the prompt's text, for requests that want it
 * back. */
struct answer_options {
    const struct openai_request *request;
    const struct tokenizer *tokenizer;
    const char *id;
    int64_t created;
    const char *model;
    const char *fingerprint;
    const char *echo;
    size_t echo_len;
};
void answer_init(struct answer *answer, const struct answer_options *options);
void answer_release(struct answer *answer);

enum answer_step {
    ANSWER_MORE,
    ANSWER_DONE,    /* the engine's last event */
    ANSWER_STOPPED, /* a stop string: done, and the generation should be cancelled */
};
enum answer_step answer_take_event(struct answer *answer, const struct engine_event *event);

/* Appends the SSE events for what came since the last call: nothing when there is nothing to show yet; when finished, the last
 * piece, the usage if it was asked for, and [DONE]. */
void answer_append_sse(struct answer *answer, struct buffer *out);
/* Appends the JSON body of an answer that is not streamed. */
void answer_append_body(const struct answer *answer, struct buffer *out);

const char *answer_finish_reason(enum engine_finish finish); /* "stop", "length", "abort" */

#endif
