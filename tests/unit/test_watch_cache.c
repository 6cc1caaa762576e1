#include "fake_api.h"
#include "kube/watch_cache.h"
#include "kube/watch_stream.h"

/* ---- the decoder ---- */

static void test_decoder_takes_any_cut(void **state) {
    (void)state;
    static const char text[] =
        "{\"type\":\"ADDED\",\"object\":{\"a\":\"x\\n\"}}\n\r\n{\"type\":\"BOOKMARK\",\"object\":{}}\n{\"type\":\"ERR";
    for (size_t cut = 1; cut < sizeof(text); cut++) {
        struct watch_stream stream;
        watch_stream_init(&stream);
        struct buffer types = BUFFER_INIT;
        for (size_t at = 0; at < sizeof(text) - 1;) {
            size_t len = sizeof(text) - 1 - at < cut ? sizeof(text) - 1 - at : cut;
            size_t used = 0;
            struct watch_event event;
            enum watch_step step = watch_stream_read(&stream, text + at, len, &used, &event, NULL);
            assert_true(step != WATCH_STEP_FAILED && used <= len && (used > 0 || len == 0));
            if (step == WATCH_STEP_EVENT) {
                buffer_printf(&types, "%d ", (int)event.type);
                json_decref(event.object);
            }
            at += used;
        }
        assert_string_equal(buffer_text(&types), "0 3 ");
        buffer_release(&types);
        watch_stream_release(&stream);
    }
}

static void test_decoder_refuses(void **state) {
    (void)state;
    static const char *const cases[] = {"{]\n", "{}\n", "{\"type\":\"NEW\",\"object\":{}}\n", "{\"type\":\"ADDED\",\"object\":1}\n",
                                        "[]\n"};
    struct error err;
    size_t used = 0;
    struct watch_event event;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct watch_stream stream;
        watch_stream_init(&stream);
        assert_int_equal(watch_stream_read(&stream, cases[i], strlen(cases[i]), &used, &event, &err), WATCH_STEP_FAILED);
        assert_int_equal(err.code, ERROR_INVALID);
        watch_stream_release(&stream);
    }
    struct watch_stream stream;
    watch_stream_init(&stream);
    char *large = xmalloc(WATCH_EVENT_BYTES_MAX);
    memset(large, ' ', WATCH_EVENT_BYTES_MAX);
    assert_int_equal(watch_stream_read(&stream, large, WATCH_EVENT_BYTES_MAX, &used, &event, &err), WATCH_STEP_AGAIN);
    assert_int_equal(watch_stream_read(&stream, large, 1, &used, &event, &err), WATCH_STEP_FAILED);
    assert_int_equal(err.code, ERROR_LIMIT);
    free(large);
    watch_stream_release(&stream);
}

/* ---- the cache, against a scripted API ---- */

struct scripted {
    struct fake_api api;
    struct watch_cache *cache;
    const char *lists[4]; /* answers to lists, in order; the last one repeats */
    int list_count;
    struct http_request *watch; /* the open one */
    int watch_count;
    char *watch_query;
    struct buffer log; /* "+name -name ~name" */
    int synced;
    bool frees_on_change;
    const char *wanted;
    int watches_wanted;
    int refuse_watches;  /* with 410, so many times */
    bool begins_watches; /* with what there is; else it says 422 to who asks for that */
    int initial_count;   /* watches that asked for it */
    int limit;           /* items that fit in a page; 0 = all do */
    struct buffer limits;
};

static void on_watch_gone(void *arg) {
    ((struct scripted *)arg)->watch = NULL;
}

