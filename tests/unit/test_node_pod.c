/* The life of a pod under a simulated clock: order of containers, back-off, probes, termination, and the status that tells it. */
#include "base/clock.h"
#include "cluster/node/launch.h"
#include "cluster/node/status.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define WALL 1800000000000

static struct pod *make_pod(const char *spec) {
    cleanup_free char *text =
        xasprintf("{\"metadata\":{\"name\":\"p\",\"namespace\":\"d\",\"uid\":\"u\",\"labels\":{\"x/y\":\"z\"}},\"spec\":%s}", spec);
    struct error err;
    json_t *object = json_parse(text, strlen(text), &err);
    assert_non_null(object);
    struct pod *pod = pod_new(object, "127.1.1.10", WALL);
    json_decref(object);
    return pod;
}

/* "start:a kill:b ..." of one decision; what is started is noted as running. */
static const char *decide(struct pod *pod, int64_t now_ms, int64_t *ret_next_ms) {
    static char text[4096];
    static const char *const names[] = {"start", "term", "kill", "probe", "gone"};
    struct pod_action actions[POD_ACTIONS_MAX];
    int64_t next_ms = 0;
    size_t count = pod_decide(pod, now_ms, actions, &next_ms);
    text[0] = '\0';
    for (size_t i = 0; i < count; i++) {
        size_t len = strlen(text);
        (void)snprintf(text + len, sizeof(text) - len, "%s%s:%s", i > 0 ? " " : "", names[actions[i].type],
                       actions[i].container != NULL ? actions[i].container->name : "");
        if (actions[i].type == POD_START) {
            pod_note_started(actions[i].container, (struct process_id){.pid = 7}, container_next_run(actions[i].container), now_ms,
                             WALL + now_ms);
        } else if (actions[i].type == POD_PROBE) {
            probe_note_sent(&actions[i].container->probes[actions[i].probe]);
        }
    }
    if (ret_next_ms != NULL) {
        *ret_next_ms = next_ms;
    }
    return text;
}

static void end(struct pod *pod, const char *name, int code, int64_t now_ms) {
    pod_note_ended(pod, pod_find_container(pod, name), PROCESS_END_EXITED, code, now_ms, WALL + now_ms);
}

static void assert_status(const struct pod *pod, const char *path_phase, const char *condition, const char *value) {
    cleanup_json json_t *status = pod_status(pod, NULL, WALL);
    assert_string_equal(json_string_at(status, "phase", ""), path_phase);
    size_t index = 0;
    json_t *item = NULL;
    json_array_foreach(json_object_get(status, "conditions"), index, item) {
        if (strcmp(json_string_at(item, "type", ""), condition) == 0) {
            assert_string_equal(json_string_at(item, "status", ""), value);
        }
    }
}

static void test_order_of_init_containers(void **state) {
    (void)state;
    struct pod *pod = make_pod(
        "{\"initContainers\":[{\"name\":\"i1\"},{\"name\":\"side\",\"restartPolicy\":\"Always\","
        "\"startupProbe\":{\"httpGet\":{\"port\":1}}},{\"name\":\"i2\"}],\"containers\":[{\"name\":\"a\"},{\"name\":\"b\"}]}");
    assert_string_equal(decide(pod, 0, NULL), "start:i1");
    assert_string_equal(decide(pod, 1, NULL), "");
    assert_status(pod, "Pending", "Initialized", "False");
    end(pod, "i1", 1, 2); /* fails: comes back at once */
    assert_string_equal(decide(pod, 2, NULL), "start:i1");
    end(pod, "i1", 0, 3);
    assert_string_equal(decide(pod, 3, NULL), "start:side");
    assert_string_equal(decide(pod, 4, NULL), "probe:side");
    bool is_counted = false;
    probe_record(&pod_find_container(pod, "side")->probes[PROBE_STARTUP], true, 5, &is_counted);
    assert_string_equal(decide(pod, 5, NULL), "start:i2");
    end(pod, "side", 1, 6); /* a sidecar is kept while the others go on */
    assert_string_equal(decide(pod, 6, NULL), "start:side");
    end(pod, "i2", 0, 7);
    (void)decide(pod, 7, NULL);
    probe_record(&pod_find_container(pod, "side")->probes[PROBE_STARTUP], true, 8, &is_counted);
    assert_string_equal(decide(pod, 9, NULL), "start:a start:b");
    assert_status(pod, "Running", "Ready", "True");
    pod_terminate(pod, 3000, 10);
    assert_string_equal(decide(pod, 10, NULL), "term:a term:b"); /* the sidecar goes last */
    assert_status(pod, "Running", "Ready", "False");
    end(pod, "a", 0, 11);
    end(pod, "b", 0, 12);
    assert_string_equal(decide(pod, 12, NULL), "term:side");
    assert_string_equal(decide(pod, 3011, NULL), "");
    assert_string_equal(decide(pod, 3012, NULL), "kill:side");
    assert_string_equal(decide(pod, 3013, NULL), "");
    end(pod, "side", 137, 3014);
    assert_string_equal(decide(pod, 3014, NULL), "gone:");
    pod_free(pod);
}

