/* engine/api: request bodies in, and answers out, byte for byte as vLLM 0.32. */
#include "engine_support.h"

#include "engine/api/answer.h"
#include "engine/api/fields.h"
#include "engine/format/gguf.h"

#define VALUES_MAX 64

static struct gguf *gguf;
static struct tokenizer *tokenizer;

static int load_tokenizer(void **state) {
    (void)state;
    cleanup_free char *path = source_path("tests/fixtures/tiny/model.gguf");
    struct error err = {0};
    if (gguf_open(path, &gguf, &err) < 0 || tokenizer_new(gguf, &tokenizer, &err) < 0) {
        print_message("%s\n", err.message);
        return -1;
    }
    return 0;
}

static int free_tokenizer(void **state) {
    (void)state;
    tokenizer_free(tokenizer);
    gguf_free(gguf);
    return 0;
}

/* ---- requests ---- */

static int parse(const char *body, bool is_chat, struct openai_request *request, struct api_error *error) {
    json_t *document = NULL;
    if (fields_parse_body("application/json; charset=utf-8", body, strlen(body), VALUES_MAX, &document, error) < 0 ||
        openai_request_parse(document, is_chat, request, error) < 0) {
        return -1;
    }
    return openai_request_check(request, 1024, error);
}

static const struct {
    const char *body;
    bool is_chat;
    const char *answer;
} refused[] = {
    {"{oops", false, NULL},
    {"{}", true,
     "{\"error\":{\"message\":\"1 validation error:\\n  {'type': 'missing', 'loc': 'body.messages', 'msg': 'Field required', "
     "'input': "
     "'<dict of 0 items>'}\",\"type\":\"Bad Request\",\"param\":\"body.messages\",\"code\":400}}"},
    {"{\"prompt\":\"Hi\",\"model\":5}", false,
     "{\"error\":{\"message\":\"1 validation error:\\n  {'type': 'string_type', 'loc': 'body.model', 'msg': 'Input should be a "
     "valid "
     "string', 'input': '5'}\",\"type\":\"Bad Request\",\"param\":\"body.model\",\"code\":400}}"},
    {"{\"prompt\":\"Hi\",\"max_tokens\":99999}", false,
     "{\"error\":{\"message\":\"max_tokens=99999 cannot be greater than max_model_len=1024. Please request fewer output tokens. "
     "(parameter=max_tokens, value=99999)\",\"type\":\"BadRequestError\",\"param\":\"max_tokens\",\"code\":400}}"},
    {"{\"prompt\":\"Hi\",\"temperature\":-1}", false,
     "{\"error\":{\"message\":\"temperature must be non-negative, got -1.0. (parameter=temperature, value=-1.0)\",\"type\":"
     "\"BadRequestError\",\"param\":\"temperature\",\"code\":400}}"},
    {"{\"prompt\":\"Hi\",\"temperature\":1e999}", false, NULL},
    {"{\"prompt\":\"\"}", false, NULL},
    {"{\"prompt\":[\"a\",\"b\"]}", false, NULL},
    {"{\"prompt\":[1,-2]}", false, NULL},
    {"{\"prompt\":\"Hi\",\"n\":2}", false, NULL},
    {"{\"prompt\":\"Hi\",\"max_tokens\":-1}", false, NULL},
    {"{\"prompt\":\"Hi\",\"max_tokens\":1.5}", false, NULL},
    {"{\"prompt\":\"Hi\",\"max_tokens\":4,\"min_tokens\":5}", false, NULL},
    {"{\"prompt\":\"Hi\",\"stop\":[\"\"]}", false, NULL},
    {"{\"prompt\":\"Hi\",\"stop\":3}", false, NULL},
    {"{\"prompt\":\"Hi\",\"logprobs\":-1}", false, NULL},
    {"{\"prompt\":\"Hi\",\"logprobs\":21}", false, NULL},
    {"{\"prompt\":\"Hi\",\"stream_options\":{}}", false, NULL},
    {"{\"prompt\":\"Hi\",\"frequency_penalty\":0.5}", false, NULL},
    {"{\"prompt\":\"Hi\",\"response_format\":{\"type\":\"json_object\"}}", false, NULL},
    {"{\"prompt\":\"Hi\",\"model\":\"sql\\u0000x\"}", false,
     "{\"error\":{\"message\":\"1 validation error:\\n  {'type': 'string_type', 'loc': 'body.model', 'msg': 'Input should be a "
     "string without U+0000', 'input': 'sql\\\\x00x'}\",\"type\":\"Bad Request\",\"param\":\"body.model\",\"code\":400}}"},
    {"{\"prompt\":\"Hi\",\"stop\":\"a\\u0000b\"}", false, NULL},
    {"{\"prompt\":[0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,"
     "0,"
     "0,0,0,0,0,0,0,0]}",
     false,
     "{\"error\":{\"message\":\"1 validation error:\\n  {'type': 'json_invalid', 'loc': 'body', 'msg': 'JSON decode error', "
     "'input': '<dict of 0 items>', 'ctx': {'error': 'the text may hold 67 values, at most 64 are "
     "allowed'}}\",\"type\":\"Bad Request\",\"param\":\"body\",\"code\":400}}"},
    {"{\"messages\":[{\"role\":\"us\\u0000er\",\"content\":\"x\"}]}", true, NULL},
    {"{\"messages\":[]}", true, NULL},
    {"{\"messages\":[{\"content\":\"x\"}]}", true, NULL},
    {"{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\"}]}]}", true, NULL},
    {"{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],\"top_logprobs\":2}", true, NULL},
    {"{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],\"tools\":[{\"type\":\"function\"}]}", true, NULL},
};

