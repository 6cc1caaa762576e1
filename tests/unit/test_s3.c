/* s3:// and tos://: places, servers, targets, what is answered, what refusals mean. */
#include "artifact/s3/api.h"
#include "artifact/s3/explain.h"
#include "artifact/s3/regions.h"
#include "artifact/s3/xml.h"
#include "artifact/xml.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void test_places(void **state) {
    (void)state;
    static const struct {
        const char *url;
        const char *bucket; /* NULL = refused */
        const char *prefix;
    } rows[] = {
        {"s3://models/sql", "models", "sql/"},
        {"s3://models/a/sql/", "models", "a/sql/"},
        {"s3://models", "models", ""},
        {"s3://models/", "models", ""},
        {"s3://models//a", "models", "/a/"},
        {"s3://models/a/adapter_config.json", "models", "a/"},
        {"s3://models/adapter_model.safetensors", "models", ""},
        {"s3://models/my_adapter_config.json", "models", "my_adapter_config.json/"},
        {"s3://My.models_1-x/\xc3\xa4 b?c#d%20", "My.models_1-x", "\xc3\xa4 b?c#d%20/"},
        {"s3://models/..a/.b", "models", "..a/.b/"},
        {"tos://models/a", "models", "a/"},
        {"s3:///a", NULL, NULL},
        {"s3://.models/a", NULL, NULL},
        {"s3://mod els/a", NULL, NULL},
        {"s3://models?x/a", NULL, NULL},
        {"s3://user@models/a", NULL, NULL},
        {"s3://models:80/a", NULL, NULL},
        {"s3://models/../a", NULL, NULL},
        {"s3://models/a/.", NULL, NULL},
        {"s3://models/a\n", NULL, NULL},
        {"gs://models/a", NULL, NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct s3_place place;
        struct error err = {0};
        int result = s3_place_parse(rows[i].url, &place, &err);
        if (result != (rows[i].bucket != NULL ? 0 : -1)) {
            fail_msg("%s: %d %s", rows[i].url, result, err.message);
        }
        if (result == 0) {
            assert_string_equal(place.bucket, rows[i].bucket);
            assert_string_equal(place.prefix, rows[i].prefix);
            s3_place_release(&place);
        }
    }
}

/* ---- servers and targets ---- */

static int without_environment(void **state) {
    static const char *const names[] = {
        "AWS_ENDPOINT_URL_S3",     "AWS_ENDPOINT_URL", "AWS_REGION", "AWS_DEFAULT_REGION",
        "AWS_S3_ADDRESSING_STYLE", "TOS_ENDPOINT",     "TOS_REGION", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        assert_int_equal(unsetenv(names[i]), 0);
    }
    return 0;
}

static struct artifact_secrets secrets_of(const char *const *pairs) {
    struct artifact_secrets secrets = {0};
    for (; *pairs != NULL; pairs += 2) {
        secrets.items[secrets.count++] = (struct artifact_secret){pairs[0], pairs[1]};
    }
    return secrets;
}

