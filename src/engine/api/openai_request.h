/* Bodies of POST /v1/completions and /v1/chat/completions: JSON in, struct out, with vLLM's defaults and errors. Pure.
 *
 * What this engine does not do and an answer would silently lack (penalties, n > 1, tools, guided output, prompt logprobs, images)
 * is refused with a message; members nobody knows are ignored, as vLLM does. */
#ifndef DAVIT_ENGINE_API_OPENAI_REQUEST_H
#define DAVIT_ENGINE_API_OPENAI_REQUEST_H

#include "base/json.h"
#include "engine/api/api_error.h"
#include "engine/api/stop_strings.h"
#include "engine/tokenizer/tokenizer.h"

#define OPENAI_STOP_TOKENS_MAX 64
#define OPENAI_MESSAGES_MAX 4096

struct openai_request {
    json_t *document; /* owned; strings below are borrowed from it unless said */
    bool is_chat;
    const char *model; /* "" = the first served base model */
    /* the prompt, one of: */
    const char *prompt_text; /* completions */
    size_t prompt_text_len;
    int *prompt_ids; /* completions; owned */
    size_t prompt_id_count;
    struct chat_message *messages; /* chat; array and contents owned */
    size_t message_count;
    bool add_generation_prompt;
    bool echo; /* completions: the prompt's text comes first */
    /* sampling */
    bool has_max_tokens; /* false = the rest of the context */
    int64_t max_tokens;
    int64_t min_tokens;
    double temperature;
    double top_p;
    double min_p;
    int64_t top_k;
    bool has_seed;
    int64_t seed;
    int64_t logprobs; /* -1 = none; chat with logprobs and without top_logprobs: 0 */
    bool ignore_eos;
    bool skip_special_tokens;
    bool include_stop;
    const char *stop[STOP_STRINGS_MAX];
    size_t stop_count;
    int stop_tokens[OPENAI_STOP_TOKENS_MAX];
    size_t stop_token_count;
    /* the answer */
    bool stream;
    bool include_usage;
    bool continuous_usage;
};

/* Takes the document over in any case. Schema errors first, then what is unsupported. */
int openai_request_parse(json_t *document, bool is_chat, struct openai_request *ret_request,
                         struct api_error *error) DAVIT_MUST_USE;
void openai_request_release(struct openai_request *request);
/* Sampling parameters and max_tokens, after the model was found: vLLM's order. */
int openai_request_check(const struct openai_request *request, int max_model_len, struct api_error *error) DAVIT_MUST_USE;

/* Reads chat messages, content as a string or as an array of {"type":"text"} parts; also for /tokenize. */
int openai_read_messages(const json_t *list, struct chat_message **ret_messages, size_t *ret_count,
                         struct api_error *error) DAVIT_MUST_USE;
void openai_messages_free(struct chat_message *messages, size_t count);

/* The answer when prompt and max_tokens do not fit. `at_least`: the prompt was not counted to its end. */
int openai_too_long(struct api_error *error, int max_model_len, int64_t output_tokens, size_t prompt_tokens, bool at_least);

#endif