static void test_bad_requests_are_refused(void **state) {
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(refused); i++) {
        struct openai_request request = {0};
        struct api_error error = {0};
        if (parse(refused[i].body, refused[i].is_chat, &request, &error) == 0) {
            fail_msg("accepted: %s", refused[i].body);
        }
        assert_int_equal(error.status, 400);
        cleanup_buffer struct buffer body = BUFFER_INIT;
        api_error_body(&error, &body);
        if (refused[i].answer != NULL) {
            assert_string_equal(buffer_text(&body), refused[i].answer);
        }
        api_error_release(&error);
        openai_request_release(&request);
    }
}

static void test_completion_defaults(void **state) {
    (void)state;
    struct openai_request request = {0};
    struct api_error error = {0};
    assert_int_equal(parse("{\"prompt\":[\"Hi\"],\"nobody_knows\":1,\"model\":null}", false, &request, &error), 0);
    assert_string_equal(request.model, "");
    assert_string_equal(request.prompt_text, "Hi");
    assert_true(request.has_max_tokens && request.max_tokens == 16);
    assert_true(request.temperature == 1 && request.top_p == 1 && request.top_k == 0 && request.min_p == 0);
    assert_true(request.skip_special_tokens && !request.has_seed && !request.stream && request.logprobs == -1);
    openai_request_release(&request);
    assert_int_equal(parse("{\"prompt\":[[1,2,3]],\"max_tokens\":null,\"seed\":7}", false, &request, &error), 0);
    assert_false(request.has_max_tokens);
    assert_int_equal(request.prompt_id_count, 3);
    assert_true(request.has_seed && request.seed == 7);
    openai_request_release(&request);
}

static void test_chat_messages(void **state) {
    (void)state;
    struct openai_request request = {0};
    struct api_error error = {0};
    const char *body =
        "{\"messages\":[{\"role\":\"system\",\"content\":\"S\"},{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},"
        "{\"type\":\"text\",\"text\":\"b\"}]}],\"max_tokens\":5,\"max_completion_tokens\":9,\"logprobs\":true,\"stream\":true,"
        "\"stream_options\":{},\"stop\":\"\",\"tools\":[]}";
    assert_int_equal(parse(body, true, &request, &error), 0);
    assert_int_equal(request.message_count, 2);
    assert_string_equal(request.messages[0].content, "S");
    assert_string_equal(request.messages[1].content, "a\nb");
    assert_int_equal(request.max_tokens, 9);
    assert_int_equal(request.logprobs, 0);
    assert_true(request.include_usage && !request.continuous_usage);
    assert_int_equal(request.stop_count, 0);
    openai_request_release(&request);
}

