/* The parts of openai_request.h that judge values: sampling parameters, lengths, messages. */
#include "engine/api/fields.h"
#include "engine/api/openai_request.h"

#include <string.h>

static int bad_float(struct api_error *error, const char *param, const char *rule, double value) {
    cleanup_buffer struct buffer text = BUFFER_INIT;
    append_python_float(&text, value);
    return api_error_set(error, 400, "BadRequestError", param, "%s, got %s. (parameter=%s, value=%s)", rule, buffer_text(&text),
                         param, buffer_text(&text));
}

static int bad_int(struct api_error *error, const char *param, const char *rule, int64_t value) {
    return api_error_set(error, 400, "BadRequestError", param, "%s, got %lld. (parameter=%s, value=%lld)", rule, (long long)value,
                         param, (long long)value);
}

int openai_request_check(const struct openai_request *request, int max_model_len, struct api_error *error) {
    if (request->has_max_tokens && request->max_tokens > max_model_len) {
        return api_error_set(error, 400, "BadRequestError", "max_tokens",
                             "max_tokens=%lld cannot be greater than max_model_len=%d. Please request fewer output tokens. "
                             "(parameter=max_tokens, value=%lld)",
                             (long long)request->max_tokens, max_model_len, (long long)request->max_tokens);
    }
    if (request->has_max_tokens && request->max_tokens < 1) {
        return bad_int(error, "max_tokens", "max_tokens must be at least 1", request->max_tokens);
    }
    if (!(request->temperature >= 0)) {
        return bad_float(error, "temperature", "temperature must be non-negative", request->temperature);
    }
    if (!(request->top_p > 0 && request->top_p <= 1)) {
        return bad_float(error, "top_p", "top_p must be in (0, 1]", request->top_p);
    }
    if (request->top_k < -1) {
        return bad_int(error, "top_k", "top_k must be 0 (disable), or at least 1", request->top_k);
    }
    if (!(request->min_p >= 0 && request->min_p <= 1)) {
        return bad_float(error, "min_p", "min_p must be in [0, 1]", request->min_p);
    }
    if (request->min_tokens < 0) {
        return bad_int(error, "min_tokens", "min_tokens must be greater than or equal to 0", request->min_tokens);
    }
    int64_t most = request->has_max_tokens ? request->max_tokens : max_model_len;
    if (request->min_tokens > most) {
        cleanup_free char *rule = xasprintf("min_tokens must be less than or equal to max_tokens=%lld", (long long)most);
        return bad_int(error, "min_tokens", rule, request->min_tokens);
    }
    return 0;
}

int openai_too_long(struct api_error *error, int max_model_len, int64_t output_tokens, size_t prompt_tokens, bool at_least) {
    const char *about = at_least ? "at least " : "";
    return api_error_set(
        error, 400, "BadRequestError", "input_tokens",
        "This model's maximum context length is %d tokens. However, you requested %lld output tokens and your prompt "
        "contains %s%zu input tokens, for a total of %s%lld tokens. Please reduce the length of the input prompt or "
        "the number of requested output tokens.",
        max_model_len, (long long)output_tokens, about, prompt_tokens, about, (long long)output_tokens + (long long)prompt_tokens);
}

/* "text" itself, or the texts of the parts joined by newlines, which is how vLLM renders them for a text-only template. */
static int read_content(const json_t *content, size_t index, struct buffer *out, struct api_error *error) {
    if (content == NULL || json_is_null(content)) {
        return 0;
    }
    if (json_is_string(content)) {
        buffer_append(out, json_string_value(content), json_string_length(content));
        return 0;
    }
    if (!json_is_array(content)) {
        return api_error_set(error, 400, "BadRequestError", "messages",
                             "messages[%zu].content must be a string or a list of {\"type\":\"text\"} parts", index);
    }
    for (size_t i = 0; i < json_array_size(content); i++) {
        const json_t *part = json_array_get(content, i);
        const json_t *text = json_object_get(part, "text");
        if (strcmp(json_string_at(part, "type", ""), "text") != 0 || !json_is_string(text)) {
            return api_error_set(error, 400, "BadRequestError", "messages",
                                 "messages[%zu].content[%zu]: this engine takes {\"type\":\"text\",\"text\":...} parts only", index,
                                 i);
        }
        if (i > 0) {
            buffer_append_char(out, '\n');
        }
        buffer_append(out, json_string_value(text), json_string_length(text));
    }
    return 0;
}

int openai_read_messages(const json_t *list, struct chat_message **ret_messages, size_t *ret_count, struct api_error *error) {
    size_t count = json_array_size(list);
    if (!json_is_array(list) || count == 0 || count > OPENAI_MESSAGES_MAX) {
        return api_error_set(error, 400, "BadRequestError", "messages", "messages must be a list of 1 to %d messages, found %zu",
                             OPENAI_MESSAGES_MAX, count);
    }
    struct chat_message *messages = xcalloc(count, sizeof(*messages));
    for (size_t i = 0; i < count; i++) {
        const json_t *item = json_array_get(list, i);
        const char *role = json_string_at(item, "role", "");
        struct buffer content = BUFFER_INIT;
        int result = 0;
        if (*role == '\0') {
            result = api_error_set(error, 400, "BadRequestError", "messages", "messages[%zu].role must be a non-empty string", i);
        } else {
            result = read_content(json_object_get(item, "content"), i, &content, error);
        }
        messages[i].role = xstrdup(role);
        messages[i].content_len = content.len;
        messages[i].content = buffer_take(&content);
        if (result < 0) {
            openai_messages_free(messages, i + 1);
            return -1;
        }
    }
    *ret_messages = messages;
    *ret_count = count;
    return 0;
}

void openai_messages_free(struct chat_message *messages, size_t count) {
    for (size_t i = 0; i < count; i++) {
        free((char *)(uintptr_t)messages[i].role);
        free((char *)(uintptr_t)messages[i].content);
    }
    free(messages);
}
