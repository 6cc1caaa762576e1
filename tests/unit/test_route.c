/* From Kubernetes objects to routes. */
#include "gateway/models_page.h"
#include "gateway/route_table.h"

#include "base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static json_t *parse(const char *format, ...) DAVIT_PRINTF(1, 2);
static json_t *parse(const char *format, ...) {
    va_list args;
    va_start(args, format);
    char text[4096];
    assert_true((size_t)vsnprintf(text, sizeof(text), format, args) < sizeof(text));
    va_end(args);
    struct error err = {0};
    json_t *value = json_parse(text, strlen(text), &err);
    if (value == NULL) {
        fail_msg("%s: %s", err.message, text);
    }
    return value;
}

static bool set_pod(struct route_table *table, const char *namespace, const char *name, const char *model, const char *ip,
                    const char *ready, const char *more_metadata, const char *more_labels) {
    cleanup_json json_t *pod =
        parse("{\"metadata\":{\"name\":\"%s\",\"namespace\":\"%s\",\"creationTimestamp\":\"2026-11-23T10:00:00Z\"%s,"
              "\"labels\":{\"model.aibrix.ai/name\":\"%s\"%s}},"
              "\"status\":{\"podIP\":\"%s\",\"conditions\":[{\"type\":\"PodScheduled\",\"status\":\"True\"},{\"type\":\"Ready\","
              "\"status\":\"%s\"}]}}",
              name, namespace, more_metadata, model, more_labels, ip, ready);
    return route_table_set_pod(table, namespace, name, pod);
}

static bool ready_pod(struct route_table *table, const char *name, const char *ip) {
    return set_pod(table, "default", name, "base", ip, "True", "", "");
}

static bool set_adapter_of(struct route_table *table, const char *namespace, const char *name, const char *time) {
    cleanup_json json_t *adapter =
        parse("{\"metadata\":{\"name\":\"%s\",\"namespace\":\"%s\",\"uid\":\"uid-%s-%s\","
              "\"creationTimestamp\":\"2026-11-23T%sZ\"},"
              "\"spec\":{\"artifactURL\":\"https://user:secret@hub/%s?sig=secret\",\"baseModel\":\"base\"}}",
              name, namespace, namespace, name, time, name);
    return route_table_set_adapter(table, namespace, name, adapter);
}

static bool set_adapter(struct route_table *table, const char *namespace, const char *name) {
    return set_adapter_of(table, namespace, name, "11:00:00");
}

/* endpoints: JSON of the array's inside. */
static bool set_slice(struct route_table *table, const char *namespace, const char *name, const char *service,
                      const char *endpoints) {
    cleanup_json json_t *slice =
        parse("{\"metadata\":{\"name\":\"%s\",\"namespace\":\"%s\",\"labels\":{\"kubernetes.io/service-name\":\"%s\"},"
              "\"ownerReferences\":[{\"kind\":\"ModelAdapter\",\"name\":\"%s\",\"uid\":\"uid-%s-%s\"}]},"
              "\"addressType\":\"IPv4\",\"ports\":[{\"name\":\"http\",\"port\":8000}],\"endpoints\":[%s]}",
              name, namespace, service, service, namespace, service, endpoints);
    return route_table_set_slice(table, namespace, name, slice);
}

/* "host:port host:port" of a name, in order; "-" when unknown. */
static void expect_route(struct route_table *table, const char *name, const char *expected) {
    struct route_snapshot *snapshot = route_table_build(table);
    const struct route_model *model = route_find(snapshot, name);
    struct buffer text = BUFFER_INIT;
    buffer_append_text(&text, model == NULL ? "-" : "");
    for (size_t i = 0; model != NULL && i < model->endpoint_count; i++) {
        buffer_printf(&text, "%s%s:%d", i > 0 ? " " : "", model->endpoints[i]->host, model->endpoints[i]->port);
    }
    assert_string_equal(buffer_text(&text), expected);
    buffer_release(&text);
    route_snapshot_unref(snapshot);
}

