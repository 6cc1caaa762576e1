/* Bodies of load and unload as the reference's sidecar takes and refuses them (recorded from aibrix_runtime 0.8.0). */
#include "runtime/lora_answer.h"
#include "runtime/lora_request.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void test_good_bodies(void **state) {
    (void)state;
    static const struct {
        enum lora_verb verb;
        const char *body;
        bool is_direct;
        const char *name;
        const char *source;
    } rows[] = {
        {LORA_LOAD, "{\"lora_name\":\"a\",\"artifact_url\":\"/x\"}", false, "a", "/x"},
        {LORA_LOAD,
         "{\"lora_name\":\"a\",\"artifact_url\":\"/x\",\"credentials\":{\"k\":\"v\"},\"additional_config\":null,\"local_dir\":\"/"
         "t\",\"credentials_secret\":\"s\"}",
         false, "a", "/x"},
        {LORA_LOAD, "{\"lora_name\":\"a\",\"lora_path\":\"org/repo\"}", true, "a", "org/repo"},
        {LORA_UNLOAD, "{\"lora_name\":\"a\"}", false, "a", ""},
        {LORA_UNLOAD, "{\"lora_name\":\"a\",\"cleanup_local\":false}", false, "a", ""},
        {LORA_UNLOAD, "{\"lora_name\":\"a\",\"lora_int_id\":1}", true, "a", ""},
        {LORA_UNLOAD, "{\"lora_name\":\"a\",\"lora_int_id\":null}", true, "a", ""},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct lora_request request;
        struct buffer detail = BUFFER_INIT;
        if (lora_request_parse(rows[i].verb, rows[i].body, strlen(rows[i].body), &request, &detail) < 0) {
            fail_msg("%s: %s", rows[i].body, detail.data);
        }
        assert_int_equal(request.is_direct, rows[i].is_direct);
        assert_string_equal(request.name, rows[i].name);
        assert_string_equal(request.source, rows[i].source);
        lora_request_release(&request);
        buffer_release(&detail);
    }
}

static void expect_detail(enum lora_verb verb, const char *body, const char *expected) {
    struct lora_request request;
    struct buffer detail = BUFFER_INIT;
    assert_int_equal(lora_request_parse(verb, body, strlen(body), &request, &detail), -1);
    assert_string_equal(detail.data, expected);
    buffer_release(&detail);
}

static void test_refusals_as_recorded(void **state) {
    (void)state;
    expect_detail(
        LORA_LOAD, "{\"lora_name\": \"x\"}",
        "{\"detail\":[{\"type\":\"missing\",\"loc\":[\"body\",\"LoadLoraAdapterRuntimeRequest\",\"artifact_url\"],\"msg\":\"Field "
        "required\","
        "\"input\":{\"lora_name\":\"x\"}},{\"type\":\"missing\",\"loc\":[\"body\",\"LoadLoraAdapterRequest\",\"lora_path\"],"
        "\"msg\":\"Field required\",\"input\":{\"lora_name\":\"x\"}}]}");
    expect_detail(
        LORA_LOAD, "{\"lora_name\": \"x\", \"lora_path\": \"/adapters/sql\", \"foo\": 1}",
        "{\"detail\":[{\"type\":\"missing\",\"loc\":[\"body\",\"LoadLoraAdapterRuntimeRequest\",\"artifact_url\"],\"msg\":\"Field "
        "required\","
        "\"input\":{\"lora_name\":\"x\",\"lora_path\":\"/adapters/"
        "sql\",\"foo\":1}},{\"type\":\"extra_forbidden\",\"loc\":[\"body\","
        "\"LoadLoraAdapterRuntimeRequest\",\"lora_path\"],\"msg\":\"Extra inputs are not permitted\",\"input\":\"/adapters/sql\"},"
        "{\"type\":\"extra_forbidden\",\"loc\":[\"body\",\"LoadLoraAdapterRuntimeRequest\",\"foo\"],\"msg\":\"Extra inputs are not "
        "permitted\","
        "\"input\":1},{\"type\":\"extra_forbidden\",\"loc\":[\"body\",\"LoadLoraAdapterRequest\",\"foo\"],"
        "\"msg\":\"Extra inputs are not permitted\",\"input\":1}]}");
}