/* A prompt is text: every byte of it counts. */
static void test_prompts_with_nul(void **state) {
    (void)state;
    struct openai_request request = {0};
    struct api_error error = {0};
    assert_int_equal(parse("{\"prompt\":\"a\\u0000b\"}", false, &request, &error), 0);
    assert_int_equal(request.prompt_text_len, 3);
    assert_memory_equal(request.prompt_text, "a\0b", 3);
    openai_request_release(&request);
    assert_int_equal(parse("{\"messages\":[{\"role\":\"user\",\"content\":\"a\\u0000b\"},{\"role\":\"user\",\"content\":["
                           "{\"type\":\"text\",\"text\":\"c\\u0000\"},{\"type\":\"text\",\"text\":\"d\"}]}]}",
                           true, &request, &error),
                     0);
    cleanup_buffer struct buffer rendered = BUFFER_INIT;
    tokenizer_render_chat(request.messages, request.message_count, false, &rendered);
    static const char expected[] = "<|im_start|>user\na\0b<|im_end|>\n<|im_start|>user\nc\0\nd<|im_end|>\n";
    assert_true(rendered.len > sizeof(expected) - 1);
    assert_memory_equal(rendered.data + rendered.len - (sizeof(expected) - 1), expected, sizeof(expected) - 1);
    openai_request_release(&request);
}

/* ---- answers ---- */

static void begin(const char *body, bool is_chat, struct openai_request *request, struct answer *answer) {
    struct api_error error = {0};
    assert_int_equal(parse(body, is_chat, request, &error), 0);
    struct answer_options options = {.request = request,
                                     .tokenizer = tokenizer,
                                     .id = is_chat ? "chatcmpl-1" : "cmpl-1",
                                     .created = 17,
                                     .model = "sql",
                                     .fingerprint = "davit-x"};
    answer_init(answer, &options);
}

/* Feeds the tokens of `text`, a byte each where the vocabulary makes it so; the last one finishes. */
static enum answer_step feed(struct answer *answer, const char *text, enum engine_finish finish) {
    struct token_list tokens = {0};
    struct error err = {0};
    assert_int_equal(tokenizer_encode(tokenizer, text, strlen(text), false, 1000, &tokens, &err), 0);
    enum answer_step step = ANSWER_MORE;
    for (size_t i = 0; i < tokens.count && step == ANSWER_MORE; i++) {
        struct engine_event event = {.token = tokens.ids[i],
                                     .logprob = -0.5f,
                                     .top = {{tokens.ids[i], -0.5f}},
                                     .top_count = 1,
                                     .finish = i + 1 == tokens.count ? finish : ENGINE_FINISH_NONE,
                                     .stop_token = -1,
                                     .prompt_tokens = 2,
                                     .generated_tokens = (int)i + 1};
        step = answer_take_event(answer, &event);
    }
    token_list_release(&tokens);
    return step;
}

static void end(struct openai_request *request, struct answer *answer) {
    answer_release(answer);
    openai_request_release(request);
}

static void test_completion_body(void **state) {
    (void)state;
    struct openai_request request;
    struct answer answer;
    begin("{\"prompt\":\"Hi\"}", false, &request, &answer);
    assert_int_equal(feed(&answer, "caf\xc3\xa9", ENGINE_FINISH_LENGTH), ANSWER_DONE);
    cleanup_buffer struct buffer out = BUFFER_INIT;
    answer_append_body(&answer, &out);
    cleanup_free char *expected = xasprintf(
        "{\"id\":\"cmpl-1\",\"object\":\"text_completion\",\"created\":17,\"model\":\"sql\",\"choices\":[{\"index\":0,\"text\":"
        "\"caf\xc3\xa9\",\"logprobs\":null,\"finish_reason\":\"length\",\"stop_reason\":null,\"token_ids\":null,"
        "\"prompt_logprobs\":null,\"prompt_token_ids\":null,\"routed_experts\":null}],\"service_tier\":null,"
        "\"system_fingerprint\":\"davit-x\",\"usage\":{\"prompt_tokens\":2,\"total_tokens\":%d,\"completion_tokens\":%d,"
        "\"prompt_tokens_details\":null,\"completion_tokens_details\":null},\"kv_transfer_params\":null,"
        "\"ec_transfer_params\":null,\"metrics\":null}",
        2 + answer.generated_tokens, answer.generated_tokens);
    assert_string_equal(buffer_text(&out), expected);
    end(&request, &answer);
}

