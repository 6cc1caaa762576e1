/* The fake engine answers as the real ones were recorded: tests that lean on it lean on these texts. */
#include "addresses.h"
#include "engine.h"
#include "event_log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void init(struct engine *engine, enum kind kind) {
    engine_init(engine, kind, "127.9.0.1", "smollm2");
}

static int ask_as(struct engine *engine, enum door door, const char *path, const char *body, const char *key,
                  struct buffer *ret_text) {
    struct request request = {.door = door,
                              .method = body != NULL ? "POST" : "GET",
                              .path = path,
                              .authorization = key,
                              .content_type = "application/json",
                              .body = body != NULL ? body : "",
                              .body_len = body != NULL ? strlen(body) : 0};
    struct asked asked;
    struct answer answer;
    engine_read(engine, &request, &asked);
    engine_answer(engine, &asked, 1795446426, &answer);
    buffer_clear(ret_text);
    buffer_append(ret_text, answer.body.data, answer.body.len);
    answer_release(&answer);
    asked_release(&asked);
    return answer.status;
}

struct exchange {
    enum door door;
    const char *path, *body;
    int status;
    const char *answer;
};

static void check(struct engine *engine, const struct exchange *exchanges, size_t count) {
    cleanup_buffer struct buffer text = BUFFER_INIT;
    for (size_t i = 0; i < count; i++) {
        const struct exchange *exchange = &exchanges[i];
        int status = ask_as(engine, exchange->door, exchange->path, exchange->body, NULL, &text);
        assert_string_equal(buffer_text(&text), exchange->answer);
        assert_int_equal(status, exchange->status);
    }
}

static void test_vllm(void **state) {
    static const struct exchange exchanges[] = {
        {DOOR_ENGINE, "/version", NULL, 200, "{\"version\":\"0.32.0\"}"},
        {DOOR_ENGINE, "/health", NULL, 200, ""},
        {DOOR_ENGINE, "/v1/nope", NULL, 404, "{\"detail\":\"Not Found\"}"},
        {DOOR_ENGINE, "/v1/load_lora_adapter", NULL, 405, "{\"detail\":\"Method Not Allowed\"}"},
        {DOOR_ENGINE, "/load_lora_adapter", "{}", 404, "{\"detail\":\"Not Found\"}"},
        {DOOR_ENGINE, "/v1/load_lora_adapter", "{\"lora_name\": \"sql\", \"lora_path\": \"/adapters/sql\"}", 200,
         "Success: LoRA adapter 'sql' added successfully."},
        {DOOR_ENGINE, "/v1/load_lora_adapter", "{\"lora_name\": \"sql\", \"lora_path\": \"/adapters/sql\"}", 400,
         "{\"error\":{\"message\":\"The lora adapter 'sql' has already been loaded. If you want to load the adapter in place, set "
         "'load_inplace' to True.\",\"type\":\"InvalidUserInput\",\"param\":null,\"code\":400}}"},
        {DOOR_ENGINE, "/v1/load_lora_adapter", "{\"lora_name\": \"sql\", \"lora_path\": \"/adapters/sql\", \"load_inplace\": true}",
         200, "Success: LoRA adapter 'sql' added successfully."},
        {DOOR_ENGINE, "/v1/load_lora_adapter", "{\"lora_name\": \"smollm2\", \"lora_path\": \"/adapters/sql\"}", 400,
         "{\"error\":{\"message\":\"The lora adapter 'smollm2' conflicts with a served base "
         "model.\",\"type\":\"InvalidUserInput\",\"param\":null,\"code\":400}}"},
        {DOOR_ENGINE, "/v1/load_lora_adapter", "{\"lora_name\": \"\", \"lora_path\": \"/adapters/sql\"}", 400,
         "{\"error\":{\"message\":\"Both 'lora_name' and 'lora_path' must be "
         "provided.\",\"type\":\"InvalidUserInput\",\"param\":null,\"code\":400}}"},
        {DOOR_ENGINE, "/v1/load_lora_adapter", "{\"lora_name\": \"x\"}", 400,
         "{\"error\":{\"message\":\"1 validation error:\\n  {'type': 'missing', 'loc': 'body.lora_path', 'msg': 'Field required', "
         "'input': '<dict of 1 items>'}\",\"type\":\"Bad Request\",\"param\":\"body.lora_path\",\"code\":400}}"},
        {DOOR_ENGINE, "/v1/load_lora_adapter", "{\"lora_name\": 5, \"lora_path\": \"/adapters/sql\"}", 400,
         "{\"error\":{\"message\":\"1 validation error:\\n  {'type': 'string_type', 'loc': 'body.lora_name', 'msg': 'Input should "
         "be a "
         "valid string', 'input': '5'}\",\"type\":\"Bad Request\",\"param\":\"body.lora_name\",\"code\":400}}"},
        {DOOR_ENGINE, "/v1/completions", "{\"model\": \"ghost\", \"prompt\": \"Hi\"}", 404,
         "{\"error\":{\"message\":\"The model `ghost` does not exist. Valid aliases: "
         "smollm2.\",\"type\":\"NotFoundError\",\"param\":\"model\",\"code\":404}}"},
        {DOOR_ENGINE, "/v1/unload_lora_adapter", "{\"lora_name\": \"ghost\"}", 404,
         "{\"error\":{\"message\":\"The lora adapter 'ghost' cannot be "
         "found.\",\"type\":\"NotFoundError\",\"param\":null,\"code\":404}}"},
        {DOOR_ENGINE, "/v1/unload_lora_adapter", "{\"lora_name\": \"\"}", 400,
         "{\"error\":{\"message\":\"'lora_name' needs to be provided to unload a LoRA "
         "adapter.\",\"type\":\"InvalidUserInput\",\"param\":null,\"code\":400}}"},
        {DOOR_ENGINE, "/v1/unload_lora_adapter", "{\"lora_name\": \"sql\"}", 200,
         "Success: LoRA adapter 'sql' removed successfully."},
    };
    struct engine engine;
    (void)state;
    init(&engine, KIND_VLLM);
    check(&engine, exchanges, ARRAY_LEN(exchanges));
    engine_release(&engine);
}

