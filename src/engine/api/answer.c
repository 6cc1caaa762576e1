#include "engine/api/answer.h"

#include <string.h>

#define LOGPROB_MINIMUM (-9999.0) /* vLLM's stand-in for minus infinity, which JSON has not */

void answer_init(struct answer *answer, const struct answer_options *options) {
    *answer = (struct answer){
        .request = options->request,
        .tokenizer = options->tokenizer,
        .id = xstrdup(options->id),
        .created = options->created,
        .model = xstrdup(options->model),
        .fingerprint = xstrdup(options->fingerprint),
        .stop_string = -1,
        .stop_token = -1,
    };
    stop_strings_init(&answer->stops, options->request->stop, options->request->stop_count, options->request->include_stop);
    if (options->echo != NULL) {
        buffer_append(&answer->text, options->echo, options->echo_len);
    }
}

void answer_release(struct answer *answer) {
    free(answer->id);
    free(answer->model);
    free(answer->fingerprint);
    stop_strings_release(&answer->stops);
    buffer_release(&answer->incomplete);
    buffer_release(&answer->text);
    buffer_release(&answer->tokens);
    buffer_release(&answer->values);
    buffer_release(&answer->tops);
    buffer_release(&answer->offsets);
}

const char *answer_finish_reason(enum engine_finish finish) {
    switch (finish) {
    case ENGINE_FINISH_STOP:
        return "stop";
    case ENGINE_FINISH_LENGTH:
        return "length";
    default:
        return "abort";
    }
}

/* ---- text ---- */

static bool push_text(struct answer *answer, const char *text, size_t len, bool armed) {
    answer->stop_string = stop_strings_push(&answer->stops, text, len, armed, &answer->text);
    return answer->stop_string >= 0;
}

/* True when a stop string is complete. */
static bool take_token(struct answer *answer, int token, bool armed) {
    tokenizer_decode_append(answer->tokenizer, token, answer->request->skip_special_tokens, &answer->incomplete);
    size_t whole = tokenizer_complete_utf8(buffer_text(&answer->incomplete), answer->incomplete.len);
    bool stopped = push_text(answer, buffer_text(&answer->incomplete), whole, armed);
    buffer_consume(&answer->incomplete, whole);
    return stopped;
}

/* ---- logprobs ---- */

static void append_comma(struct buffer *out) {
    if (out->len > 0) {
        buffer_append_char(out, ',');
    }
}

static void append_logprob(struct buffer *out, float logprob) {
    append_python_float(out, logprob >= LOGPROB_MINIMUM ? (double)logprob : LOGPROB_MINIMUM);
}

static void append_token_string(const struct answer *answer, int token, struct buffer *out) {
    cleanup_buffer struct buffer text = BUFFER_INIT;
    tokenizer_decode_append(answer->tokenizer, token, false, &text);
    json_append_string(out, buffer_text(&text), text.len);
}

static size_t token_code_points(const struct answer *answer, int token) {
    cleanup_buffer struct buffer text = BUFFER_INIT;
    tokenizer_decode_append(answer->tokenizer, token, false, &text);
    size_t count = 0;
    for (size_t i = 0; i < text.len; i++) {
        count += ((unsigned char)text.data[i] & 0xc0) != 0x80;
    }
    return count;
}

/* {"token":"x","logprob":-0.5,"bytes":[120]} without the closing brace. */
static void append_chat_token(const struct answer *answer, int token, float logprob, struct buffer *out) {
    cleanup_buffer struct buffer text = BUFFER_INIT;
    tokenizer_decode_append(answer->tokenizer, token, false, &text);
    buffer_append_text(out, "{\"token\":");
    json_append_string(out, buffer_text(&text), text.len);
    buffer_append_text(out, ",\"logprob\":");
    append_logprob(out, logprob);
    buffer_append_text(out, ",\"bytes\":[");
    for (size_t i = 0; i < text.len; i++) {
        buffer_printf(out, "%s%d", i > 0 ? "," : "", (unsigned char)text.data[i]);
    }
    buffer_append_char(out, ']');
}

static void take_chat_logprobs(struct answer *answer, const struct engine_event *event) {
    append_comma(&answer->tokens);
    append_chat_token(answer, event->token, event->logprob, &answer->tokens);
    buffer_append_text(&answer->tokens, ",\"top_logprobs\":[");
    int count = event->top_count < (int)answer->request->logprobs ? event->top_count : (int)answer->request->logprobs;
    for (int i = 0; i < count; i++) {
        buffer_append_text(&answer->tokens, i > 0 ? "," : "");
        append_chat_token(answer, event->top[i].token, event->top[i].logprob, &answer->tokens);
        buffer_append_char(&answer->tokens, '}');
    }
    buffer_append_text(&answer->tokens, "]}");
}

