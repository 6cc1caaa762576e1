/* What becomes of writes of routes, and what is told of routes: of every change once. */
#include "fake_api.h"

#include "controller/objects.h"
#include "controller/route_news.h"
#include "controller/route_writes.h"

struct world {
    struct fake_api api;
    int status;         /* of the answers about routes */
    const char *reply;  /* likewise */
    int writes;         /* of routes that were asked for */
    struct buffer told; /* "Reason: message\n" */
    int ended;
    bool is_news, may_be_gone, has_object;
    enum error_code code;
    int ended_wanted;
    const char *words; /* that `told` is to have */
};

static void on_request(void *arg, struct http_request *request) {
    struct world *world = arg;
    size_t len = 0;
    const char *body = http_request_body(request, &len);
    if (strstr(http_request_head(request)->path, "/events") != NULL) {
        cleanup_json json_t *event = json_loadb(body, len, 0, NULL);
        buffer_printf(&world->told, "%s: %s\n", json_string_at(event, "reason", ""), json_string_at(event, "message", ""));
        fake_api_reply(request, 201, body);
    } else {
        world->writes++;
        fake_api_reply(request, world->status, world->reply);
    }
}

static void on_written(void *arg, const struct route_written *written) {
    struct world *world = arg;
    world->ended++;
    world->is_news = written->is_news;
    world->may_be_gone = written->may_be_gone;
    world->has_object = written->object != NULL;
    world->code = written->err != NULL ? written->err->code : ERROR_NONE;
}

static bool has_ended(void *arg) {
    const struct world *world = arg;
    return world->ended >= world->ended_wanted;
}

static bool has_told(void *arg) {
    struct world *world = arg;
    return strstr(buffer_text(&world->told), world->words) != NULL;
}

static json_t *parse(const char *text) {
    json_t *value = json_loads(text, 0, NULL);
    assert_non_null(value);
    return value;
}

#define STATUS(code, reason, message)                                                                                              \
    "{\"kind\":\"Status\",\"status\":\"Failure\",\"code\":" #code ",\"reason\":\"" reason "\",\"message\":\"" message "\"}"

static void test_a_failure_is_news_once(void **state) {
    (void)state;
    static const char there[] = "{\"metadata\":{\"name\":\"sql-router\",\"uid\":\"r\"}}";
    static const struct {
        const char *body; /* NULL = delete */
        bool is_create;
        int status;
        const char *reply;
        enum error_code code;
        bool is_news, may_be_gone;
    } rows[] = {
        {"{}", true, 422, STATUS(422, "Invalid", "spec.rules: too many"), ERROR_INVALID, true, false},
        {"{}", true, 422, STATUS(422, "Invalid", "spec.rules: too many"), ERROR_INVALID, false, false},
        {"{}", true, 422, STATUS(422, "Invalid", "spec.rules: other"), ERROR_INVALID, true, false},
        {"{}", true, 409, STATUS(409, "AlreadyExists", "exists"), ERROR_EXISTS, false, false},
        {"{}", true, 403, STATUS(403, "Forbidden", "may not"), ERROR_DENIED, true, false},
        {"{}", true, 503, STATUS(503, "ServiceUnavailable", "away"), ERROR_UNAVAILABLE, false, false},
        {"{}", true, 403, STATUS(403, "Forbidden", "may not"), ERROR_DENIED, false, false},
        {"{}", true, 404, STATUS(404, "NotFound", "no namespace"), ERROR_NOT_FOUND, true, true},
        {"{}", false, 409, STATUS(409, "Conflict", "somebody was faster"), ERROR_CONFLICT, false, false},
        {"{}", true, 201, there, ERROR_NONE, false, false},
        {"{}", false, 403, STATUS(403, "Forbidden", "may not"), ERROR_DENIED, true, false}, /* it was well in between */
        {NULL, false, 403, STATUS(403, "Forbidden", "may not delete"), ERROR_DENIED, true, false},
        {NULL, false, 404, STATUS(404, "NotFound", "gone"), ERROR_NOT_FOUND, false, false},
    };
    struct world world = {.status = 500};
    fake_api_init(&world.api, on_request, &world);
    struct metrics *metrics = metrics_new();
    struct metric *count = metrics_register(
        metrics, &(struct metric_spec){.name = "writes", .help = "writes", .type = METRIC_COUNTER, .label_names = {"kind"}});
    struct route_writes *writes = route_writes_new(
        &(struct route_writes_setup){.kube = world.api.client, .count = count, .on_written = on_written, .arg = &world});
    cleanup_json json_t *found = parse(there);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        cleanup_json json_t *body = rows[i].body != NULL ? parse(rows[i].body) : NULL;
        world.status = rows[i].status;
        world.reply = rows[i].reply;
        world.ended_wanted = (int)i + 1;
        route_writes_start(writes, &(struct route_write){.key = "ns/sql",
                                                         .resource = &kube_http_routes,
                                                         .namespace = "edge",
                                                         .found = rows[i].is_create ? NULL : found,
                                                         .body = body});
        assert_true(route_writes_is_running(writes, "ns/sql"));
        fake_api_run_until(&world.api, has_ended, &world);
        assert_false(route_writes_is_running(writes, "ns/sql"));
        if (world.code != rows[i].code || world.is_news != rows[i].is_news || world.may_be_gone != rows[i].may_be_gone ||
            world.has_object != (rows[i].code == ERROR_NONE)) {
            fail_msg("row %zu: code %d, news %d, gone %d", i, world.code, world.is_news, world.may_be_gone);
        }
        assert_true(rows[i].code == ERROR_NONE || route_writes_due_ms(writes, "ns/sql") > 0);
    }
    assert_int_equal(route_writes_running(writes), 0);
    route_writes_free(writes);
    metrics_free(metrics);
    fake_api_release(&world.api);
}