static void on_request(void *arg, struct http_request *request) {
    struct scripted *scripted = arg;
    const struct http_head *head = http_request_head(request);
    bool is_initial = strstr(head->query, "sendInitialEvents=true") != NULL;
    scripted->initial_count += is_initial;
    if (is_initial && !scripted->begins_watches) {
        fake_api_reply(request, 422, "{\"kind\":\"Status\",\"reason\":\"Invalid\",\"code\":422}");
        return;
    }
    const char *limit = strstr(head->query, "limit=");
    if (scripted->limit > 0 && limit != NULL && strtol(limit + 6, NULL, 10) > scripted->limit) {
        size_t len = 65 << 20;
        char *large = xmalloc(len);
        memset(large, ' ', len);
        buffer_printf(&scripted->limits, "%ld ", strtol(limit + 6, NULL, 10));
        http_reply(request, 200, "application/json", large, len);
        free(large);
        return;
    }
    if (strstr(head->query, "watch=true") == NULL) {
        const char *text = scripted->lists[scripted->list_count];
        scripted->list_count += scripted->list_count < 3 && scripted->lists[scripted->list_count + 1] != NULL;
        fake_api_reply(request, text[0] == '4' ? 410 : 200, text[0] == '4' ? "{\"reason\":\"Expired\"}" : text);
        return;
    }
    scripted->watch_count++;
    free(scripted->watch_query);
    scripted->watch_query = xstrdup(head->query);
    if (scripted->refuse_watches > 0) {
        scripted->refuse_watches--;
        fake_api_reply(request, 410, "{\"kind\":\"Status\",\"reason\":\"Expired\",\"code\":410}");
        return;
    }
    scripted->watch = request;
    http_request_on_gone(request, on_watch_gone, scripted);
    http_stream_begin(request, 200, "application/json");
}

static void on_change(void *arg, enum watch_change change, json_t *old_object, json_t *new_object) {
    struct scripted *scripted = arg;
    assert_true((old_object == NULL) == (change == WATCH_ADDED));
    assert_true((new_object == NULL) == (change == WATCH_DELETED));
    const json_t *object = new_object != NULL ? new_object : old_object;
    assert_string_equal(json_string_at(object, "kind", ""), "Pod");
    buffer_printf(&scripted->log, "%c%s ", "+~-"[change], kube_name(object));
    if (scripted->frees_on_change) {
        watch_cache_free(scripted->cache);
        scripted->cache = NULL;
    } else {
        assert_true((watch_cache_get(scripted->cache, "d", kube_name(object)) == NULL) == (change == WATCH_DELETED));
    }
}

static void on_synced(void *arg) {
    struct scripted *scripted = arg;
    scripted->synced++;
    buffer_append_text(&scripted->log, "synced ");
}

static bool log_is(void *arg) {
    struct scripted *scripted = arg;
    return strcmp(buffer_text(&scripted->log), scripted->wanted) == 0;
}

static bool has_watch(void *arg) {
    struct scripted *scripted = arg;
    return scripted->watch != NULL && scripted->watch_count >= scripted->watches_wanted;
}

static void wait_for_log(struct scripted *scripted, const char *wanted) {
    scripted->wanted = wanted;
    fake_api_run_until(&scripted->api, log_is, scripted);
}

static void wait_for_watch(struct scripted *scripted, int count) {
    scripted->watches_wanted = count;
    fake_api_run_until(&scripted->api, has_watch, scripted);
}

#define POD(name, rv)                                                                                                              \
    "{\"metadata\":{\"namespace\":\"d\",\"name\":\"" name "\",\"uid\":\"u-" name "\",\"resourceVersion\":\"" rv "\"}}"
#define LIST(rv, items) "{\"metadata\":{\"resourceVersion\":\"" rv "\"},\"items\":[" items "]}"
#define EVENT(type, object) "{\"type\":\"" type "\",\"object\":" object "}\n"

static void scripted_start(struct scripted *scripted) {
    fake_api_init(&scripted->api, on_request, scripted);
    scripted->cache = watch_cache_new(&(struct watch_cache_options){.client = scripted->api.client,
                                                                    .resource = &kube_pods,
                                                                    .label_selector = "a=b",
                                                                    .on_change = on_change,
                                                                    .on_synced = on_synced,
                                                                    .arg = scripted});
}

/* An API that lists; the answers to lists, in order. */
static void scripted_init(struct scripted *scripted, const char *first, const char *second, const char *third) {
    *scripted = (struct scripted){.lists = {first, second, second != NULL ? third : NULL}};
    scripted_start(scripted);
}

