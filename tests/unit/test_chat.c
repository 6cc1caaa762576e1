/* The pure parts of `davit chat` and `davit get`: events out of a stream however it is cut, questions, answers, the matrix. */
#include "cli/adapter_matrix.h"
#include "cli/chat_answer.h"
#include "cli/printable.h"
#include "cli/sse.h"
#include "cli/table.h"

#include "adapter/names.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* ---- server-sent events ---- */

/* Feeds a piece and writes "type|data;" for each event. */
static void feed(struct sse_decoder *decoder, const char *bytes, size_t len, struct buffer *seen) {
    struct sse_event event = {0};
    struct error err = {0};
    enum sse_step step = SSE_STEP_AGAIN;
    size_t used = 0;
    /* A copy of its own, so that a sanitizer sees a read past its end. */
    char *piece = xmalloc(len + 1);
    memcpy(piece, bytes, len);
    piece = xrealloc(piece, len > 0 ? len : 1);
    for (size_t at = 0; (step = sse_decoder_read(decoder, piece + at, len - at, &used, &event, &err)) == SSE_STEP_EVENT;
         at += used) {
        assert_int_equal(strlen(event.data), event.data_len);
        buffer_printf(seen, "%s|%s;", event.type, event.data);
    }
    assert_int_equal(step, SSE_STEP_AGAIN);
    free(piece);
}

static const struct {
    const char *stream;
    const char *events;
} streams[] = {
    {"data: one\n\n", "|one;"},
    {"data: one\r\n\r\ndata: two\r\n\r\n", "|one;|two;"},
    {"data: one\r\rdata: two\r\r", "|one;|two;"},
    {"data: one\n\r\ndata: two\r\n\n", "|one;|two;"},
    {": ping\n\ndata: one\n: in between\ndata: two\n\n: end\n\n", "|one\ntwo;"},
    {"\xEF\xBB\xBF"
     "data: after a byte order mark\n\n",
     "|after a byte order mark;"},
    {"event: error\ndata: x\n\ndata: y\n\n", "error|x;|y;"},
    {"event: nothing\n\ndata: y\n\n", "|y;"},
    {"id: 7\nretry: 10\ndata:no space\ndata:  two spaces\n\n", "|no space\n two spaces;"},
    {"data\n\ndata:\n\n", "|;|;"},
    {"data: a:b: c\n\ndatum: x\n\n", "|a:b: c;"},
    {"\n\n\ndata: one\n\n\n\ndata: cut", "|one;"},
    {"data: whole line, no blank one\n", ""},
    {"", ""},
};

static void test_events_in_every_split(void **state) {
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(streams); i++) {
        size_t len = strlen(streams[i].stream);
        for (size_t first = 0; first <= len; first++) {
            for (size_t second = first; second <= len; second++) {
                struct sse_decoder decoder = {0};
                struct buffer seen = BUFFER_INIT;
                feed(&decoder, streams[i].stream, first, &seen);
                feed(&decoder, streams[i].stream + first, second - first, &seen);
                feed(&decoder, streams[i].stream + second, len - second, &seen);
                assert_string_equal(buffer_text(&seen), streams[i].events);
                sse_decoder_release(&decoder);
                buffer_release(&seen);
            }
        }
    }
}

static void test_events_byte_by_byte(void **state) {
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(streams); i++) {
        struct sse_decoder decoder = {0};
        struct buffer seen = BUFFER_INIT;
        for (const char *at = streams[i].stream; *at != '\0'; at++) {
            feed(&decoder, at, 1, &seen);
        }
        assert_string_equal(buffer_text(&seen), streams[i].events);
        sse_decoder_release(&decoder);
        buffer_release(&seen);
    }
}

static enum sse_step feed_many(const char *piece, int times, struct error *err) {
    struct sse_decoder decoder = {0};
    struct sse_event event = {0};
    size_t used = 0;
    enum sse_step step = SSE_STEP_AGAIN;
    for (int i = 0; i < times && step == SSE_STEP_AGAIN; i++) {
        step = sse_decoder_read(&decoder, piece, strlen(piece), &used, &event, err);
    }
    assert_true(decoder.line.len <= SSE_EVENT_BYTES_MAX && decoder.data.len <= SSE_EVENT_BYTES_MAX);
    sse_decoder_release(&decoder);
    return step;
}

static void test_events_are_bounded(void **state) {
    (void)state;
    struct error err = {0};
    assert_int_equal(feed_many("an endless line", SSE_EVENT_BYTES_MAX, &err), SSE_STEP_FAILED);
    assert_int_equal(err.code, ERROR_LIMIT);
    assert_int_equal(feed_many("data: endless lines\n", SSE_EVENT_BYTES_MAX, &err), SSE_STEP_FAILED);
    assert_int_equal(err.code, ERROR_LIMIT);
    assert_int_equal(feed_many(": endless comments\n", 200000, &err), SSE_STEP_AGAIN);
}

/* ---- questions and answers ---- */

