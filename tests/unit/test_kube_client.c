#include "fake_api.h"
#include "kube/events.h"

struct recorded {
    struct fake_api api;
    struct buffer requests; /* "METHOD target body\n" */
    int status;
    const char *reply;
    int done;
    struct error err;
    json_t *object;
    struct http_request *held[16];
    int held_count;
    bool holds;
    int requests_wanted;
    int requests_seen;
    char *authorization;
    char *content_type;
};

static void on_request(void *arg, struct http_request *request) {
    struct recorded *recorded = arg;
    const struct http_head *head = http_request_head(request);
    size_t len = 0;
    const char *body = http_request_body(request, &len);
    buffer_printf(&recorded->requests, "%s %s %s\n", head->method, head->target, body);
    recorded->requests_seen++;
    free(recorded->authorization);
    free(recorded->content_type);
    const char *authorization = http_fields_get(&head->fields, "authorization");
    const char *content_type = http_fields_get(&head->fields, "content-type");
    recorded->authorization = xstrdup(authorization != NULL ? authorization : "");
    recorded->content_type = xstrdup(content_type != NULL ? content_type : "");
    if (recorded->holds) {
        recorded->held[recorded->held_count++] = request;
    } else {
        fake_api_reply(request, recorded->status, recorded->reply);
    }
}

static void on_done(void *arg, json_t *object, const struct error *err) {
    struct recorded *recorded = arg;
    recorded->done++;
    json_decref(recorded->object);
    recorded->object = json_incref(object);
    recorded->err = err != NULL ? *err : (struct error){0};
}

static bool is_done(void *arg) {
    return ((struct recorded *)arg)->done > 0;
}

static bool has_requests(void *arg) {
    struct recorded *recorded = arg;
    return recorded->requests_seen >= recorded->requests_wanted;
}

static void recorded_init(struct recorded *recorded, int status, const char *reply) {
    *recorded = (struct recorded){.status = status, .reply = reply};
    fake_api_init(&recorded->api, on_request, recorded);
}

static void recorded_release(struct recorded *recorded) {
    fake_api_release(&recorded->api);
    buffer_release(&recorded->requests);
    json_decref(recorded->object);
    free(recorded->authorization);
    free(recorded->content_type);
}

static void call(struct recorded *recorded, enum kube_verb verb, const char *name, const char *subresource, const json_t *body) {
    kube_start(recorded->api.client, &(struct kube_request){.verb = verb,
                                                            .resource = &kube_model_adapters,
                                                            .namespace = "apps",
                                                            .name = name,
                                                            .subresource = subresource,
                                                            .body = body,
                                                            .on_done = on_done,
                                                            .arg = recorded});
    assert_int_equal(recorded->done, 0); /* never before it returns */
    fake_api_run_until(&recorded->api, is_done, recorded);
}

static void test_patch_of_status(void **state) {
    (void)state;
    struct recorded recorded;
    recorded_init(&recorded, 200, "{\"kind\":\"ModelAdapter\",\"metadata\":{\"name\":\"sql\"}}");
    cleanup_json json_t *body = json_pack("{s:{s:i}}", "status", "candidates", 2);
    call(&recorded, KUBE_PATCH_MERGE, "sql", "status", body);
    assert_int_equal(recorded.err.code, ERROR_NONE);
    assert_string_equal(kube_name(recorded.object), "sql");
    assert_string_equal(
        buffer_text(&recorded.requests),
        "PATCH /apis/model.aibrix.ai/v1alpha1/namespaces/apps/modeladapters/sql/status {\"status\":{\"candidates\":2}}\n");
    assert_string_equal(recorded.authorization, "Bearer s3cret-token");
    assert_string_equal(recorded.content_type, "application/merge-patch+json");
    recorded_release(&recorded);
}