static void test_other_refusals(void **state) {
    (void)state;
    static const struct {
        enum lora_verb verb;
        const char *body;
        const char *part;
    } rows[] = {
        {LORA_LOAD, "", "json_invalid"},
        {LORA_LOAD, "{", "json_invalid"},
        {LORA_LOAD, "[]", "model_attributes_type"},
        {LORA_LOAD, "{\"lora_name\":1,\"artifact_url\":\"/x\"}",
         "\"string_type\",\"loc\":[\"body\",\"LoadLoraAdapterRuntimeRequest\",\"lora_name\"]"},
        {LORA_LOAD, "{\"lora_name\":null,\"lora_path\":\"/x\"}", "string_type"},
        {LORA_LOAD, "{\"lora_name\":\"a\",\"artifact_url\":\"/x\",\"lora_path\":\"/y\"}", "extra_forbidden"},
        {LORA_LOAD, "{\"lora_name\":\"a\",\"artifact_url\":\"/x\",\"credentials\":[\"k\"]}", "dict_type"},
        {LORA_LOAD, "{\"lora_name\":\"a\",\"artifact_url\":\"/x\",\"credentials\":{\"k\":5}}", "\"credentials\",\"k\"]"},
        {LORA_UNLOAD, "{}", "missing"},
        {LORA_UNLOAD, "{\"lora_name\":\"a\",\"lora_int_id\":\"x\"}", "int_type"},
        {LORA_UNLOAD, "{\"lora_name\":\"a\",\"cleanup_local\":7}", "bool_type"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct lora_request request;
        struct buffer detail = BUFFER_INIT;
        assert_int_equal(lora_request_parse(rows[i].verb, rows[i].body, strlen(rows[i].body), &request, &detail), -1);
        if (strstr(detail.data, rows[i].part) == NULL) {
            fail_msg("%s: %s lacks %s", rows[i].body, detail.data, rows[i].part);
        }
        json_t *parsed = json_loads(detail.data, 0, NULL);
        assert_non_null(parsed);
        json_decref(parsed);
        buffer_release(&detail);
    }
}

static void test_secrets_are_not_repeated(void **state) {
    (void)state;
    static const char *const bodies[] = {
        "{\"lora_name\":\"a\",\"credentials\":{\"k\":\"hunter2\"}}",
        "{\"lora_name\":\"a\",\"credentials\":\"hunter2\"}",
        "{\"lora_name\":\"a\",\"credentials\":[\"hunter2\"]}",
        "{\"lora_name\":\"a\",\"lora_path\":\"/x\",\"credentials\":{\"k\":\"hunter2\"}}",
        "{\"lora_name\":\"a\",\"artifact_url\":\"/x\",\"foo\":1,\"additional_config\":{\"k\":{\"deep\":\"hunter2\"}}}",
    };
    for (size_t i = 0; i < ARRAY_LEN(bodies); i++) {
        struct lora_request request;
        struct buffer detail = BUFFER_INIT;
        assert_int_equal(lora_request_parse(LORA_LOAD, bodies[i], strlen(bodies[i]), &request, &detail), -1);
        assert_null(strstr(detail.data, "hunter2"));
        buffer_release(&detail);
    }
}

static void test_names(void **state) {
    (void)state;
    char longest[130];
    memset(longest, 'a', sizeof(longest));
    longest[128] = '\0';
    assert_true(is_lora_name(longest));
    longest[128] = 'a';
    longest[129] = '\0';
    assert_false(is_lora_name(longest));
    static const char *const good[] = {"a", "A9", "sql-v1.2_x", "0"};
    static const char *const bad[] = {"", ".", "..", "../x", "-a", "_a", "a/b", "a b", "a\n", "\xc3\xa9", "a:b"};
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        assert_true(is_lora_name(good[i]));
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_false(is_lora_name(bad[i]));
    }
}

