/* All pods of a node together, with real processes and an API that is away. */
#include "fake_api.h"

#include "cluster/node/kubelet.h"
#include "cluster/node/node.h"
#include "cluster/node/node_object.h"

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

/* ---- the Node object ---- */

struct node_api {
    struct fake_api api;
    char *told_net;
    bool has_beaten;
};

/* The object is there, of an earlier life with another net. */
static void on_node_request(void *arg, struct http_request *request) {
    struct node_api *node = arg;
    const struct http_head *head = http_request_head(request);
    size_t len = 0;
    const char *text = http_request_body(request, &len);
    struct error err;
    cleanup_json json_t *body = json_parse(text, len, &err);
    if (strcmp(head->method, "PATCH") == 0 && strcmp(head->path, "/api/v1/nodes/n") == 0) {
        assert_null(node->told_net);
        node->told_net = xstrdup(json_string_at(body, "spec.podCIDR", ""));
    }
    node->has_beaten = node->has_beaten || strcmp(head->path, "/api/v1/nodes/n/status") == 0;
    fake_api_reply(request, 200, "{\"kind\":\"Node\",\"metadata\":{\"name\":\"n\"}}");
}

static bool has_beaten(void *arg) {
    return ((struct node_api *)arg)->has_beaten;
}

static void test_the_node_object_has_the_present_net(void **state) {
    (void)state;
    struct node_api node = {0};
    fake_api_init(&node.api, on_node_request, &node);
    struct node_object *object = node_object_new(&(struct node_object_options){
        .client = node.api.client, .name = "n", .pod_cidr = "127.1.9.0/24", .cpus = 1, .logs_port = 1});
    fake_api_run_until(&node.api, has_beaten, &node);
    assert_non_null(node.told_net);
    assert_string_equal(node.told_net, "127.1.9.0/24");
    node_object_free(object);
    fake_api_release(&node.api);
    free(node.told_net);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_pod_waits_for_an_address, set_up, tear_down),
        cmocka_unit_test(test_the_node_object_has_the_present_net),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