static void test_targets(void **state) {
    (void)state;
    static const struct {
        bool is_tos;
        const char *secrets[7];
        const char *bucket;
        const char *key;
        const char *url;
        const char *host;
    } rows[] = {
        {false, {NULL}, "models", NULL, "https://models.s3.us-east-1.amazonaws.com/", "models.s3.us-east-1.amazonaws.com"},
        {false,
         {"aws_region", "eu-west-1"},
         "models",
         "a b/c+d",
         "https://models.s3.eu-west-1.amazonaws.com/a%20b/c%2Bd",
         "models.s3.eu-west-1.amazonaws.com"},
        {false,
         {"region", "cn-north-1"},
         "models",
         "k",
         "https://models.s3.cn-north-1.amazonaws.com.cn/k",
         "models.s3.cn-north-1.amazonaws.com.cn"},
        {false, {NULL}, "my.models", "k", "https://s3.us-east-1.amazonaws.com/my.models/k", "s3.us-east-1.amazonaws.com"},
        {false, {NULL}, "My_models", "k", "https://s3.us-east-1.amazonaws.com/My_models/k", "s3.us-east-1.amazonaws.com"},
        {false, {"endpoint", "http://minio:9000/"}, "models", "k", "http://minio:9000/models/k", "minio:9000"},
        {false, {"AWS_ENDPOINT_URL", "https://Minio:443/base//"}, "models", NULL, "https://minio/base/models", "minio"},
        {false, {"endpoint", "minio"}, "models", "k", "https://minio/models/k", "minio"},
        {false,
         {"endpoint", "http://minio:80", "addressing_style", "virtual"},
         "models",
         NULL,
         "http://models.minio/",
         "models.minio"},
        {false, {"endpoint", "http://[::1]:9000"}, "models", "k", "http://[::1]:9000/models/k", "[::1]:9000"},
        {true, {NULL}, "models", "k", "https://models.tos-s3-cn-beijing.volces.com/k", "models.tos-s3-cn-beijing.volces.com"},
        {true,
         {"tos_endpoint", "tos-cn-shanghai.volces.com"},
         "models",
         "k",
         "https://models.tos-s3-cn-shanghai.volces.com/k",
         "models.tos-s3-cn-shanghai.volces.com"},
        {true, {"endpoint", "http://127.0.0.1:9000"}, "models", "k", "http://127.0.0.1:9000/models/k", "127.0.0.1:9000"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct artifact_secrets secrets = secrets_of(rows[i].secrets);
        struct s3_server server;
        struct s3_target target;
        struct error err = {0};
        if (s3_server_find(rows[i].is_tos, &secrets, NULL, &server, &err) < 0) {
            fail_msg("%s: %s", rows[i].url, err.message);
        }
        s3_target_init(&server, rows[i].bucket, server.region, rows[i].key, &target);
        cleanup_free char *url = xasprintf("%s%s", target.origin, target.path);
        assert_string_equal(url, rows[i].url);
        assert_string_equal(target.host, rows[i].host);
        s3_target_release(&target);
        s3_server_release(&server);
    }
}

static void test_regions_of_servers(void **state) {
    (void)state;
    static const char *const shanghai[] = {"endpoint", "https://tos-cn-shanghai.volces.com", NULL};
    static const char *const bad[] = {"aws_region", "a.b", NULL};
    struct artifact_secrets secrets = secrets_of(shanghai);
    struct s3_server server;
    struct error err = {0};
    assert_int_equal(s3_server_find(true, &secrets, NULL, &server, &err), 0);
    assert_string_equal(server.region, "cn-shanghai");
    assert_true(server.is_adapters);
    s3_server_release(&server);
    assert_int_equal(setenv("AWS_ENDPOINT_URL", "http://a", 1), 0);
    assert_int_equal(setenv("AWS_ENDPOINT_URL_S3", "http://b", 1), 0);
    assert_int_equal(s3_server_find(false, NULL, NULL, &server, &err), 0);
    assert_string_equal(server.origin, "http://b");
    assert_false(server.is_adapters);
    s3_server_release(&server);
    assert_int_equal(setenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true", 1), 0);
    assert_int_equal(s3_server_find(false, NULL, NULL, &server, &err), 0);
    assert_null(server.origin);
    s3_server_release(&server);
    secrets = secrets_of(bad);
    assert_int_equal(s3_server_find(false, &secrets, NULL, &server, &err), -1);
    assert_non_null(strstr(err.message, "aws_region"));
}

static void test_regions_are_remembered(void **state) {
    (void)state;
    s3_region_learn("", "models", "eu-west-1");
    s3_region_learn("http://minio", "models", "eu-west-2");
    s3_region_learn("", "models", "eu-west-3");
    cleanup_free char *amazons = s3_region_known("", "models");
    cleanup_free char *others = s3_region_known("http://minio", "models");
    assert_string_equal(amazons, "eu-west-3");
    assert_string_equal(others, "eu-west-2");
    for (int i = 0; i < 2 * S3_REGIONS_MAX; i++) {
        cleanup_free char *bucket = xasprintf("b%d", i);
        s3_region_learn("", bucket, "x");
    }
    assert_null(s3_region_known("", "models"));
}

static void test_requests(void **state) {
    (void)state;
    struct s3_target target = {.origin = (char *)"http://h:9000", .host = (char *)"h:9000", .path = (char *)"/b"};
    struct aws_keys keys = {.access_key = (char *)"AK", .secret_key = (char *)"s3cret", .session_token = (char *)"t0ken"};
    struct artifact_request request;
    cleanup_free char *query = s3_list_query("a+b/", "t=1");
    assert_string_equal(query,
                        "continuation-token=t%3D1&delimiter=%2F&encoding-type=url&list-type=2&max-keys=1000&prefix=a%2Bb%2F");
    s3_request_init("GET", &target, query, "r", &keys, 0, &request);
    cleanup_free char *url = xasprintf("http://h:9000/b?%s", query);
    assert_string_equal(request.url, url);
    assert_true(request.is_redirect_final);
    assert_int_equal(request.header_count, 0); /* all that tells somebody is for the origin only */
    assert_int_equal(request.secret_header_count, 5);
    assert_non_null(strstr(request.secret_headers[4], "AWS4-HMAC-SHA256 Credential=AK/19700101/r/s3/aws4_request, SignedHeaders="
                                                      "host;x-amz-checksum-mode;x-amz-content-sha256;x-amz-date;"
                                                      "x-amz-security-token, Signature="));
    for (size_t i = 0; i < request.secret_header_count; i++) {
        assert_null(strstr(request.secret_headers[i], "s3cret"));
    }
    artifact_request_release(&request);
    s3_request_init("GET", &target, "", "r", &(struct aws_keys){0}, 0, &request);
    assert_int_equal(request.secret_header_count, 0);
    artifact_request_release(&request);
}

/* ---- answers ---- */

struct seen {
    struct buffer text;
};

static int see(void *arg, const struct s3_object *object, struct error *err) {
    struct seen *seen = arg;
    (void)err;
    buffer_printf(&seen->text, "%s %llu %s\n", object->key, (unsigned long long)object->bytes, object->etag);
    return 0;
}

#define OBJECT(key, size) "<Contents><Key>" key "</Key><Size>" size "</Size><ETag>&quot;e&quot;</ETag></Contents>"
#define LIST(inner) "<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">" inner "</ListBucketResult>"

static void test_pages(void **state) {
    (void)state;
    static const struct {
        const char *text;
        const char *seen; /* NULL = refused */
        const char *next;
    } rows[] = {
        {LIST(""), "", NULL},
        {LIST("<EncodingType>url</EncodingType>" OBJECT("a+b%2Bc%20d", "7")), "a b+c d 7 \"e\"\n", NULL},
        {LIST(OBJECT("a%2Bb", "7") "<EncodingType>url</EncodingType>"), "a+b 7 \"e\"\n", NULL},
        {LIST(OBJECT("a+b%2B&amp;", "18446744073")), "a+b%2B& 18446744073 \"e\"\n", NULL},
        {LIST("<IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>"), "", "t"},
        {LIST("<IsTruncated>false</IsTruncated><NextContinuationToken>t</NextContinuationToken>"), "", NULL},
        {LIST("<Contents><Size>1</Size><Key>a</Key><Owner><ID>x</ID></Owner></Contents>"), "a 1 \n", NULL},
        {"<s3:ListBucketResult "
         "xmlns:s3=\"x\"><s3:Contents><s3:Key>k</s3:Key><s3:Size>1</s3:Size></s3:Contents></s3:ListBucketResult>",
         "k 1 \n", NULL},
        {LIST("<IsTruncated>true</IsTruncated>"), NULL, NULL},
        {LIST("<EncodingType>url</EncodingType>" OBJECT("a%zz", "7")), NULL, NULL},
        {LIST("<EncodingType>url</EncodingType>" OBJECT("a%00", "7")), NULL, NULL},
        {LIST(OBJECT("a", "-1")), NULL, NULL},
        {LIST(OBJECT("a", "99999999999999999999")), NULL, NULL},
        {LIST("<Contents><Key>a</Key></Contents>"), NULL, NULL},
        {LIST("<Contents>"), NULL, NULL},
        {"<Other/>", NULL, NULL},
        {"", NULL, NULL},
        {"<!DOCTYPE a [<!ENTITY b 'c'>]>" LIST("&b;"), NULL, NULL},
        {"<a><a><a><a><a><a><a><a><a><a><a><a><a></a></a></a></a></a></a></a></a></a></a></a></a></a>", NULL, NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct seen seen = {0};
        struct s3_page page = {0};
        struct error err = {0};
        int result = s3_xml_page(rows[i].text, strlen(rows[i].text), see, &seen, &page, &err);
        if (result != (rows[i].seen != NULL ? 0 : -1) || (result < 0 && err.message[0] == '\0')) {
            fail_msg("%s: %d %s", rows[i].text, result, err.message);
        }
        if (result == 0) {
            assert_string_equal(buffer_text(&seen.text), rows[i].seen);
            assert_int_equal(page.next != NULL, rows[i].next != NULL);
        }
        s3_page_release(&page);
        buffer_release(&seen.text);
    }
}

static void test_texts_are_bounded(void **state) {
    (void)state;
    cleanup_buffer struct buffer text = BUFFER_INIT;
    struct s3_refusal refusal;
    const struct xml_reader reader = {0};
    struct error err = {0};
    buffer_append_text(&text, "<Error><Message>");
    for (int i = 0; i < 20000; i++) {
        buffer_append_char(&text, 'x');
    }
    buffer_append_text(&text, "</Message></Error>");
    assert_int_equal(xml_walk(text.data, text.len, &reader, &err), -1);
    assert_int_equal(err.code, ERROR_LIMIT);
    s3_xml_refusal(text.data, text.len, &refusal);
    assert_string_equal(refusal.message, "");
}

static void test_refusals(void **state) {
    (void)state;
    static const struct {
        int status;
        const char *text;
        bool is_listing;
        enum error_code code;
        const char *words;
    } rows[] = {
        {404, "<Error><Code>NoSuchBucket</Code></Error>", true, ERROR_NOT_FOUND, "no such bucket"},
        {404, "", false, ERROR_NOT_FOUND, "no such object"},
        {404, "", true, ERROR_NOT_FOUND, "no such bucket"},
        {403, "<Error><Code>AccessDenied</Code><Message>Access\nDenied</Message></Error>", true, ERROR_DENIED, ": Access?Denied"},
        {403, "", false, ERROR_DENIED, "with the keys of profile x"},
        {403, "<Error><Code>SignatureDoesNotMatch</Code></Error>", true, ERROR_UNAUTHORIZED, "does not belong"},
        {403, "<Error><Code>RequestTimeTooSkewed</Code></Error>", true, ERROR_UNAUTHORIZED, "clock"},
        {400, "<Error><Code>ExpiredToken</Code></Error>", true, ERROR_UNAUTHORIZED, "expired"},
        {400, "<Error><Code>RequestTimeout</Code></Error>", true, ERROR_UNAVAILABLE, "RequestTimeout"},
        {400, "<Error><Code>Odd</Code></Error>", true, ERROR_INVALID, "HTTP 400 Odd"},
        {301, "<Error><Code>PermanentRedirect</Code></Error>", true, ERROR_INVALID, "elsewhere"},
        {412, "", false, ERROR_CONFLICT, "changed while it was read"},
        {503, "<html>", true, ERROR_UNAVAILABLE, "HTTP 503"},
        {403, "<Error><Code>AccessDenied</Code><Message>s3cret is no good</Message></Error>", true, ERROR_DENIED, "s3:GetObject"},
        {400, "<Error><Code>InvalidToken</Code><Message>no: t0ken</Message></Error>", true, ERROR_UNAUTHORIZED, "session token"},
    };
    const struct aws_keys keys = {.access_key = (char *)"AK", .secret_key = (char *)"s3cret", .session_token = (char *)"t0ken"};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct s3_refusal refusal;
        struct error err = {0};
        const struct s3_question question = {"s3://b/k", "profile x", &keys, rows[i].is_listing};
        s3_xml_refusal(rows[i].text, strlen(rows[i].text), &refusal);
        assert_int_equal(s3_explain(rows[i].status, &refusal, &question, &err), -1);
        if (err.code != rows[i].code || strstr(err.message, rows[i].words) == NULL || strstr(err.message, "s3://b/k") == NULL ||
            strstr(err.message, "s3cret") != NULL || strstr(err.message, "t0ken") != NULL) {
            fail_msg("%d %s: %d %s", rows[i].status, rows[i].text, (int)err.code, err.message);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_places),
        cmocka_unit_test_setup(test_targets, without_environment),
        cmocka_unit_test_setup_teardown(test_regions_of_servers, without_environment, without_environment),
        cmocka_unit_test(test_regions_are_remembered),
        cmocka_unit_test(test_requests),
        cmocka_unit_test(test_pages),
        cmocka_unit_test(test_texts_are_bounded),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
