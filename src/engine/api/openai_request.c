#include "engine/api/openai_request.h"

#include "engine/api/fields.h"
#include "engine/engine.h"

#include <limits.h>
#include <string.h>

/* What the JSON says before it is judged. */
struct raw_request {
    struct openai_request *request;
    const char *model;
    const json_t *prompt;
    const json_t *messages;
    const json_t *stop;
    const json_t *stop_token_ids;
    const json_t *stream_options;
    const json_t *logprobs; /* an integer for completions, a boolean for chat */
    int64_t top_logprobs;
    int64_t max_tokens;
    int64_t max_completion_tokens;
    int64_t n;
    int64_t best_of;
    int64_t seed;
    bool use_beam_search;
    bool continue_final_message;
    double presence_penalty;
    double frequency_penalty;
    double repetition_penalty;
    const json_t *prompt_logprobs;
    const json_t *logit_bias;
    const json_t *response_format;
    const json_t *structured_outputs;
    const json_t *suffix;
    const json_t *tools;
    const json_t *tool_choice;
    double temperature;
    double top_p;
    double min_p;
    int64_t top_k;
    int64_t min_tokens;
    bool echo;
    bool ignore_eos;
    bool skip_special_tokens;
    bool include_stop;
    bool add_generation_prompt;
    bool stream;
};

#define RAW(member) offsetof(struct raw_request, member)

static const struct field_spec common_fields[] = {
    {"model", FIELD_STRING, RAW(model), false},
    {"max_tokens", FIELD_INT, RAW(max_tokens), false},
    {"temperature", FIELD_FLOAT, RAW(temperature), false},
    {"top_p", FIELD_FLOAT, RAW(top_p), false},
    {"min_p", FIELD_FLOAT, RAW(min_p), false},
    {"top_k", FIELD_INT, RAW(top_k), false},
    {"min_tokens", FIELD_INT, RAW(min_tokens), false},
    {"n", FIELD_INT, RAW(n), false},
    {"seed", FIELD_INT, RAW(seed), false},
    {"stop", FIELD_ANY, RAW(stop), false},
    {"stop_token_ids", FIELD_ANY, RAW(stop_token_ids), false},
    {"include_stop_str_in_output", FIELD_BOOL, RAW(include_stop), false},
    {"ignore_eos", FIELD_BOOL, RAW(ignore_eos), false},
    {"skip_special_tokens", FIELD_BOOL, RAW(skip_special_tokens), false},
    {"echo", FIELD_BOOL, RAW(echo), false},
    {"stream", FIELD_BOOL, RAW(stream), false},
    {"stream_options", FIELD_ANY, RAW(stream_options), false},
    {"logprobs", FIELD_ANY, RAW(logprobs), false},
    {"prompt_logprobs", FIELD_ANY, RAW(prompt_logprobs), false},
    {"presence_penalty", FIELD_FLOAT, RAW(presence_penalty), false},
    {"frequency_penalty", FIELD_FLOAT, RAW(frequency_penalty), false},
    {"repetition_penalty", FIELD_FLOAT, RAW(repetition_penalty), false},
    {"logit_bias", FIELD_ANY, RAW(logit_bias), false},
    {"response_format", FIELD_ANY, RAW(response_format), false},
    {"structured_outputs", FIELD_ANY, RAW(structured_outputs), false},
    {"use_beam_search", FIELD_BOOL, RAW(use_beam_search), false},
    {NULL, FIELD_ANY, 0, false},
};
static const struct field_spec completion_fields[] = {
    {"prompt", FIELD_ANY, RAW(prompt), false},
    {"suffix", FIELD_ANY, RAW(suffix), false},
    {"best_of", FIELD_INT, RAW(best_of), false},
    {NULL, FIELD_ANY, 0, false},
};
static const struct field_spec chat_fields[] = {
    {"messages", FIELD_ANY, RAW(messages), true},
    {"max_completion_tokens", FIELD_INT, RAW(max_completion_tokens), false},
    {"top_logprobs", FIELD_INT, RAW(top_logprobs), false},
    {"tools", FIELD_ANY, RAW(tools), false},
    {"tool_choice", FIELD_ANY, RAW(tool_choice), false},
    {"add_generation_prompt", FIELD_BOOL, RAW(add_generation_prompt), false},
    {"continue_final_message", FIELD_BOOL, RAW(continue_final_message), false},
    {NULL, FIELD_ANY, 0, false},
};

