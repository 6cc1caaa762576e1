#include "cli/chat_answer.h"

#include <string.h>

#define ERROR_BODY_BYTES_SHOWN 300

/* ---- requests ---- */

static json_t *text_value(const char *text) {
    json_t *value = json_string(text);
    if (value != NULL) {
        return value;
    }
    cleanup_buffer struct buffer quoted = BUFFER_INIT;
    json_append_string(&quoted, text, strlen(text));
    return json_loadb(quoted.data, quoted.len, JSON_DECODE_ANY, NULL);
}

json_t *chat_message(const char *role, const char *text) {
    return json_pack("{s:s, s:o}", "role", role, "content", text_value(text));
}

char *chat_request_body(const struct chat_settings *settings, const char *model, const json_t *messages) {
    cleanup_json json_t *all = json_array();
    if (settings->system != NULL) {
        json_array_append_new(all, chat_message("system", settings->system));
    }
    json_array_extend(all, (json_t *)messages);
    cleanup_json json_t *body = json_pack("{s:o, s:O, s:b, s:{s:b}}", "model", text_value(model), "messages", all, "stream", 1,
                                          "stream_options", "include_usage", 1);
    if (settings->max_tokens > 0) {
        json_object_set_new(body, "max_tokens", json_integer(settings->max_tokens));
    }
    if (settings->temperature >= 0) {
        json_object_set_new(body, "temperature", json_real(settings->temperature));
    }
    return json_text(body);
}

/* ---- answers ---- */

void chat_answer_init(struct chat_answer *answer) {
    *answer = (struct chat_answer){.tokens = -1};
}

void chat_answer_release(struct chat_answer *answer) {
    sse_decoder_release(&answer->decoder);
    buffer_release(&answer->text);
}

static int take_text(struct chat_answer *answer, const json_t *content, int64_t now_ns, struct error *err) {
    size_t len = json_string_length(content);
    if (len == 0) {
        return 0;
    }
    if (len > CHAT_ANSWER_BYTES_MAX - answer->text.len) {
        return error_set(err, ERROR_LIMIT, "the answer is longer than %d bytes", CHAT_ANSWER_BYTES_MAX);
    }
    buffer_append(&answer->text, json_string_value(content), len);
    answer->first_token_ns = answer->pieces == 0 ? now_ns : answer->first_token_ns;
    answer->last_token_ns = now_ns;
    answer->pieces++;
    return 0;
}

static int take_chunk(struct chat_answer *answer, const json_t *chunk, int64_t now_ns, struct error *err) {
    const json_t *error = json_object_get(chunk, "error");
    if (error != NULL && !json_is_null(error)) {
        const char *message = json_is_string(error) ? json_string_value(error) : json_string_at(error, "message", "no message");
        return error_set(err, ERROR_UNAVAILABLE, "%s", message);
    }
    answer->tokens = json_int_at(chunk, "usage.completion_tokens", answer->tokens);
    const json_t *choice = json_array_get(json_object_get(chunk, "choices"), 0);
    if (strcmp(json_string_at(choice, "finish_reason", ""), "length") == 0) {
        answer->was_cut = true;
    }
    return take_text(answer, json_at(choice, "delta.content"), now_ns, err);
}

static int take_event(struct chat_answer *answer, const struct sse_event *event, int64_t now_ns, struct error *err) {
    if (strcmp(event->data, "[DONE]") == 0) {
        answer->is_done = true;
        return 0;
    }
    cleanup_json json_t *chunk = json_parse(event->data, event->data_len, err);
    if (chunk == NULL) {
        return error_wrap(err, "the server sent an event that is no JSON");
    }
    return take_chunk(answer, chunk, now_ns, err);
}

int chat_answer_read(struct chat_answer *answer, const char *bytes, size_t len, int64_t now_ns, struct error *err) {
    struct sse_event event = {0};
    size_t used = 0;
    enum sse_step step = SSE_STEP_AGAIN;
    while ((step = sse_decoder_read(&answer->decoder, bytes, len, &used, &event, err)) == SSE_STEP_EVENT) {
        if (!answer->is_done && take_event(answer, &event, now_ns, err) < 0) {
            return -1;
        }
        bytes += used;
        len -= used;
    }
    return step == SSE_STEP_FAILED ? -1 : 0;
}

double chat_answer_rate(const struct chat_answer *answer) {
    int64_t span_ns = answer->last_token_ns - answer->first_token_ns;
    int64_t tokens = answer->tokens >= 0 ? answer->tokens : answer->pieces;
    return tokens > 1 && span_ns > 0 ? (double)(tokens - 1) * 1e9 / (double)span_ns : 0.0;
}

void chat_answer_describe(const struct chat_answer *answer, int64_t asked_ns, struct buffer *out) {
    if (answer->pieces == 0) {
        buffer_append_text(out, "no text came");
    } else {
        buffer_printf(out, "first token after %.0f ms", (double)(answer->first_token_ns - asked_ns) / 1e6);
    }
    if (answer->tokens >= 0) {
        buffer_printf(out, ", %lld token%s", (long long)answer->tokens, answer->tokens == 1 ? "" : "s");
    }
    double rate = chat_answer_rate(answer);
    if (rate > 0) {
        buffer_printf(out, ", %.1f tokens/s", rate);
    }
    if (answer->was_cut) {
        buffer_append_text(out, ", cut at the limit");
    }
}

/* ---- words for people ---- */

void chat_error_message(const char *body, size_t len, struct buffer *out) {
    cleanup_json json_t *root = json_parse(body, len, NULL);
    const json_t *error = json_object_get(root, "error");
    const char *message = json_is_string(error) ? json_string_value(error) : json_string_at(error, "message", NULL);
    message = message != NULL ? message : json_string_at(root, "message", NULL);
    if (message != NULL) {
        buffer_append_text(out, message);
        return;
    }
    size_t shown = len < ERROR_BODY_BYTES_SHOWN ? len : ERROR_BODY_BYTES_SHOWN;
    for (size_t i = 0; i < shown; i++) {
        buffer_append_char(out, (unsigned char)body[i] < ' ' ? ' ' : body[i]);
    }
}