static void test_answers_as_recorded(void **state) {
    (void)state;
    static const struct {
        enum lora_verb verb;
        const char *body;
        struct loader_result result;
        int status;
        const char *content_type;
        const char *answer;
    } rows[] = {
        {LORA_LOAD,
         "{\"lora_name\":\"sc1\",\"lora_path\":\"/adapters/sql\"}",
         {.status = 200, .message = "x"},
         200,
         NULL,
         "Success: LoRA adapter 'sc1' loaded successfully from '/adapters/sql'."},
        {LORA_LOAD,
         "{\"lora_name\":\"N\",\"artifact_url\":\"/P\"}",
         {.status = 200, .message = "Success: added."},
         200,
         "application/json",
         "{\"status\":\"success\",\"message\":\"Successfully loaded adapter N from "
         "/P\",\"local_path\":\"/P\",\"engine_response\":{\"message\":\"Success: added.\"}}"},
        {LORA_UNLOAD,
         "{\"lora_name\":\"sc1\",\"lora_int_id\":1}",
         {.status = 200},
         200,
         NULL,
         "Success: LoRA adapter 'sc1' unloaded successfully."},
        {LORA_UNLOAD,
         "{\"lora_name\":\"ghost\"}",
         {.status = 200, .was_not_loaded = true},
         200,
         "application/json",
         "{\"status\":\"success\",\"message\":\"Successfully unloaded adapter ghost\"}"},
        {LORA_UNLOAD,
         "{\"lora_name\":\"ghost\",\"lora_int_id\":1}",
         {.status = 200, .was_not_loaded = true},
         404,
         "application/json",
         "{\"object\":\"error\",\"message\":\"LoRA adapter 'ghost' not "
         "found\",\"type\":\"NotFoundError\",\"param\":null,\"code\":404}"},
        {LORA_LOAD,
         "{\"lora_name\":\"a\",\"artifact_url\":\"https://me:x@h/a?sig=y\"}",
         {.status = 200, .message = "m", .version = "v", .digest = "d"},
         200,
         "application/json",
         "{\"status\":\"success\",\"message\":\"Successfully loaded adapter a from "
         "https://h/a\",\"local_path\":\"https://me:x@h/"
         "a?sig=y\",\"engine_response\":{\"message\":\"m\"},\"version\":\"v\",\"digest\":"
         "\"d\"}"},
        {LORA_LOAD,
         "{\"lora_name\":\"h1\",\"artifact_url\":\"/nope\"}",
         {.status = 404, .is_engines = true, .reason = "Permanent", .message = "LoRA path '/nope' not found"},
         404,
         "application/json",
         "{\"error\":\"Engine error: LoRA path '/nope' not found\",\"reason\":\"Permanent\",\"lora_name\":\"h1\"}"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct lora_request request;
        struct lora_answer answer;
        struct buffer detail = BUFFER_INIT;
        assert_int_equal(lora_request_parse(rows[i].verb, rows[i].body, strlen(rows[i].body), &request, &detail), 0);
        struct loader_result result = rows[i].result;
        result.path = request.source;
        result.version = result.version != NULL ? result.version : "";
        result.digest = result.digest != NULL ? result.digest : "";
        lora_answer_result(rows[i].verb, &request, &result, &answer);
        assert_int_equal(answer.status, rows[i].status);
        assert_string_equal(answer.body.data, rows[i].answer);
        if (rows[i].content_type == NULL) {
            assert_null(answer.content_type);
        } else {
            assert_string_equal(answer.content_type, rows[i].content_type);
        }
        lora_answer_release(&answer);
        lora_request_release(&request);
    }
}

/* What callers are told of their body, they know; whoever reads it later does not. */
static void test_refusals_show_no_secret(void **state) {
    (void)state;
    static const char *const bodies[] = {
        "{\"lora_name\":\"a\",\"artifact_url\":\"https://me:s3cret@h/a?sig=s3cret\",\"credentials\":[\"s3cret\"]}",
        "{\"lora_name\":\"a\",\"artifact_url\":\"/x\",\"credentials\":\"s3cret\"}",
        "{\"lora_name\":\"a\",\"artifact_url\":\"/x\",\"credentials\":{\"k\":[\"s3cret\"]}}",
        "{\"lora_name\":\"a\",\"artifact_url\":\"/x\",\"additional_config\":{\"k\":\"s3cret\"},\"more\":1}",
    };
    for (size_t i = 0; i < ARRAY_LEN(bodies); i++) {
        struct lora_request request;
        cleanup_buffer struct buffer detail = BUFFER_INIT;
        assert_int_equal(lora_request_parse(LORA_LOAD, bodies[i], strlen(bodies[i]), &request, &detail), -1);
        if (strstr(detail.data, "s3cret") != NULL) {
            fail_msg("%s", detail.data);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good_bodies),
        cmocka_unit_test(test_refusals_as_recorded),
        cmocka_unit_test(test_refusals_show_no_secret),
        cmocka_unit_test(test_other_refusals),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_secrets_are_not_repeated),
        cmocka_unit_test(test_answers_as_recorded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