static void test_nothing_starts_without_an_address(void **state) {
    (void)state;
    struct pod *pod = make_pod("{\"containers\":[{\"name\":\"a\"},{\"name\":\"b\"}]}");
    pod_set_address(pod, "");
    assert_string_equal(decide(pod, 0, NULL), "");
    cleanup_json json_t *waiting = pod_status(pod, NULL, WALL);
    assert_null(json_object_get(waiting, "podIP"));
    assert_null(json_object_get(waiting, "podIPs"));
    pod_set_address(pod, "127.1.1.11");
    assert_string_equal(decide(pod, 0, NULL), "start:a start:b");
    cleanup_json json_t *running = pod_status(pod, waiting, WALL);
    assert_string_equal(json_string_at(running, "podIP", ""), "127.1.1.11");
    pod_free(pod);
    /* One that is deleted before it had one goes. */
    struct pod *deleted = make_pod("{\"containers\":[{\"name\":\"a\"}]}");
    pod_set_address(deleted, "");
    pod_terminate(deleted, 0, 0);
    assert_string_equal(decide(deleted, 0, NULL), "gone:");
    pod_free(deleted);
}

/* As many as the API takes: none is left out silently. */
static void test_every_container_counts(void **state) {
    (void)state;
    cleanup_buffer struct buffer spec = BUFFER_INIT;
    static const char *const lists[] = {"initContainers", "containers"};
    buffer_append_text(&spec, "{");
    for (int list = 0; list < 2; list++) {
        buffer_printf(&spec, "%s\"%s\":[", list > 0 ? "," : "", lists[list]);
        for (int i = 0; i < 64; i++) {
            buffer_printf(&spec, "%s{\"name\":\"%c%d\",\"restartPolicy\":\"Always\"}", i > 0 ? "," : "", list > 0 ? 'c' : 'i', i);
        }
        buffer_append_text(&spec, "]");
    }
    buffer_append_text(&spec, "}");
    struct pod *pod = make_pod(buffer_text(&spec));
    assert_int_equal(pod->container_count, 128);
    assert_non_null(pod_find_container(pod, "c63"));
    for (int round = 0; round < 66; round++) { /* sidecars one after another */
        (void)decide(pod, 0, NULL);
    }
    for (size_t i = 0; i < pod->container_count; i++) {
        assert_int_equal(pod->containers[i].state, CONTAINER_RUNNING);
    }
    cleanup_json json_t *status = pod_status(pod, NULL, WALL);
    assert_int_equal(json_array_size(json_object_get(status, "containerStatuses")), 64);
    assert_int_equal(json_array_size(json_object_get(status, "initContainerStatuses")), 64);
    pod_free(pod);
}

