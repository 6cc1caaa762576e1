/* All pods of a node together, with real processes and an API that is away. */
#include "fake_api.h"

#include "cluster/node/kubelet.h"
#include "cluster/node/node.h"

#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

struct fixture {
    char folder[64];
    struct fake_api api;
    struct net net;
    struct transfers *probes;
    struct event_recorder *events;
    struct watch_cache *pods;
    struct kubelet *kubelet;
    const char *wanted; /* the pod that is waited for */
};

static void refuse(void *arg, struct http_request *request) {
    (void)arg;
    http_reply(request, 503, "text/plain", "", 0);
}

static int set_up(void **state) {
    struct fixture *fixture = xcalloc(1, sizeof(*fixture));
    struct error err;
    (void)snprintf(fixture->folder, sizeof(fixture->folder), "/tmp/davit-test-kubelet.XXXXXX");
    assert_non_null(mkdtemp(fixture->folder));
    fake_api_init(&fixture->api, refuse, fixture);
    if (net_take(fixture->folder, NULL, &fixture->net, &err) < 0) {
        fail_msg("%s", err.message);
    }
    fixture->probes = transfers_new(fixture->api.loop);
    fixture->events = event_recorder_new(fixture->api.client, "test");
    fixture->pods = watch_cache_new(&(struct watch_cache_options){.client = fixture->api.client, .resource = &kube_pods});
    fixture->kubelet = kubelet_new(&(struct kubelet_options){.client = fixture->api.client,
                                                             .transfers = fixture->probes,
                                                             .events = fixture->events,
                                                             .pods = fixture->pods,
                                                             .net = &fixture->net,
                                                             .folder = fixture->folder,
                                                             .node_name = "n",
                                                             .cpus = 1});
    *state = fixture;
    return 0;
}

static int tear_down(void **state) {
    struct fixture *fixture = *state;
    struct error err;
    kubelet_free(fixture->kubelet);
    watch_cache_free(fixture->pods);
    event_recorder_free(fixture->events);
    transfers_free(fixture->probes);
    fake_api_release(&fixture->api);
    net_release(&fixture->net);
    assert_int_equal(node_kill_all(fixture->folder, 5000, NULL, &err), 0);
    cleanup_free char *command = xasprintf("rm -rf %s", fixture->folder);
    assert_int_equal(system(command), 0);
    free(fixture);
    return 0;
}

static json_t *pod_of(struct fixture *fixture, const char *name) {
    json_t *object =
        json_pack("{s:s, s:s, s:{s:s, s:s, s:s, s:s}, s:{s:s, s:i, s:[{s:s, s:s, s:[s, s]}]}}", "apiVersion", "v1", "kind", "Pod",
                  "metadata", "name", name, "namespace", "d", "uid", name, "resourceVersion", "7", "spec", "nodeName", "n",
                  "terminationGracePeriodSeconds", 1, "containers", "name", "main", "image", "none", "command", "sleep", "1000");
    watch_cache_note_write(fixture->pods, object);
    return object;
}

static bool is_running(void *arg) {
    struct fixture *fixture = arg;
    return kubelet_is_running(fixture->kubelet, "d", fixture->wanted, "main");
}

static void test_a_pod_waits_for_an_address(void **state) {
    struct fixture *fixture = *state;
    for (int host = NET_HOST_FIRST; host < NET_HOST_LAST; host++) { /* all but one are taken */
        cleanup_free char *address = xasprintf("127.1.%d.%d", fixture->net.number, host);
        assert_true(net_address_mark(&fixture->net, address));
    }
    cleanup_json json_t *first = pod_of(fixture, "first");
    cleanup_json json_t *second = pod_of(fixture, "second");
    kubelet_on_pod(fixture->kubelet, NULL, first);
    kubelet_on_pod(fixture->kubelet, NULL, second);
    fixture->wanted = "first";
    fake_api_run_until(&fixture->api, is_running, fixture);
    fixture->wanted = "second";
    assert_false(is_running(fixture));
    kubelet_on_pod(fixture->kubelet, first, NULL);
    fake_api_run_until(&fixture->api, is_running, fixture);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_pod_waits_for_an_address, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