/* Appends "text":logprob unless an earlier token of this object has the same text. */
static void append_top(const struct answer *answer, struct buffer *seen, int token, float logprob, struct buffer *out) {
    cleanup_buffer struct buffer key = BUFFER_INIT;
    append_token_string(answer, token, &key);
    cleanup_free char *probe = xasprintf("\n%s\n", buffer_text(&key)); /* JSON strings hold no raw newline */
    if (strstr(buffer_text(seen), probe) != NULL) {
        return;
    }
    buffer_append_text(out, seen->len > 0 ? "," : "");
    buffer_append_text(seen, probe);
    buffer_append(out, key.data, key.len);
    buffer_append_char(out, ':');
    append_logprob(out, logprob);
}

/* The best `logprobs` tokens, and the one that was taken where it is not among them. */
static void take_completion_logprobs(struct answer *answer, const struct engine_event *event) {
    append_comma(&answer->tokens);
    append_token_string(answer, event->token, &answer->tokens);
    append_comma(&answer->values);
    append_logprob(&answer->values, event->logprob);
    append_comma(&answer->offsets);
    buffer_printf(&answer->offsets, "%zu", answer->text_offset);
    answer->text_offset += token_code_points(answer, event->token);
    append_comma(&answer->tops);
    buffer_append_char(&answer->tops, '{');
    cleanup_buffer struct buffer seen = BUFFER_INIT;
    int count = event->top_count < (int)answer->request->logprobs ? event->top_count : (int)answer->request->logprobs;
    for (int i = 0; i < count; i++) {
        append_top(answer, &seen, event->top[i].token, event->top[i].logprob, &answer->tops);
    }
    append_top(answer, &seen, event->token, event->logprob, &answer->tops);
    buffer_append_char(&answer->tops, '}');
}

static void append_logprobs(const struct answer *answer, struct buffer *out) {
    if (answer->tokens.len == 0) {
        buffer_append_text(out, "null");
        return;
    }
    if (answer->request->is_chat) {
        buffer_printf(out, "{\"content\":[%s]}", buffer_text(&answer->tokens));
        return;
    }
    buffer_printf(out, "{\"text_offset\":[%s],\"token_logprobs\":[%s],\"tokens\":[%s],\"top_logprobs\":[%s]}",
                  buffer_text(&answer->offsets), buffer_text(&answer->values), buffer_text(&answer->tokens),
                  buffer_text(&answer->tops));
}

/* ---- events in ---- */

enum answer_step answer_take_event(struct answer *answer, const struct engine_event *event) {
    answer->prompt_tokens = event->prompt_tokens;
    answer->cached_tokens = event->cached_tokens;
    answer->generated_tokens = event->generated_tokens;
    if (event->token >= 0) {
        if (answer->request->logprobs >= 0) {
            if (answer->request->is_chat) {
                take_chat_logprobs(answer, event);
            } else {
                take_completion_logprobs(answer, event);
            }
        }
        /* the token that ended it (end of sequence or one of stop_token_ids) is not part of the text */
        bool is_hidden = event->finish == ENGINE_FINISH_STOP && !answer->request->include_stop;
        bool armed = event->generated_tokens > answer->request->min_tokens;
        if (!is_hidden && take_token(answer, event->token, armed)) {
            answer->finish = ENGINE_FINISH_STOP;
            return event->finish == ENGINE_FINISH_NONE ? ANSWER_STOPPED : ANSWER_DONE;
        }
    }
    if (event->finish == ENGINE_FINISH_NONE) {
        return ANSWER_MORE;
    }
    answer->finish = event->finish;
    answer->stop_token = event->stop_token;
    stop_strings_flush(&answer->stops, &answer->text);
    buffer_append(&answer->text, answer->incomplete.data, answer->incomplete.len);
    buffer_clear(&answer->incomplete);
    return ANSWER_DONE;
}

/* ---- JSON out ---- */

static void append_json_text(struct buffer *out, const char *text) {
    json_append_string(out, text, strlen(text));
}

static void append_head(const struct answer *answer, const char *object, struct buffer *out) {
    buffer_append_text(out, "{\"id\":");
    append_json_text(out, answer->id);
    buffer_printf(out, ",\"object\":\"%s\",\"created\":%lld,\"model\":", object, (long long)answer->created);
    append_json_text(out, answer->model);
}

static void append_finish(const struct answer *answer, struct buffer *out) {
    if (answer->finish == ENGINE_FINISH_NONE) {
        buffer_append_text(out, "null");
    } else {
        buffer_printf(out, "\"%s\"", answer_finish_reason(answer->finish));
    }
}

static void append_stop_reason(const struct answer *answer, struct buffer *out) {
    if (answer->stop_string >= 0) {
        append_json_text(out, answer->request->stop[answer->stop_string]);
    } else if (answer->stop_token >= 0) {
        buffer_printf(out, "%d", answer->stop_token);
    } else {
        buffer_append_text(out, "null");
    }
}