static void scripted_release(struct scripted *scripted) {
    watch_cache_free(scripted->cache);
    fake_api_release(&scripted->api);
    buffer_release(&scripted->log);
    buffer_release(&scripted->limits);
    free(scripted->watch_query);
}

static void send(struct scripted *scripted, const char *text) {
    assert_non_null(scripted->watch);
    http_stream_write(scripted->watch, text, strlen(text));
}

static void end_watch(struct scripted *scripted, bool is_cut) {
    struct http_request *watch = scripted->watch;
    scripted->watch = NULL;
    http_request_on_gone(watch, NULL, NULL);
    if (is_cut) {
        http_stream_abort(watch);
    } else {
        http_stream_end(watch);
    }
}

static void test_list_in_pages_then_watch(void **state) {
    (void)state;
    struct scripted scripted;
    scripted_init(&scripted, "{\"metadata\":{\"continue\":\"c/1\",\"resourceVersion\":\"9\"},\"items\":[" POD("a", "3") "]}",
                  LIST("9", POD("b", "4")), NULL);
    wait_for_log(&scripted, "+a +b synced ");
    wait_for_watch(&scripted, 1);
    assert_non_null(strstr(scripted.watch_query, "resourceVersion=9"));
    assert_non_null(strstr(scripted.watch_query, "labelSelector=a%3Db"));
    assert_non_null(strstr(scripted.watch_query, "allowWatchBookmarks=true"));
    send(&scripted, EVENT("ADDED", POD("c", "10")) EVENT("MODIFIED", POD("a", "11")) EVENT("DELETED", POD("b", "12")));
    wait_for_log(&scripted, "+a +b synced +c ~a -b ");
    assert_int_equal(watch_cache_count(scripted.cache), 2);
    send(&scripted, EVENT("BOOKMARK", "{\"metadata\":{\"resourceVersion\":\"20\"}}") EVENT("ADDED", POD("e", "21")));
    wait_for_log(&scripted, "+a +b synced +c ~a -b +e ");
    end_watch(&scripted, true);
    wait_for_watch(&scripted, 2);
    assert_non_null(strstr(scripted.watch_query, "resourceVersion=21"));
    assert_int_equal(scripted.synced, 1);
    scripted_release(&scripted);
}

static void test_gone_lists_again_and_tells_differences(void **state) {
    (void)state;
    for (int as_event = 0; as_event < 2; as_event++) {
        struct scripted scripted;
        scripted_init(&scripted, LIST("9", POD("a", "3") "," POD("b", "4") "," POD("c", "5")),
                      LIST("30", POD("a", "3") "," POD("b", "25") "," POD("e", "26")), NULL);
        wait_for_watch(&scripted, 1);
        if (as_event) {
            send(&scripted, EVENT("ERROR", "{\"kind\":\"Status\",\"code\":410,\"reason\":\"Expired\"}"));
        } else {
            scripted.refuse_watches = 1;
            end_watch(&scripted, false);
        }
        wait_for_log(&scripted, "+a +b +c synced -c ~b +e ");
        wait_for_watch(&scripted, 2);
        assert_non_null(strstr(scripted.watch_query, "resourceVersion=30"));
        scripted_release(&scripted);
    }
}

static void test_expired_continue_starts_over(void **state) {
    (void)state;
    struct scripted scripted;
    scripted_init(&scripted, "{\"metadata\":{\"continue\":\"x\"},\"items\":[" POD("a", "3") "]}", "410", LIST("9", POD("b", "4")));
    wait_for_log(&scripted, "+b synced ");
    scripted_release(&scripted);
}

#define END(rv)                                                                                                                    \
    EVENT("BOOKMARK", "{\"metadata\":{\"resourceVersion\":\"" rv "\",\"annotations\":{\"k8s.io/initial-events-end\":\"true\"}}}")