static void test_back_off(void **state) {
    (void)state;
    static const int64_t waits_s[] = {0, 10, 20, 40, 80, 160, 300, 300};
    struct pod *pod = make_pod("{\"containers\":[{\"name\":\"a\"}]}");
    int64_t now_ms = 5000;
    assert_string_equal(decide(pod, now_ms, NULL), "start:a");
    for (size_t i = 0; i < ARRAY_LEN(waits_s); i++) {
        now_ms += 1000;
        end(pod, "a", 7, now_ms);
        assert_int_equal(pod_find_container(pod, "a")->restart_count, i);
        int64_t next_ms = 0;
        if (waits_s[i] > 0) {
            assert_string_equal(decide(pod, now_ms, &next_ms), "");
            assert_int_equal(next_ms, now_ms + waits_s[i] * 1000);
            cleanup_json json_t *status = pod_status(pod, NULL, WALL);
            const json_t *container = json_array_get(json_object_get(status, "containerStatuses"), 0);
            assert_string_equal(json_string_at(container, "state.waiting.reason", ""), "CrashLoopBackOff");
            assert_int_equal(json_int_at(container, "lastState.terminated.exitCode", 0), 7);
            assert_string_equal(json_string_at(status, "phase", ""), "Running");
        }
        now_ms += waits_s[i] * 1000;
        assert_string_equal(decide(pod, now_ms, NULL), "start:a");
    }
    now_ms += POD_BACKOFF_RESET_MS;
    end(pod, "a", 7, now_ms);
    assert_string_equal(decide(pod, now_ms, NULL), "start:a");
    end(pod, "a", 7, now_ms + 1);
    int64_t next_ms = 0;
    assert_string_equal(decide(pod, now_ms + 1, &next_ms), "");
    assert_int_equal(next_ms, now_ms + 1 + 10000);
    pod_free(pod);
}

static void test_restart_policies(void **state) {
    (void)state;
    static const struct {
        const char *policy;
        int code;
        const char *phase;
    } cases[] = {{"Never", 0, "Succeeded"},
                 {"Never", 3, "Failed"},
                 {"OnFailure", 0, "Succeeded"},
                 {"OnFailure", 3, "Running"},
                 {"Always", 0, "Running"}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        cleanup_free char *spec = xasprintf("{\"restartPolicy\":\"%s\",\"containers\":[{\"name\":\"a\"}]}", cases[i].policy);
        struct pod *pod = make_pod(spec);
        (void)decide(pod, 0, NULL);
        end(pod, "a", cases[i].code, 1);
        assert_status(pod, cases[i].phase, "Ready", "False");
        assert_string_equal(decide(pod, 1, NULL), strcmp(cases[i].phase, "Running") == 0 ? "start:a" : "");
        pod_free(pod);
    }
}

static void test_readiness_is_asked_fast_and_liveness_restarts(void **state) {
    (void)state;
    struct pod *pod = make_pod(
        "{\"terminationGracePeriodSeconds\":2,\"containers\":[{\"name\":\"a\",\"readinessProbe\":{\"httpGet\":{\"port\":1},"
        "\"initialDelaySeconds\":30,\"periodSeconds\":10},\"livenessProbe\":{\"httpGet\":{\"port\":1},\"periodSeconds\":10,"
        "\"failureThreshold\":2}}]}");
    struct container *a = pod_find_container(pod, "a");
    static const int64_t asked_ms[] = {0, 250, 750, 1750, 2750};
    bool is_counted = false;
    int64_t next_ms = 0;
    assert_string_equal(decide(pod, 0, NULL), "start:a");
    for (size_t i = 0; i < ARRAY_LEN(asked_ms); i++) {
        assert_string_equal(decide(pod, asked_ms[i], NULL), "probe:a");
        assert_int_equal(probe_record(&a->probes[PROBE_READINESS], i == 4, asked_ms[i], &is_counted),
                         i == 4 ? PROBE_NOW_PASSING : PROBE_UNCHANGED);
        assert_false(is_counted);
        assert_int_equal(container_is_ready(a), i == 4);
        (void)decide(pod, asked_ms[i], &next_ms);
    }
    assert_int_equal(next_ms, 10000); /* liveness, after its first period; readiness again at 12750 */
    assert_string_equal(decide(pod, 10000, NULL), "probe:a");
    assert_int_equal(probe_record(&a->probes[PROBE_LIVENESS], false, 10000, &is_counted), PROBE_UNCHANGED);
    assert_true(is_counted);
    assert_string_equal(decide(pod, 20000, NULL), "probe:a probe:a");
    assert_int_equal(probe_record(&a->probes[PROBE_LIVENESS], false, 20000, &is_counted), PROBE_NOW_FAILING);
    pod_restart_container(a);
    assert_string_equal(decide(pod, 20000, &next_ms), "term:a");
    assert_int_equal(next_ms, 22000);
    assert_string_equal(decide(pod, 22000, NULL), "kill:a");
    pod_note_ended(pod, a, PROCESS_END_SIGNALED, 9, 22001, WALL);
    assert_int_equal(json_int_at(a->last_ended, "exitCode", 0), 137);
    assert_int_equal(json_int_at(a->last_ended, "signal", 0), 9);
    assert_string_equal(decide(pod, 22001, NULL), "start:a");
    assert_false(container_is_ready(a));
    pod_free(pod);
}