static void test_sglang(void **state) {
    static const struct exchange exchanges[] = {
        {DOOR_ENGINE, "/v1/load_lora_adapter", "{}", 404, "{\"detail\":\"Not Found\"}"},
        {DOOR_ENGINE, "/load_lora_adapter", "{\"lora_name\": \"sql\", \"lora_path\": \"/adapters/sql\"}", 200,
         "{\"success\":true,\"error_message\":\"\",\"loaded_adapters\":{\"sql\":\"/adapters/sql\"}}"},
        {DOOR_ENGINE, "/load_lora_adapter", "{\"lora_name\": \"sql\", \"lora_path\": \"/adapters/sql\"}", 400,
         "{\"success\":false,\"error_message\":\"LoRA with name sql already exists. Loaded LoRAs: "
         "dict_keys(['sql'])\",\"loaded_adapters\":{\"sql\":\"/adapters/sql\"}}"},
        {DOOR_ENGINE, "/v1/models", NULL, 200,
         "{\"object\":\"list\",\"data\":[{\"id\":\"smollm2\",\"object\":\"model\",\"created\":1795446426,\"owned_by\":\"sglang\","
         "\"root\":\"smollm2\",\"parent\":null,\"max_model_len\":1024},{\"id\":\"sql\",\"object\":\"model\",\"created\":1795446426,"
         "\"owned_by\":\"sglang\",\"root\":\"/adapters/sql\",\"parent\":\"smollm2\",\"max_model_len\":null}]}"},
        {DOOR_ENGINE, "/unload_lora_adapter", "{\"lora_name\": \"sql\"}", 200,
         "{\"success\":true,\"error_message\":\"\",\"loaded_adapters\":{}}"},
        {DOOR_ENGINE, "/unload_lora_adapter", "{\"lora_name\": \"sql\"}", 400,
         "{\"success\":false,\"error_message\":\"LoRA with name sql does not exist. Loaded LoRAs: "
         "dict_keys([])\",\"loaded_adapters\":{}}"},
        {DOOR_ENGINE, "/v1/completions", "{\"model\": \"smollm2:sql\", \"prompt\": \"Hi\"}", 400,
         "{\"object\":\"error\",\"message\":\"Got LoRA adapter that has never been loaded: "
         "sql\",\"type\":\"BadRequestError\",\"param\":null,\"code\":400}"},
    };
    struct engine engine;
    (void)state;
    init(&engine, KIND_SGLANG);
    check(&engine, exchanges, ARRAY_LEN(exchanges));
    engine_release(&engine);
}

