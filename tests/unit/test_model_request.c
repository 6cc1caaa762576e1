/* Bodies of /v1/model/download and /v1/model/list. */
#include "runtime/model_request.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static const struct model_defaults defaults = {.folder = "/models", .suffixes = "", .revision = ""};

static void test_what_is_asked_for(void **state) {
    (void)state;
    static const struct {
        const char *body;
        const char *name;
        const char *url;
        const char *source;
        const char *folder;
        const char *suffixes;
    } rows[] = {
        {"{\"model_uri\":\"org/base\"}", "org/base", "hf://org/base", "huggingface", "/models", ""},
        {"{\"model_uri\":\"org/base\",\"local_dir\":null,\"model_name\":null,\"download_extra_config\":null}", "org/base",
         "hf://org/base", "huggingface", "/models", ""},
        {"{\"model_uri\":\"hf://org/base@v1/sub/\"}", "org/base/sub", "hf://org/base@v1/sub/", "huggingface", "/models", ""},
        {"{\"model_uri\":\"hf://org/base@refs%2Fpr%2F1\"}", "org/base", "hf://org/base@refs%2Fpr%2F1", "huggingface", "/models",
         ""},
        {"{\"model_uri\":\"org/base-GGUF/x.gguf\"}", "org/base-GGUF", "hf://org/base-GGUF/", "huggingface", "/models", "/x.gguf"},
        {"{\"model_uri\":\"s3://bucket/models/x/\",\"local_dir\":\"/m//\"}", "x", "s3://bucket/models/x/", "s3", "/m", ""},
        {"{\"model_uri\":\"s3://bucket/x.gguf\"}", "x.gguf", "s3://bucket/", "s3", "/models", "/x.gguf"},
        {"{\"model_uri\":\"tos://bucket/x\",\"model_name\":\"a/b\"}", "a/b", "tos://bucket/x", "tos", "/models", ""},
        {"{\"model_uri\":\"gs://bucket/x\",\"local_dir\":\"/\"}", "x", "gs://bucket/x", "gcs", "/", ""},
        {"{\"model_uri\":\"https://h/a/x.gguf?sig=b/c\"}", "x.gguf", "https://h/a/?sig=b/c", "http", "/models", "/x.gguf"},
        {"{\"model_uri\":\"/mnt/x\"}", "x", "/mnt/x", "local", "/models", ""},
        {"{\"model_uri\":\"a/b\",\"download_extra_config\":{\"allow_file_suffix\":[\".json\",\"gguf\",\"\",7]}}", "a/b", "hf://a/b",
         "huggingface", "/models", ".json,gguf"},
        {"{\"model_uri\":\"a/b\",\"download_extra_config\":{\"allow_file_suffix\":\".json\"}}", "a/b", "hf://a/b", "huggingface",
         "/models", ".json"},
        {"{\"model_uri\":\"a/b/x.gguf\",\"download_extra_config\":{\"allow_file_suffix\":[\".json\"]}}", "a/b", "hf://a/b/",
         "huggingface", "/models", "/x.gguf,.json"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct model_request request;
        cleanup_buffer struct buffer refusal = BUFFER_INIT;
        if (model_request_parse(rows[i].body, strlen(rows[i].body), &defaults, &request, &refusal) < 0) {
            fail_msg("%s: %s", rows[i].body, refusal.data);
        }
        assert_string_equal(request.name, rows[i].name);
        assert_string_equal(request.url, rows[i].url);
        assert_string_equal(request.source, rows[i].source);
        assert_string_equal(request.folder, rows[i].folder);
        assert_string_equal(request.suffixes, rows[i].suffixes);
        assert_string_equal(request.revision, "");
        assert_false(request.is_forced);
        model_request_release(&request);
    }
}

static struct model_request parsed(const char *body, const struct model_defaults *all) {
    struct model_request request;
    cleanup_buffer struct buffer refusal = BUFFER_INIT;
    assert_int_equal(model_request_parse(body, strlen(body), all, &request, &refusal), 0);
    return request;
}

static const char *secret(const struct model_request *request, const char *key) {
    return artifact_secret(&request->secrets, (const char *const[]){key, NULL});
}

static void test_extra_config(void **state) {
    (void)state;
    struct model_request request = parsed(
        "{\"model_uri\":\"org/base\",\"download_extra_config\":{\"hf_token\":\"t\",\"hf_endpoint\":\"http://h\",\"ak\":\"a\","
        "\"sk\":\"s\",\"endpoint\":\"e\",\"region\":\"r\",\"hf_revision\":\"v1\",\"force_download\":true,\"num_threads\":4,"
        "\"max_io_queue\":1,\"io_chunksize\":1,\"part_threshold\":1,\"part_chunksize\":null}}",
        &defaults);
    assert_string_equal(request.revision, "v1");
    assert_true(request.is_forced);
    static const char *const rows[][2] = {{"huggingface_token", "t"}, {"hf_endpoint", "http://h"},    {"aws_access_key_id", "a"},
                                          {"tos_access_key", "a"},    {"aws_secret_access_key", "s"}, {"tos_secret_key", "s"},
                                          {"aws_endpoint_url", "e"},  {"tos_endpoint", "e"},          {"aws_region", "r"}};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        assert_string_equal(secret(&request, rows[i][0]), rows[i][1]);
    }
    model_request_release(&request);
}

