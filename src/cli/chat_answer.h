/* The OpenAI chat dialect as a client speaks it, without sockets: request bodies out, streamed answers in. Pure; the clock comes in
 * as an argument. */
#ifndef DAVIT_CLI_CHAT_ANSWER_H
#define DAVIT_CLI_CHAT_ANSWER_H

#include "base/json.h"
#include "cli/sse.h"

#define CHAT_ANSWER_BYTES_MAX (4 * 1024 * 1024)

struct chat_settings {
    const char *system; /* NULL = none */
    int64_t max_tokens; /* 0 = the engine's default */
    double temperature; /* negative = the engine's default */
};

/* A streamed answer of one model, as far as it has come. All zeroes is the start. */
struct chat_answer {
    struct sse_decoder decoder;
    struct buffer text;
    int64_t first_token_ns; /* 0 = none has come */
    int64_t last_token_ns;
    int64_t tokens; /* as the engine counted them; -1 = it did not say */
    int64_t pieces; /* of text */
    bool was_cut;   /* by max_tokens or the context's length */
    bool is_done;
};

/* {"role": role, "content": text}; bytes that are not UTF-8 become U+FFFD. A new reference. */
json_t *chat_message(const char *role, const char *text);
/* The body of POST /v1/chat/completions, of the caller's. `messages` is borrowed and holds no system message. */
char *chat_request_body(const struct chat_settings *settings, const char *model, const json_t *messages);

void chat_answer_init(struct chat_answer *answer);
void chat_answer_release(struct chat_answer *answer);
/* Takes bytes of the response. What they add to the answer is appended to answer->text. ERROR_LIMIT: too long. ERROR_INVALID: not
 * what an OpenAI-compatible server sends. ERROR_UNAVAILABLE: the server reports an error in the stream; the message is the
 * server's. */
int chat_answer_read(struct chat_answer *answer, const char *bytes, size_t len, int64_t now_ns, struct error *err) DAVIT_MUST_USE;
/* Tokens a second after the first one; 0 when it cannot be told. */
double chat_answer_rate(const struct chat_answer *answer);
/* "first token after 61 ms, 43 tokens, 55.1 tokens/s" */
void chat_answer_describe(const struct chat_answer *answer, int64_t asked_ns, struct buffer *out);

/* The message in the body of an error response, else the body itself as one line, cut; "" when there is none. */
void chat_error_message(const char *body, size_t len, struct buffer *out);

#endif
