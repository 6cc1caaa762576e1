/* Whom a change wakes and how pods are asked: the records of adapters and pods, the selections and bindings between them, what the
 * planner is shown, and polls. */
#include "adapter/names.h"
#include "controller/objects.h"
#include "controller/secrets.h"
#include "controller/world.h"
#include "fake_api.h"

/* The world as it is after the caches were synced; the fake API plays the engines, too. */
struct fixture {
    struct fake_api api;
    struct controller controller;
    struct controller_options options;
    struct buffer woken; /* keys, each with a line feed */
    int revision;
    int lists, refusals; /* polls that were answered */
    int delay_lists;     /* lists that are left unanswered */
    bool is_open;        /* the engine wants no key, and has an adapter "left" */
    bool is_down;        /* the engine answers every list with an error */
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

/* The engine wants a key and quotes any other. */
static void answer_list(struct fixture *fixture, struct http_request *request) {
    const char *key = http_fields_get(&http_request_head(request)->fields, "authorization");
    if (fixture->delay_lists > 0) {
        fixture->delay_lists--;
        return;
    }
    if (fixture->is_down) {
        fixture->refusals++;
        fake_api_reply(request, 500, "{\"message\":\"out of order\"}");
    } else if (key != NULL && strcmp(key, "Bearer right-key") == 0) {
        fixture->lists++;
        fake_api_reply(request, 200, "{\"data\":[{\"id\":\"base\"}]}");
    } else if (key == NULL && fixture->is_open) {
        fixture->lists++;
        fake_api_reply(request, 200, "{\"data\":[{\"id\":\"base\"},{\"id\":\"left\",\"root\":\"/a\",\"parent\":\"base\"}]}");
    } else {
        fixture->refusals++;
        cleanup_free char *body = xasprintf("{\"message\":\"what is %s?\"}", key != NULL ? key : "no key");
        fake_api_reply(request, 401, body);
    }
}

static void on_request(void *arg, struct http_request *request) {
    const char *target = http_request_head(request)->target;
    if (strcmp(target, "/v1/models") == 0) {
        answer_list(arg, request);
    } else if (strstr(target, "/secrets/right") != NULL) {
        fake_api_reply(request, 200, "{\"data\":{\"api-key\":\"cmlnaHQta2V5\"}}");
    } else if (strstr(target, "/secrets/wrong") != NULL) {
        fake_api_reply(request, 200, "{\"data\":{\"api-key\":\"d3Jvbmcta2V5\"}}");
    } else {
        fake_api_reply(request, 404, "{\"reason\":\"NotFound\",\"message\":\"not here\"}");
    }
}

static void fixture_init(struct fixture *fixture) {
    struct controller *controller = &fixture->controller;
    *fixture = (struct fixture){.options = {.proof = PROOF_EFFECT, .poll_period_ms = 50}};
    fake_api_init(&fixture->api, on_request, fixture);
    controller->options = &fixture->options;
    controller->loop = fixture->api.loop;
    controller->transfers = fixture->api.transfers;
    controller->kube = fixture->api.client;
    controller->secrets = secrets_new(controller->kube);
    controller->adapters_cache = make_cache(fixture, &kube_model_adapters);
    controller->services_cache = make_cache(fixture, &kube_services);
    controller->slices_cache = make_cache(fixture, &kube_endpoint_slices);
    controller->nodes_cache = make_cache(fixture, &kube_nodes);
    TAILQ_INIT(&controller->waiting);
    TAILQ_INIT(&controller->unwritten);
    controller->metrics = metrics_new();
    controller->count.polls = metrics_register(controller->metrics, &(struct metric_spec){.name = "polls", .help = "."});
    controller->count.poll_failures = metrics_register(controller->metrics, &(struct metric_spec){.name = "failures", .help = "."});
    current = fixture;
}

static void fixture_release(struct fixture *fixture) {
    struct controller *controller = &fixture->controller;
    world_free(controller);
    watch_cache_free(controller->adapters_cache);
    watch_cache_free(controller->services_cache);
    watch_cache_free(controller->slices_cache);
    watch_cache_free(controller->nodes_cache);
    secrets_free(controller->secrets);
    metrics_free(controller->metrics);
    fake_api_release(&fixture->api);
    buffer_release(&fixture->woken);
}

static struct adapter *add_adapter(struct fixture *fixture, const char *name, const char *secret) {
    cleanup_free char *revision = xasprintf("%d", ++fixture->revision);
    json_t *object = json_pack("{s:{s:s, s:s, s:s, s:s, s:i}, s:{s:s, s:s, s:i, s:{s:{s:s}}}}", "metadata", "name", name,
                               "namespace", "ns", "uid", name, "resourceVersion", revision, "generation", 1, "spec", "baseModel",
                               "base", "artifactURL", "/a", "replicas", 1, "podSelector", "matchLabels", "app", "engine");
    if (secret != NULL) {
        json_object_set_new(json_object_get(object, "spec"), "apiKeySecretRef", json_pack("{s:s}", "name", secret));
    }
    cleanup_free char *key = xasprintf("ns/%s", name);
    watch_cache_note_write(fixture->controller.adapters_cache, object);
    json_decref(object);
    struct adapter *adapter = world_refresh_adapter(&fixture->controller, key);
    assert_non_null(adapter);
    assert_null(adapter->invalid);
    return adapter;
}

static struct pod *set_pod(struct fixture *fixture, const char *name, const char *uid, const char *ip) {
    cleanup_free char *port = xasprintf("%d", fixture->api.port);
    json_t *object = json_pack("{s:{s:s, s:s, s:s, s:{s:s, s:s}}, s:{s:s, s:[{s:s, s:[s, s]}]}, s:{s:s, s:[{s:s, s:s}]}}",
                               "metadata", "name", name, "namespace", "ns", "uid", uid, "labels", "app", "engine",
                               "model.aibrix.ai/port", port, "spec", "nodeName", "n1", "containers", "name", "engine", "args",
                               "--max-cpu-loras", "1", "status", "podIP", ip, "conditions", "type", "Ready", "status", "True");
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
    struct adapter *first = add_adapter(&fixture, "first", NULL);
    (void)add_adapter(&fixture, "second", NULL);
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

static bool has_list(void *arg) {
    return ((struct fixture *)arg)->lists > 0;
}

static bool has_refusal(void *arg) {
    return ((struct fixture *)arg)->refusals > 1;
}

static bool has_more_refusals(void *arg) {
    return ((struct fixture *)arg)->refusals > 4;
}

static bool has_asked(void *arg) {
    return ((struct fixture *)arg)->delay_lists == 0;
}

/* A Secret that is not there is one adapter's trouble: another's key opens the engine. */
static void test_a_missing_secret_hides_no_key(void **state) {
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture);
    (void)add_adapter(&fixture, "good", "right");
    (void)add_adapter(&fixture, "bad", "missing"); /* it is asked first: the newest is */
    struct pod *pod = set_pod(&fixture, "p", "u", "127.0.0.1");
    fake_api_run_until(&fixture.api, has_list, &fixture);
    assert_int_equal(pod->selection_count, 1);
    fixture_release(&fixture);
}

static void test_a_quoted_key_goes_no_further(void **state) {
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture);
    (void)add_adapter(&fixture, "a", "wrong");
    struct pod *pod = set_pod(&fixture, "p", "u", "127.0.0.1");
    fake_api_run_until(&fixture.api, has_refusal, &fixture);
    assert_non_null(strstr(pod->failure, "status 401: what is Bearer *********?"));
    fixture_release(&fixture);
}