static void test_base_models(void **state) {
    (void)state;
    struct route_table *table = route_table_new();
    expect_route(table, "base", "-");
    assert_true(set_pod(table, "default", "p1", "base", "10.0.0.1", "False", "", ""));
    expect_route(table, "base", ""); /* known, nobody ready */
    assert_true(ready_pod(table, "p1", "10.0.0.1"));
    assert_false(ready_pod(table, "p1", "10.0.0.1")); /* a heartbeat changes nothing */
    assert_true(set_pod(table, "other", "p2", "base", "10.0.0.2", "True", "", ",\"model.aibrix.ai/port\":\"9000\""));
    expect_route(table, "base", "10.0.0.1:8000 10.0.0.2:9000");
    set_pod(table, "default", "p1", "base", "10.0.0.1", "True", ",\"deletionTimestamp\":\"2026-11-23T12:00:00Z\"", "");
    expect_route(table, "base", "10.0.0.2:9000");
    set_pod(table, "default", "p1", "base", "10.0.0.1", "False", ",\"deletionTimestamp\":\"2026-11-23T12:00:00Z\"", "");
    assert_true(route_table_set_pod(table, "other", "p2", NULL));
    assert_false(route_table_set_pod(table, "other", "p2", NULL));
    expect_route(table, "base", "");
    route_table_set_pod(table, "default", "p1", NULL);
    expect_route(table, "base", "-");
    set_pod(table, "default", "p3", "base", "not-an-address", "True", "", "");
    expect_route(table, "base", "");
    set_pod(table, "default", "p4", "base", "fd00::4", "True", "", ",\"model.aibrix.ai/port\":\"99999\"");
    expect_route(table, "base", "fd00::4:8000");
    route_table_free(table);
}

static void test_adapters(void **state) {
    (void)state;
    struct route_table *table = route_table_new();
    ready_pod(table, "p1", "10.0.0.1");
    ready_pod(table, "p2", "10.0.0.2");
    assert_true(set_adapter(table, "default", "sql"));
    assert_false(set_adapter(table, "default", "sql"));
    expect_route(table, "sql", "");
    assert_true(set_slice(table, "default", "sql", "sql",
                          "{\"addresses\":[\"10.0.0.1\"],\"targetRef\":{\"kind\":\"Pod\",\"name\":\"p1\"}},"
                          "{\"addresses\":[\"10.0.0.2\"],\"conditions\":{\"ready\":true}},"
                          "{\"addresses\":[\"10.0.0.3\"],\"conditions\":{\"ready\":false}},"
                          "{\"addresses\":[\"host.example\"]},{\"addresses\":[]}"));
    expect_route(table, "sql", "10.0.0.1:8000 10.0.0.2:8000");
    /* A pod that is not ready, going or gone leaves, by targetRef and by address. */
    set_pod(table, "default", "p1", "base", "10.0.0.1", "False", "", "");
    expect_route(table, "sql", "10.0.0.2:8000");
    ready_pod(table, "p1", "10.0.0.1");
    route_table_set_pod(table, "default", "p2", NULL);
    expect_route(table, "sql", "10.0.0.1:8000");
    route_table_set_pod(table, "default", "p1", NULL);
    expect_route(table, "sql", "");
    /* A new pod took over the address; the slice still names the old one. */
    ready_pod(table, "p9", "10.0.0.1");
    expect_route(table, "sql", "");
    /* Only the slice that the adapter owns counts. */
    set_slice(table, "default", "sql", "sql", "{\"addresses\":[\"10.0.0.1\"]}");
    expect_route(table, "sql", "10.0.0.1:8000");
    cleanup_json json_t *foreign =
        parse("{\"metadata\":{\"labels\":{\"kubernetes.io/service-name\":\"sql\"}},\"ports\":[{\"port\":8000}],"
              "\"endpoints\":[{\"addresses\":[\"10.6.6.6\"]}]}");
    assert_false(route_table_set_slice(table, "default", "foreign", foreign));
    expect_route(table, "sql", "10.0.0.1:8000");
    /* More slices of one adapter, the same endpoint twice, an unwatched pod. */
    set_slice(table, "default", "sql.2", "sql", "{\"addresses\":[\"10.0.0.1\"]},{\"addresses\":[\"10.0.0.50\"]}");
    expect_route(table, "sql", "10.0.0.1:8000 10.0.0.50:8000");
    assert_true(route_table_set_slice(table, "default", "sql.2", NULL));
    assert_false(route_table_set_slice(table, "default", "sql.2", NULL));
    /* Deleted: the name is unknown at once, slice or not; made again with another uid: the old slice is not its own. */
    assert_true(route_table_set_adapter(table, "default", "sql", NULL));
    expect_route(table, "sql", "-");
    cleanup_json json_t *again = parse("{\"metadata\":{\"uid\":\"other\"},\"spec\":{\"artifactURL\":\"/x\"}}");
    route_table_set_adapter(table, "default", "sql", again);
    expect_route(table, "sql", "");
    route_table_set_slice(table, "default", "sql", NULL);
    route_table_set_adapter(table, "default", "sql", NULL);
    assert_false(route_table_set_adapter(table, "default", "sql", NULL));
    route_table_free(table);
}

