/* Dialects: the requests that are sent, and the exact answers recorded from vLLM 0.32, aibrix_runtime 0.8 and SGLang's sources. */
#include "dialect/dialect.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <string.h>

static void test_requests(void **state) {
    (void)state;
    json_t *secret = json_pack("{s:s}", "token", "t");
    struct dialect_load load = {.name = "sql", .path = "/a/sql", .artifact_url = "s3://b/sql", .credentials = secret};
    static const struct {
        enum dialect dialect;
        const char *load_path, *load_body, *unload_path, *unload_body;
    } cases[] = {
        {DIALECT_VLLM, "/v1/load_lora_adapter", "{\"lora_name\":\"sql\",\"lora_path\":\"/a/sql\"}", "/v1/unload_lora_adapter",
         "{\"lora_name\":\"sql\"}"},
        {DIALECT_SGLANG, "/load_lora_adapter", "{\"lora_name\":\"sql\",\"lora_path\":\"/a/sql\"}", "/unload_lora_adapter",
         "{\"lora_name\":\"sql\"}"},
        {DIALECT_SIDECAR, "/v1/lora_adapter/load",
         "{\"lora_name\":\"sql\",\"artifact_url\":\"s3://b/sql\",\"credentials\":{\"token\":\"t\"}}", "/v1/lora_adapter/unload",
         "{\"lora_name\":\"sql\",\"cleanup_local\":true}"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct dialect_request request;
        dialect_load(cases[i].dialect, &load, &request);
        assert_string_equal(request.method, "POST");
        assert_string_equal(request.path, cases[i].load_path);
        assert_string_equal(request.body, cases[i].load_body);
        dialect_request_release(&request);
        dialect_unload(cases[i].dialect, "sql", &request);
        assert_string_equal(request.path, cases[i].unload_path);
        assert_string_equal(request.body, cases[i].unload_body);
        dialect_request_release(&request);
        dialect_list(cases[i].dialect, &request);
        assert_string_equal(request.method, "GET");
        assert_string_equal(request.path, "/v1/models");
        dialect_request_release(&request);
    }
    json_decref(secret);
    static const struct {
        enum dialect dialect;
        const char *adapter, *model;
    } proofs[] = {{DIALECT_VLLM, "sql", "\"sql\""},
                  {DIALECT_VLLM, NULL, "\"base\""},
                  {DIALECT_SGLANG, "sql", "\"base:sql\""},
                  {DIALECT_SGLANG, NULL, "\"base\""}};
    for (size_t i = 0; i < ARRAY_LEN(proofs); i++) {
        struct dialect_request request;
        dialect_prove(proofs[i].dialect, "base", proofs[i].adapter, "p\"q", &request);
        cleanup_free char *start = xasprintf("{\"model\":%s,\"prompt\":\"p\\\"q\",\"max_tokens\":1,", proofs[i].model);
        assert_memory_equal(request.body, start, strlen(start));
        dialect_request_release(&request);
    }
}

#define V DIALECT_VLLM
#define S DIALECT_SIDECAR
#define G DIALECT_SGLANG

static const struct answer_case {
    enum dialect dialect;
    int status;
    const char *body;
    enum dialect_outcome outcome;
    const char *says; /* part of the message */
} load_cases[] = {
    {V, 200, "Success: LoRA adapter 'sql' added successfully.", DIALECT_DONE, ""},
    {S, 202, "{\"status\":\"downloading\",\"message\":\"downloading 41 % of 12.3 MB\",\"lora_name\":\"sql\"}", DIALECT_PENDING,
     "downloading 41 % of 12.3 MB"},
    {S, 202, "", DIALECT_PENDING, "downloading"},
    {V, 202, "", DIALECT_DONE, ""},
    {S, 412, "{\"error\":\"Failed to load adapter: other\",\"reason\":\"ArtifactChanged\"}", DIALECT_PERMANENT, "other"},
    {S, 503, "{\"error\":\"Failed to load adapter: busy\",\"reason\":\"ArtifactUnavailable\"}", DIALECT_FAILED, "busy"},
    {S, 401, "{\"error\":\"Failed to load adapter: key\",\"reason\":\"ArtifactUnauthorized\"}", DIALECT_UNAUTHORIZED, "key"},
    {S, 503, "{\"error\":\"x\",\"reason\":\"Busy\"}", DIALECT_UNREACHABLE, "x"},
    {V, 201, "", DIALECT_DONE, ""},
    {V, 400,
     "{\"error\":{\"message\":\"The lora adapter 'sql' has already been loaded. If you want to load the adapter in place, set "
     "'load_inplace' to True.\",\"type\":\"InvalidUserInput\",\"param\":null,\"code\":400}}",
     DIALECT_ALREADY_LOADED, "already been loaded"},
    {V, 400, "{\"object\":\"error\",\"message\":\"The lora adapter 'sql' has already beenloaded.\",\"code\":400}",
     DIALECT_ALREADY_LOADED, "already"},
    {V, 404,
     "{\"error\":{\"message\":\"Loading lora nope failed: No adapter found for "
     "/adapters/none\",\"type\":\"NotFoundError\",\"param\":null,\"code\":404}}",
     DIALECT_PERMANENT, "No adapter found"},
    {V, 500,
     "{\"error\":{\"message\":\"Call to add_lora method failed: Worker failed with error 'LoRA rank 64 is greater than "
     "max_lora_rank 16.', please check the stack trace above for the root "
     "cause\",\"type\":\"InternalServerError\",\"param\":null,\"code\":500}}",
     DIALECT_PERMANENT, "rank 64"},
    {V, 400,
     "{\"error\":{\"message\":\"LoRA rank 64 is greater than max_lora_rank 16.\",\"type\":\"BadRequestError\",\"code\":400}}",
     DIALECT_PERMANENT, "rank 64"},
    {V, 500,
     "{\"error\":{\"message\":\"Call to add_lora method failed: Worker failed with error 'vLLM does not yet support "
     "DoRA.'\",\"code\":500}}",
     DIALECT_PERMANENT, "DoRA"},
    {V, 500, "{\"error\":{\"message\":\"Worker failed with error 'Adapter bias is not supported.'\",\"code\":500}}",
     DIALECT_PERMANENT, "bias"},
    {V, 500,
     "{\"error\":{\"message\":\"Worker failed with error '/adapters-bad/noweights doesn't contain tensors'\",\"code\":500}}",
     DIALECT_PERMANENT, "tensors"},
    {V, 500,
     "{\"error\":{\"message\":\"Worker failed with error 'Error while deserializing header: incomplete metadata, file not fully "
     "covered'\",\"code\":500}}",
     DIALECT_PERMANENT, "header"},
    {V, 500, "{\"error\":{\"message\":\"Worker failed with error 'Missing required configuration fields: {'r'}'\",\"code\":500}}",
     DIALECT_PERMANENT, "{'r'}"},
    {V, 500, "{\"error\":{\"message\":\"CUDA out of memory\",\"code\":500}}", DIALECT_FAILED, "CUDA"},
    {V, 400,
     "{\"error\":{\"message\":\"The lora adapter 'smollm2' conflicts with a served base "
     "model.\",\"type\":\"InvalidUserInput\",\"code\":400}}",
     DIALECT_PERMANENT, "conflicts"},
    {V, 404, "{\"detail\":\"Not Found\"}", DIALECT_DISABLED, "Not Found"},
    {V, 405, "{\"detail\":\"Method Not Allowed\"}", DIALECT_DISABLED, ""},
    {V, 401, "{\"error\":\"Unauthorized\"}", DIALECT_UNAUTHORIZED, "Unauthorized"},
    {V, 429, "{\"error\":{\"message\":\"too many\"}}", DIALECT_BUSY, ""},
    {V, 503, "", DIALECT_UNREACHABLE, "503"},
    {V, 503, "{\"error\":{\"message\":\"engine busy\"}}", DIALECT_BUSY, "busy"},
    {V, 503, "{\"error\":{\"message\":\"256 adapters are resident, which is the limit (max_cpu_loras)\"}}", DIALECT_BUSY, "limit"},
    {V, 503, "{\"error\":{\"message\":\"64 adapter loads and unloads are waiting already\"}}", DIALECT_BUSY, "waiting"},
    {V, 502, "<html>Bad Gateway</html>", DIALECT_UNREACHABLE, "Bad Gateway"},
    {V, 0, "", DIALECT_UNREACHABLE, "no answer"},
    {V, 500, "", DIALECT_FAILED, "500"},
    {V, 500, "\xff\xfe\x01", DIALECT_FAILED, "\xef\xbf\xbd"},
    {S, 200, "{\"status\":\"success\",\"message\":\"Successfully loaded adapter N from URL\"}", DIALECT_DONE, ""},
    {S, 400,
     "{\"object\":\"error\",\"message\":\"Failed to load LoRA adapter 'sc1': {\\\"error\\\":{\\\"message\\\":\\\"The lora adapter "
     "'sc1' has already been loaded. If\\\"}}\",\"type\":\"ServerError\",\"param\":null,\"code\":400}",
     DIALECT_ALREADY_LOADED, "already"},
    {S, 404,
     "{\"object\":\"error\",\"message\":\"LoRA path '/nope' not found\",\"type\":\"NotFoundError\",\"param\":null,\"code\":404}",
     DIALECT_PERMANENT, "/nope"},
    {S, 500,
     "{\"object\":\"error\",\"message\":\"Unexpected error loading LoRA adapter "
     "'sc3'\",\"type\":\"ServerError\",\"param\":null,\"code\":500}",
     DIALECT_FAILED, "Unexpected"},
    {S, 422, "{\"detail\":[{\"type\":\"missing\",\"loc\":[\"body\"],\"msg\":\"Field required\",\"input\":{}}]}", DIALECT_PERMANENT,
     "Field required"},
    {S, 500, "{\"error\":\"Failed to load adapter: Unsupported URL scheme: ftp. Supported schemes: s3, gcs\"}", DIALECT_PERMANENT,
     "ftp"},
    {S, 500, "{\"error\":\"Artifact not found: HTTP resource not found: http://h/none\"}", DIALECT_PERMANENT, "Artifact"},
    {S, 501, "{\"error\":\"scheme s3 is not done yet\"}", DIALECT_PERMANENT, "s3"},
    {S, 409, "{\"error\":\"conflict\"}", DIALECT_ALREADY_LOADED, ""},
    {G, 200, "{\"success\":true,\"error_message\":null,\"loaded_adapters\":{}}", DIALECT_DONE, ""},
    {G, 400, "{\"success\":false,\"error_message\":\"LoRA with name sql already exists. Loaded LoRAs: dict_keys(['sql'])\"}",
     DIALECT_ALREADY_LOADED, "already exists"},
    {G, 200, "{\"success\":false,\"error_message\":\"LoRA with name sql already exists.\"}", DIALECT_ALREADY_LOADED,
     "already exists"},
    {G, 400, "{\"success\":false,\"error_message\":\"LoRA is not enabled. Please set `--enable-lora` to enable LoRA.\"}",
     DIALECT_DISABLED, "not enabled"},
    {G, 400, "{\"success\":false,\"error_message\":\"Didn't find any LoRA adapters when trying to evict LRU LoRA adapter.\"}",
     DIALECT_BUSY, "evict"},
    {G, 400, "{\"success\":false,\"error_message\":\"something else\"}", DIALECT_FAILED, "something"},
    {G, 500, "assertion", DIALECT_FAILED, "assertion"},
};

static const struct answer_case unload_cases[] = {
    {V, 200, "Success: LoRA adapter 'json' removed successfully.", DIALECT_DONE, ""},
    {V, 404, "{\"error\":{\"message\":\"The lora adapter 'ghost' cannot be found.\",\"type\":\"NotFoundError\",\"code\":404}}",
     DIALECT_NOT_LOADED, "ghost"},
    {V, 400, "{\"object\":\"error\",\"message\":\"The lora adapter 'ghost' cannot be found.\",\"type\":\"InvalidUserInput\"}",
     DIALECT_NOT_LOADED, ""},
    {V, 404, "{\"detail\":\"Not Found\"}", DIALECT_DISABLED, ""},
    {V, 500, "{\"error\":{\"message\":\"Failed to remove lora adapter 'x' from the engine.\"}}", DIALECT_FAILED, "remove"},
    {V, 401, "{\"error\":\"Unauthorized\"}", DIALECT_UNAUTHORIZED, ""},
    {V, 400, "{\"error\":{\"message\":\"?\"}}", DIALECT_FAILED, "?"},
    {V, 0, "", DIALECT_UNREACHABLE, ""},
    {S, 200, "{\"status\":\"success\",\"message\":\"Successfully unloaded adapter ghost\"}", DIALECT_DONE, ""},
    {S, 404, "{\"object\":\"error\",\"message\":\"LoRA adapter 'ghost' not found\",\"type\":\"NotFoundError\"}", DIALECT_NOT_LOADED,
     ""},
    {G, 400, "{\"success\":false,\"error_message\":\"LoRA with name x does not exist. Loaded LoRAs: \"}", DIALECT_NOT_LOADED, ""},
};

static void check_cases(const struct answer_case *cases, size_t count,
                        void (*classify)(enum dialect, int, const char *, size_t, struct dialect_answer *)) {
    for (size_t i = 0; i < count; i++) {
        struct dialect_answer answer;
        classify(cases[i].dialect, cases[i].status, cases[i].body, strlen(cases[i].body), &answer);
        if (answer.outcome != cases[i].outcome || strstr(answer.message, cases[i].says) == NULL) {
            fail_msg("%d %s: expected %s, got %s \"%s\"", cases[i].status, cases[i].body, dialect_outcome_name(cases[i].outcome),
                     dialect_outcome_name(answer.outcome), answer.message);
        }
        assert_true((answer.outcome == DIALECT_DONE) == (answer.message[0] == '\0'));
    }
}

static void test_load_answers(void **state) {
    (void)state;
    check_cases(load_cases, ARRAY_LEN(load_cases), dialect_classify_load);
}

static void test_sidecar_is_told_what_is_wanted(void **state) {
    (void)state;
    struct dialect_load load = {.name = "sql",
                                .path = "/a",
                                .artifact_url = "hf://o/r",
                                .revision = "0123456789abcdef",
                                .source_revision = "main",
                                .digest = "",
                                .version = "c0ffee\r\nX-Other: 1",
                                .wait_s = 5};
    struct dialect_request request;
    dialect_load(DIALECT_SIDECAR, &load, &request);
    assert_string_equal(request.body, "{\"lora_name\":\"sql\",\"artifact_url\":\"hf://o/r\"}");
    assert_string_equal(request.fields[0], "X-Davit-Revision: 0123456789abcdef");
    assert_string_equal(request.fields[1], "X-Davit-Source-Revision: main");
    assert_string_equal(request.fields[2], "Prefer: wait=5");
    assert_null(request.fields[3]);
    dialect_request_release(&request);
    load.digest = "d";
    load.version = "c0ffee";
    dialect_load(DIALECT_SIDECAR, &load, &request);
    assert_string_equal(request.fields[2], "X-Davit-Digest: d");
    assert_string_equal(request.fields[3], "X-Davit-Version: c0ffee");
    assert_string_equal(request.fields[DIALECT_FIELDS_MAX - 1], "Prefer: wait=5");
    dialect_request_release(&request);
    dialect_load(DIALECT_VLLM, &load, &request);
    assert_null(request.fields[0]);
    dialect_request_release(&request);
}

static void test_sidecar_says_why_and_what(void **state) {
    (void)state;
    static const struct {
        enum dialect dialect;
        int status;
        const char *body, *reason, *version;
    } cases[] = {
        {S, 404, "{\"error\":\"x\",\"reason\":\"ArtifactNotFound\"}", "ArtifactNotFound", ""},
        {S, 403, "{\"error\":\"x\",\"reason\":\"ArtifactForbidden\"}", "ArtifactForbidden", ""},
        {S, 403, "{\"error\":\"x\",\"reason\":\"Whatever\"}", "EngineUnauthorized", ""},
        {V, 404, "{\"error\":\"x\",\"reason\":\"ArtifactNotFound\"}", "AdapterRefused", ""},
        {S, 202, "", "Downloading", ""},
        {S, 200, "{\"status\":\"success\",\"version\":\"c0ffee\"}", "Loaded", "c0ffee"},
        {S, 200, "{\"status\":\"success\",\"version\":\"c0\\nffee\"}", "Loaded", ""},
        {S, 200, "{\"status\":\"success\",\"version\":7}", "Loaded", ""},
        {V, 200, "{\"version\":\"c0ffee\"}", "Loaded", ""},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct dialect_answer answer;
        dialect_classify_load(cases[i].dialect, cases[i].status, cases[i].body, strlen(cases[i].body), &answer);
        assert_string_equal(answer.reason, cases[i].reason);
        assert_string_equal(answer.version, cases[i].version);
    }
}

static void test_unload_answers(void **state) {
    (void)state;
    check_cases(unload_cases, ARRAY_LEN(unload_cases), dialect_classify_unload);
}

static void test_long_message_is_cut_between_characters(void **state) {
    (void)state;
    char body[4000];
    memset(body, 'a', sizeof(body));
    for (size_t i = 1; i + 1 < sizeof(body); i += 2) {
        memcpy(body + i, "\xc3\xa9", 2);
    }
    for (size_t room = 2; room < 40; room++) {
        char message[64];
        dialect_error_message(body, sizeof(body) - 1, message, room);
        json_t *text = json_string(message); /* NULL when it is not UTF-8 */
        assert_non_null(text);
        json_decref(text);
    }
}

static void test_models(void **state) {
    (void)state;
    static const char body[] =
        "{\"object\":\"list\",\"data\":[{\"id\":\"smollm2\",\"root\":\"/models/smollm2\",\"parent\":null,\"max_model_len\":1024},"
        "{\"id\":\"sql\",\"root\":\"/adapters/sql\",\"parent\":\"smollm2\",\"max_model_len\":null},"
        "{\"id\":\"alias\",\"max_model_len\":1024},{\"id\":\"rust\"}]}";
    struct dialect_models models;
    struct error err = {0};
    assert_int_equal(dialect_parse_models(body, strlen(body), &models, &err), 0);
    assert_int_equal(models.count, 4);
    assert_null(models.items[0].parent);
    assert_string_equal(models.items[1].parent, "smollm2");
    assert_string_equal(models.items[1].root, "/adapters/sql");
    assert_null(models.items[2].parent);
    assert_string_equal(models.items[3].parent, "");
    assert_string_equal(models.items[3].root, "");
    dialect_models_release(&models);
    static const char *const bad[] = {"", "[]", "{}", "{\"data\":{}}", "{\"data\":[{}]}", "{\"data\":[{\"id\":1}]}", "nonsense"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_int_equal(dialect_parse_models(bad[i], strlen(bad[i]), &models, &err), -1);
    }
}

#define COMPLETION(model, logprobs)                                                                                                \
    "{\"model\":\"" model "\",\"choices\":[{\"index\":0,\"text\":\"-\",\"logprobs\":" logprobs                                     \
    "}],\"usage\":{\"completion_tokens\":1}}"

static void test_proofs(void **state) {
    (void)state;
    static const char a[] =
        COMPLETION("sql", "{\"token_logprobs\":[-0.8],\"tokens\":[\"-\"],\"top_logprobs\":[{\"-\":-0.8,\",\":-2.4}]}");
    static const char same[] = COMPLETION("base", "{\"tokens\":[\"-\"],\"top_logprobs\":[{\",\":-2.4,\"-\":-0.8000000001}]}");
    static const char other[] = COMPLETION("base", "{\"tokens\":[\"-\"],\"top_logprobs\":[{\"-\":-0.8001,\",\":-2.4}]}");
    static const char tokens[] = COMPLETION("base", "{\"tokens\":[\"-\"],\"top_logprobs\":[{\"-\":-0.8,\"x\":-2.4}]}");
    static const char none[] = COMPLETION("base", "null");
    static const struct {
        const char *body;
        bool differs;
    } cases[] = {{same, false}, {other, true}, {tokens, true}, {none, false}};
    struct dialect_proof first;
    struct error err = {0};
    assert_int_equal(dialect_parse_proof(a, strlen(a), &first, &err), 0);
    assert_string_equal(first.model, "sql");
    assert_int_equal(first.logprob_count, 2);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct dialect_proof second;
        assert_int_equal(dialect_parse_proof(cases[i].body, strlen(cases[i].body), &second, &err), 0);
        assert_int_equal(dialect_proofs_differ(&first, &second), cases[i].differs);
    }
    static const char *const bad[] = {"", "{}", "{\"choices\":[]}", "{\"choices\":[{\"text\":\"\"}]}",
                                      "{\"error\":{\"message\":\"x\"}}"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_int_equal(dialect_parse_proof(bad[i], strlen(bad[i]), &first, &err), -1);
    }
}