static void append_usage(const struct answer *answer, struct buffer *out) {
    buffer_printf(out, "\"usage\":{\"prompt_tokens\":%d,\"total_tokens\":%d,\"completion_tokens\":%d", answer->prompt_tokens,
                  answer->prompt_tokens + answer->generated_tokens, answer->generated_tokens);
}

static void append_chunk_end(const struct answer *answer, struct buffer *out) {
    if (answer->request->continuous_usage) {
        buffer_append_char(out, ',');
        append_usage(answer, out);
        buffer_append_char(out, '}');
    }
    buffer_append_text(out, "}\n\n");
}

static const char *chunk_object(const struct answer *answer) {
    return answer->request->is_chat ? "chat.completion.chunk" : "text_completion";
}

static void append_chunk(const struct answer *answer, struct buffer *out) {
    bool is_chat = answer->request->is_chat;
    buffer_append_text(out, "data: ");
    append_head(answer, chunk_object(answer), out);
    buffer_append_text(out,
                       is_chat ? ",\"choices\":[{\"index\":0,\"delta\":{\"content\":" : ",\"choices\":[{\"index\":0,\"text\":");
    json_append_string(out, buffer_text(&answer->text), answer->text.len);
    buffer_append_text(out, is_chat ? "},\"logprobs\":" : ",\"logprobs\":");
    append_logprobs(answer, out);
    buffer_append_text(out, ",\"finish_reason\":");
    append_finish(answer, out);
    if (!is_chat || answer->finish != ENGINE_FINISH_NONE) {
        buffer_append_text(out, ",\"stop_reason\":");
        append_stop_reason(answer, out);
    }
    buffer_append_text(out, is_chat ? ",\"token_ids\":null}]" : ",\"prompt_token_ids\":null,\"token_ids\":null}]");
    append_chunk_end(answer, out);
}

static void append_role_chunk(const struct answer *answer, struct buffer *out) {
    buffer_append_text(out, "data: ");
    append_head(answer, chunk_object(answer), out);
    buffer_append_text(out, ",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"logprobs\":null,"
                            "\"finish_reason\":null}],\"prompt_token_ids\":null,\"prompt_text\":null");
    append_chunk_end(answer, out);
}

void answer_append_sse(struct answer *answer, struct buffer *out) {
    if (!answer->has_begun && answer->request->is_chat) {
        append_role_chunk(answer, out);
    }
    answer->has_begun = true;
    bool is_finished = answer->finish != ENGINE_FINISH_NONE;
    if (answer->text.len > 0 || answer->tokens.len > 0 || is_finished) {
        append_chunk(answer, out);
    }
    buffer_clear(&answer->text);
    buffer_clear(&answer->tokens);
    buffer_clear(&answer->values);
    buffer_clear(&answer->tops);
    buffer_clear(&answer->offsets);
    if (!is_finished) {
        return;
    }
    if (answer->request->include_usage) {
        buffer_append_text(out, "data: ");
        append_head(answer, chunk_object(answer), out);
        buffer_append_text(out, ",\"choices\":[],");
        append_usage(answer, out);
        buffer_append_text(out, "},\"system_fingerprint\":");
        append_json_text(out, answer->fingerprint);
        buffer_append_text(out, "}\n\n");
    }
    buffer_append_text(out, "data: [DONE]\n\n");
}

void answer_append_body(const struct answer *answer, struct buffer *out) {
    bool is_chat = answer->request->is_chat;
    append_head(answer, is_chat ? "chat.completion" : "text_completion", out);
    buffer_append_text(out, is_chat ? ",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":"
                                    : ",\"choices\":[{\"index\":0,\"text\":");
    json_append_string(out, buffer_text(&answer->text), answer->text.len);
    if (is_chat) {
        buffer_append_text(out, ",\"refusal\":null,\"annotations\":null,\"audio\":null,\"function_call\":null,\"reasoning\":null}");
    }
    buffer_append_text(out, ",\"logprobs\":");
    append_logprobs(answer, out);
    buffer_append_text(out, ",\"finish_reason\":");
    append_finish(answer, out);
    buffer_append_text(out, ",\"stop_reason\":");
    append_stop_reason(answer, out);
    buffer_append_text(
        out, is_chat ? ",\"token_ids\":null,\"routed_experts\":null}]"
                     : ",\"token_ids\":null,\"prompt_logprobs\":null,\"prompt_token_ids\":null,\"routed_experts\":null}]");
    buffer_append_text(out, ",\"service_tier\":null,\"system_fingerprint\":");
    append_json_text(out, answer->fingerprint);
    buffer_append_char(out, ',');
    append_usage(answer, out);
    buffer_append_text(out, ",\"prompt_tokens_details\":null,\"completion_tokens_details\":null}");
    if (is_chat) {
        buffer_append_text(out, ",\"prompt_logprobs\":null,\"prompt_token_ids\":null,\"prompt_text\":null");
    }
    buffer_append_text(out, ",\"kv_transfer_params\":null,\"ec_transfer_params\":null,\"metrics\":null}");
}