/* "namespace/name<namespace of who has it[ new]" of the hidden adapters. */
static void expect_hidden(struct route_table *table, const char *expected) {
    size_t count = 0;
    const struct route_hidden *hidden = route_table_hidden(table, &count);
    struct buffer text = BUFFER_INIT;
    for (size_t i = 0; i < count; i++) {
        buffer_printf(&text, "%s%s/%s<%s%s", i > 0 ? " " : "", hidden[i].namespace, hidden[i].name, hidden[i].by,
                      hidden[i].is_new ? " new" : "");
    }
    assert_string_equal(buffer_text(&text), expected);
    buffer_release(&text);
}

static void test_equal_names(void **state) {
    (void)state;
    struct route_table *table = route_table_new();
    ready_pod(table, "p1", "10.0.0.1");
    set_adapter_of(table, "team-b", "sql", "11:00:00");
    set_slice(table, "team-b", "sql", "sql", "{\"addresses\":[\"10.0.0.11\"]}");
    expect_route(table, "sql", "10.0.0.11:8000");
    expect_hidden(table, "");
    /* Who comes later does not get the name, though its namespace is the first in the alphabet. It is told once. */
    set_adapter_of(table, "team-a", "sql", "11:00:01");
    set_slice(table, "team-a", "sql", "sql", "{\"addresses\":[\"10.0.0.10\"]}");
    expect_route(table, "sql", "10.0.0.11:8000");
    expect_hidden(table, "team-a/sql<team-b new");
    expect_route(table, "sql", "10.0.0.11:8000");
    expect_hidden(table, "team-a/sql<team-b");
    /* Of the same second: by uid ("uid-team-0-sql" is before "uid-team-b-sql"). */
    set_adapter_of(table, "team-0", "sql", "11:00:00");
    expect_route(table, "sql", "");
    expect_hidden(table, "team-b/sql<team-0 new team-a/sql<team-0 new");
    route_table_set_adapter(table, "team-0", "sql", NULL);
    expect_route(table, "sql", "10.0.0.11:8000");
    expect_hidden(table, "team-a/sql<team-b new");
    /* The owner made anew is younger now. */
    route_table_set_adapter(table, "team-b", "sql", NULL);
    expect_route(table, "sql", "10.0.0.10:8000");
    expect_hidden(table, "");
    set_adapter_of(table, "team-b", "sql", "12:00:00");
    expect_route(table, "sql", "10.0.0.10:8000");
    /* A watch that starts anew may show it so without a deletion in between. */
    set_adapter_of(table, "team-a", "sql", "13:00:00");
    expect_route(table, "sql", "10.0.0.11:8000");
    expect_hidden(table, "team-a/sql<team-b new");
    /* A base model's name is never an adapter's, however old that is. */
    set_adapter_of(table, "team-a", "base", "01:00:00");
    set_slice(table, "team-a", "base", "base", "{\"addresses\":[\"10.0.0.10\"]}");
    expect_route(table, "base", "10.0.0.1:8000");
    expect_hidden(table, "team-a/base< new team-a/sql<team-b");
    route_table_set_pod(table, "default", "p1", NULL);
    expect_route(table, "base", "10.0.0.10:8000");
    expect_hidden(table, "team-a/sql<team-b");
    route_table_free(table);
}