static void test_sidecar(void **state) {
    static const struct exchange exchanges[] = {
        {DOOR_SIDECAR, "/healthz", NULL, 200, "{\"status\":\"ok\"}"},
        {DOOR_SIDECAR, "/ready", NULL, 200, "{\"status\":\"ready\"}"},
        {DOOR_SIDECAR, "/v1/lora_adapter/load", "{\"lora_name\": \"sc1\", \"lora_path\": \"/adapters/sql\"}", 200,
         "Success: LoRA adapter 'sc1' loaded successfully from '/adapters/sql'."},
        {DOOR_SIDECAR, "/v1/lora_adapter/load", "{\"lora_name\": \"sc1\", \"lora_path\": \"/adapters/sql\"}", 400,
         "{\"object\":\"error\",\"message\":\"Failed to load LoRA adapter 'sc1': {\\\"error\\\":{\\\"message\\\":\\\"The lora "
         "adapter "
         "'sc1' has already been loaded. If you want to load the adapter in place, set 'load_inplace' to "
         "True.\\\",\\\"type\\\":\\\"InvalidUserInput\\\",\\\"param\\\":null,\\\"code\\\":400}}\",\"type\":\"ServerError\","
         "\"param\":null,"
         "\"code\":400}"},
        {DOOR_SIDECAR, "/v1/lora_adapter/unload", "{\"lora_name\": \"sc1\", \"lora_int_id\": 1}", 200,
         "Success: LoRA adapter 'sc1' unloaded successfully."},
        {DOOR_SIDECAR, "/v1/lora_adapter/unload", "{\"lora_name\": \"ghost\"}", 200,
         "{\"status\":\"success\",\"message\":\"Successfully unloaded adapter ghost\"}"},
        {DOOR_SIDECAR, "/v1/lora_adapter/unload", "{\"lora_name\": \"ghost\", \"lora_int_id\": 1}", 404,
         "{\"object\":\"error\",\"message\":\"LoRA adapter 'ghost' not "
         "found\",\"type\":\"NotFoundError\",\"param\":null,\"code\":404}"},
        {DOOR_SIDECAR, "/v1/lora_adapter/load", "{\"lora_name\": \"art0\", \"artifact_url\": \"ftp://x/y\"}", 500,
         "{\"error\":\"Failed to load adapter: Unsupported URL scheme: ftp. Supported schemes: s3, gcs, tos, huggingface, http, "
         "https\"}"},
        {DOOR_SIDECAR, "/v1/lora_adapter/load", "{\"lora_name\": \"a\", \"artifact_url\": \"s3://b/c\", \"revision\": \"1\"}", 422,
         "{\"detail\":[{\"type\":\"extra_forbidden\",\"loc\":[\"body\",\"revision\"],\"msg\":\"Extra inputs are not "
         "permitted\",\"input\":null}]}"},
        {DOOR_SIDECAR, "/v1/lora_adapter/load", "{\"lora_name\": \"a\", \"artifact_url\": \"s3://b/c\"}", 200,
         "{\"status\":\"success\",\"message\":\"Successfully loaded adapter a from "
         "s3://b/c\",\"local_path\":\"/tmp/aibrix/adapters/a\",\"engine_response\":{\"message\":\"Success: LoRA adapter 'a' added "
         "successfully.\"}}"},
        {DOOR_SIDECAR, "/v1/lora_adapter/load", "{\"lora_name\": \"a\", \"artifact_url\": \"s3://b/c\"}", 500,
         "{\"error\":\"Engine error: The lora adapter 'a' has already been loaded. If you want to load the adapter in place, set "
         "'load_inplace' to True.\"}"},
    };
    struct engine engine;
    (void)state;
    init(&engine, KIND_VLLM);
    check(&engine, exchanges, ARRAY_LEN(exchanges));
    engine_release(&engine);
}