#define GAUGE(running, waiting, time)                                                                                              \
    "vllm:lora_requests_info{max_lora=\"4\",running_lora_adapters=\"" running "\",waiting_lora_adapters=\"" waiting "\"} " time "\n"

static void test_gauges(void **state) {
    (void)state;
    static const struct {
        const char *page, *named, *not_named;
    } cases[] = {
        {GAUGE("", "", "1.795446468935398e+09"), NULL, "sql"},
        {GAUGE("sql", "sql", "1.795446468935398e+09"), "sql", "sq"},
        {GAUGE("a,sql,b", "c", "1.8e+09"), "sql", "ql"},
        {GAUGE("a,sql,b", "c", "1.8e+09"), "c", "d"},
        {GAUGE("a", "b", "1"), "b", "a,,b"},
        /* the newest of those that ever were, wherever it stands */
        {"# HELP vllm:lora_requests_info Running.\n" GAUGE("", "", "1.795446468935398e+09")
             GAUGE("sql", "sql", "1.795446462207859e+09") GAUGE("pirate", "pirate", "1.7954464677790713e+09"),
         NULL, "pirate"},
        {GAUGE("sql", "", "1.3e+09") GAUGE("", "", "1.2e+09") "other 1\n", "sql", "x"},
        /* as others may write it */
        {"vllm:lora_requests_info{waiting_lora_adapters=\"b\", running_lora_adapters=\"a\\\"x\",} 5 1795446468935\r\n", "a\"x",
         "a"},
        {"vllm:num_requests_running{engine=\"0\"} 1.0\n" GAUGE("a", "", "5"), "a", "b"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct dialect_gauge gauge;
        assert_true(dialect_read_gauge(cases[i].page, strlen(cases[i].page), &gauge));
        assert_true(cases[i].named == NULL || dialect_gauge_names(&gauge, cases[i].named));
        assert_false(dialect_gauge_names(&gauge, cases[i].not_named));
        assert_false(dialect_gauge_names(&gauge, ""));
        dialect_gauge_release(&gauge);
    }
}

static char *copy_of(const char *bytes, size_t len) {
    char *copy = xmalloc(len + 1);
    memcpy(copy, bytes, len);
    return xrealloc(copy, len > 0 ? len : 1); /* what is read behind its end is seen by the sanitizer */
}

/* A page that does not say what is in flight is not taken for one that says that nothing is. */
static void test_gauges_that_say_nothing(void **state) {
    (void)state;
    static const char *const pages[] = {
        "",
        "\n\n",
        "sglang:num_running_reqs{model_name=\"base\"} 0.0\n",
        "vllm:lora_requests_info_more{running_lora_adapters=\"\",waiting_lora_adapters=\"\"} 1.0\n",
        "vllm:lora_requests_info 1.0\n",
        "vllm:lora_requests_info{max_lora=\"4\"} 1.0\n",
        "vllm:lora_requests_info{running_lora_adapters=\"\"} 1.0\n",
        "vllm:lora_requests_info{running_lora_adapters=\"\",waiting_lora_adapters=\"\"}\n",
        "vllm:lora_requests_info{running_lora_adapters=\"\",waiting_lora_adapters=\"\"} 1.0", /* cut: of 1.09e9? */
        "vllm:lora_requests_info{running_lora_adapters=\"\",waiting_lora_adapters=\"",
        "vllm:lora_requests_info{running_lora_adapters=\"a\\",
        "vllm:lora_requests_info{{{{=\"\"} 1\n",
        "vllm:lora_requests_info{,} 1\n",
        GAUGE("", "", "NaN"),
        GAUGE("", "", "+Inf"),
        GAUGE("", "", "-1"),
        GAUGE("", "", "1x"),
        GAUGE("", "", "3.59e+09"), /* two processes' times, added up */
        GAUGE("", "", "1.2e+09") GAUGE("sql", "", "soon"),
        GAUGE("", "", "1.2e+09") GAUGE("sql", "", "1.2e+09"),
        "vllm:num_requests_running{engine=\"0\"} 0.0\nvllm:num_requests_running{engine=\"1\"} 1.0\n" GAUGE("", "", "1.2e+09"),
    };
    for (size_t i = 0; i < ARRAY_LEN(pages); i++) {
        struct dialect_gauge gauge;
        char *page = copy_of(pages[i], strlen(pages[i]));
        assert_false(dialect_read_gauge(page, strlen(pages[i]), &gauge));
        free(page);
    }
    struct dialect_gauge gauge;
    cleanup_free char *many = xmalloc(100001);
    memset(many, 'a', 100000);
    many[100000] = '\0';
    cleanup_free char *page =
        xasprintf("vllm:lora_requests_info{running_lora_adapters=\"%s\",waiting_lora_adapters=\"\"} 1\n", many);
    assert_false(dialect_read_gauge(page, strlen(page), &gauge));
    page[30] = '\0';
    assert_false(dialect_read_gauge(page, 100050, &gauge));
}

/* Every page that is cut says nothing, or what the whole one says. */
static void test_gauges_that_are_cut(void **state) {
    (void)state;
    static const char whole[] = GAUGE("sql", "sql", "1.7e+09") GAUGE("a\\\\b", "json", "1.8e+09") GAUGE("", "", "1.6e+09");
    for (size_t len = 0; len < sizeof(whole); len++) {
        struct dialect_gauge gauge;
        char *page = copy_of(whole, len);
        if (dialect_read_gauge(page, len, &gauge)) {
            assert_true(dialect_gauge_names(&gauge, "sql") != dialect_gauge_names(&gauge, "json"));
            dialect_gauge_release(&gauge);
        }
        free(page);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_requests),
        cmocka_unit_test(test_load_answers),
        cmocka_unit_test(test_sidecar_is_told_what_is_wanted),
        cmocka_unit_test(test_sidecar_says_why_and_what),
        cmocka_unit_test(test_unload_answers),
        cmocka_unit_test(test_long_message_is_cut_between_characters),
        cmocka_unit_test(test_models),
        cmocka_unit_test(test_proofs),
        cmocka_unit_test(test_gauges),
        cmocka_unit_test(test_gauges_that_say_nothing),
        cmocka_unit_test(test_gauges_that_are_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