static void test_a_question(void **state) {
    (void)state;
    struct chat_settings settings = {.system = "Be brief.", .max_tokens = 7, .temperature = 0};
    cleanup_json json_t *messages = json_array();
    json_array_append_new(messages, chat_message("user", "not UTF-8: \xFF"));
    cleanup_free char *body = chat_request_body(&settings, "sql", messages);
    cleanup_json json_t *sent = json_parse(body, strlen(body), NULL);
    assert_non_null(sent);
    assert_string_equal(json_string_at(sent, "model", ""), "sql");
    assert_true(json_bool_at(sent, "stream", false));
    assert_true(json_bool_at(sent, "stream_options.include_usage", false));
    assert_int_equal(json_int_at(sent, "max_tokens", 0), 7);
    assert_true(json_is_real(json_at(sent, "temperature")));
    const json_t *all = json_at(sent, "messages");
    assert_int_equal(json_array_size(all), 2);
    assert_string_equal(json_string_at(json_array_get(all, 0), "role", ""), "system");
    assert_string_equal(json_string_at(json_array_get(all, 1), "content", ""), "not UTF-8: \xEF\xBF\xBD");
    assert_int_equal(json_array_size(messages), 1);

    settings = (struct chat_settings){.temperature = -1};
    cleanup_free char *plain = chat_request_body(&settings, "sql", messages);
    assert_null(strstr(plain, "temperature"));
    assert_null(strstr(plain, "max_tokens"));
    assert_null(strstr(plain, "system"));
}

#define CHUNK(text) "data: {\"choices\":[{\"delta\":{\"content\":\"" text "\"}}]}\n\n"

static void test_an_answer(void **state) {
    (void)state;
    static const char head[] = "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n";
    static const char tail[] = "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"length\"}]}\n\n"
                               "data: {\"choices\":[],\"usage\":{\"completion_tokens\":21}}\n\ndata: [DONE]\n\n";
    struct chat_answer answer;
    struct error err = {0};
    cleanup_buffer struct buffer line = BUFFER_INIT;
    chat_answer_init(&answer);
    assert_int_equal(chat_answer_read(&answer, head, sizeof(head) - 1, 1000000000, &err), 0);
    assert_int_equal(answer.first_token_ns, 0); /* the role alone is no token */
    assert_int_equal(chat_answer_read(&answer, CHUNK("ahoy"), sizeof(CHUNK("ahoy")) - 1, 1061000000, &err), 0);
    assert_int_equal(chat_answer_read(&answer, CHUNK(", matey"), sizeof(CHUNK(", matey")) - 1, 2061000000, &err), 0);
    assert_false(answer.is_done);
    assert_int_equal(chat_answer_read(&answer, tail, sizeof(tail) - 1, 3000000000, &err), 0);
    assert_true(answer.is_done);
    assert_string_equal(answer.text.data, "ahoy, matey");
    chat_answer_describe(&answer, 1000000000, &line);
    assert_string_equal(line.data, "first token after 61 ms, 21 tokens, 20.0 tokens/s, cut at the limit");
    chat_answer_release(&answer);
}

