/* Signature Version 4 against Amazon's own examples: the test suite's GET requests, and those of S3's documentation. */
#include "artifact/s3/sigv4.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define SUITE_KEY "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
#define S3_KEY "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
#define S3_HOST "examplebucket.s3.amazonaws.com"

struct row {
    const char *name;
    const char *method;
    const char *path;
    const char *query;
    const char *payload_sha256; /* NULL = of nothing */
    struct sigv4_field fields[6];
    const char *signed_fields;
    const char *signature;
};

static void expect_signature(const struct row *row, const struct sigv4_scope *scope) {
    struct sigv4_request request = {
        .method = row->method,
        .path = row->path,
        .query = row->query,
        .payload_sha256 = row->payload_sha256 != NULL ? row->payload_sha256 : SIGV4_EMPTY_SHA256,
    };
    cleanup_buffer struct buffer found = BUFFER_INIT;
    while (row->fields[request.field_count].name != NULL) {
        request.fields[request.field_count] = row->fields[request.field_count];
        request.field_count++;
    }
    cleanup_free char *expected =
        xasprintf("AWS4-HMAC-SHA256 Credential=%s/%.8s/us-east-1/%s/aws4_request, SignedHeaders=%s, Signature=%s",
                  scope->access_key, scope->date, scope->service, row->signed_fields, row->signature);
    sigv4_authorization(&found, &request, scope);
    if (strcmp(buffer_text(&found), expected) != 0) {
        fail_msg("%s:\nexpected %s\nfound    %s", row->name, expected, buffer_text(&found));
    }
}

static void test_the_suite(void **state) {
    (void)state;
#define SUITE_FIELDS                                                                                                               \
    { {"host", "example.amazonaws.com"}, {"x-amz-date", "20150830T123600Z"}, }
    static const struct row rows[] = {
        {"get-vanilla", "GET", "/", "", NULL, SUITE_FIELDS, "host;x-amz-date",
         "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"},
        {"get-vanilla-query-order-key-case", "GET", "/", "Param2=value2&Param1=value1", NULL, SUITE_FIELDS, "host;x-amz-date",
         "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"},
        {"post-vanilla", "POST", "/", "", NULL, SUITE_FIELDS, "host;x-amz-date",
         "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"},
    };
    const struct sigv4_scope scope = {"AKIDEXAMPLE", SUITE_KEY, "us-east-1", "service", "20150830T123600Z"};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        expect_signature(&rows[i], &scope);
    }
}

/* "Authenticating Requests: Using the Authorization Header", Amazon S3 API Reference. */
static void test_s3s_documentation(void **state) {
    (void)state;
    static const struct row rows[] = {
        {"an object's beginning",
         "GET",
         "/test.txt",
         "",
         NULL,
         {{"x-amz-date", "20130524T000000Z"},
          {"range", "bytes=0-9"},
          {"x-amz-content-sha256", SIGV4_EMPTY_SHA256},
          {"host", S3_HOST}},
         "host;range;x-amz-content-sha256;x-amz-date",
         "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"},
        {"an object is put",
         "PUT",
         "/test%24file.text",
         "",
         "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072",
         {{"host", S3_HOST},
          {"date", "Fri, 24 May 2013 00:00:00 GMT"},
          {"x-amz-date", "20130524T000000Z"},
          {"x-amz-storage-class", "REDUCED_REDUNDANCY"},
          {"x-amz-content-sha256", "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072"}},
         "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
         "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"},
        {"a parameter without a value",
         "GET",
         "/",
         "lifecycle",
         NULL,
         {{"host", S3_HOST}, {"x-amz-content-sha256", SIGV4_EMPTY_SHA256}, {"x-amz-date", "20130524T000000Z"}},
         "host;x-amz-content-sha256;x-amz-date",
         "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"},
        {"a list",
         "GET",
         "/",
         "prefix=J&max-keys=2",
         NULL,
         {{"host", S3_HOST}, {"x-amz-content-sha256", SIGV4_EMPTY_SHA256}, {"x-amz-date", "20130524T000000Z"}},
         "host;x-amz-content-sha256;x-amz-date",
         "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"},
    };
    const struct sigv4_scope scope = {"AKIAIOSFODNN7EXAMPLE", S3_KEY, "us-east-1", "s3", "20130524T000000Z"};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        expect_signature(&rows[i], &scope);
    }
}

static void test_queries(void **state) {
    (void)state;
    static const char *const rows[][2] = {
        {"", ""},
        {"acl", "acl="},
        {"b=2&a=1", "a=1&b=2"},
        {"a=2&a=1&a", "a=&a=1&a=2"},
        {"aa=1&a=2", "a=2&aa=1"},
        {"a-b=1&a=1&a.b=1", "a=1&a-b=1&a.b=1"},
        {"p=a/b c&&q=%2fx%7E~", "p=a%2Fb%20c&q=%2Fx~~"},
        {"p=a+b", "p=a%2Bb"},
        {"p=%zz", "p=%25zz"},
        {"p=x=y", "p=x%3Dy"},
        {"k=\xc3\xa4", "k=%C3%A4"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        cleanup_buffer struct buffer found = BUFFER_INIT;
        sigv4_canonical_query(&found, rows[i][0]);
        assert_string_equal(buffer_text(&found), rows[i][1]);
    }
}

static void test_canonical_requests(void **state) {
    (void)state;
    struct sigv4_request request = {
        .method = "GET",
        .path = "/a//b/",
        .query = "",
        .fields = {{"x-amz-meta-a-b", "2"}, {"x-amz-meta-a", "  one   two  "}, {"host", "h:9000"}},
        .field_count = 3,
        .payload_sha256 = "UNSIGNED-PAYLOAD",
    };
    cleanup_buffer struct buffer found = BUFFER_INIT;
    sigv4_canonical_request(&found, &request);
    assert_string_equal(buffer_text(&found), "GET\n/a//b/\n\nhost:h:9000\nx-amz-meta-a:one two\nx-amz-meta-a-b:2\n\n"
                                             "host;x-amz-meta-a;x-amz-meta-a-b\nUNSIGNED-PAYLOAD");
}

static void test_paths_and_dates(void **state) {
    (void)state;
    char date[SIGV4_DATE_BYTES];
    cleanup_buffer struct buffer path = BUFFER_INIT;
    sigv4_append_path(&path, "/a b/c+d=e/\xc3\xa4~_.-/%41//");
    assert_string_equal(buffer_text(&path), "/a%20b/c%2Bd%3De/%C3%A4~_.-/%2541//");
    sigv4_date(1440938160123, date);
    assert_string_equal(date, "20150830T123600Z");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_suite),          cmocka_unit_test(test_s3s_documentation), cmocka_unit_test(test_queries),
        cmocka_unit_test(test_canonical_requests), cmocka_unit_test(test_paths_and_dates),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
