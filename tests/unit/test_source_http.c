/* Adapters on a web server: URLs, what a Secret may add, and what is asked of servers of all kinds. */
#include "artifact/web/headers.h"
#include "artifact/web/url.h"
#include "base/buffer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

/* ---- URLs ---- */

static void test_urls(void **state) {
    (void)state;
    static const struct {
        const char *text;
        const char *file; /* of adapter_config.json */
        const char *folder;
        const char *user_info;
    } rows[] = {
        {"https://h/a/sql", "https://h/a/sql/adapter_config.json", "https://h/a/sql/", NULL},
        {"https://h/a/sql/", "https://h/a/sql/adapter_config.json", "https://h/a/sql/", NULL},
        {"HTTP://h:8080", "HTTP://h:8080/adapter_config.json", "HTTP://h:8080/", NULL},
        {"http://[::1]:80/x", "http://[::1]:80/x/adapter_config.json", "http://[::1]:80/x/", NULL},
        {"https://h/a/adapter_config.json", "https://h/a/adapter_config.json", "https://h/a/", NULL},
        {"https://h/a/adapter_model.safetensors?sig=x%2Fy&se=1#part", "https://h/a/adapter_config.json?sig=x%2Fy&se=1",
         "https://h/a/", NULL},
        {"https://h/a/adapter_model.bin", "https://h/a/adapter_config.json", "https://h/a/", NULL},
        {"https://h/my_adapter_config.json", "https://h/my_adapter_config.json/adapter_config.json",
         "https://h/my_adapter_config.json/", NULL},
        {"https://h/a?sig=adapter_config.json", "https://h/a/adapter_config.json?sig=adapter_config.json", "https://h/a/", NULL},
        {"https://me:p%40ss@h/a", "https://h/a/adapter_config.json", "https://h/a/", "me:p@ss"},
        {"https://me:p@ss@h/a", "https://h/a/adapter_config.json", "https://h/a/", "me:p@ss"},
        {"https://h/a@b", "https://h/a@b/adapter_config.json", "https://h/a@b/", NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct source_http_url url;
        struct error err = {0};
        if (source_http_url_parse(rows[i].text, &url, &err) < 0) {
            fail_msg("%s: %s", rows[i].text, err.message);
        }
        cleanup_free char *file = source_http_url_file(&url, "adapter_config.json");
        assert_string_equal(file, rows[i].file);
        assert_string_equal(url.folder, rows[i].folder);
        assert_string_equal(url.user_info != NULL ? url.user_info : "-", rows[i].user_info != NULL ? rows[i].user_info : "-");
        source_http_url_release(&url);
    }
}

static void test_bad_urls(void **state) {
    (void)state;
    static const struct {
        const char *text;
        enum error_code code;
        const char *words;
    } rows[] = {
        {"ftp://h/a", ERROR_INVALID, "expected http://"},
        {"https://", ERROR_INVALID, "no host"},
        {"https:///a", ERROR_INVALID, "no host"},
        {"https://:80/a", ERROR_INVALID, "no host"},
        {"https://me:secret@/a", ERROR_INVALID, "no host"},
        {"https://h/a b", ERROR_INVALID, "byte 12 of the URL is 0x20"},
        {"https://h/a\r\nX: y", ERROR_INVALID, "0x0d"},
        {"https://h/\xc3\xa4", ERROR_INVALID, "percent-encoded"},
        {"https://me%0a:secret@h/a", ERROR_INVALID, "percent-encoded"},
        {"https://me%:secret@h/a", ERROR_INVALID, "percent-encoded"},
        {"https://h/a/sql.tar.gz?sig=secret", ERROR_UNSUPPORTED, "is an archive"},
        {"https://h/a/sql.zip", ERROR_UNSUPPORTED, "is an archive"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct source_http_url url;
        struct error err = {0};
        assert_int_equal(source_http_url_parse(rows[i].text, &url, &err), -1);
        assert_int_equal(err.code, rows[i].code);
        if (strstr(err.message, rows[i].words) == NULL || strstr(err.message, "secret") != NULL) {
            fail_msg("%s: %s", rows[i].text, err.message);
        }
    }
    cleanup_free char *digits = xmalloc(SOURCE_HTTP_URL_BYTES_MAX + 1);
    memset(digits, '1', SOURCE_HTTP_URL_BYTES_MAX);
    digits[SOURCE_HTTP_URL_BYTES_MAX] = '\0';
    cleanup_free char *text = xasprintf("https://h/%s", digits);
    struct source_http_url url;
    assert_int_equal(source_http_url_parse(text, &url, NULL), -1);
}

/* ---- what a Secret says ---- */

/* The fields, joined by " | ", or "error: ..." */
static char *fields_of(const struct artifact_secret *items, size_t count, const char *user_info) {
    struct artifact_secrets secrets = {.count = count};
    struct source_http_headers headers;
    struct error err = {0};
    struct buffer out = BUFFER_INIT;
    memcpy(secrets.items, items, count * sizeof(*items));
    if (source_http_headers_read(&secrets, user_info, &headers, &err) < 0) {
        assert_int_equal(err.code, ERROR_INVALID);
        buffer_printf(&out, "error: %s", err.message);
    }
    for (size_t i = 0; err.code == ERROR_NONE && i < headers.count; i++) {
        buffer_printf(&out, "%s%s", i > 0 ? " | " : "", headers.fields[i]);
    }
    source_http_headers_release(&headers);
    return buffer_take(&out);
}

static void test_secrets(void **state) {
    (void)state;
    static const struct {
        struct artifact_secret items[3];
        size_t count;
        const char *user_info;
        const char *words; /* as a whole; "error: ..." begins so */
    } rows[] = {
        {{{"token", "t0ken\n"}}, 1, NULL, "Authorization: Bearer t0ken"},
        {{{"Authorization", "Digest x"}}, 1, NULL, "Authorization: Digest x"},
        {{{"HTTP_AUTHORIZATION", "Bearer y"}, {"token", "z"}}, 2, NULL, "Authorization: Bearer y"},
        {{{"username", "me"}, {"password", "pass"}}, 2, NULL, "Authorization: Basic bWU6cGFzcw=="},
        {{{"username", "me"}}, 1, NULL, "Authorization: Basic bWU6"},
        {{{"huggingface_token", "hf_x"}}, 1, NULL, ""},
        {{{"other", "x"}}, 1, "me:pass", "Authorization: Basic bWU6cGFzcw=="},
        {{{"token", "t"}}, 1, "me:pass", "Authorization: Bearer t"},
        {{{"headers", "{\"X-Key\":\"k\",\"PRIVATE-TOKEN\":\"p\"}"}}, 1, NULL, "X-Key: k | PRIVATE-TOKEN: p"},
        {{{"headers", "{\"authorization\":\"Bearer h\"}"}}, 1, "me:pass", "authorization: Bearer h"},
        {{{"token", "t"}, {"headers", "{\"Authorization\":\"s3cret\"}"}},
         2,
         NULL,
         "error: \"token\" and \"headers\" both say Authorization"},
        {{{"token", "s3cret\nX: y"}}, 1, NULL, "error: \"token\": the value of Authorization holds a line break"},
        {{{"password", "s3cret"}}, 1, NULL, "error: \"username\": expected a name"},
        {{{"username", "s3cret:x"}, {"password", "p"}}, 2, NULL, "error: \"username\": expected a name without a colon"},
        {{{"headers", "s3cret"}}, 1, NULL, "error: \"headers\": expected a JSON object"},
        {{{"headers", "[\"s3cret\"]"}}, 1, NULL, "error: \"headers\": expected a JSON object"},
        {{{"headers", "{\"X\":\"s3cret\\r\\nY: z\"}"}}, 1, NULL, "error: \"headers\": the value of X holds a line break"},
        {{{"headers", "{\"X\":\"a\\u0000s3cret\"}"}}, 1, NULL, "error: \"headers\": the value of X: expected text"},
        {{{"headers", "{\"X\":17}"}}, 1, NULL, "error: \"headers\": the value of X: expected text"},
        {{{"headers", "{\"X y\":\"s3cret\"}"}}, 1, NULL, "error: \"headers\" holds a name that is no header field's"},
        {{{"headers", "{\"\":\"s3cret\"}"}}, 1, NULL, "error: \"headers\" holds a name that is no header field's"},
        {{{"headers", "{\"host\":\"evil\"}"}}, 1, NULL, "error: \"headers\": host may not be given"},
        {{{"headers", "{\"Content-Length\":\"5\"}"}}, 1, NULL, "error: \"headers\": Content-Length may not be given"},
        {{{"headers", "{\"RANGE\":\"bytes=0-\"}"}}, 1, NULL, "error: \"headers\": RANGE may not be given"},
        {{{"headers", "{\"Transfer-Encoding\":\"chunked\"}"}}, 1, NULL, "error: \"headers\": Transfer-Encoding may not be given"},
        {{{"headers", "{\"a\":\"\",\"b\":\"\",\"c\":\"\",\"d\":\"\",\"e\":\"\",\"f\":\"\",\"g\":\"\",\"h\":\"\",\"i\":\"\",\"j\":"
                      "\"\",\"k\":\"\","
                      "\"l\":\"\",\"m\":\"\"}"}},
         1,
         NULL,
         "error: \"headers\": expected"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        cleanup_free char *found = fields_of(rows[i].items, rows[i].count, rows[i].user_info);
        bool is_error = strncmp(rows[i].words, "error", 5) == 0;
        bool is_right = is_error ? strncmp(found, rows[i].words, strlen(rows[i].words)) == 0 : strcmp(found, rows[i].words) == 0;
        if (!is_right || (is_error && strstr(found, "s3cret") != NULL)) {
            fail_msg("row %zu: \"%s\", expected \"%s\"", i, found, rows[i].words);
        }
    }
    struct source_http_headers headers;
    assert_int_equal(source_http_headers_read(NULL, NULL, &headers, NULL), 0);
    assert_int_equal(headers.count, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_urls),
        cmocka_unit_test(test_bad_urls),
        cmocka_unit_test(test_secrets),
    };
    return cmocka_run_group_tests_name("source_http", tests, NULL, NULL);
}