#define S3_LOAD(name, url, rest) "{\"lora_name\": \"" name "\", \"artifact_url\": \"" url "\"" rest "}"
#define S3_KEYS(id, key) ", \"credentials\": {\"aws_access_key_id\": \"" id "\", \"aws_secret_access_key\": \"" key "\"}"
#define S3_ERROR(text) "{\"error\":\"Failed to load adapter: " text "\"}"

static void test_sidecar_and_s3(void **state) {
    static const char path[] = "/v1/lora_adapter/load";
    static const struct exchange exchanges[] = {
        {DOOR_SIDECAR, path, S3_LOAD("a", "s3://b/c/", ""), 500,
         S3_ERROR("AWS credentials not found. Please provide credentials in secret.")},
        {DOOR_SIDECAR, path, S3_LOAD("a", "s3://b/c/", S3_KEYS("other", "key")), 500,
         S3_ERROR("S3 download error: An error occurred (InvalidAccessKeyId) when calling the ListObjectsV2 operation: The AWS "
                  "Access Key Id you provided does not exist in our records.")},
        {DOOR_SIDECAR, path, S3_LOAD("a", "s3://b/c/", S3_KEYS("id", "other")), 500,
         S3_ERROR("S3 download error: An error occurred (SignatureDoesNotMatch) when calling the ListObjectsV2 operation: The "
                  "request signature we calculated does not match the signature you provided.")},
        {DOOR_SIDECAR, path, S3_LOAD("a", "s3://b/c", S3_KEYS("id", "other")), 500,
         "{\"error\":\"Permission denied: Access denied to S3 object: s3://b/c\"}"},
        {DOOR_SIDECAR, path, S3_LOAD("a", "s3://b/c/", S3_KEYS("id", "key")), 200,
         "{\"status\":\"success\",\"message\":\"Successfully loaded adapter a from "
         "s3://b/c/\",\"local_path\":\"/tmp/aibrix/adapters/a\",\"engine_response\":{\"message\":\"Success: LoRA adapter 'a' added "
         "successfully.\"}}"},
    };
    struct engine engine;
    struct error err = {0};
    (void)state;
    init(&engine, KIND_VLLM);
    cleanup_json json_t *settings = json_pack("{s:s, s:s}", "s3_access_key", "id", "s3_secret_key", "key");
    assert_int_equal(engine_set(&engine, settings, &err), 0);
    check(&engine, exchanges, ARRAY_LEN(exchanges));
    engine_release(&engine);
}

static double first_logprob(struct engine *engine, const char *model, const char *prompt) {
    cleanup_buffer struct buffer text = BUFFER_INIT;
    cleanup_free char *body = xasprintf("{\"model\": \"%s\", \"prompt\": \"%s\", \"logprobs\": 5}", model, prompt);
    assert_int_equal(ask_as(engine, DOOR_ENGINE, "/v1/completions", body, NULL, &text), 200);
    cleanup_json json_t *parsed = json_parse(text.data, text.len, NULL);
    const json_t *choice = json_array_get(json_at(parsed, "choices"), 0);
    const json_t *value = json_array_get(json_at(choice, "logprobs.token_logprobs"), 0);
    return json_is_number(value) ? json_number_value(value) : 0;
}

static void load(struct engine *engine, const char *name) {
    cleanup_buffer struct buffer text = BUFFER_INIT;
    cleanup_free char *body = xasprintf("{\"lora_name\": \"%s\", \"lora_path\": \"/adapters/%s\"}", name, name);
    const char *path = engine->kind == KIND_SGLANG ? "/load_lora_adapter" : "/v1/load_lora_adapter";
    assert_int_equal(ask_as(engine, DOOR_ENGINE, path, body, NULL, &text), 200);
}