static void test_status_keeps_transition_times(void **state) {
    (void)state;
    struct pod *pod = make_pod("{\"containers\":[{\"name\":\"a\"}]}");
    cleanup_json json_t *first = pod_status(pod, NULL, WALL);
    cleanup_json json_t *second = pod_status(pod, first, WALL + 5000);
    assert_true(json_equal(first, second));
    (void)decide(pod, 0, NULL);
    cleanup_json json_t *third = pod_status(pod, second, WALL + 9000);
    assert_false(json_equal(second, third));
    char then[CLOCK_RFC3339_BYTES];
    clock_format_rfc3339(WALL, then);
    const json_t *scheduled = json_array_get(json_object_get(third, "conditions"), 0);
    assert_string_equal(json_string_at(scheduled, "lastTransitionTime", ""), then);
    json_object_set_new(second, "reason", json_string("Evicted"));
    cleanup_json json_t *patch = pod_status_patch(third, second);
    assert_true(json_is_null(json_at(patch, "status.reason")));
    pod_free(pod);
}

/* ---- launch ---- */

static const json_t *find_source(void *arg, bool is_secret, const char *namespace, const char *name, bool *ret_is_known) {
    (void)namespace;
    *ret_is_known = strcmp(name, "unknown") != 0;
    return is_secret && strcmp(name, "s") == 0 ? arg : NULL;
}

static enum launch_result launch(const char *container, struct launch *ret_launch, const char **ret_reason, struct error *err) {
    cleanup_free char *text = xasprintf("{\"containers\":[%s]}", container);
    struct pod *pod = make_pod(text);
    cleanup_json json_t *secret = json_pack("{s:{s:s}}", "data", "k", "dmFsdWU=");
    struct launch_input input = {.pod = pod->object,
                                 .container = pod->containers[0].spec,
                                 .pod_ip = "127.1.1.10",
                                 .node_name = "n",
                                 .cpus = 3,
                                 .find_source = find_source,
                                 .arg = secret};
    enum launch_result result = launch_prepare(&input, ret_launch, ret_reason, err);
    pod_free(pod);
    return result;
}

static void test_launch(void **state) {
    (void)state;
    struct launch ready = {0};
    const char *reason = NULL;
    struct error err = {0};
    assert_int_equal(
        launch("{\"name\":\"c\",\"command\":[\"sh\",\"$(A)\",\"$$(A)\",\"$(NO)\",\"$(\"],\"args\":[\"$(B)\"],\"env\":["
               "{\"name\":\"A\",\"value\":\"a$(POD_IP)\"},{\"name\":\"B\",\"valueFrom\":{\"secretKeyRef\":{\"name\":\"s\",\"key\":"
               "\"k\"}}},"
               "{\"name\":\"C\",\"valueFrom\":{\"resourceFieldRef\":{\"resource\":\"limits.cpu\"}}},"
               "{\"name\":\"D\",\"valueFrom\":{\"fieldRef\":{\"fieldPath\":\"metadata.labels['x/y']\"}}},"
               "{\"name\":\"E\",\"valueFrom\":{\"secretKeyRef\":{\"name\":\"none\",\"key\":\"k\",\"optional\":true}}}]}",
               &ready, &reason, &err),
        LAUNCH_READY);
    static const char *const arguments[] = {"sh", "a127.1.1.10", "$(A)", "$(NO)", "$(", "value"};
    for (size_t i = 0; i < ARRAY_LEN(arguments); i++) {
        assert_string_equal(ready.arguments[i], arguments[i]);
    }
    assert_null(ready.arguments[ARRAY_LEN(arguments)]);
    cleanup_buffer struct buffer all = BUFFER_INIT;
    for (char **at = ready.environment; *at != NULL; at++) {
        buffer_printf(&all, " %s ", *at);
    }
    assert_non_null(strstr(buffer_text(&all), " C=3 "));
    assert_non_null(strstr(buffer_text(&all), " D=z "));
    assert_non_null(strstr(buffer_text(&all), " POD_IP=127.1.1.10 "));
    assert_null(strstr(buffer_text(&all), " E="));
    launch_release(&ready);
}

