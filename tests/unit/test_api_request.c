/* What a request to the API names and asks for: paths, Accept, field selectors; and tables. */
#include "cluster/api/columns.h"
#include "cluster/api/fields.h"
#include "cluster/api/status.h"
#include "cluster/api/target.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void assert_text(const char *have, const char *want) {
    if (want == NULL) {
        assert_null(have);
    } else {
        assert_non_null(have);
        assert_string_equal(have, want);
    }
}

static void test_paths(void **state) {
    (void)state;
    static const struct {
        const char *path;
        const char *plural; /* NULL = not a resource */
        const char *namespace;
        const char *name;
        const char *subresource;
    } cases[] = {
        {"/api/v1/pods", "pods", NULL, NULL, NULL},
        {"/api/v1/namespaces/default/pods", "pods", "default", NULL, NULL},
        {"/api/v1/namespaces/default/pods/", "pods", "default", NULL, NULL},
        {"/api/v1/namespaces/default/pods/x", "pods", "default", "x", NULL},
        {"/api/v1/namespaces/default/pods/x/log", "pods", "default", "x", "log"},
        {"/api/v1/namespaces", "namespaces", NULL, NULL, NULL},
        {"/api/v1/namespaces/default", "namespaces", NULL, "default", NULL},
        {"/api/v1/namespaces/default/status", "namespaces", NULL, "default", "status"},
        {"/apis/apps/v1/namespaces/a/deployments/b/scale", "deployments", "a", "b", "scale"},
        {"/apis/model.aibrix.ai/v1alpha1/modeladapters", "modeladapters", NULL, NULL, NULL},
        {"/api/v1/nodes/n", "nodes", NULL, "n", NULL},
        {"/api/v1/pods/x", NULL, NULL, NULL, NULL},                   /* a name without its namespace */
        {"/api/v1/namespaces/default/nodes", NULL, NULL, NULL, NULL}, /* cluster-scoped */
        {"/api/v1/namespaces/default/pods/x/log/y", NULL, NULL, NULL, NULL},
        {"/api/v1//pods", NULL, NULL, NULL, NULL},
        {"/api/v1/widgets", NULL, NULL, NULL, NULL},
        {"/api/v2/pods", NULL, NULL, NULL, NULL},
        {"/apis/apps/v1", NULL, NULL, NULL, NULL},
        {"/api", NULL, NULL, NULL, NULL},
        {"/", NULL, NULL, NULL, NULL},
        {"", NULL, NULL, NULL, NULL},
        {"/api/v1/a/b/c/d/e/f/g/h/i/j/k/l", NULL, NULL, NULL, NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct target target;
        bool is_ok = target_parse(cases[i].path, &target);
        if (is_ok != (cases[i].plural != NULL)) {
            fail_msg("%s: %s", cases[i].path, is_ok ? "accepted" : "refused");
        }
        if (is_ok) {
            assert_string_equal(target.resource->plural, cases[i].plural);
            assert_text(target.namespace, cases[i].namespace);
            assert_text(target.name, cases[i].name);
            assert_text(target.subresource, cases[i].subresource);
        }
        target_release(&target);
    }
}

static void test_accept(void **state) {
    (void)state;
    static const struct {
        const char *accept;
        enum answer_form form;
    } cases[] = {
        {NULL, FORM_OBJECT},
        {"*/*", FORM_OBJECT},
        {"application/json", FORM_OBJECT},
        {"application/vnd.kubernetes.protobuf,application/json", FORM_OBJECT},
        {"application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json",
         FORM_TABLE},
        {"application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1", FORM_PARTIAL},
        {"application/vnd.kubernetes.protobuf", FORM_NOT_ACCEPTABLE},
        {"text/html", FORM_NOT_ACCEPTABLE},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        assert_int_equal(accept_parse(cases[i].accept), cases[i].form);
    }
}

static void test_fields(void **state) {
    (void)state;
    const struct resource *pods = resource_find("", "v1", "pods");
    cleanup_json json_t *pod = json_pack("{s:{s:s, s:s}, s:{s:s}, s:{s:s}}", "metadata", "name", "p,1", "namespace", "d", "status",
                                         "phase", "Running", "spec", "nodeName", "n");
    static const struct {
        const char *text;
        int result; /* 1 matches, 0 not, -1 refused */
    } cases[] = {
        {"", 1},
        {"metadata.name=p\\,1", 1},
        {"metadata.name==p\\,1,status.phase!=Failed", 1},
        {"metadata.namespace=d,spec.nodeName=m", 0},
        {"status.phase!=Running", 0},
        {"status.podIP=", 1},
        {"spec.foo=1", -1},
        {"status.phase", -1},
        {"=x", -1},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct field_selector selector;
        cleanup_json json_t *status = field_selector_parse(pods, cases[i].text, &selector);
        if ((status != NULL) != (cases[i].result < 0)) {
            fail_msg("%s: %s", cases[i].text, status != NULL ? json_string_at(status, "message", "") : "accepted");
        }
        if (status == NULL) {
            assert_int_equal(field_selector_matches(&selector, pod), cases[i].result);
        } else {
            assert_int_equal(status_code(status), 400);
        }
        field_selector_release(&selector);
    }
}

static void test_durations(void **state) {
    (void)state;
    static const struct {
        int64_t seconds;
        const char *text;
    } cases[] = {
        {0, "0s"},
        {119, "119s"},
        {120, "2m"},
        {135, "2m15s"},
        {3600, "60m"},
        {3600 * 3, "3h"},
        {3600 * 7 + 60, "7h1m"},
        {3600 * 47, "47h"},
        {3600 * 50, "2d2h"},
        {86400LL * 10, "10d"},
        {86400LL * 800, "2y70d"},
        {86400LL * 3650, "10y"},
        {-5, "<invalid>"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char text[32];
        columns_format_duration(cases[i].seconds * 1000, text);
        assert_string_equal(text, cases[i].text);
    }
}

static void assert_pod_row(const char *pod_text, const char *ready, const char *status, const char *restarts) {
    struct error err;
    cleanup_json json_t *pod = json_parse(pod_text, strlen(pod_text), &err);
    cleanup_json json_t *cells = json_array();
    cells_pod(pod, 1700000000000, cells);
    assert_string_equal(json_string_value(json_array_get(cells, 1)), ready);
    assert_string_equal(json_string_value(json_array_get(cells, 2)), status);
    assert_string_equal(json_string_value(json_array_get(cells, 3)), restarts);
    size_t columns = 0;
    while (columns_pod[columns].name != NULL) {
        columns++;
    }
    assert_int_equal(json_array_size(cells), columns);
}

static void test_pod_rows(void **state) {
    (void)state;
    assert_pod_row("{\"spec\":{\"containers\":[{\"name\":\"a\"}]},\"status\":{\"phase\":\"Pending\"}}", "0/1", "Pending", "0");
    assert_pod_row(
        "{\"spec\":{\"containers\":[{\"name\":\"a\"},{\"name\":\"b\"}]},\"status\":{\"phase\":\"Running\",\"containerStatuses\":["
        "{\"name\":\"a\",\"ready\":true,\"state\":{\"running\":{}}},{\"name\":\"b\",\"ready\":false,\"restartCount\":3,"
        "\"state\":{\"waiting\":{\"reason\":\"CrashLoopBackOff\"}},\"lastState\":{\"terminated\":{\"finishedAt\":\"2023-11-14T22:"
        "13:10Z\"}}}]}}",
        "1/2", "CrashLoopBackOff", "3 (10s ago)");
    assert_pod_row(
        "{\"metadata\":{\"deletionTimestamp\":\"2023-11-14T22:13:10Z\"},\"spec\":{\"containers\":[{\"name\":\"a\"}]},\"status\":"
        "{\"phase\":\"Running\"}}",
        "0/1", "Terminating", "0");
    assert_pod_row("{\"spec\":{\"containers\":[{\"name\":\"a\"}]},\"status\":{\"phase\":\"Running\",\"containerStatuses\":[{"
                   "\"name\":\"a\",\"state\":"
                   "{\"terminated\":{\"exitCode\":3}}}]}}",
                   "0/1", "ExitCode:3", "0");
    assert_pod_row(
        "{\"spec\":{\"containers\":[{\"name\":\"a\"}],\"initContainers\":[{\"name\":\"i\"}]},\"status\":{\"phase\":\"Pending\","
        "\"initContainerStatuses\":[{\"name\":\"i\",\"state\":{\"running\":{}}}]}}",
        "0/1", "Init:0/1", "0");
}

/* Every kind appends exactly one cell a column, also for an object that holds nothing. */
static void test_rows_have_all_cells(void **state) {
    (void)state;
    cleanup_json json_t *empty = json_object();
    for (const struct resource *resource = resource_table; resource->plural != NULL; resource++) {
        cleanup_json json_t *cells = json_array();
        resource->cells(empty, 0, cells);
        size_t columns = 0;
        while (resource->columns[columns].name != NULL) {
            columns++;
        }
        assert_int_equal(json_array_size(cells), columns);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_paths),     cmocka_unit_test(test_accept),   cmocka_unit_test(test_fields),
        cmocka_unit_test(test_durations), cmocka_unit_test(test_pod_rows), cmocka_unit_test(test_rows_have_all_cells),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