static void test_watch_that_begins_with_what_there_is(void **state) {
    (void)state;
    struct scripted scripted = {.begins_watches = true, .lists = {"404"}};
    scripted_start(&scripted);
    wait_for_watch(&scripted, 1);
    assert_non_null(strstr(scripted.watch_query, "sendInitialEvents=true&resourceVersionMatch=NotOlderThan"));
    assert_null(strstr(scripted.watch_query, "resourceVersion="));
    send(&scripted, EVENT("ADDED", POD("a", "3")) EVENT("ADDED", POD("b", "4")) EVENT("ADDED", POD("c", "5")));
    send(&scripted, EVENT("DELETED", POD("c", "6")) EVENT("BOOKMARK", "{\"metadata\":{\"resourceVersion\":\"8\"}}"));
    send(&scripted, END("9") EVENT("MODIFIED", POD("a", "11")));
    wait_for_log(&scripted, "+a +b synced ~a ");
    end_watch(&scripted, true);
    wait_for_watch(&scripted, 2); /* goes on where it was */
    assert_non_null(strstr(scripted.watch_query, "resourceVersion=11"));
    assert_null(strstr(scripted.watch_query, "sendInitialEvents"));
    /* gone: once more from the beginning, the differences are told */
    send(&scripted, EVENT("ERROR", "{\"kind\":\"Status\",\"code\":410,\"reason\":\"Expired\"}"));
    wait_for_watch(&scripted, 3);
    send(&scripted, EVENT("ADDED", POD("a", "11")) EVENT("ADDED", POD("e", "26")) END("30"));
    wait_for_log(&scripted, "+a +b synced ~a -b +e ");
    assert_int_equal(scripted.initial_count, 2);
    assert_int_equal(scripted.synced, 1);
    scripted_release(&scripted);
}

static void test_refused_beginnings_are_not_asked_for_again(void **state) {
    (void)state;
    struct scripted scripted;
    scripted_init(&scripted, LIST("9", POD("a", "3")), LIST("30", POD("a", "3")), NULL);
    wait_for_watch(&scripted, 1);
    send(&scripted, EVENT("ERROR", "{\"kind\":\"Status\",\"code\":410,\"reason\":\"Expired\"}"));
    wait_for_watch(&scripted, 2);
    assert_int_equal(scripted.initial_count, 1);
    assert_int_equal(scripted.list_count, 1);
    scripted_release(&scripted);
}

static void test_beginnings_that_break_off_or_never_end(void **state) {
    (void)state;
    struct scripted scripted = {.begins_watches = true, .lists = {LIST("9", POD("b", "4"))}};
    scripted_start(&scripted);
    for (int i = 1; i <= 3; i++) {
        wait_for_watch(&scripted, i);
        send(&scripted, EVENT("ADDED", POD("a", "3")));
        end_watch(&scripted, i % 2 == 0);
    }
    wait_for_log(&scripted, "+b synced ");
    assert_int_equal(scripted.initial_count, 3);
    scripted_release(&scripted);
    /* a server that does not know the parameter: it tells what there is and then what changes, without an end */
    scripted = (struct scripted){.begins_watches = true, .lists = {LIST("9", POD("b", "4"))}};
    scripted_start(&scripted);
    wait_for_watch(&scripted, 1);
    send(&scripted, EVENT("ADDED", POD("a", "3")));
    wait_for_log(&scripted, "+b synced ");
    assert_int_equal(scripted.initial_count, 1);
    scripted_release(&scripted);
}

static void test_pages_that_are_too_large_are_halved(void **state) {
    (void)state;
    struct scripted scripted = {.limit = 200, .lists = {LIST("9", POD("a", "3"))}};
    scripted_start(&scripted);
    wait_for_log(&scripted, "+a synced ");
    assert_string_equal(buffer_text(&scripted.limits), "500 250 ");
    scripted_release(&scripted);
}