/* A poll of an engine that is replaced is not waited for, and does not count against the new one. */
static void test_a_new_engine_is_asked_at_once(void **state) {
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture);
    (void)add_adapter(&fixture, "a", "right");
    struct pod *pod = set_pod(&fixture, "p", "u", "127.0.0.1");
    fixture.delay_lists = 1;
    fake_api_run_until(&fixture.api, has_asked, &fixture);
    assert_non_null(pod->poll);
    int64_t began_ms = clock_now_ms();
    assert_ptr_equal(set_pod(&fixture, "p", "another", "127.0.0.1"), pod);
    fake_api_run_until(&fixture.api, has_list, &fixture);
    assert_in_range(clock_now_ms() - began_ms, 0, 3000);
    assert_int_equal(pod->failures, 0);
    assert_int_equal(fixture.controller.polls, pod->poll != NULL);
    fixture_release(&fixture);
}

static void test_a_failure_that_stays_wakes_nobody(void **state) {
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture);
    fixture.is_down = true;
    struct adapter *adapter = add_adapter(&fixture, "a", NULL);
    (void)world_bind(adapter, set_pod(&fixture, "p", "u", "127.0.0.1"));
    buffer_clear(&fixture.woken);
    fake_api_run_until(&fixture.api, has_refusal, &fixture);
    assert_true(was_woken(&fixture, "a"));
    fake_api_run_until(&fixture.api, has_more_refusals, &fixture);
    assert_false(was_woken(&fixture, "a"));
    fixture_release(&fixture);
}

