/* Whom a change wakes: the records of adapters and pods, the selections and bindings between them, and what the planner is shown. */
#include "base/alloc.h"
#include "controller/world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <string.h>

/* The world as it is after the caches were synced; nobody answers, and the loop does not run. */
struct fixture {
    struct controller controller;
    struct controller_options options;
    struct kube_config config;
    struct buffer woken; /* keys, each with a line feed */
    int revision;
};

static struct fixture *current;

void controller_wake(struct controller *controller, const char *key, int64_t delay_ms) {
    (void)controller, (void)delay_ms;
    buffer_printf(&current->woken, "%s\n", key);
}

void controller_pod_is_free(struct controller *controller, struct pod *pod) {
    (void)controller, (void)pod;
}

static bool was_woken(struct fixture *fixture, const char *name) {
    cleanup_free char *line = xasprintf("ns/%s\n", name);
    bool was = strstr(buffer_text(&fixture->woken), line) != NULL;
    buffer_clear(&fixture->woken);
    return was;
}

static struct watch_cache *make_cache(struct fixture *fixture, const struct kube_resource *resource) {
    return watch_cache_new(&(struct watch_cache_options){.client = fixture->controller.kube, .resource = resource});
}

static void fixture_init(struct fixture *fixture) {
    struct controller *controller = &fixture->controller;
    *fixture = (struct fixture){.options = {.proof = PROOF_EFFECT, .poll_period_ms = 1000}};
    fixture->config.server = xstrdup("http://127.0.0.1:1");
    fixture->config.namespace = xstrdup("ns");
    controller->options = &fixture->options;
    controller->loop = loop_new();
    controller->transfers = transfers_new(controller->loop);
    controller->kube = kube_client_new(controller->loop, controller->transfers, &fixture->config, "davit-test", 4);
    controller->adapters_cache = make_cache(fixture, &kube_model_adapters);
    controller->services_cache = make_cache(fixture, &kube_services);
    controller->slices_cache = make_cache(fixture, &kube_endpoint_slices);
    controller->nodes_cache = make_cache(fixture, &kube_nodes);
    TAILQ_INIT(&controller->waiting);
    current = fixture;
}

static void fixture_release(struct fixture *fixture) {
    struct controller *controller = &fixture->controller;
    world_free(controller);
    watch_cache_free(controller->adapters_cache);
    watch_cache_free(controller->services_cache);
    watch_cache_free(controller->slices_cache);
    watch_cache_free(controller->nodes_cache);
    kube_client_free(controller->kube);
    transfers_free(controller->transfers);
    loop_free(controller->loop);
    kube_config_release(&fixture->config);
    buffer_release(&fixture->woken);
}

static struct adapter *add_adapter(struct fixture *fixture, const char *name) {
    cleanup_free char *revision = xasprintf("%d", ++fixture->revision);
    json_t *object = json_pack("{s:{s:s, s:s, s:s, s:s, s:i}, s:{s:s, s:s, s:i, s:{s:{s:s}}}}", "metadata", "name", name,
                               "namespace", "ns", "uid", name, "resourceVersion", revision, "generation", 1, "spec", "baseModel",
                               "base", "artifactURL", "/a", "replicas", 1, "podSelector", "matchLabels", "app", "engine");
    cleanup_free char *key = xasprintf("ns/%s", name);
    watch_cache_note_write(fixture->controller.adapters_cache, object);
    json_decref(object);
    struct adapter *adapter = world_refresh_adapter(&fixture->controller, key);
    assert_non_null(adapter);
    assert_true(adapter->is_valid);
    return adapter;
}

static struct pod *set_pod(struct fixture *fixture, const char *name, const char *uid, const char *ip) {
    json_t *object =
        json_pack("{s:{s:s, s:s, s:s, s:{s:s}}, s:{s:s, s:[{s:s, s:[s, s]}]}, s:{s:s, s:[{s:s, s:s}]}}", "metadata", "name", name,
                  "namespace", "ns", "uid", uid, "labels", "app", "engine", "spec", "nodeName", "n1", "containers", "name", "engine",
                  "args", "--max-cpu-loras", "1", "status", "podIP", ip, "conditions", "type", "Ready", "status", "True");
    assert_non_null(object);
    struct pod *pod = world_update_pod(&fixture->controller, object);
    json_decref(object);
    return pod;
}

static void look_at(struct fixture *fixture, struct adapter *adapter) {
    struct world_view view;
    world_view_take(&fixture->controller, adapter, &view);
    world_view_release(&view);
}

/* An adapter for which there was no room is looked at again when there is. */
static void test_room_wakes_those_who_seek(void **state) {
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture);
    struct pod *pod = set_pod(&fixture, "p", "u", "10.0.0.1");
    struct adapter *first = add_adapter(&fixture, "first");
    (void)add_adapter(&fixture, "second");
    for (int i = 0; i < 2; i++) {
        struct binding *binding = world_bind(first, pod);
        binding->hold->is_wanted = true;
        look_at(&fixture, first);
        assert_int_equal(pod->adapters, 1);
        buffer_clear(&fixture.woken);
        if (i == 0) { /* unloaded */
            binding->hold->is_wanted = false;
            look_at(&fixture, first);
        } else { /* gone */
            world_remove_adapter(&fixture.controller, first);
        }
        assert_int_equal(pod->adapters, 0);
        assert_true(was_woken(&fixture, "second"));
    }
    fixture_release(&fixture);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_room_wakes_those_who_seek),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