static void test_chat_stream(void **state) {
    (void)state;
    struct openai_request request;
    struct answer answer;
    begin("{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],\"stream\":true,\"stream_options\":{\"include_usage\":true}}",
          true, &request, &answer);
    struct token_list tokens = {0};
    struct error err = {0};
    assert_int_equal(tokenizer_encode(tokenizer, "A", 1, false, 10, &tokens, &err), 0);
    struct engine_event event = {.token = tokens.ids[0], .stop_token = -1, .prompt_tokens = 31, .generated_tokens = 1};
    token_list_release(&tokens);
    assert_int_equal(answer_take_event(&answer, &event), ANSWER_MORE);
    cleanup_buffer struct buffer out = BUFFER_INIT;
    answer_append_sse(&answer, &out);
    assert_string_equal(buffer_text(&out),
                        "data: "
                        "{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":17,\"model\":\"sql\",\"choices\":["
                        "{\"index\":0,\"delta\":"
                        "{\"role\":\"assistant\",\"content\":\"\"},\"logprobs\":null,\"finish_reason\":null}],\"prompt_token_ids\":"
                        "null,\"prompt_text\":null}\n\n"
                        "data: "
                        "{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":17,\"model\":\"sql\",\"choices\":["
                        "{\"index\":0,\"delta\":"
                        "{\"content\":\"A\"},\"logprobs\":null,\"finish_reason\":null,\"token_ids\":null}]}\n\n");
    buffer_clear(&out);
    event = (struct engine_event){
        .token = -1, .finish = ENGINE_FINISH_STOP, .stop_token = -1, .prompt_tokens = 31, .generated_tokens = 2};
    assert_int_equal(answer_take_event(&answer, &event), ANSWER_DONE);
    answer_append_sse(&answer, &out);
    assert_string_equal(
        buffer_text(&out),
        "data: "
        "{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":17,\"model\":\"sql\",\"choices\":[{\"index\":0,"
        "\"delta\":"
        "{\"content\":\"\"},\"logprobs\":null,\"finish_reason\":\"stop\",\"stop_reason\":null,\"token_ids\":null}]}\n\n"
        "data: "
        "{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":17,\"model\":\"sql\",\"choices\":[],\"usage\":"
        "{\"prompt_tokens\":31,\"total_tokens\":33,\"completion_tokens\":2},\"system_fingerprint\":\"davit-x\"}\n\n"
        "data: [DONE]\n\n");
    end(&request, &answer);
}

static void test_incomplete_characters_wait(void **state) {
    (void)state;
    struct openai_request request;
    struct answer answer;
    begin("{\"prompt\":\"Hi\",\"stream\":true}", false, &request, &answer);
    struct token_list tokens = {0};
    struct error err = {0};
    const char *smile = "\xf0\x9f\x98\x80";
    assert_int_equal(tokenizer_encode(tokenizer, smile, 4, false, 10, &tokens, &err), 0);
    assert_true(tokens.count > 1);
    for (size_t i = 0; i < tokens.count; i++) {
        struct engine_event event = {.token = tokens.ids[i], .stop_token = -1, .generated_tokens = (int)i + 1};
        assert_int_equal(answer_take_event(&answer, &event), ANSWER_MORE);
        assert_string_equal(buffer_text(&answer.text), i + 1 < tokens.count ? "" : smile);
    }
    token_list_release(&tokens);
    end(&request, &answer);
}

static void test_stop_string_ends_it(void **state) {
    (void)state;
    struct openai_request request;
    struct answer answer;
    begin("{\"prompt\":\"Hi\",\"stop\":[\"END\"],\"min_tokens\":0}", false, &request, &answer);
    assert_int_equal(feed(&answer, "go END on", ENGINE_FINISH_LENGTH), ANSWER_STOPPED);
    cleanup_buffer struct buffer out = BUFFER_INIT;
    answer_append_body(&answer, &out);
    assert_non_null(strstr(out.data, "\"text\":\"go \",\"logprobs\":null,\"finish_reason\":\"stop\",\"stop_reason\":\"END\""));
    end(&request, &answer);
}