static void test_what_is_about_to_go(void **state) {
    (void)state;
    static const char deleting[] = ",\"deletionTimestamp\":\"2026-11-23T12:00:00Z\"";
    struct route_table *table = route_table_new();
    ready_pod(table, "p1", "10.0.0.1");
    set_pod(table, "default", "p2", "base", "10.0.0.2", "True", deleting, "");
    set_pod(table, "default", "p3", "base", "10.0.0.3", "True", deleting, "");
    set_pod(table, "default", "p4", "base", "10.0.0.4", "False", deleting, "");
    set_adapter(table, "default", "sql");
    set_slice(table, "default", "sql", "sql",
              "{\"addresses\":[\"10.0.0.1\"],\"targetRef\":{\"kind\":\"Pod\",\"name\":\"p1\"}},"
              "{\"addresses\":[\"10.0.0.2\"],\"targetRef\":{\"kind\":\"Pod\",\"name\":\"p2\"}},"
              "{\"addresses\":[\"10.0.0.4\"],\"targetRef\":{\"kind\":\"Pod\",\"name\":\"p4\"}},"
              "{\"addresses\":[\"10.0.0.50\"],\"conditions\":{\"ready\":false,\"serving\":true,\"terminating\":true}},"
              "{\"addresses\":[\"10.0.0.51\"],\"conditions\":{\"ready\":false,\"serving\":false,\"terminating\":true}},"
              "{\"addresses\":[\"10.0.0.52\"],\"conditions\":{\"ready\":false,\"serving\":true}},"
              "{\"addresses\":[\"10.0.0.53\"],\"conditions\":{\"ready\":false}}");
    expect_route(table, "base", "10.0.0.1:8000");
    expect_route(table, "sql", "10.0.0.1:8000");
    /* Nothing is ready: what still serves is better than nothing. */
    set_pod(table, "default", "p1", "base", "10.0.0.1", "False", "", "");
    expect_route(table, "base", "10.0.0.2:8000 10.0.0.3:8000");
    expect_route(table, "sql", "10.0.0.2:8000 10.0.0.50:8000");
    ready_pod(table, "p1", "10.0.0.1");
    expect_route(table, "base", "10.0.0.1:8000");
    expect_route(table, "sql", "10.0.0.1:8000");
    /* A condition alone that changes is a change. */
    assert_true(set_slice(table, "default", "sql", "sql",
                          "{\"addresses\":[\"10.0.0.50\"],\"conditions\":{\"ready\":false,\"serving\":true,\"terminating\":true}},"
                          "{\"addresses\":[\"10.0.0.60\"]}"));
    expect_route(table, "sql", "10.0.0.60:8000");
    assert_true(set_slice(table, "default", "sql", "sql", "{\"addresses\":[\"10.0.0.50\"]},{\"addresses\":[\"10.0.0.60\"]}"));
    expect_route(table, "sql", "10.0.0.50:8000 10.0.0.60:8000");
    route_table_free(table);
}

static void test_address_families_and_several_slices(void **state) {
    (void)state;
    struct route_table *table = route_table_new();
    cleanup_json json_t *dual =
        parse("{\"metadata\":{\"labels\":{\"model.aibrix.ai/name\":\"base\"}},\"status\":{\"podIP\":\"10.0.0.1\",\"podIPs\":["
              "{\"ip\":\"10.0.0.1\"},{\"ip\":\"fd00:0:0::1\"}],\"conditions\":[{\"type\":\"Ready\",\"status\":\"True\"}]}}");
    assert_true(route_table_set_pod(table, "default", "p1", dual));
    set_pod(table, "default", "p6", "base", "FD00::0:6", "True", "", "");
    expect_route(table, "base", "10.0.0.1:8000 fd00::6:8000");
    set_adapter(table, "default", "sql");
    /* A slice a family, and a second one of a family: every pod is one endpoint, also the one that is not watched. */
    set_slice(table, "default", "sql", "sql",
              "{\"addresses\":[\"10.0.0.1\"],\"targetRef\":{\"kind\":\"Pod\",\"name\":\"p1\"}},"
              "{\"addresses\":[\"10.0.0.9\"],\"targetRef\":{\"kind\":\"Pod\",\"name\":\"p9\"}}");
    set_slice(table, "default", "sql.2", "sql",
              "{\"addresses\":[\"fd00::1\"],\"targetRef\":{\"kind\":\"Pod\",\"name\":\"p1\"}},"
              "{\"addresses\":[\"fd00::9\"],\"targetRef\":{\"kind\":\"Pod\",\"name\":\"p9\"}},"
              "{\"addresses\":[\"fd00::6\"],\"targetRef\":{\"kind\":\"Pod\",\"name\":\"p6\"}}");
    set_slice(table, "default", "sql.3", "sql", "{\"addresses\":[\"10.0.0.1\"]},{\"addresses\":[\"10.0.0.20\"]}");
    expect_route(table, "sql", "10.0.0.1:8000 10.0.0.20:8000 10.0.0.9:8000 fd00::6:8000");
    /* Only the slice of the pod's second family is left. */
    route_table_set_slice(table, "default", "sql", NULL);
    route_table_set_slice(table, "default", "sql.3", NULL);
    expect_route(table, "sql", "10.0.0.1:8000 fd00::9:8000 fd00::6:8000");
    /* An address that is not the pod's (any more) is not asked. */
    set_slice(table, "default", "sql.2", "sql", "{\"addresses\":[\"fd00::2\"],\"targetRef\":{\"kind\":\"Pod\",\"name\":\"p1\"}}");
    expect_route(table, "sql", "");
    route_table_free(table);
}

