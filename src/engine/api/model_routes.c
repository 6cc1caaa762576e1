/* GET /v1/models, POST /tokenize and /detokenize. */
#include "engine/api/api_internal.h"
#include "engine/api/openai_request.h"

#include "base/clock.h"

#include <string.h>
#include <sys/random.h>

/* Of /tokenize, when the context is shorter: enough to see by how much a text is too long. */
#define TOKENIZE_TOKENS 16384

/* ---- models ---- */

struct card {
    const char *id;
    const char *root;
    const char *parent; /* NULL for a base model */
    int max_model_len;  /* shown for a base model */
    int64_t created;
    uint64_t permission_id;
};

static void append_text(struct buffer *out, const char *text) {
    if (text != NULL) {
        json_append_string(out, text, strlen(text));
    } else {
        buffer_append_text(out, "null");
    }
}

static void append_card(struct buffer *out, const struct card *card) {
    buffer_append_text(out, "{\"id\":");
    append_text(out, card->id);
    buffer_printf(out, ",\"object\":\"model\",\"created\":%lld,\"owned_by\":\"davit\",\"root\":", (long long)card->created);
    append_text(out, card->root);
    buffer_append_text(out, ",\"parent\":");
    append_text(out, card->parent);
    if (card->parent == NULL) {
        buffer_printf(out, ",\"max_model_len\":%d", card->max_model_len);
    } else {
        buffer_append_text(out, ",\"max_model_len\":null");
    }
    buffer_printf(out,
                  ",\"permission\":[{\"id\":\"modelperm-%016llx\",\"object\":\"model_permission\",\"created\":%lld,"
                  "\"allow_create_engine\":false,\"allow_sampling\":true,\"allow_logprobs\":true,\"allow_search_indices\":false,"
                  "\"allow_view\":true,\"allow_fine_tuning\":false,\"organization\":\"*\",\"group\":null,\"is_blocking\":false}]}",
                  (unsigned long long)card->permission_id, (long long)card->created);
}

void api_models(struct api *api, struct http_request *http) {
    struct card card = {.created = clock_wall_ms() / 1000,
                        .root = api->options.model_root,
                        .max_model_len = engine_model_info(api->options.engine)->max_model_len};
    if (getrandom(&card.permission_id, sizeof(card.permission_id), 0) < 0) {
        card.permission_id = (uint64_t)clock_now_ns();
    }
    cleanup_buffer struct buffer body = BUFFER_INIT;
    buffer_append_text(&body, "{\"object\":\"list\",\"data\":[");
    for (size_t i = 0; i < api->options.served_name_count; i++) {
        card.id = api->options.served_names[i];
        card.permission_id++;
        buffer_append_text(&body, i > 0 ? "," : "");
        append_card(&body, &card);
    }
    size_t count = 0;
    struct engine_adapter_info *adapters = engine_adapters(api->options.engine, &count);
    card.parent = api->options.served_names[0];
    for (size_t i = 0; i < count; i++) {
        card.id = adapters[i].name;
        card.root = adapters[i].path;
        card.permission_id++;
        buffer_append_char(&body, ',');
        append_card(&body, &card);
    }
    engine_adapters_free(adapters, count);
    buffer_append_text(&body, "]}");
    api_reply_json(http, 200, &body);
}

/* ---- tokenize ---- */

struct tokenize_request {
    const char *model;
    const json_t *prompt;
    const json_t *messages;
    const json_t *tokens;
    bool add_special_tokens;
    bool add_generation_prompt;
    bool return_token_strs;
};

#define TOKENIZE(member) offsetof(struct tokenize_request, member)

static const struct field_spec tokenize_fields[] = {
    {"model", FIELD_STRING, TOKENIZE(model), false},
    {"prompt", FIELD_TEXT, TOKENIZE(prompt), false},
    {"messages", FIELD_ANY, TOKENIZE(messages), false},
    {"add_special_tokens", FIELD_BOOL, TOKENIZE(add_special_tokens), false},
    {"add_generation_prompt", FIELD_BOOL, TOKENIZE(add_generation_prompt), false},
    {"return_token_strs", FIELD_BOOL, TOKENIZE(return_token_strs), false},
    {NULL, FIELD_ANY, 0, false},
};
static const struct field_spec detokenize_fields[] = {
    {"model", FIELD_STRING, TOKENIZE(model), false},
    {"tokens", FIELD_ANY, TOKENIZE(tokens), true},
    {NULL, FIELD_ANY, 0, false},
};

static int read_tokenize(struct api *api, const json_t *document, const struct field_spec *table, struct tokenize_request *request,
                         struct api_error *error) {
    *request = (struct tokenize_request){.model = "", .add_special_tokens = true, .add_generation_prompt = true};
    struct schema_errors errors = {0};
    fields_read(document, table, request, &errors);
    int result = schema_errors_finish(&errors, error);
    schema_errors_release(&errors);
    const char *adapter = NULL;
    return result < 0 ? -1 : api_find_model(api, request->model, &adapter, error);
}