/* What the controller's proof goes by. */
static void test_adapters_have_an_effect(void **state) {
    struct engine engine, sglang;
    (void)state;
    init(&engine, KIND_VLLM);
    load(&engine, "a");
    load(&engine, "b");
    double base = first_logprob(&engine, "smollm2", "x");
    assert_true(base < 0);
    assert_true(first_logprob(&engine, "a", "x") != base);
    assert_true(first_logprob(&engine, "a", "x") != first_logprob(&engine, "b", "x"));
    assert_true(first_logprob(&engine, "a", "x") == first_logprob(&engine, "a", "x"));
    assert_true(first_logprob(&engine, "a", "x") != first_logprob(&engine, "a", "y"));
    engine.settings.no_effect = true;
    assert_true(first_logprob(&engine, "a", "x") == base);
    engine.settings.no_logprobs = true;
    assert_true(first_logprob(&engine, "a", "x") == 0);
    engine_release(&engine);

    init(&sglang, KIND_SGLANG);
    load(&sglang, "a");
    assert_true(first_logprob(&sglang, "a", "x") == first_logprob(&sglang, "smollm2", "x")); /* a bare name is the base */
    assert_true(first_logprob(&sglang, "smollm2:a", "x") != first_logprob(&sglang, "smollm2", "x"));
    engine_release(&sglang);
}

static void test_key(void **state) {
    struct engine engine;
    cleanup_buffer struct buffer text = BUFFER_INIT;
    (void)state;
    init(&engine, KIND_VLLM);
    engine.settings.api_key = xstrdup("k");
    assert_int_equal(ask_as(&engine, DOOR_ENGINE, "/v1/models", NULL, NULL, &text), 401);
    assert_string_equal(text.data, "{\"error\":\"Unauthorized\"}");
    assert_int_equal(ask_as(&engine, DOOR_ENGINE, "/v1/models", NULL, "Bearer other", &text), 401);
    assert_int_equal(ask_as(&engine, DOOR_ENGINE, "/v1/models", NULL, "bearer k", &text), 200);
    assert_int_equal(ask_as(&engine, DOOR_ENGINE, "/health", NULL, NULL, &text), 200);
    engine_release(&engine);
}

static void test_lists_follow_settings(void **state) {
    struct engine engine;
    struct error err;
    cleanup_buffer struct buffer text = BUFFER_INIT;
    (void)state;
    init(&engine, KIND_VLLM);
    load(&engine, "a");
    (void)ask_as(&engine, DOOR_ENGINE, "/v1/models", NULL, NULL, &text);
    assert_non_null(strstr(text.data, "\"root\":\"/adapters/a\",\"parent\":\"smollm2\",\"max_model_len\":null"));
    cleanup_json json_t *other = json_pack("{s:s}", "root", "/other");
    assert_int_equal(engine_set(&engine, other, &err), 0);
    (void)ask_as(&engine, DOOR_ENGINE, "/v1/models", NULL, NULL, &text);
    assert_non_null(strstr(text.data, "\"root\":\"/other\",\"parent\":\"smollm2\""));
    cleanup_json json_t *back = json_pack("{s:n, s:i}", "root", "max_cpu_loras", 1);
    assert_int_equal(engine_set(&engine, back, &err), 0);
    (void)ask_as(&engine, DOOR_ENGINE, "/v1/models", NULL, NULL, &text);
    assert_non_null(strstr(text.data, "\"root\":\"/adapters/a\""));
    assert_int_equal(
        ask_as(&engine, DOOR_ENGINE, "/v1/load_lora_adapter", "{\"lora_name\":\"b\",\"lora_path\":\"/b\"}", NULL, &text), 503);
    assert_non_null(strstr(text.data, "which is the limit"));
    engine_release(&engine);
}