static void test_one_object_by_name(void **state) {
    (void)state;
    struct scripted scripted = {.begins_watches = true, .lists = {"404"}};
    fake_api_init(&scripted.api, on_request, &scripted);
    scripted.cache = watch_cache_new(&(struct watch_cache_options){.client = scripted.api.client,
                                                                   .resource = &kube_secrets,
                                                                   .namespace = "d",
                                                                   .name = "key",
                                                                   .on_change = on_change,
                                                                   .arg = &scripted});
    wait_for_watch(&scripted, 1);
    assert_non_null(strstr(scripted.watch_query, "fieldSelector=metadata.name%3Dkey"));
    scripted_release(&scripted);
}

static void test_own_writes(void **state) {
    (void)state;
    struct scripted scripted;
    scripted_init(&scripted, LIST("9", POD("a", "3")), NULL, NULL);
    wait_for_watch(&scripted, 1);
    cleanup_json json_t *newer = json_parse(POD("a", "12"), strlen(POD("a", "12")), NULL);
    cleanup_json json_t *older = json_parse(POD("a", "2"), strlen(POD("a", "2")), NULL);
    cleanup_json json_t *created = json_parse(POD("n", "13"), strlen(POD("n", "13")), NULL);
    cleanup_json json_t *long_gone = json_parse(POD("g", "8"), strlen(POD("g", "8")), NULL);
    watch_cache_note_write(scripted.cache, newer);
    watch_cache_note_write(scripted.cache, older);
    watch_cache_note_write(scripted.cache, created);
    watch_cache_note_write(scripted.cache, long_gone);
    assert_string_equal(kube_resource_version(watch_cache_get(scripted.cache, "d", "a")), "12");
    assert_non_null(watch_cache_get(scripted.cache, "d", "n"));
    assert_null(watch_cache_get(scripted.cache, "d", "g"));
    assert_string_equal(buffer_text(&scripted.log), "+a synced ");
    /* An older event does not bring the past back; the echo of the own write is told as what it is. */
    send(&scripted, EVENT("MODIFIED", POD("a", "11")) EVENT("MODIFIED", POD("a", "12")) EVENT("ADDED", POD("n", "13")));
    wait_for_log(&scripted, "+a synced ~a +n ");
    assert_string_equal(kube_resource_version(watch_cache_get(scripted.cache, "d", "a")), "12");
    /* One that is known by the own write alone is told when it goes: whoever wrote it counts on it. */
    cleanup_json json_t *untold = json_parse(POD("u", "14"), strlen(POD("u", "14")), NULL);
    watch_cache_note_write(scripted.cache, untold);
    send(&scripted, EVENT("DELETED", POD("u", "15")));
    wait_for_log(&scripted, "+a synced ~a +n -u ");
    assert_null(watch_cache_get(scripted.cache, "d", "u"));
    scripted_release(&scripted);
}

static void test_may_be_freed_inside_of_on_change(void **state) {
    (void)state;
    struct scripted scripted;
    scripted_init(&scripted, LIST("9", ""), NULL, NULL);
    wait_for_watch(&scripted, 1);
    scripted.frees_on_change = true;
    send(&scripted, EVENT("ADDED", POD("a", "10")) EVENT("ADDED", POD("b", "11")));
    wait_for_log(&scripted, "synced +a ");
    scripted_release(&scripted);
    scripted_init(&scripted, LIST("9", POD("a", "3") "," POD("b", "4")), NULL, NULL);
    scripted.frees_on_change = true;
    wait_for_log(&scripted, "+a ");
    scripted_release(&scripted);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_decoder_takes_any_cut),
        cmocka_unit_test(test_decoder_refuses),
        cmocka_unit_test(test_list_in_pages_then_watch),
        cmocka_unit_test(test_gone_lists_again_and_tells_differences),
        cmocka_unit_test(test_expired_continue_starts_over),
        cmocka_unit_test(test_watch_that_begins_with_what_there_is),
        cmocka_unit_test(test_refused_beginnings_are_not_asked_for_again),
        cmocka_unit_test(test_beginnings_that_break_off_or_never_end),
        cmocka_unit_test(test_pages_that_are_too_large_are_halved),
        cmocka_unit_test(test_one_object_by_name),
        cmocka_unit_test(test_own_writes),
        cmocka_unit_test(test_may_be_freed_inside_of_on_change),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