static int bad(struct api_error *error, const char *param, const char *message) {
    return api_error_set(error, 400, "BadRequestError", param, "%s", message);
}

static int unsupported(struct api_error *error, const char *param, const char *what) {
    return api_error_set(error, 400, "BadRequestError", param, "%s is not supported by this engine: %s", param, what);
}

static bool has_items(const json_t *value) {
    return (json_is_array(value) && json_array_size(value) > 0) || (json_is_object(value) && json_object_size(value) > 0);
}

static int check_supported(const struct raw_request *raw, struct api_error *error) {
    if (raw->n < 1) {
        return api_error_set(error, 400, "BadRequestError", "n", "n must be at least 1, got %lld. (parameter=n, value=%lld)",
                             (long long)raw->n, (long long)raw->n);
    }
    if (raw->n > 1) {
        return unsupported(error, "n", "one choice per request; send the request several times, with a seed each");
    }
    if (raw->best_of > 1) {
        return unsupported(error, "best_of", "leave it out");
    }
    if (raw->use_beam_search) {
        return unsupported(error, "use_beam_search", "leave it out");
    }
    if (raw->presence_penalty != 0) {
        return unsupported(error, "presence_penalty", "leave it out or send 0");
    }
    if (raw->frequency_penalty != 0) {
        return unsupported(error, "frequency_penalty", "leave it out or send 0");
    }
    if (raw->repetition_penalty != 1) {
        return unsupported(error, "repetition_penalty", "leave it out or send 1");
    }
    if (has_items(raw->logit_bias)) {
        return unsupported(error, "logit_bias", "leave it out");
    }
    if (raw->response_format != NULL && strcmp(json_string_at(raw->response_format, "type", ""), "text") != 0) {
        return unsupported(error, "response_format", "only {\"type\":\"text\"}");
    }
    if (raw->structured_outputs != NULL) {
        return unsupported(error, "structured_outputs", "leave it out");
    }
    if (raw->prompt_logprobs != NULL) {
        return unsupported(error, "prompt_logprobs", "leave it out");
    }
    if (json_is_string(raw->suffix) && json_string_length(raw->suffix) > 0) {
        return unsupported(error, "suffix", "leave it out");
    }
    bool tools_off = json_is_string(raw->tool_choice) && strcmp(json_string_at(raw->tool_choice, "", ""), "none") == 0;
    if (has_items(raw->tools) && !tools_off) {
        return unsupported(error, "tools", "leave them out or send tool_choice \"none\"");
    }
    if (raw->continue_final_message) {
        return unsupported(error, "continue_final_message", "leave it out");
    }
    return 0;
}