static const char *engine_name(const struct route_snapshot *snapshot, const char *host) {
    const struct route_model *model = route_find(snapshot, "sql");
    for (size_t i = 0; i < model->endpoint_count; i++) {
        if (strcmp(model->endpoints[i]->host, host) == 0) {
            return route_engine_name(model, model->endpoints[i]);
        }
    }
    return NULL;
}

static bool set_named_slice(struct route_table *table, const char *names) {
    cleanup_json json_t *slice =
        parse("{\"metadata\":{\"name\":\"sql\",\"labels\":{\"kubernetes.io/service-name\":\"sql\"},"
              "\"annotations\":{\"adapter.model.aibrix.ai/engine-names\":%s},"
              "\"ownerReferences\":[{\"kind\":\"ModelAdapter\",\"name\":\"sql\",\"uid\":\"uid-default-sql\"}]},"
              "\"ports\":[{\"name\":\"http\",\"port\":8000}],\"endpoints\":["
              "{\"addresses\":[\"10.0.0.1\"],\"targetRef\":{\"kind\":\"Pod\",\"name\":\"p1\"}},"
              "{\"addresses\":[\"10.0.0.2\"],\"targetRef\":{\"kind\":\"Pod\",\"name\":\"p2\"}},"
              "{\"addresses\":[\"10.0.0.3\"]}]}",
              names);
    return route_table_set_slice(table, "default", "sql", slice);
}

static void test_engine_names(void **state) {
    (void)state;
    struct route_table *table = route_table_new();
    ready_pod(table, "p1", "10.0.0.1"); /* p2 is not watched */
    set_adapter(table, "default", "sql");
    assert_true(set_named_slice(table, "\"{\\\"p1\\\":\\\"sql-1\\\",\\\"p2\\\":\\\"sql-2\\\",\\\"p3\\\":\\\"sql-3\\\"}\""));
    struct route_snapshot *old = route_table_build(table);
    assert_string_equal(engine_name(old, "10.0.0.1"), "sql-1");
    assert_string_equal(engine_name(old, "10.0.0.2"), "sql-2");
    assert_string_equal(engine_name(old, "10.0.0.3"), "sql");
    /* The pods' base model keeps its name, though it is the same endpoint. */
    const struct route_model *base = route_find(old, "base");
    assert_string_equal(route_engine_name(base, base->endpoints[0]), "base");
    /* A name alone that changes is a change; who is not in it has the public name. Snapshots in use stay. */
    assert_true(set_named_slice(table, "\"{\\\"p1\\\":\\\"sql-9\\\"}\""));
    assert_false(set_named_slice(table, "\"{\\\"p1\\\": \\\"sql-9\\\"}\""));
    struct route_snapshot *new = route_table_build(table);
    assert_string_equal(engine_name(new, "10.0.0.1"), "sql-9");
    assert_string_equal(engine_name(new, "10.0.0.2"), "sql");
    assert_string_equal(engine_name(old, "10.0.0.1"), "sql-1");
    route_snapshot_unref(old);
    route_snapshot_unref(new);
    /* Not understood: the public names. */
    static const char *const bad[] = {"\"{\"", "\"[]\"", "\"{\\\"p1\\\":7}\"", "7"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        set_named_slice(table, bad[i]);
        new = route_table_build(table);
        assert_string_equal(engine_name(new, "10.0.0.1"), "sql");
        route_snapshot_unref(new);
    }
    route_table_free(table);
}

static void test_slice_before_adapter(void **state) {
    (void)state;
    struct route_table *table = route_table_new();
    set_slice(table, "default", "sql", "sql", "{\"addresses\":[\"10.0.0.1\"]}");
    expect_route(table, "sql", "-");
    set_adapter(table, "default", "sql");
    expect_route(table, "sql", "10.0.0.1:8000");
    route_table_free(table);
}