static void test_settings_are_checked(void **state) {
    static const char *const bad[] = {"{\"nope\": 1}",
                                      "{\"max_loras\": \"1\"}",
                                      "{\"faults\": {\"loads\": {}}}",
                                      "[]",
                                      "{\"faults\": {\"load\": {\"delay\": 1}}}",
                                      "{\"faults\": []}",
                                      "{\"base_model\": null}"};
    struct settings settings;
    struct error err;
    (void)state;
    settings_init(&settings, "base");
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        cleanup_json json_t *object = json_loads(bad[i], 0, NULL);
        assert_int_equal(settings_merge(&settings, object, &err), -1);
    }
    cleanup_json json_t *half = json_loads("{\"dead\": true, \"faults\": {\"load\": {\"hang\": 1}}}", 0, NULL);
    assert_int_equal(settings_merge(&settings, half, &err), -1);
    assert_false(settings.dead);
    cleanup_json json_t *good = json_loads("{\"faults\": {\"load\": {\"delay_ms\": 50, \"message\": \"no\"}}}", 0, NULL);
    assert_int_equal(settings_merge(&settings, good, &err), 0);
    assert_int_equal(settings.faults[CALL_LOAD].delay_ms, 50);
    assert_string_equal(settings.faults[CALL_LOAD].message, "no");
    settings_release(&settings);
}

static int take_address(void *arg, const char *address, struct error *err) {
    (void)err;
    buffer_printf(arg, "%s ", address);
    return 0;
}

static void test_addresses(void **state) {
    static const char *const bad[] = {"", "x", "127.0.0.1-", "127.0.0.2-127.0.0.1", "127.0.0.1,", "127.0.0.0-127.1.0.0"};
    cleanup_buffer struct buffer text = BUFFER_INIT;
    struct error err;
    (void)state;
    assert_int_equal(addresses_read("127.9.0.254-127.9.1.1,127.9.9.9", take_address, &text, &err), 0);
    assert_string_equal(text.data, "127.9.0.254 127.9.0.255 127.9.1.0 127.9.1.1 127.9.9.9 ");
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        buffer_clear(&text);
        assert_int_equal(addresses_read(bad[i], take_address, &text, &err), -1);
    }
}

static void test_log_keeps_the_newest(void **state) {
    struct event_log log;
    cleanup_buffer struct buffer text = BUFFER_INIT;
    (void)state;
    event_log_init(&log, 2);
    for (int i = 0; i < 3; i++) {
        struct event_entry entry = {.address = "127.9.0.1", .call = CALL_LOAD, .status = 200 + i, .name = "a"};
        event_log_add(&log, &entry);
    }
    event_log_render(&log, 0, &text);
    assert_non_null(strstr(text.data, "{\"next\":3,\"lost\":1,\"events\":[{"));
    assert_null(strstr(text.data, "\"status\":200"));
    assert_non_null(strstr(text.data, "\"status\":201"));
    event_log_release(&log);
}

static void test_metrics_name_what_is_asked_for(void **state) {
    (void)state;
    struct engine engine;
    cleanup_buffer struct buffer text = BUFFER_INIT;
    init(&engine, KIND_VLLM);
    assert_int_equal(ask_as(&engine, DOOR_ENGINE, "/metrics", NULL, NULL, &text), 200);
    assert_non_null(strstr(buffer_text(&text), ",running_lora_adapters=\"\",waiting_lora_adapters=\"\"} 1795446426.0\n"));
    engine.asked_for = xstrdup("a,b");
    assert_int_equal(ask_as(&engine, DOOR_ENGINE, "/metrics", NULL, NULL, &text), 200);
    assert_non_null(strstr(buffer_text(&text), ",running_lora_adapters=\"a,b\",waiting_lora_adapters=\"a,b\"} 1795446426.0\n"));
    engine_release(&engine);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vllm),
        cmocka_unit_test(test_sglang),
        cmocka_unit_test(test_sidecar),
        cmocka_unit_test(test_sidecar_and_s3),
        cmocka_unit_test(test_adapters_have_an_effect),
        cmocka_unit_test(test_key),
        cmocka_unit_test(test_lists_follow_settings),
        cmocka_unit_test(test_settings_are_checked),
        cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_log_keeps_the_newest),
        cmocka_unit_test(test_metrics_name_what_is_asked_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