static void test_a_node_wakes_those_on_it(void **state) {
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture);
    (void)add_adapter(&fixture, "a", NULL);
    (void)set_pod(&fixture, "p", "u", "10.0.0.1"); /* on n1 */
    buffer_clear(&fixture.woken);
    world_note_node(&fixture.controller, "n2");
    assert_false(was_woken(&fixture, "a"));
    world_note_node(&fixture.controller, "n1");
    assert_true(was_woken(&fixture, "a"));
    fixture_release(&fixture);
}

/* Found on a pod where it was not asked for, by an adapter that has all the pods it wants: it will have to go. */
static void test_what_is_left_over_is_noticed(void **state) {
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture);
    fixture.is_open = true;
    struct adapter *adapter = add_adapter(&fixture, "left", NULL);
    selection_seek(adapter, false);
    struct pod *pod = set_pod(&fixture, "p", "u", "127.0.0.1");
    fake_api_run_until(&fixture.api, has_list, &fixture);
    assert_true(was_woken(&fixture, "left"));
    look_at(&fixture, adapter);
    assert_int_equal(world_binding(adapter, pod)->hold->state, HOLD_LOADED);
    fixture_release(&fixture);
}

/* A pod that no adapter is on or looks for is asked without a key: that it refuses says nothing against it. */
static void test_a_pod_of_nobody_is_not_lost(void **state) {
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture);
    struct adapter *adapter = add_adapter(&fixture, "a", "right");
    selection_seek(adapter, false);
    struct pod *pod = set_pod(&fixture, "p", "u", "127.0.0.1");
    fake_api_run_until(&fixture.api, has_more_refusals, &fixture);
    assert_int_equal(pod->failures, 0);
    selection_seek(adapter, true);
    fake_api_run_until(&fixture.api, has_list, &fixture);
    fixture_release(&fixture);
}

/* Whether a plan made now loads, and whether it has a status to write. */
static void plan_now(struct fixture *fixture, struct adapter *adapter, bool *ret_loads, bool *ret_says) {
    struct world_view view;
    struct plan plan;
    json_t *object = json_pack("{s:{s:s, s:[s]}}", "metadata", "name", adapter->spec.name, "finalizers", MODEL_ADAPTER_FINALIZER);
    world_view_take(&fixture->controller, adapter, &view);
    view.input.object = object;
    plan_adapter(&view.input, &plan);
    *ret_loads = plan.action_count > 0 && plan.actions[0].kind == HOLD_LOADING;
    *ret_says = (plan.due & WRITE_STATUS) != 0;
    plan_release(&plan);
    world_view_release(&view);
    json_decref(object);
}

static void test_nothing_is_loaded_before_the_status_says_of_what(void **state) {
    (void)state;
    struct fixture fixture;
    bool loads = false, says = false;
    fixture_init(&fixture);
    struct adapter *adapter = add_adapter(&fixture, "sql", NULL);
    struct pod *pod = set_pod(&fixture, "p1", "u1", "127.0.0.1");
    selection_seek(adapter, true);
    pod->is_observed = true;
    pod->observed_start = xstrdup(pod->start);
    plan_now(&fixture, adapter, &loads, &says);
    assert_true(says);
    assert_false(loads); /* who comes after us would not know the load as ours */
    adapter->told_generation = adapter->spec.generation;
    plan_now(&fixture, adapter, &loads, &says);
    assert_true(loads);
    adapter->told_generation = 0; /* as a run that finds the status as an earlier one wrote it */
    cleanup_json json_t *told = json_pack("{s:{s:i}}", "status", "observedGeneration", 1);
    cleanup_json json_t *reduced = objects_reduce_adapter(told);
    json_object_set(adapter->object, "seen", json_object_get(reduced, "seen"));
    plan_now(&fixture, adapter, &loads, &says);
    assert_true(loads);
    fixture_release(&fixture);
}