static json_t *route_with(const char *parents) {
    cleanup_free char *text = xasprintf("{\"apiVersion\":\"gateway.networking.k8s.io/v1\",\"kind\":\"HTTPRoute\",\"metadata\":{"
                                        "\"name\":\"sql-router\",\"namespace\":\"edge\",\"uid\":\"r\",\"generation\":2},"
                                        "\"spec\":{},\"status\":{\"parents\":[%s]}}",
                                        parents);
    cleanup_json json_t *whole = parse(text);
    return objects_reduce_route(whole);
}

#define PARENT(type, status, generation)                                                                                           \
    "{\"parentRef\":{\"name\":\"gate\"},\"conditions\":[{\"type\":\"" type "\",\"status\":\"" status                               \
    "\",\"reason\":\"Why\",\"message\":\"so\",\"observedGeneration\":" #generation "}]}"

static void test_what_gateways_say(void **state) {
    (void)state;
    static const struct {
        const char *parents, *refusal;
    } rows[] = {
        {"", NULL},
        {PARENT("Accepted", "True", 2), NULL},
        {PARENT("Accepted", "False", 2), "Gateway gate says Accepted=False, Why: so"},
        {PARENT("Accepted", "True", 2) "," PARENT("ResolvedRefs", "False", 2), "Gateway gate says ResolvedRefs=False, Why: so"},
        {PARENT("Accepted", "False", 1), NULL}, /* of the route as it was */
        {PARENT("Programmed", "False", 2), NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        cleanup_json json_t *route = route_with(rows[i].parents);
        const char *refusal = objects_route_refusal(route);
        assert_int_equal(refusal != NULL, rows[i].refusal != NULL);
        assert_true(refusal == NULL || strcmp(refusal, rows[i].refusal) == 0);
        cleanup_json json_t *kept = objects_unpack(route);
        assert_null(json_object_get(kept, "status"));
    }
}

static void expect_told(struct world *world, const char *words) {
    world->words = words;
    fake_api_run_until(&world->api, has_told, world);
    buffer_clear(&world->told);
}

static void test_a_gateways_refusal_is_told_after_a_while(void **state) {
    (void)state;
    struct world world = {.words = ""};
    fake_api_init(&world.api, on_request, &world);
    struct event_recorder *events = event_recorder_new(world.api.client, "davit-controller");
    struct route_news *news = route_news_new(events);
    cleanup_json json_t *adapter = parse("{\"apiVersion\":\"model.aibrix.ai/v1alpha1\",\"kind\":\"ModelAdapter\",\"metadata\":{"
                                         "\"name\":\"sql\",\"namespace\":\"ns\",\"uid\":\"u\"}}");
    cleanup_json json_t *good = route_with(PARENT("Accepted", "True", 2));
    cleanup_json json_t *bad = route_with(PARENT("Accepted", "False", 2));
    cleanup_json json_t *other = route_with(PARENT("ResolvedRefs", "False", 2));
    assert_int_equal(route_news_refusal(news, "ns/sql", adapter, good, 1000), 0);
    /* A grant that comes a moment after its route is nothing to tell. */
    assert_int_equal(route_news_refusal(news, "ns/sql", adapter, bad, 1000), 5000);
    assert_int_equal(route_news_refusal(news, "ns/sql", adapter, bad, 2000), 4000);
    assert_int_equal(route_news_refusal(news, "ns/sql", adapter, good, 2000), 0);
    assert_int_equal(route_news_refusal(news, "ns/sql", adapter, bad, 2000), 5000);
    assert_int_equal(route_news_refusal(news, "ns/sql", adapter, bad, 7000), 0);
    assert_int_equal(route_news_refusal(news, "ns/sql", adapter, bad, 7000), 0);
    assert_int_equal(route_news_refusal(news, "ns/sql", adapter, other, 7000), 5000);
    assert_int_equal(route_news_refusal(news, "ns/sql", adapter, other, 12000), 0);
    expect_told(&world, "RouteRefused: HTTPRoute edge/sql-router: Gateway gate says Accepted=False, Why: so\n"
                        "RouteRefused: HTTPRoute edge/sql-router: Gateway gate says ResolvedRefs=False, Why: so\n");
    route_news_conflict(news, "ns/sql", adapter, bad);
    route_news_conflict(news, "ns/sql", adapter, bad);
    route_news_failure(news, adapter, "no");
    expect_told(&world,
                "RouteConflict: HTTPRoute edge/sql-router is not this adapter's but somebody else's: it is left alone, and the "
                "gateway does not know this adapter by it\nRouteFailed: no\n");
    route_news_free(news);
    event_recorder_free(events);
    buffer_release(&world.told);
    fake_api_release(&world.api);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_failure_is_news_once),
        cmocka_unit_test(test_what_gateways_say),
        cmocka_unit_test(test_a_gateways_refusal_is_told_after_a_while),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