static void test_defaults(void **state) {
    (void)state;
    static const struct model_defaults all = {.folder = "/d/", .suffixes = ".gguf", .revision = "v2"};
    static const struct {
        const char *body;
        const char *revision;
        const char *suffixes;
    } rows[] = {
        {"{\"model_uri\":\"a/b\"}", "v2", ".gguf"},
        {"{\"model_uri\":\"hf://a/b@v1\"}", "", ".gguf"}, /* it says so itself */
        {"{\"model_uri\":\"s3://a/b\"}", "", ".gguf"},
        {"{\"model_uri\":\"s3://a/b\",\"download_extra_config\":{\"hf_revision\":\"v3\"}}", "", ".gguf"},
        {"{\"model_uri\":\"a/b\",\"download_extra_config\":{\"hf_revision\":\"v3\",\"allow_file_suffix\":[\"x\"]}}", "v3", "x"},
        {"{\"model_uri\":\"a/b/x.safetensors\"}", "v2", "/x.safetensors"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct model_request request = parsed(rows[i].body, &all);
        assert_string_equal(request.folder, "/d");
        assert_string_equal(request.revision, rows[i].revision);
        assert_string_equal(request.suffixes, rows[i].suffixes);
        model_request_release(&request);
    }
}

static void test_refusals(void **state) {
    (void)state;
    static const struct {
        const char *body;
        const char *words;
    } rows[] = {
        {"", "json_invalid"},
        {"{}", "{\"detail\":[{\"type\":\"missing\",\"loc\":[\"body\",\"model_uri\"]"},
        {"{\"model_uri\":\"a/b\",\"more\":1}", "\"extra_forbidden\",\"loc\":[\"body\",\"more\"]"},
        {"{\"model_uri\":7}", "string_type"},
        {"{\"model_uri\":\"a/b\",\"download_extra_config\":\"s3cret\"}", "dict_type"},
        {"{\"model_uri\":\"\"}", "model_uri: expected org/repo, "},
        {"{\"model_uri\":\"ftp://x/y\"}", "model_uri: expected org/repo, "},
        {"{\"model_uri\":\"a/..\"}", "model_name: must match"},
        {"{\"model_uri\":\"a/b/c/d/e\"}", "model_name: must match"},
        {"{\"model_uri\":\"a/b\",\"model_name\":\"../x\"}", "model_name: must match"},
        {"{\"model_uri\":\"a/b\",\"model_name\":\".cache/davit\"}", "model_name: must match"},
        {"{\"model_uri\":\"a/b\",\"model_name\":\"a//b\"}", "model_name: must match"},
        {"{\"model_uri\":\"a/b\",\"model_name\":\"/a\"}", "model_name: must match"},
        {"{\"model_uri\":\"https://me:s3cret@h/..?s3cret\"}", "model_name: must match"},
        {"{\"model_uri\":\"a/b\",\"local_dir\":\"m\"}", "local_dir: expected an absolute path"},
        {"{\"model_uri\":\"a/b\",\"local_dir\":\"/m/..\"}", "local_dir: expected an absolute path"},
        {"{\"model_uri\":\"a/b\",\"local_dir\":\"/m/../x\"}", "local_dir: expected an absolute path"},
        {"{\"model_uri\":\"a/b\",\"download_extra_config\":{\"nope\":\"s3cret\"}}",
         "download_extra_config: \\\"nope\\\" is not known"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct model_request request;
        cleanup_buffer struct buffer refusal = BUFFER_INIT;
        assert_int_equal(model_request_parse(rows[i].body, strlen(rows[i].body), &defaults, &request, &refusal), -1);
        if (strstr(refusal.data, rows[i].words) == NULL || strstr(refusal.data, "s3cret") != NULL) {
            fail_msg("%s: %s", rows[i].body, refusal.data);
        }
        json_t *parsed_refusal = json_loads(refusal.data, 0, NULL);
        assert_non_null(parsed_refusal);
        json_decref(parsed_refusal);
    }
}

static void test_lists(void **state) {
    (void)state;
    static const struct {
        const char *body;
        const char *folder; /* NULL = refused */
    } rows[] = {{"", "/models"}, {"{\"local_dir\":\"/m/\"}", "/m"}, {"{}", NULL}, {"{\"local_dir\":\"m\"}", NULL}, {"x", NULL}};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        cleanup_free char *folder = NULL;
        cleanup_buffer struct buffer refusal = BUFFER_INIT;
        int result = model_list_parse(rows[i].body, strlen(rows[i].body), &defaults, &folder, &refusal);
        assert_int_equal(result, rows[i].folder != NULL ? 0 : -1);
        if (rows[i].folder != NULL) {
            assert_string_equal(folder, rows[i].folder);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_asked_for), cmocka_unit_test(test_extra_config), cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_refusals),          cmocka_unit_test(test_lists),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