static int encode(struct api *api, const struct tokenize_request *request, struct token_list *tokens, struct api_error *error) {
    const struct tokenizer *tokenizer = engine_tokenizer(api->options.engine);
    cleanup_buffer struct buffer text = BUFFER_INIT;
    if (request->messages != NULL) {
        struct chat_message *messages = NULL;
        size_t count = 0;
        if (openai_read_messages(request->messages, &messages, &count, error) < 0) {
            return -1;
        }
        tokenizer_render_chat(messages, count, request->add_generation_prompt, &text);
        openai_messages_free(messages, count);
    } else if (request->prompt != NULL) {
        buffer_append(&text, json_string_value(request->prompt), json_string_length(request->prompt));
        if (request->add_special_tokens && tokenizer_adds_bos(tokenizer)) {
            *tokens = (struct token_list){.ids = xmalloc(sizeof(int)), .count = 1, .capacity = 1};
            tokens->ids[0] = tokenizer_bos(tokenizer);
        }
    } else {
        return api_error_set(error, 400, "BadRequestError", "prompt", "Either 'prompt' or 'messages' must be provided.");
    }
    struct error err = {0};
    int max_model_len = engine_model_info(api->options.engine)->max_model_len;
    size_t limit = max_model_len > TOKENIZE_TOKENS ? (size_t)max_model_len : TOKENIZE_TOKENS;
    if (tokenizer_encode(tokenizer, buffer_text(&text), text.len, true, limit, tokens, &err) < 0) {
        return api_error_from_engine(error, &err);
    }
    return 0;
}

static void reply_tokens(struct api *api, struct http_request *http, const struct token_list *tokens, bool with_strings) {
    cleanup_buffer struct buffer body = BUFFER_INIT;
    buffer_printf(&body, "{\"count\":%zu,\"max_model_len\":%d,\"tokens\":[", tokens->count,
                  engine_model_info(api->options.engine)->max_model_len);
    for (size_t i = 0; i < tokens->count; i++) {
        buffer_printf(&body, "%s%d", i > 0 ? "," : "", tokens->ids[i]);
    }
    buffer_append_text(&body, "],\"token_strs\":");
    if (!with_strings) {
        buffer_append_text(&body, "null}");
        api_reply_json(http, 200, &body);
        return;
    }
    for (size_t i = 0; i < tokens->count; i++) {
        cleanup_buffer struct buffer text = BUFFER_INIT;
        tokenizer_decode_append(engine_tokenizer(api->options.engine), tokens->ids[i], false, &text);
        buffer_append_char(&body, i > 0 ? ',' : '[');
        json_append_string(&body, buffer_text(&text), text.len);
    }
    buffer_append_text(&body, tokens->count > 0 ? "]}" : "[]}");
    api_reply_json(http, 200, &body);
}

void api_tokenize(struct api *api, struct http_request *http) {
    cleanup_json json_t *document = api_take_document(api, http);
    if (document == NULL) {
        return;
    }
    struct tokenize_request request;
    struct token_list tokens = {0};
    struct api_error error = {0};
    if (read_tokenize(api, document, tokenize_fields, &request, &error) < 0 || encode(api, &request, &tokens, &error) < 0) {
        api_reply_error(http, &error);
    } else {
        reply_tokens(api, http, &tokens, request.return_token_strs);
    }
    token_list_release(&tokens);
    api_error_release(&error);
}

static int decode(struct api *api, const json_t *list, struct buffer *out, struct api_error *error) {
    int vocab_size = engine_model_info(api->options.engine)->vocab_size;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *item = json_array_get(list, i);
        json_int_t id = json_is_integer(item) ? json_integer_value(item) : -1;
        if (id < 0 || id >= vocab_size) {
            return api_error_set(error, 400, "BadRequestError", "tokens", "tokens[%zu] is not a token id below %d", i, vocab_size);
        }
        tokenizer_decode_append(engine_tokenizer(api->options.engine), (int)id, false, out);
    }
    return 0;
}

void api_detokenize(struct api *api, struct http_request *http) {
    cleanup_json json_t *document = api_take_document(api, http);
    if (document == NULL) {
        return;
    }
    struct tokenize_request request;
    struct api_error error = {0};
    cleanup_buffer struct buffer text = BUFFER_INIT;
    if (read_tokenize(api, document, detokenize_fields, &request, &error) < 0 || decode(api, request.tokens, &text, &error) < 0) {
        api_reply_error(http, &error);
    } else {
        cleanup_buffer struct buffer body = BUFFER_INIT;
        buffer_append_text(&body, "{\"prompt\":");
        json_append_string(&body, buffer_text(&text), text.len);
        buffer_append_char(&body, '}');
        api_reply_json(http, 200, &body);
    }
    api_error_release(&error);
}