static int read_stop(const struct raw_request *raw, struct openai_request *request, struct api_error *error) {
    size_t count = json_is_array(raw->stop) ? json_array_size(raw->stop) : raw->stop != NULL ? 1 : 0;
    if (count > STOP_STRINGS_MAX) {
        return api_error_set(error, 400, "BadRequestError", "stop", "stop holds %zu strings, at most %d are allowed", count,
                             STOP_STRINGS_MAX);
    }
    for (size_t i = 0; i < count; i++) {
        const json_t *item = json_is_array(raw->stop) ? json_array_get(raw->stop, i) : raw->stop;
        if (!json_is_string(item)) {
            return bad(error, "stop", "stop must be a string or a list of strings");
        }
        if (json_string_length(item) > STOP_STRING_BYTES_MAX) {
            return bad(error, "stop", "stop holds a string of more than 1024 bytes");
        }
        if (json_string_length(item) == 0) {
            if (json_is_array(raw->stop)) {
                return bad(error, "stop", "stop cannot contain an empty string.");
            }
            continue; /* "stop": "" is what some clients send for none */
        }
        if (json_c_string(item) == NULL) {
            return bad(error, "stop", "stop holds a string with U+0000 in it");
        }
        request->stop[request->stop_count++] = json_c_string(item);
    }
    size_t token_count = json_array_size(raw->stop_token_ids);
    if (token_count > OPENAI_STOP_TOKENS_MAX) {
        return api_error_set(error, 400, "BadRequestError", "stop_token_ids",
                             "stop_token_ids holds %zu ids, at most %d are allowed", token_count, OPENAI_STOP_TOKENS_MAX);
    }
    for (size_t i = 0; i < token_count; i++) {
        const json_t *item = json_array_get(raw->stop_token_ids, i);
        if (!json_is_integer(item) || json_integer_value(item) < 0 || json_integer_value(item) > INT_MAX) {
            return bad(error, "stop_token_ids", "stop_token_ids must be a list of token ids");
        }
        request->stop_tokens[request->stop_token_count++] = (int)json_integer_value(item);
    }
    return 0;
}

static int read_token_ids(const json_t *list, struct openai_request *request, struct api_error *error) {
    size_t count = json_array_size(list);
    request->prompt_ids = xcalloc(count, sizeof(*request->prompt_ids)); /* bounded by the body that was parsed */
    request->prompt_id_count = count;
    for (size_t i = 0; i < count; i++) {
        const json_t *item = json_array_get(list, i);
        if (!json_is_integer(item) || json_integer_value(item) < 0 || json_integer_value(item) > INT_MAX) {
            return bad(error, "prompt", "prompt must be a string, a list of token ids, or a list of one of these");
        }
        request->prompt_ids[i] = (int)json_integer_value(item);
    }
    return 0;
}

static int read_prompt(const json_t *prompt, struct openai_request *request, struct api_error *error) {
    bool is_nested = json_is_array(prompt) && !json_is_integer(json_array_get(prompt, 0));
    if (is_nested && json_array_size(prompt) > 1) {
        return unsupported(error, "prompt", "one prompt per request; send a request for each");
    }
    const json_t *one = is_nested ? json_array_get(prompt, 0) : prompt;
    if (one == NULL || (json_is_string(one) && json_string_length(one) == 0) || (json_is_array(one) && json_array_size(one) == 0)) {
        return bad(error, NULL, "Either prompt or prompt_embeds must be provided and non-empty.");
    }
    if (json_is_array(one)) {
        return read_token_ids(one, request, error);
    }
    if (!json_is_string(one)) {
        return bad(error, "prompt", "prompt must be a string, a list of token ids, or a list of one of these");
    }
    request->prompt_text = json_string_value(one);
    request->prompt_text_len = json_string_length(one);
    return 0;
}

static int read_stream_options(const struct raw_request *raw, struct openai_request *request, struct api_error *error) {
    if (raw->stream_options == NULL) {
        return 0;
    }
    if (!request->stream) {
        return bad(error, "stream_options", "Stream options can only be defined when `stream=True`.");
    }
    request->include_usage = json_bool_at(raw->stream_options, "include_usage", true);
    request->continuous_usage = request->include_usage && json_bool_at(raw->stream_options, "continuous_usage_stats", false);
    return 0;
}

