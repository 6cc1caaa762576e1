/* Google Cloud Storage: URLs, pages of a listing, what refusals mean; CRC-32C. */
#include "artifact/crc32c.h"
#include "artifact/gcs/api.h"
#include "base/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void test_crc32c(void **state) {
    (void)state;
    /* RFC 3720, B.4, and the usual check value. */
    unsigned char bytes[32];
    assert_int_equal(crc32c_update(0, "123456789", 9), 0xe3069283);
    memset(bytes, 0, sizeof(bytes));
    assert_int_equal(crc32c_update(0, bytes, sizeof(bytes)), 0x8a9136aa);
    memset(bytes, 0xff, sizeof(bytes));
    assert_int_equal(crc32c_update(0, bytes, sizeof(bytes)), 0x62a8ab43);
    for (size_t i = 0; i < sizeof(bytes); i++) {
        bytes[i] = (unsigned char)i;
    }
    assert_int_equal(crc32c_update(crc32c_update(0, bytes, 5), bytes + 5, 27), 0x46dd794e);
}

static void test_places(void **state) {
    (void)state;
    static const struct {
        const char *url;
        const char *bucket; /* NULL = refused */
        const char *prefix;
    } rows[] = {
        {"gs://models/sql", "models", "sql/"},
        {"gcs://models/a/sql/", "models", "a/sql/"},
        {"gs://models", "models", ""},
        {"gs://models/", "models", ""},
        {"gs://models/a/adapter_config.json", "models", "a/"},
        {"gs://models/adapter_model.safetensors", "models", ""},
        {"gs://models/a/adapter_model.bin", "models", "a/"},
        {"gs://models/my_adapter_config.json", "models", "my_adapter_config.json/"},
        {"gs://my.models_1-x/\xc3\xa4 b", "my.models_1-x", "\xc3\xa4 b/"},
        {"gs:///a", NULL, NULL},
        {"gs://ab/a", NULL, NULL},
        {"gs://Models/a", NULL, NULL},
        {"gs://mod els/a", NULL, NULL},
        {"gs://models?x/a", NULL, NULL},
        {"gs://models/a\n", NULL, NULL},
        {"s3://models/a", NULL, NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct gcs_place place;
        struct error err = {0};
        int result = gcs_place_parse(rows[i].url, &place, &err);
        if (result != (rows[i].bucket != NULL ? 0 : -1)) {
            fail_msg("%s: %d %s", rows[i].url, result, err.message);
        }
        if (result == 0) {
            assert_string_equal(place.bucket, rows[i].bucket);
            assert_string_equal(place.prefix, rows[i].prefix);
            gcs_place_release(&place);
        }
    }
}

static void test_urls(void **state) {
    (void)state;
    struct gcs_place place = {.bucket = (char *)"models", .prefix = (char *)"a&b/s q/"};
    cleanup_free char *service = gcs_endpoint(NULL);
    cleanup_free char *host = gcs_endpoint("127.0.0.1:4443");
    cleanup_free char *url = gcs_endpoint("https://127.0.0.1:4443/");
    assert_string_equal(service, "https://storage.googleapis.com");
    assert_string_equal(host, "http://127.0.0.1:4443");
    assert_string_equal(url, "https://127.0.0.1:4443");
    cleanup_free char *list = gcs_list_url(service, &place, "t=1/");
    assert_string_equal(
        list, "https://storage.googleapis.com/storage/v1/b/models/o?delimiter=%2F&maxResults=1000&prefix=a%26b%2Fs%20q%2F&"
              "fields=items(name,size,generation,md5Hash,crc32c,contentEncoding),nextPageToken&pageToken=t%3D1%2F");
    cleanup_free char *object = gcs_object_url(service, "models", "a/b?c#d", "17");
    assert_string_equal(object, "https://storage.googleapis.com/storage/v1/b/models/o/a%2Fb%3Fc%23d?alt=media&generation=17");
}

/* ---- pages ---- */

#define OBJECT(name, more) "{\"name\":\"a/" name "\",\"size\":\"9\",\"generation\":\"17\"" more "}"
#define MD5 ",\"md5Hash\":\"1B2M2Y8AsgTpgAmY7PhCfg==\",\"crc32c\":\"4waSgw==\""

/* "name bytes etag md5 crc32c key" of each file, then the next page's token; or "error: ..." */
static char *page_of(const char *text) {
    struct gcs_place place = {.bucket = (char *)"models", .prefix = (char *)"a/"};
    const struct source_filter filter = {0};
    struct artifact_listing listing = {0};
    struct error err = {0};
    struct buffer out = BUFFER_INIT;
    char *next = NULL;
    if (gcs_page_read(text, strlen(text), &place, &filter, &listing, &next, &err) < 0) {
        buffer_printf(&out, "error: %d %s", (int)err.code, err.message);
    }
    for (size_t i = 0; err.code == ERROR_NONE && i < listing.count; i++) {
        const struct artifact_file *file = &listing.files[i];
        buffer_printf(&out, "%s %lld %s %s %s %s\n", file->name, (long long)file->bytes, file->etag, file->md5, file->crc32c,
                      file->key);
    }
    buffer_printf(&out, "%s", next != NULL ? next : "");
    free(next);
    artifact_listing_release(&listing);
    return buffer_take(&out);
}

static void test_pages(void **state) {
    (void)state;
    static const struct {
        const char *text;
        const char *words;
    } rows[] = {
        {"{}", ""},
        {"{\"kind\":\"storage#objects\",\"items\":[" OBJECT("adapter_config.json", MD5) "," OBJECT("README.md", MD5) "," OBJECT(
             "adapter_model.safetensors", ",\"crc32c\":\"4waSgw==\"") "],\"nextPageToken\":\"n\"}",
         "adapter_config.json 9 17 d41d8cd98f00b204e9800998ecf8427e  a/adapter_config.json\n"
         "adapter_model.safetensors 9 17  e3069283 a/adapter_model.safetensors\nn"},
        /* What comes unpacked has neither the size nor the checksums of what is kept. */
        {"{\"items\":[" OBJECT("adapter_config.json", MD5 ",\"contentEncoding\":\"gzip\"") "]}",
         "adapter_config.json -1 17   a/adapter_config.json\n"},
        /* The folder itself, what lies elsewhere or deeper, and pickle. */
        {"{\"items\":[{\"name\":\"a/\"},{\"name\":\"adapter_config.json\"},{\"name\":\"b/adapter_config.json\"},{\"name\":\"a/x/"
         "adapter_config.json\"},{\"name\":\"a/../adapter_config.json\"}," OBJECT("adapter_model.bin", MD5) "]}",
         ""},
        {"{\"items\":[{\"name\":\"a/adapter_config.json\",\"generation\":\"1\"}]}",
         "error: 1 the listing of bucket models says no size or generation of a/adapter_config.json"},
        {"{\"items\":[{\"name\":\"a/adapter_config.json\",\"size\":\"-1\",\"generation\":\"1\"}]}",
         "error: 1 the listing of bucket models says no"},
        {"{\"items\":[{\"name\":\"a/adapter_config.json\",\"size\":\"1\",\"generation\":\"1&x\"}]}", "error: 1 the listing"},
        {"{\"items\":{}}", "error: 1 the listing of bucket models is none"},
        {"[]", "error: 1 the listing of bucket models is none"},
        {"<xml/>", "error: 1 the listing of bucket models: "},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        cleanup_free char *found = page_of(rows[i].text);
        bool is_error = strncmp(rows[i].words, "error: ", 7) == 0;
        bool is_right = is_error ? strncmp(found, rows[i].words, strlen(rows[i].words)) == 0 : strcmp(found, rows[i].words) == 0;
        if (!is_right) {
            fail_msg("%s: \"%s\", expected \"%s\"", rows[i].text, found, rows[i].words);
        }
    }
}

static void test_refusals(void **state) {
    (void)state;
    static const struct {
        int status;
        const char *text;
        const char *who;
        enum error_code code;
        const char *message;
    } rows[] = {
        {403, "{\"error\":{\"code\":403,\"message\":\"me does not have storage.objects.list access\",\"errors\":[]}}", "me",
         ERROR_DENIED, "gs://m/a/: HTTP 403 as me: me does not have storage.objects.list access"},
        {401, "{\"error\":{\"code\":401,\"message\":\"Anonymous caller\"}}", NULL, ERROR_UNAUTHORIZED,
         "gs://m/a/: HTTP 401 without credentials: Anonymous caller"},
        {404, "No such object: m/a\n", "me", ERROR_NOT_FOUND, "gs://m/a/: HTTP 404: No such object: m/a"},
        {503, "<html>busy</html>", "me", ERROR_UNAVAILABLE, "gs://m/a/: HTTP 503"},
        {429, "", NULL, ERROR_UNAVAILABLE, "gs://m/a/: HTTP 429"},
        {400, "two\nlines", NULL, ERROR_INVALID, "gs://m/a/: HTTP 400: two lines"},
        {301, "", NULL, ERROR_INVALID, "gs://m/a/: HTTP 301"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct error err = {0};
        gcs_explain(rows[i].status, rows[i].text, strlen(rows[i].text), "gs://m/a/", rows[i].who, &err);
        assert_int_equal(err.code, rows[i].code);
        assert_string_equal(err.message, rows[i].message);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_crc32c), cmocka_unit_test(test_places),   cmocka_unit_test(test_urls),
        cmocka_unit_test(test_pages),  cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests_name("gcs", tests, NULL, NULL);
}