static void test_stop_token_is_hidden(void **state) {
    (void)state;
    struct openai_request request;
    struct answer answer;
    begin("{\"prompt\":\"Hi\",\"skip_special_tokens\":false}", false, &request, &answer);
    struct engine_event event = {.token = tokenizer_eos(tokenizer),
                                 .finish = ENGINE_FINISH_STOP,
                                 .stop_token = -1,
                                 .prompt_tokens = 1,
                                 .generated_tokens = 1};
    assert_int_equal(answer_take_event(&answer, &event), ANSWER_DONE);
    cleanup_buffer struct buffer out = BUFFER_INIT;
    answer_append_body(&answer, &out);
    assert_non_null(strstr(out.data, "\"text\":\"\""));
    end(&request, &answer);
}

static void test_logprobs(void **state) {
    (void)state;
    struct openai_request request;
    struct answer answer;
    begin("{\"prompt\":\"Hi\",\"logprobs\":1}", false, &request, &answer);
    assert_int_equal(feed(&answer, "A", ENGINE_FINISH_LENGTH), ANSWER_DONE);
    cleanup_buffer struct buffer out = BUFFER_INIT;
    answer_append_body(&answer, &out);
    assert_non_null(
        strstr(out.data,
               "\"logprobs\":{\"text_offset\":[0],\"token_logprobs\":[-0.5],\"tokens\":[\"A\"],\"top_logprobs\":[{\"A\":-0.5}]}"));
    end(&request, &answer);
    begin("{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],\"logprobs\":true,\"top_logprobs\":1}", true, &request, &answer);
    assert_int_equal(feed(&answer, "A", ENGINE_FINISH_LENGTH), ANSWER_DONE);
    buffer_clear(&out);
    answer_append_body(&answer, &out);
    assert_non_null(strstr(
        out.data, "\"logprobs\":{\"content\":[{\"token\":\"A\",\"logprob\":-0.5,\"bytes\":[65],\"top_logprobs\":[{\"token\":\"A\","
                  "\"logprob\":-0.5,\"bytes\":[65]}]}]}"));
    end(&request, &answer);
}

static void test_python_floats(void **state) {
    (void)state;
    static const struct {
        double value;
        const char *text;
    } floats[] = {{-1, "-1.0"}, {0.7, "0.7"}, {100, "100.0"}, {-0.8364381194114685, "-0.8364381194114685"}, {1e30, "1e+30"}};
    for (size_t i = 0; i < ARRAY_LEN(floats); i++) {
        cleanup_buffer struct buffer out = BUFFER_INIT;
        append_python_float(&out, floats[i].value);
        assert_string_equal(buffer_text(&out), floats[i].text);
    }
}

static void test_engine_errors_map(void **state) {
    (void)state;
    static const struct {
        enum error_code code;
        int status;
        const char *part;
    } loads[] = {
        {ERROR_EXISTS, 400,
         "The lora adapter 'sql' has already been loaded. If you want to load the adapter in place, set 'load_inplace' to True."},
        {ERROR_NOT_FOUND, 404, "Loading lora sql failed: No adapter found for /a/sql: why"},
        {ERROR_UNAUTHORIZED, 404, "Loading lora sql failed: No adapter found for /a/sql: why"},
        {ERROR_UNAVAILABLE, 503, "Loading lora sql failed: why"},
        {ERROR_INVALID, 500,
         "Call to add_lora method failed: Worker failed with error 'why', please check the stack trace above for the root cause"},
        {ERROR_LIMIT, 503, "Loading lora sql failed: why"},
    };
    for (size_t i = 0; i < ARRAY_LEN(loads); i++) {
        struct error cause = {0};
        (void)error_set(&cause, loads[i].code, "why");
        struct api_error error = {0};
        (void)api_error_from_load(&error, &cause, "sql", "/a/sql");
        assert_int_equal(error.status, loads[i].status);
        assert_string_equal(buffer_text(&error.message), loads[i].part);
        api_error_release(&error);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bad_requests_are_refused),
        cmocka_unit_test(test_completion_defaults),
        cmocka_unit_test(test_chat_messages),
        cmocka_unit_test(test_prompts_with_nul),
        cmocka_unit_test(test_completion_body),
        cmocka_unit_test(test_chat_stream),
        cmocka_unit_test(test_incomplete_characters_wait),
        cmocka_unit_test(test_stop_string_ends_it),
        cmocka_unit_test(test_stop_token_is_hidden),
        cmocka_unit_test(test_logprobs),
        cmocka_unit_test(test_python_floats),
        cmocka_unit_test(test_engine_errors_map),
    };
    return cmocka_run_group_tests(tests, load_tokenizer, free_tokenizer);
}