static void test_old_snapshots_stay(void **state) {
    (void)state;
    struct route_table *table = route_table_new();
    ready_pod(table, "p1", "10.0.0.1");
    struct route_snapshot *old = route_table_build(table);
    const struct route_endpoint *endpoint = route_find(old, "base")->endpoints[0];
    assert_string_equal(endpoint->pod, "p1");
    assert_string_equal(endpoint->base, "base");
    assert_false(endpoint->is_sglang);
    /* What is known of the pod changes: a new object, the same counter. */
    set_pod(table, "default", "p1", "base", "10.0.0.1", "True", "", ",\"model.aibrix.ai/engine\":\"sglang\"");
    struct route_snapshot *new = route_table_build(table);
    const struct route_endpoint *other = route_find(new, "base")->endpoints[0];
    assert_ptr_not_equal(endpoint, other);
    assert_ptr_equal(endpoint->load, other->load);
    assert_true(other->is_sglang);
    assert_false(endpoint->is_sglang);
    route_snapshot_unref(old);
    route_snapshot_unref(new);
    route_table_free(table);
}

static void test_models_page(void **state) {
    (void)state;
    struct route_table *table = route_table_new();
    ready_pod(table, "p1", "10.0.0.1");
    set_adapter(table, "default", "sql");
    set_adapter(table, "default", "pending");
    set_slice(table, "default", "sql", "sql", "{\"addresses\":[\"10.0.0.1\"]}");
    struct route_snapshot *snapshot = route_table_build(table);
    struct buffer page = BUFFER_INIT;
    models_page_list(snapshot, &page);
    assert_string_equal(
        page.data,
        "{\"object\":\"list\",\"data\":["
        "{\"id\":\"base\",\"object\":\"model\",\"created\":1795428000,\"owned_by\":\"davit\",\"root\":\"base\",\"parent\":null},"
        "{\"id\":\"sql\",\"object\":\"model\",\"created\":1795431600,\"owned_by\":\"davit\",\"root\":\"https://hub/"
        "sql\",\"parent\":\"base\"}]}");
    buffer_release(&page);
    route_snapshot_unref(snapshot);
    route_table_free(table);
}

/* 10,000 adapters on two of a hundred pods each. The bounds are wide: they catch a build whose cost goes with the square. */
static void test_ten_thousand_adapters(void **state) {
    (void)state;
    struct route_table *table = route_table_new();
    char name[64];
    for (int i = 0; i < 100; i++) {
        char ip[32];
        (void)snprintf(ip, sizeof(ip), "10.0.0.%d", i + 1);
        (void)snprintf(name, sizeof(name), "pod-%d", i);
        ready_pod(table, name, ip);
    }
    for (int i = 0; i < 10000; i++) {
        char endpoints[256];
        (void)snprintf(name, sizeof(name), "adapter-%d", i);
        (void)snprintf(endpoints, sizeof(endpoints), "{\"addresses\":[\"10.0.0.%d\"]},{\"addresses\":[\"10.0.0.%d\"]}", i % 100 + 1,
                       (i + 1) % 100 + 1);
        set_adapter(table, "default", name);
        set_slice(table, "default", name, name, endpoints);
    }
    int64_t before_ns = clock_now_ns();
    struct route_snapshot *first = route_table_build(table);
    int64_t full_us = (clock_now_ns() - before_ns) / 1000;
    set_slice(table, "default", "adapter-7", "adapter-7", "{\"addresses\":[\"10.0.0.9\"]}");
    before_ns = clock_now_ns();
    struct route_snapshot *second = route_table_build(table);
    int64_t one_us = (clock_now_ns() - before_ns) / 1000;
    print_message("10,000 adapters: full build %lld us, after one change %lld us\n", (long long)full_us, (long long)one_us);
    assert_int_equal(second->count, 10001);
    assert_int_equal(route_find(second, "adapter-7")->endpoint_count, 1);
    assert_int_equal(route_find(second, "adapter-9999")->endpoint_count, 2);
    assert_ptr_equal(route_find(first, "adapter-8"), route_find(second, "adapter-8")); /* shared */
    assert_true(full_us < 2000000);
    assert_true(one_us < 500000);
    route_snapshot_unref(first);
    route_snapshot_unref(second);
    route_table_free(table);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_base_models),
        cmocka_unit_test(test_adapters),
        cmocka_unit_test(test_equal_names),
        cmocka_unit_test(test_what_is_about_to_go),
        cmocka_unit_test(test_address_families_and_several_slices),
        cmocka_unit_test(test_engine_names),
        cmocka_unit_test(test_slice_before_adapter),
        cmocka_unit_test(test_old_snapshots_stay),

        cmocka_unit_test(test_models_page),
        cmocka_unit_test(test_ten_thousand_adapters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