static void test_an_answer_that_fails(void **state) {
    (void)state;
    static const struct {
        const char *stream;
        enum error_code code;
        const char *message;
    } cases[] = {
        {"data: {\"error\":{\"message\":\"the engine died\",\"code\":502}}\n\n", ERROR_UNAVAILABLE, "the engine died"},
        {"data: {\"error\":\"the engine died\"}\n\n", ERROR_UNAVAILABLE, "the engine died"},
        {"data: <html>\n\n", ERROR_INVALID, "the server sent an event that is no JSON"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct chat_answer answer;
        struct error err = {0};
        chat_answer_init(&answer);
        assert_int_equal(chat_answer_read(&answer, CHUNK("a"), sizeof(CHUNK("a")) - 1, 1, &err), 0);
        assert_int_equal(chat_answer_read(&answer, cases[i].stream, strlen(cases[i].stream), 2, &err), -1);
        assert_int_equal(err.code, cases[i].code);
        assert_non_null(strstr(err.message, cases[i].message));
        assert_string_equal(answer.text.data, "a");
        chat_answer_release(&answer);
    }
}

static void test_messages_of_error_bodies(void **state) {
    (void)state;
    static const struct {
        const char *body;
        const char *message;
    } cases[] = {
        {"{\"error\":{\"message\":\"model x does not exist\",\"code\":404}}", "model x does not exist"},
        {"{\"error\":\"busy\"}", "busy"},
        {"{\"object\":\"error\",\"message\":\"old style\"}", "old style"},
        {"<h1>502</h1>\nbad", "<h1>502</h1> bad"},
        {"", ""},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        cleanup_buffer struct buffer message = BUFFER_INIT;
        chat_error_message(cases[i].body, strlen(cases[i].body), &message);
        assert_string_equal(buffer_text(&message), cases[i].message);
    }
}

static void test_a_model_does_not_steer_the_terminal(void **state) {
    (void)state;
    static const char text[] = "caf\xC3\xA9\n\t\033[2J\x7F\xC2\x9B"
                               "31m\xE2\x82\xAC";
    cleanup_buffer struct buffer shown = BUFFER_INIT;
    printable_append(&shown, text, sizeof(text) - 1);
    assert_string_equal(shown.data, "caf\xC3\xA9\n\t\xEF\xBF\xBD[2J\xEF\xBF\xBD\xEF\xBF\xBD"
                                    "31m\xE2\x82\xAC");
    buffer_clear(&shown);
    printable_append_line(&shown, "two\nlines\r");
    assert_string_equal(shown.data, "two lines\xEF\xBF\xBD");
}

/* ---- the matrix ---- */

#define SPEC "'spec':{'baseModel':'base','artifactURL':'/a','podSelector':{'matchLabels':{'m':'base'}}}"

static json_t *parse(const char *text) {
    cleanup_free char *quoted = xstrdup(text);
    for (char *at = quoted; *at != '\0'; at++) {
        *at = *at == '\'' ? '"' : *at;
    }
    json_t *value = json_parse(quoted, strlen(quoted), NULL);
    assert_non_null(value);
    return value;
}

static void test_the_matrix(void **state) {
    (void)state;
    cleanup_json json_t *adapters = parse(
        "[{'metadata':{'name':'sql','namespace':'d','uid':'1'}," SPEC
        ",'status':{'phase':'Running','readyReplicas':1,'desiredReplicas':2,"
        "'conditions':[{'type':'Ready','status':'True'}],'loads':[{'pod':'p1','state':'Ready','revision':'abc','loadMillis':12,'"
        "reason':"
        "'Loaded'},{'pod':'p2','state':'Failed','reason':'LoadFailed','message':'rank 64\\nis too large'}]}},"
        "{'metadata':{'name':'new','namespace':'d','uid':'2'}," SPEC "},{'metadata':{'name':'odd','namespace':'e','uid':'3'}}]");
    cleanup_json json_t *pods =
        parse("[{'metadata':{'name':'p2','namespace':'d','labels':{'m':'base'}}},"
              "{'metadata':{'name':'p3','namespace':'d','labels':{'m':'base'}},'status':{'phase':'Running'}},"
              "{'metadata':{'name':'p4','namespace':'d','labels':{'m':'other'}}},"
              "{'metadata':{'name':'p5','namespace':'e','labels':{'m':'base'}}},"
              "{'metadata':{'name':'p6','namespace':'d','labels':{'m':'base'}},'status':{'phase':'Failed'}}]");
    cleanup_json json_t *matrix = adapter_matrix_build(adapters, pods);
    cleanup_buffer struct buffer text = BUFFER_INIT;
    adapter_matrix_render(matrix, false, &text);
    assert_string_equal(text.data,
                        "ADAPTER  BASE  PHASE    READY  POD  STATE     REVISION  LOAD-TIME  REASON\n"
                        "sql      base  Running  1/2    p1   Ready     abc       12 ms      -\n"
                        "sql      base  Running  1/2    p2   Failed    -         -          LoadFailed: rank 64 is too large\n"
                        "sql      base  Running  1/2    p3   Starting  -         -          PodNotReady\n"
                        "new      base  Pending  0/0    p2   Starting  -         -          PodNotReady\n"
                        "new      base  Pending  0/0    p3   Starting  -         -          PodNotReady\n"
                        "odd      -     Pending  0/0    -    -         -         -          "
                        "NotSeen: no controller has looked at it yet\n"
                        "\n3 adapters, 1 ready; 5 loads on 3 pods, 1 ready, 1 failed; loaded in 12 ms\n");
    /* The objects of the API are as they were. */
    assert_int_equal(json_array_size(json_at(json_array_get(adapters, 0), "status.loads")), 2);
}

static void test_the_matrix_without_pods(void **state) {
    (void)state;
    cleanup_json json_t *adapters =
        parse("[{'metadata':{'name':'sql','namespace':'d','uid':'1'}," SPEC ",'status':{'phase':'Running','readyReplicas':1,"
              "'desiredReplicas':1,'conditions':[{'type':'Ready','status':'True'}],'loads':[{'pod':'p1','state':'Ready','"
              "loadMillis':1250}]}}]");
    cleanup_json json_t *matrix = adapter_matrix_build(adapters, NULL);
    cleanup_buffer struct buffer text = BUFFER_INIT;
    adapter_matrix_render(matrix, true, &text);
    assert_string_equal(text.data, "NAMESPACE  ADAPTER  BASE  PHASE    READY  POD  STATE  REVISION  LOAD-TIME\n"
                                   "d          sql      base  Running  1/1    p1   Ready  -         1.2 s\n"
                                   "\n1 adapter, 1 ready; 1 load on 1 pod, 1 ready; loaded in 1.2 s\n");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_events_in_every_split),
        cmocka_unit_test(test_events_byte_by_byte),
        cmocka_unit_test(test_events_are_bounded),
        cmocka_unit_test(test_a_question),
        cmocka_unit_test(test_an_answer),
        cmocka_unit_test(test_an_answer_that_fails),
        cmocka_unit_test(test_messages_of_error_bodies),
        cmocka_unit_test(test_a_model_does_not_steer_the_terminal),
        cmocka_unit_test(test_the_matrix),
        cmocka_unit_test(test_the_matrix_without_pods),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