static void test_launch_tells_the_cpu_limit(void **state) {
    (void)state;
    static const struct {
        const char *limits;
        const char *threads; /* on a machine of 3 CPUs; NULL = nothing is said */
    } cases[] = {{"{\"cpu\":\"1\"}", "DAVIT_THREADS=1"},
                 {"{\"cpu\":\"1500m\"}", "DAVIT_THREADS=2"},
                 {"{\"cpu\":2}", "DAVIT_THREADS=2"},
                 {"{\"cpu\":\"64\"}", NULL},
                 {"{\"cpu\":\"no\"}", NULL},
                 {"{\"memory\":\"1Gi\"}", NULL}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct launch ready = {0};
        const char *reason = "";
        struct error err = {0};
        cleanup_free char *container =
            xasprintf("{\"name\":\"c\",\"command\":[\"sh\"],\"resources\":{\"limits\":%s}}", cases[i].limits);
        assert_int_equal(launch(container, &ready, &reason, &err), LAUNCH_READY);
        const char *found = NULL;
        for (char **at = ready.environment; *at != NULL; at++) {
            found = strncmp(*at, "DAVIT_THREADS=", 14) == 0 ? *at : found;
        }
        assert_int_equal(found != NULL, cases[i].threads != NULL);
        if (found != NULL) {
            assert_string_equal(found, cases[i].threads);
        }
        launch_release(&ready);
    }
}

static void test_launch_refuses(void **state) {
    (void)state;
    static const struct {
        const char *container;
        enum launch_result result;
        const char *reason;
        const char *says;
    } cases[] = {
        {"{\"name\":\"c\"}", LAUNCH_FAILED, "CreateContainerError", "container \"c\" has no command"},
        {"{\"name\":\"c\",\"command\":[\"/no/such\"]}", LAUNCH_FAILED, "CreateContainerError",
         "\"/no/such\" does not exist on this machine"},
        {"{\"name\":\"c\",\"command\":[\"sh\"],\"env\":[{\"name\":\"A\",\"valueFrom\":{\"secretKeyRef\":{\"name\":\"no\",\"key\":"
         "\"k\"}}}]}",
         LAUNCH_FAILED, "CreateContainerConfigError", "secret \"no\" not found"},
        {"{\"name\":\"c\",\"command\":[\"sh\"],\"env\":[{\"name\":\"A\",\"valueFrom\":{\"secretKeyRef\":{\"name\":\"s\",\"key\":"
         "\"no\"}}}]}",
         LAUNCH_FAILED, "CreateContainerConfigError", "no key \"no\""},
        {"{\"name\":\"c\",\"command\":[\"sh\"],\"env\":[{\"name\":\"A\",\"valueFrom\":{\"secretKeyRef\":{\"name\":\"unknown\","
         "\"key\":\"k\"}}}]}",
         LAUNCH_NOT_YET, "CreateContainerConfigError", ""},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct launch ready = {0};
        const char *reason = "";
        struct error err = {0};
        assert_int_equal(launch(cases[i].container, &ready, &reason, &err), cases[i].result);
        assert_string_equal(reason, cases[i].reason);
        assert_non_null(strstr(err.message, cases[i].says));
    }
    assert_int_equal(quantity_milli("500m"), 500);
    assert_int_equal(quantity_milli("2"), 2000);
    assert_int_equal(quantity_milli("1Gi"), 1073741824000);
    assert_int_equal(quantity_milli("x"), -1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order_of_init_containers),
        cmocka_unit_test(test_nothing_starts_without_an_address),
        cmocka_unit_test(test_every_container_counts),
        cmocka_unit_test(test_back_off),
        cmocka_unit_test(test_restart_policies),
        cmocka_unit_test(test_readiness_is_asked_fast_and_liveness_restarts),
        cmocka_unit_test(test_status_keeps_transition_times),
        cmocka_unit_test(test_launch),
        cmocka_unit_test(test_launch_tells_the_cpu_limit),
        cmocka_unit_test(test_launch_refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