/* Not only the last revision: a pod that no row speaks of may have what the rows of others name. */
static void test_all_revisions_of_an_earlier_run_are_known(void **state) {
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture);
    json_t *object =
        json_pack("{s:{s:s, s:s, s:s, s:s, s:i}, s:{s:s, s:s, s:{s:{s:s}}}, s:{s:s, s:[s], s:[{s:s, s:s}, {s:s, s:s}, {s:s}]}}",
                  "metadata", "name", "sql", "namespace", "ns", "uid", "u", "resourceVersion", "7", "generation", 3, "spec",
                  "baseModel", "base", "artifactURL", "/c", "podSelector", "matchLabels", "app", "engine", "status", "revision",
                  "bbbbbbbbbbbbbbbbbbbbbbbb", "earlierRevisions", "cccccccccccccccccccccccc", "loads", "pod", "p1", "revision",
                  "aaaaaaaaaaaaaaaaaaaaaaaa", "pod", "p2", "revision", "bbbbbbbbbbbbbbbbbbbbbbbb", "pod", "p3");
    assert_non_null(object);
    json_t *reduced = objects_reduce_adapter(object); /* as the controller's cache has it */
    watch_cache_note_write(fixture.controller.adapters_cache, reduced);
    json_decref(reduced);
    json_decref(object);
    struct adapter *adapter = world_refresh_adapter(&fixture.controller, "ns/sql");
    assert_string_equal(adapter->known, "bbbbbbbbbbbbbbbbbbbbbbbb cccccccccccccccccccccccc aaaaaaaaaaaaaaaaaaaaaaaa");
    fixture_release(&fixture);
}

/* A status that named the new revision alone would leave what an unasked pod has of the old one to nobody. */
static void test_what_unasked_pods_may_have_is_kept(void **state) {
    (void)state;
    struct fixture fixture;
    struct world_view view;
    fixture_init(&fixture);
    struct adapter *adapter = add_adapter(&fixture, "sql", NULL);
    struct pod *pod = set_pod(&fixture, "p1", "u1", "127.0.0.1");
    selection_seek(adapter, true);
    const struct {
        const char *known;
        bool is_observed, is_kept;
    } cases[] = {{"", false, false},
                 {adapter->revision, false, false},
                 {"aaaaaaaaaaaaaaaaaaaaaaaa", false, true},
                 {"aaaaaaaaaaaaaaaaaaaaaaaa", true, false}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        free(adapter->known);
        adapter->known = xstrdup(cases[i].known);
        pod->is_observed = cases[i].is_observed;
        free(pod->observed_start);
        pod->observed_start = xstrdup(pod->start);
        world_view_take(&fixture.controller, adapter, &view);
        assert_int_equal(view.input.known != NULL, cases[i].is_kept);
        world_view_release(&view);
    }
    fixture_release(&fixture);
}

/* Two writes a call are under way; the others are woken one after the other, in order of asking. */
static void test_writes_take_turns(void **state) {
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture);
    struct controller *controller = &fixture.controller;
    struct adapter *first = add_adapter(&fixture, "first", NULL);
    struct adapter *second = add_adapter(&fixture, "second", NULL);
    struct adapter *third = add_adapter(&fixture, "third", NULL);
    fixture.options.calls_max = 1;
    controller->writes = 2;
    assert_false(write_take_turn(controller, first));
    assert_false(write_take_turn(controller, second));
    assert_false(write_take_turn(controller, third));
    assert_false(write_take_turn(controller, first)); /* again: it keeps its place */
    buffer_clear(&fixture.woken);
    write_pass_on(controller);
    assert_string_equal(buffer_text(&fixture.woken), "");
    controller->writes = 1;
    write_pass_on(controller);
    assert_string_equal(buffer_text(&fixture.woken), "ns/first\n");
    buffer_clear(&fixture.woken);
    assert_false(write_take_turn(controller, second));
    assert_true(write_take_turn(controller, first));
    world_remove_adapter(controller, second);
    write_pass_on(controller);
    assert_true(was_woken(&fixture, "third"));
    write_leave_queue(controller, third); /* it has nothing to write any more */
    write_pass_on(controller);
    assert_string_equal(buffer_text(&fixture.woken), "");
    controller->writes = 0;
    fixture_release(&fixture);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_missing_secret_hides_no_key),
        cmocka_unit_test(test_a_quoted_key_goes_no_further),
        cmocka_unit_test(test_a_new_engine_is_asked_at_once),
        cmocka_unit_test(test_a_failure_that_stays_wakes_nobody),
        cmocka_unit_test(test_a_node_wakes_those_on_it),
        cmocka_unit_test(test_what_is_left_over_is_noticed),
        cmocka_unit_test(test_a_pod_of_nobody_is_not_lost),
        cmocka_unit_test(test_nothing_is_loaded_before_the_status_says_of_what),
        cmocka_unit_test(test_all_revisions_of_an_earlier_run_are_known),
        cmocka_unit_test(test_what_unasked_pods_may_have_is_kept),
        cmocka_unit_test(test_room_wakes_those_who_seek),
        cmocka_unit_test(test_writes_take_turns),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