static void test_errors_have_code_and_context(void **state) {
    (void)state;
    static const struct {
        int status;
        const char *reply;
        enum error_code code;
        const char *message;
    } cases[] = {
        {404, "{\"kind\":\"Status\",\"reason\":\"NotFound\",\"message\":\"x not found\"}", ERROR_NOT_FOUND,
         "get modeladapters apps/x: x not found"},
        {409, "{\"reason\":\"AlreadyExists\",\"message\":\"m\"}", ERROR_EXISTS, "get modeladapters apps/x: m"},
        {409, "{\"reason\":\"Conflict\",\"message\":\"m\"}", ERROR_CONFLICT, "get modeladapters apps/x: m"},
        {422, "{\"reason\":\"Invalid\",\"message\":\"m\"}", ERROR_INVALID, "get modeladapters apps/x: m"},
        {503, "<html>", ERROR_UNAVAILABLE, "get modeladapters apps/x: HTTP 503 Service Unavailable"},
        {200, "not json", ERROR_INVALID, "get modeladapters apps/x: answer: not valid JSON"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct recorded recorded;
        recorded_init(&recorded, cases[i].status, cases[i].reply);
        call(&recorded, KUBE_GET, "x", NULL, NULL);
        assert_int_equal(recorded.err.code, cases[i].code);
        assert_int_equal(strncmp(recorded.err.message, cases[i].message, strlen(cases[i].message)), 0);
        assert_null(strstr(recorded.err.message, "s3cret"));
        assert_true(cases[i].status < 400 || recorded.err.http_status == cases[i].status);
        recorded_release(&recorded);
    }
}

static void test_nobody_there(void **state) {
    (void)state;
    struct recorded recorded;
    recorded_init(&recorded, 200, "{}");
    free(recorded.api.config.server);
    recorded.api.config.server = xstrdup("http://127.0.0.1:1");
    call(&recorded, KUBE_GET, "x", NULL, NULL);
    assert_int_equal(recorded.err.code, ERROR_UNAVAILABLE);
    assert_null(strstr(recorded.err.message, "s3cret"));
    recorded_release(&recorded);
}

static void test_at_most_so_many_at_once(void **state) {
    (void)state;
    struct recorded recorded;
    struct kube_call *calls[10];
    recorded_init(&recorded, 200, "{}");
    recorded.holds = true;
    for (int i = 0; i < 10; i++) {
        calls[i] =
            kube_start(recorded.api.client,
                       &(struct kube_request){.verb = KUBE_LIST, .resource = &kube_pods, .on_done = on_done, .arg = &recorded});
    }
    recorded.requests_wanted = 4;
    fake_api_run_until(&recorded.api, has_requests, &recorded);
    assert_int_equal(recorded.held_count, 4);
    kube_call_cancel(calls[9]);
    kube_start(recorded.api.client,
               &(struct kube_request){
                   .verb = KUBE_LIST, .resource = &kube_leases, .is_urgent = true, .on_done = on_done, .arg = &recorded});
    recorded.requests_wanted = 5;
    fake_api_run_until(&recorded.api, has_requests, &recorded); /* goes ahead of those that wait */
    assert_non_null(strstr(buffer_text(&recorded.requests), "leases"));
    fake_api_reply(recorded.held[0], 200, "{}");
    recorded.requests_wanted = 6;
    fake_api_run_until(&recorded.api, has_requests, &recorded);
    assert_int_equal(recorded.held_count, 6);
    recorded_release(&recorded); /* the rest is cancelled without a call back */
    assert_int_equal(recorded.done, 1);
}

static void test_event_again_raises_the_count(void **state) {
    (void)state;
    struct recorded recorded;
    recorded_init(&recorded, 200, "{}");
    struct event_recorder *recorder = event_recorder_new(recorded.api.client, "davit-test");
    cleanup_json json_t *pod = json_pack("{s:s, s:s, s:{s:s, s:s, s:s}}", "apiVersion", "v1", "kind", "Pod", "metadata", "name",
                                         "p", "namespace", "apps", "uid", "u");
    recorded.holds = true;
    event_record(recorder, pod, "Warning", "Failed", "code %d", 7);
    recorded.requests_wanted = 1;
    fake_api_run_until(&recorded.api, has_requests, &recorded);
    event_record(recorder, pod, "Warning", "Failed", "code %d", 7); /* waits, as the next does, for the answer to the first */
    event_record(recorder, pod, "Warning", "Failed", "code %d", 7);
    recorded.holds = false;
    fake_api_reply(recorded.held[0], 200, "{}");
    recorded.requests_wanted = 2;
    fake_api_run_until(&recorded.api, has_requests, &recorded);
    const char *text = buffer_text(&recorded.requests);
    assert_int_equal(strncmp(text, "POST /api/v1/namespaces/apps/events {", 37), 0);
    assert_non_null(strstr(text, "\"message\":\"code 7\""));
    const char *patch = strstr(text, "\nPATCH /api/v1/namespaces/apps/events/p.");
    assert_non_null(patch);
    assert_non_null(strstr(patch, "\"count\":3"));
    event_recorder_free(recorder);
    recorded_release(&recorded);
}

static void test_event_that_expired_is_made_again(void **state) {
    (void)state;
    struct recorded recorded;
    recorded_init(&recorded, 200, "{}");
    struct event_recorder *recorder = event_recorder_new(recorded.api.client, "davit-test");
    cleanup_json json_t *pod = json_pack("{s:s, s:s, s:{s:s, s:s, s:s}}", "apiVersion", "v1", "kind", "Pod", "metadata", "name",
                                         "p", "namespace", "apps", "uid", "u");
    event_record(recorder, pod, "Warning", "Failed", "code 7");
    recorded.requests_wanted = 1;
    fake_api_run_until(&recorded.api, has_requests, &recorded);
    recorded.holds = true;
    event_record(recorder, pod, "Warning", "Failed", "code 7");
    recorded.requests_wanted = 2;
    fake_api_run_until(&recorded.api, has_requests, &recorded);
    event_record(recorder, pod, "Warning", "Failed", "code 7"); /* waits for that patch, of what is gone */
    fake_api_reply(recorded.held[0], 404, "{\"kind\":\"Status\",\"reason\":\"NotFound\",\"message\":\"gone\",\"code\":404}");
    event_record(recorder, pod, "Warning", "Other", "code 8");
    recorded.holds = false;
    recorded.requests_wanted = 3;
    fake_api_run_until(&recorded.api, has_requests, &recorded);
    event_record(recorder, pod, "Warning", "Failed", "code 7");
    recorded.requests_wanted = 4;
    fake_api_run_until(&recorded.api, has_requests, &recorded);
    /* Nothing is posted that has no body. */
    assert_null(strstr(buffer_text(&recorded.requests), "events \n"));
    const char *other = strstr(buffer_text(&recorded.requests), "code 8");
    assert_non_null(other);
    assert_non_null(strstr(other, "code 7"));
    event_recorder_free(recorder);
    recorded_release(&recorded);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_patch_of_status),
        cmocka_unit_test(test_errors_have_code_and_context),
        cmocka_unit_test(test_nobody_there),
        cmocka_unit_test(test_at_most_so_many_at_once),
        cmocka_unit_test(test_event_again_raises_the_count),
        cmocka_unit_test(test_event_that_expired_is_made_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
