/* The HTTP codec: what it reads, and above all what it refuses. */
#include "io_support.h"

#define ROW(status, text)                                                                                                          \
    { status, text, sizeof(text) - 1, __LINE__ }

struct row {
    int status; /* 200: whole; 0: more is needed; else refused with this */
    const char *text;
    size_t len;
    int line;
};

static void check_row(const struct row *row, enum http_step step, const struct error *err) {
    int found = step == HTTP_STEP_DONE ? 200 : step == HTTP_STEP_AGAIN ? 0 : err->http_status;
    if (found != row->status) {
        fail_msg("row at line %d: expected %d, found %d (%s)", row->line, row->status, found,
                 step == HTTP_STEP_FAILED ? err->message : "");
    }
}

static void test_requests(void **state) {
    (void)state;
    static const struct row rows[] = {
        ROW(200, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        ROW(200, "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        ROW(200, "GET / HTTP/1.0\r\n\r\n"),
        ROW(200, "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"),
        ROW(200, "GET http://a/b?c HTTP/1.1\r\nHost: a\r\n\r\n"),
        ROW(200, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc"),
        ROW(200, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:  Chunked \r\n\r\n"),
        ROW(0, ""),
        ROW(0, "\r"),
        ROW(0, "\r\n"),
        ROW(0, "G"),
        ROW(0, "GET / HTTP/1.1\r\nHost: a\r\n"),
        /* lines that programs split differently */
        ROW(400, "GET / HTTP/1.1\nHost: a\n\n"),
        ROW(400, "GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n"),
        ROW(400, "GET / HTTP/1.1\r\nHost: a\r\nX: b\rY: c\r\n\r\n"),
        ROW(400, "GET / HTTP/1.1\r\nHost: a\r\nX: b\0c\r\n\r\n"),
        ROW(400, "GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n"),
        ROW(400, "GET / HTTP/1.1\r\n Host: a\r\n\r\n"),
        ROW(400, "GET / HTTP/1.1\r\nHost : a\r\n\r\n"),
        ROW(400, "GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n"),
        ROW(400, "GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n"),
        ROW(400, "GET / HTTP/1.1\r\nHost: a\r\nX\x01: b\r\n\r\n"),
        ROW(400, "GET / HTTP/1.1\r\nHost: a\r\nX: \x7f\r\n\r\n"),
        ROW(400, "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        /* lengths that programs read differently */
        ROW(400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ROW(400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n"),
        ROW(400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 3\r\n\r\n"),
        ROW(400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\n"),
        ROW(400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -3\r\n\r\n"),
        ROW(400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x3\r\n\r\n"),
        ROW(400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3 \t 4\r\n\r\n"),
        ROW(400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: \r\n\r\n"),
        ROW(400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n"),
        ROW(400, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n"),
        ROW(400, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"),
        ROW(400, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ROW(400, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0b"
                 "chunked\r\n\r\n"),
        ROW(400, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \"chunked\"\r\n\r\n"),
        ROW(400, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n\r\n"),
        ROW(400, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n"),
        ROW(400, "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ROW(501, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n"),
        ROW(501, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n"),
        /* hosts, versions, targets */
        ROW(400, "GET / HTTP/1.1\r\n\r\n"),
        ROW(400, "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"),
        ROW(505, "GET / HTTP/2.0\r\nHost: a\r\n\r\n"),
        ROW(505, "GET / HTTP/1.2\r\nHost: a\r\n\r\n"),
        ROW(400, "GET / http/1.1\r\nHost: a\r\n\r\n"),
        ROW(400, "GET / HTTP/1.1 \r\nHost: a\r\n\r\n"),
        ROW(400, "GET  / HTTP/1.1\r\nHost: a\r\n\r\n"),
        ROW(400, "GET /\tHTTP/1.1\r\nHost: a\r\n\r\n"),
        ROW(400, "GET /\r\n\r\n"),
        ROW(400, "GET a HTTP/1.1\r\nHost: a\r\n\r\n"),
        ROW(400, "GET * HTTP/1.1\r\nHost: a\r\n\r\n"),
        ROW(400, "CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n"),
        ROW(400, "GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n"),
        ROW(400, "GET /\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n"),
        ROW(400, "GET /a%2Fb HTTP/1.1\r\nHost: a\r\n\r\n"),
        ROW(400, "GET /a%00b HTTP/1.1\r\nHost: a\r\n\r\n"),
        ROW(400, "GET /a%0ab HTTP/1.1\r\nHost: a\r\n\r\n"),
        ROW(400, "GET /a%2 HTTP/1.1\r\nHost: a\r\n\r\n"),
        ROW(400, "GET /a%zz HTTP/1.1\r\nHost: a\r\n\r\n"),
        ROW(400, "GET /a/../b HTTP/1.1\r\nHost: a\r\n\r\n"),
        ROW(400, "GET /a/%2e%2e HTTP/1.1\r\nHost: a\r\n\r\n"),
        ROW(400, "GET /./a HTTP/1.1\r\nHost: a\r\n\r\n"),
        ROW(400, "\x16\x03\x01\x02"),
        ROW(501, "ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFGHIJ / HTTP/1.1\r\nHost: a\r\n\r\n"),
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct http_head head;
        struct error err = {0};
        size_t used = 0;
        enum http_step step = http_parse_request(rows[i].text, rows[i].len, &head, &used, &err);
        check_row(&rows[i], step, &err);
        if (step == HTTP_STEP_DONE) {
            http_head_release(&head);
        }
    }
}

static void test_responses(void **state) {
    (void)state;
    static const struct row rows[] = {
        ROW(200, "HTTP/1.1 200 OK\r\n\r\n"),
        ROW(200, "HTTP/1.1 200\r\n\r\n"),
        ROW(200, "HTTP/1.0 404 Not here \xc3\xa9\r\n\r\n"),
        ROW(200, "HTTP/1.1 100 Continue\r\n\r\n"),
        ROW(0, "HTTP/1.1 200 OK\r\n"),
        ROW(400, "HTTP/1.1 200 OK\n\n"),
        ROW(400, "HTTP/1.1 20 OK\r\n\r\n"),
        ROW(400, "HTTP/1.1 099 OK\r\n\r\n"),
        ROW(400, "HTTP/1.1 2000\r\n\r\n"),
        ROW(400, "HTTP/1.1  200 OK\r\n\r\n"),
        ROW(505, "HTTP/2.0 200 OK\r\n\r\n"),
        ROW(400, "ICY 200 OK\r\n\r\n"),
        ROW(400, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ROW(400, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"),
        ROW(400, "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n"),
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct http_head head;
        struct error err = {0};
        size_t used = 0;
        enum http_step step = http_parse_response(rows[i].text, rows[i].len, false, &head, &used, &err);
        check_row(&rows[i], step, &err);
        if (step == HTTP_STEP_DONE) {
            http_head_release(&head);
        }
    }
}

static void parse(const char *text, struct http_head *head) {
    struct error err = {0};
    size_t used = 0;
    assert_int_equal(http_parse_request(text, strlen(text), head, &used, &err), HTTP_STEP_DONE);
    assert_int_equal(used, strlen(text));
}

static void test_what_a_head_says(void **state) {
    (void)state;
    struct http_head head;
    parse("POST /v1/a%20b?x=1&y HTTP/1.1\r\nHost: a\r\nX-One:  two  \r\nx-one: three\r\nContent-Length: 12\r\nExpect: "
          "100-continue\r\n\r\n",
          &head);
    assert_string_equal(head.method, "POST");
    assert_string_equal(head.target, "/v1/a%20b?x=1&y");
    assert_string_equal(head.path, "/v1/a b");
    assert_string_equal(head.query, "x=1&y");
    assert_string_equal(http_fields_get(&head.fields, "X-ONE"), "two");
    assert_null(http_fields_get(&head.fields, "X-On"));
    assert_true(head.keep_alive && head.expects_continue && !head.is_http_1_0);
    assert_int_equal(head.body_kind, HTTP_BODY_LENGTH);
    assert_int_equal(head.body_length, 12);
    http_head_release(&head);

    parse("GET http://a?q HTTP/1.1\r\nHost: a\r\nConnection: foo, Close\r\n\r\n", &head);
    assert_string_equal(head.target, "/?q");
    assert_string_equal(head.path, "/");
    assert_false(head.keep_alive);
    assert_int_equal(head.body_kind, HTTP_BODY_NONE);
    http_head_release(&head);

    parse("GET /a..b/...?%00 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", &head);
    assert_string_equal(head.path, "/a..b/...");
    assert_true(head.is_http_1_0 && head.keep_alive);
    http_head_release(&head);
}

static void test_bodies_of_responses(void **state) {
    (void)state;
    static const struct {
        const char *text;
        bool to_head;
        enum http_body_kind kind;
        bool keep_alive;
    } rows[] = {
        {"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", false, HTTP_BODY_LENGTH, true},
        {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", true, HTTP_BODY_NONE, true},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", false, HTTP_BODY_CHUNKED, true},
        {"HTTP/1.1 200 OK\r\n\r\n", false, HTTP_BODY_UNTIL_CLOSE, false},
        {"HTTP/1.1 204 No Content\r\n\r\n", false, HTTP_BODY_NONE, true},
        {"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", false, HTTP_BODY_NONE, true},
        {"HTTP/1.1 103 Early Hints\r\n\r\n", false, HTTP_BODY_NONE, true},
        {"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n", false, HTTP_BODY_LENGTH, false},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct http_head head;
        struct error err = {0};
        size_t used = 0;
        assert_int_equal(http_parse_response(rows[i].text, strlen(rows[i].text), rows[i].to_head, &head, &used, &err),
                         HTTP_STEP_DONE);
        assert_int_equal(head.body_kind, rows[i].kind);
        assert_int_equal(head.keep_alive, rows[i].keep_alive);
        http_head_release(&head);
    }
}

static void test_every_split_of_a_head(void **state) {
    (void)state;
    static const char text[] = "\r\nPOST /a HTTP/1.1\r\nHost: a\r\nX: y\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (size_t len = 0; len < sizeof(text); len++) {
        /* An exact copy, so that a sanitizer sees a read past the end. */
        cleanup_free char *exact = xmalloc(len);
        memcpy(exact, text, len);
        struct http_head head;
        struct error err = {0};
        size_t used = 0;
        bool is_whole = len >= sizeof(text) - 1;
        assert_int_equal(http_parse_request(exact, len, &head, &used, &err), is_whole ? HTTP_STEP_DONE : HTTP_STEP_AGAIN);
        if (is_whole) {
            http_head_release(&head);
        }
    }
}

static int status_of(const struct buffer *text) {
    struct http_head head;
    struct error err = {0};
    size_t used = 0;
    enum http_step step = http_parse_request(text->data, text->len, &head, &used, &err);
    if (step == HTTP_STEP_DONE) {
        http_head_release(&head);
    }
    return step == HTTP_STEP_FAILED ? err.http_status : step == HTTP_STEP_DONE ? 200 : 0;
}

static void append_repeated(struct buffer *out, const char *text, size_t count) {
    for (size_t i = 0; i < count; i++) {
        buffer_append_text(out, text);
    }
}

static void test_limits_of_a_head(void **state) {
    (void)state;
    cleanup_buffer struct buffer text = BUFFER_INIT;
    buffer_append_text(&text, "GET /");
    append_repeated(&text, "a", HTTP_TARGET_BYTES_MAX + 100);
    assert_int_equal(status_of(&text), 414); /* before its end is seen */
    buffer_append_text(&text, " HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_int_equal(status_of(&text), 414);

    buffer_clear(&text);
    buffer_append_text(&text, "GET / HTTP/1.1\r\nHost: a\r\n");
    append_repeated(&text, "X: y\r\n", HTTP_FIELDS_MAX);
    buffer_append_text(&text, "\r\n");
    assert_int_equal(status_of(&text), 431);

    buffer_clear(&text);
    buffer_append_text(&text, "GET / HTTP/1.1\r\nHost: a\r\nX: ");
    append_repeated(&text, "y", HTTP_HEAD_BYTES_MAX);
    assert_int_equal(status_of(&text), 431);
    buffer_append_text(&text, "\r\n\r\n");
    assert_int_equal(status_of(&text), 431);
}

/* ---- bodies ---- */

/* Decodes as it would arrive in two parts; -1 failed, 0 cut, 1 whole. */
static int decode_in_two(const char *text, size_t len, size_t split, struct buffer *out, size_t *ret_used) {
    struct http_head head = {.body_kind = HTTP_BODY_CHUNKED};
    struct http_body_decoder decoder;
    http_body_decoder_init(&decoder, &head);
    const size_t ends[] = {split, len};
    size_t at = 0;
    for (size_t part = 0; part < 2; part++) {
        for (;;) {
            struct error err = {0};
            const char *piece = NULL;
            size_t piece_len = 0;
            size_t used = 0;
            cleanup_free char *exact = xmalloc(ends[part] - at);
            memcpy(exact, text + at, ends[part] - at);
            enum http_step step = http_body_decode(&decoder, exact, ends[part] - at, &piece, &piece_len, &used, &err);
            if (step == HTTP_STEP_FAILED) {
                return -1;
            }
            buffer_append(out, piece, piece_len);
            at += used;
            *ret_used = at;
            if (step == HTTP_STEP_DONE) {
                assert_true(http_body_may_end_here(&decoder));
                return 1;
            }
            assert_false(http_body_may_end_here(&decoder));
            if (used == 0) {
                break;
            }
        }
    }
    return 0;
}

static void test_chunked_in_every_split(void **state) {
    (void)state;
    static const char text[] =
        "5\r\nhello\r\n00A;x=\"y\"\r\n, world\r\n!\r\n1\r\n.\r\n0;last\r\nTrailer: dropped\r\nB: c\r\n\r\nGET";
    size_t len = sizeof(text) - 1;
    for (size_t split = 0; split <= len; split++) {
        cleanup_buffer struct buffer out = BUFFER_INIT;
        size_t used = 0;
        assert_int_equal(decode_in_two(text, len, split, &out, &used), 1);
        assert_string_equal(buffer_text(&out), "hello, world\r\n!.");
        assert_int_equal(used, len - 3); /* the next request is left alone */
    }
}

static void test_chunked_refused_in_every_split(void **state) {
    (void)state;
    static const char *const rows[] = {
        "\r\n",
        "g\r\n",
        " 5\r\nhello\r\n",
        "5 \r\nhello\r\n",
        "5\nhello\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "-5\r\nhello\r\n",
        "0x5\r\nhello\r\n",
        "+5\r\nhello\r\n",
        ";x\r\n",
        "5;\x01\r\nhello\r\n",
        "5;a\nb\r\nhello\r\n",
        "FFFFFFFFFFFFFFFFF\r\n",
        "8000000000000000\r\n",
        "0\r\n\n",
        "0\r\nA: b\n\r\n",
        "0\r\nA\rB\r\n\r\n",
        "5\r\r\nhello\r\n",
        "0\r\n\rX",
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        size_t len = strlen(rows[i]);
        for (size_t split = 0; split <= len; split++) {
            cleanup_buffer struct buffer out = BUFFER_INIT;
            size_t used = 0;
            if (decode_in_two(rows[i], len, split, &out, &used) != -1) {
                fail_msg("row %zu was accepted", i);
            }
        }
    }
}

static void test_limits_of_chunks(void **state) {
    (void)state;
    static const char *const starts[] = {"5;", "0\r\nA: ", "0000"};
    for (size_t i = 0; i < ARRAY_LEN(starts); i++) {
        cleanup_buffer struct buffer text = BUFFER_INIT;
        cleanup_buffer struct buffer out = BUFFER_INIT;
        size_t used = 0;
        buffer_append_text(&text, starts[i]);
        append_repeated(&text, "0", 64 * 1024);
        assert_int_equal(decode_in_two(text.data, text.len, 10, &out, &used), -1);
    }
}

static void test_other_bodies(void **state) {
    (void)state;
    struct http_head head = {.body_kind = HTTP_BODY_LENGTH, .body_length = 3};
    struct http_body_decoder decoder;
    const char *piece = NULL;
    size_t piece_len = 0;
    size_t used = 0;
    struct error err;
    http_body_decoder_init(&decoder, &head);
    assert_int_equal(http_body_decode(&decoder, "ab", 2, &piece, &piece_len, &used, &err), HTTP_STEP_AGAIN);
    assert_int_equal(piece_len, 2);
    assert_false(http_body_may_end_here(&decoder));
    assert_int_equal(http_body_decode(&decoder, "cd", 2, &piece, &piece_len, &used, &err), HTTP_STEP_DONE);
    assert_int_equal(used, 1);
    assert_true(http_body_may_end_here(&decoder));
    head = (struct http_head){.body_kind = HTTP_BODY_UNTIL_CLOSE};
    http_body_decoder_init(&decoder, &head);
    assert_int_equal(http_body_decode(&decoder, "ab", 2, &piece, &piece_len, &used, &err), HTTP_STEP_AGAIN);
    assert_int_equal(piece_len, 2);
    assert_true(http_body_may_end_here(&decoder));
    head = (struct http_head){.body_kind = HTTP_BODY_NONE};
    http_body_decoder_init(&decoder, &head);
    assert_int_equal(http_body_decode(&decoder, "ab", 2, &piece, &piece_len, &used, &err), HTTP_STEP_DONE);
    assert_int_equal(used, 0);
}

/* ---- the rest ---- */

static void test_queries(void **state) {
    (void)state;
    static const struct {
        const char *query;
        const char *name;
        const char *value;
    } rows[] = {
        {"a=1&b=2", "b", "2"},       {"a=1", "b", NULL},    {"", "a", NULL},         {"a", "a", ""},         {"a=&b", "a", ""},
        {"a=x%20y+z", "a", "x y z"}, {"%61=1", "a", "1"},   {"a=%zz%", "a", "%zz%"}, {"aa=1&a=2", "a", "2"}, {"a=1&a=2", "a", "1"},
        {"a=b=c", "a", "b=c"},       {"a=%00", "a", "%00"}, {"&&a=1&", "a", "1"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        cleanup_free char *value = http_query_get(rows[i].query, rows[i].name);
        if (rows[i].value == NULL) {
            assert_null(value);
        } else {
            assert_non_null(value);
            assert_string_equal(value, rows[i].value);
        }
    }
}

static void test_percent_encoding(void **state) {
    (void)state;
    cleanup_buffer struct buffer out = BUFFER_INIT;
    http_append_percent_encoded(&out, "aZ09-._~ /?=\xc3\xa9%");
    assert_string_equal(buffer_text(&out), "aZ09-._~%20%2F%3F%3D%C3%A9%25");
}

static void test_fields(void **state) {
    (void)state;
    struct http_fields fields = {0};
    struct error err;
    assert_int_equal(http_fields_add(&fields, "A", "b", &err), 0);
    assert_int_equal(http_fields_add(&fields, "A", "b\r\nC: d", &err), -1);
    assert_int_equal(err.code, ERROR_INVALID);
    assert_int_equal(http_fields_add(&fields, "A\n", "b", &err), -1);
    while (fields.count < HTTP_FIELDS_MAX) {
        assert_int_equal(http_fields_add(&fields, "A", "b", &err), 0);
    }
    assert_int_equal(http_fields_add(&fields, "A", "b", &err), -1);
    assert_int_equal(err.code, ERROR_LIMIT);
    http_fields_release(&fields);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_requests),
        cmocka_unit_test(test_responses),
        cmocka_unit_test(test_what_a_head_says),
        cmocka_unit_test(test_bodies_of_responses),
        cmocka_unit_test(test_every_split_of_a_head),
        cmocka_unit_test(test_limits_of_a_head),
        cmocka_unit_test(test_chunked_in_every_split),
        cmocka_unit_test(test_chunked_refused_in_every_split),
        cmocka_unit_test(test_limits_of_chunks),
        cmocka_unit_test(test_other_bodies),
        cmocka_unit_test(test_queries),
        cmocka_unit_test(test_percent_encoding),
        cmocka_unit_test(test_fields),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