static int read_logprobs(const struct raw_request *raw, struct openai_request *request, struct api_error *error) {
    request->logprobs = -1;
    if (!request->is_chat) {
        if (raw->logprobs == NULL) {
            return 0;
        }
        if (!json_is_integer(raw->logprobs)) {
            return bad(error, "logprobs", "logprobs must be an integer for completions");
        }
        if (json_integer_value(raw->logprobs) < 0) {
            return bad(error, "logprobs", "`logprobs` must be a positive value.");
        }
        request->logprobs = json_integer_value(raw->logprobs);
    } else {
        if (raw->logprobs != NULL && !json_is_boolean(raw->logprobs)) {
            return bad(error, "logprobs", "logprobs must be a boolean for chat completions");
        }
        if (raw->top_logprobs < 0) {
            return bad(error, "top_logprobs", "`top_logprobs` must be a positive value.");
        }
        if (raw->top_logprobs > 0 && !json_is_true(raw->logprobs)) {
            return bad(error, "top_logprobs", "when using `top_logprobs`, `logprobs` must be set to true.");
        }
        request->logprobs = json_is_true(raw->logprobs) ? raw->top_logprobs : -1;
    }
    if (request->logprobs > ENGINE_LOGPROBS_MAX) {
        return api_error_set(error, 400, "BadRequestError", "logprobs",
                             "Requested sample logprobs of %lld, which is greater than max allowed: %d",
                             (long long)request->logprobs, ENGINE_LOGPROBS_MAX);
    }
    if (request->echo && request->logprobs >= 0) {
        return unsupported(error, "echo", "not together with logprobs");
    }
    return 0;
}

static void take_plain(const struct raw_request *raw, struct openai_request *request) {
    request->model = raw->model;
    request->temperature = raw->temperature;
    request->top_p = raw->top_p;
    request->min_p = raw->min_p;
    request->top_k = raw->top_k;
    request->min_tokens = raw->min_tokens;
    request->has_seed = json_is_number(json_object_get(request->document, "seed"));
    request->seed = raw->seed;
    request->ignore_eos = raw->ignore_eos;
    request->skip_special_tokens = raw->skip_special_tokens;
    request->include_stop = raw->include_stop;
    request->add_generation_prompt = raw->add_generation_prompt;
    request->stream = raw->stream;
    request->echo = raw->echo && !request->is_chat;
    request->max_tokens = raw->max_completion_tokens != INT64_MIN ? raw->max_completion_tokens : raw->max_tokens;
    request->has_max_tokens = request->max_tokens != INT64_MIN;
    if (!request->has_max_tokens && !request->is_chat && json_object_get(request->document, "max_tokens") == NULL) {
        request->has_max_tokens = true; /* absent is 16 (the OpenAI API's default), null the rest of the context */
        request->max_tokens = 16;
    }
}

static int fill(const struct raw_request *raw, struct openai_request *request, struct api_error *error) {
    take_plain(raw, request);
    if (check_supported(raw, error) < 0 || read_stop(raw, request, error) < 0 || read_stream_options(raw, request, error) < 0 ||
        read_logprobs(raw, request, error) < 0) {
        return -1;
    }
    if (request->is_chat) {
        return openai_read_messages(raw->messages, &request->messages, &request->message_count, error);
    }
    return read_prompt(raw->prompt, request, error);
}

int openai_request_parse(json_t *document, bool is_chat, struct openai_request *ret_request, struct api_error *error) {
    struct openai_request request = {.document = document, .is_chat = is_chat};
    struct raw_request raw = {
        .model = "",
        .max_tokens = INT64_MIN,
        .max_completion_tokens = INT64_MIN,
        .n = 1,
        .temperature = 1,
        .top_p = 1,
        .repetition_penalty = 1,
        .skip_special_tokens = true,
        .add_generation_prompt = true,
    };
    struct schema_errors errors = {0};
    fields_read(document, is_chat ? chat_fields : completion_fields, &raw, &errors);
    fields_read(document, common_fields, &raw, &errors);
    int result = schema_errors_finish(&errors, error);
    schema_errors_release(&errors);
    if (result == 0) {
        result = fill(&raw, &request, error);
    }
    if (result < 0) {
        openai_request_release(&request);
        return -1;
    }
    *ret_request = request;
    return 0;
}

void openai_request_release(struct openai_request *request) {
    openai_messages_free(request->messages, request->message_count);
    free(request->prompt_ids);
    json_decref(request->document);
    *request = (struct openai_request){0};
}
