/* The Lease on a loop, against an API that keeps one Lease as the real one does. */
#include "fake_api.h"
#include "kube/lease.h"

struct holder {
    struct lease *lease;
    int started;
    int stopped;
    int released;
    bool frees_on_stopped;
};

struct election_world {
    struct fake_api api;
    json_t *lease;
    int revision;
    bool is_away;
    struct holder first;
    struct holder second;
    int answered; /* of the guarded call */
    struct error err;
    int other_requests;
};

static void reply_with_lease(struct election_world *world, struct http_request *request) {
    cleanup_free char *text = json_text(world->lease);
    fake_api_reply(request, 200, text);
}

static void store(struct election_world *world, json_t *lease) {
    json_object_set_new(json_object_get(lease, "metadata"), "resourceVersion", json_sprintf("%d", ++world->revision));
    json_decref(world->lease);
    world->lease = lease;
}

static void on_request(void *arg, struct http_request *request) {
    struct election_world *world = arg;
    const struct http_head *head = http_request_head(request);
    size_t len = 0;
    const char *body = http_request_body(request, &len);
    if (strstr(head->target, "/leases") == NULL) {
        world->other_requests++;
        fake_api_reply(request, 200, "{}");
        return;
    }
    json_t *sent = len > 0 ? json_parse(body, len, NULL) : NULL;
    bool is_current = strcmp(kube_resource_version(sent), kube_resource_version(world->lease)) == 0;
    if (world->is_away) {
        fake_api_reply(request, 503, "{}");
    } else if (strcmp(head->method, "GET") == 0 && world->lease == NULL) {
        fake_api_reply(request, 404, "{\"reason\":\"NotFound\",\"message\":\"no such lease\"}");
    } else if (strcmp(head->method, "GET") == 0) {
        reply_with_lease(world, request);
    } else if (strcmp(head->method, "POST") == 0 && world->lease != NULL) {
        fake_api_reply(request, 409, "{\"reason\":\"AlreadyExists\"}");
    } else if (strcmp(head->method, "PUT") == 0 && !is_current) {
        fake_api_reply(request, 409, "{\"reason\":\"Conflict\"}");
    } else {
        store(world, json_incref(sent));
        reply_with_lease(world, request);
    }
    json_decref(sent);
}

static void on_started(void *arg) {
    struct holder *holder = arg;
    holder->started++;
    assert_true(lease_is_held(holder->lease));
}

static void on_stopped(void *arg) {
    struct holder *holder = arg;
    holder->stopped++;
    assert_false(lease_is_held(holder->lease));
    if (holder->frees_on_stopped) {
        lease_free(holder->lease);
        holder->lease = NULL;
    }
}

static void on_released(void *arg) {
    struct holder *holder = arg;
    holder->released++;
    lease_free(holder->lease);
    holder->lease = NULL;
}

static struct lease *campaign(struct election_world *world, struct holder *holder, const char *identity) {
    struct error err;
    holder->lease = lease_new(&(struct lease_options){.client = world->api.client,
                                                      .namespace = "ns",
                                                      .name = "davit",
                                                      .identity = identity,
                                                      .duration_ms = 1000,
                                                      .renew_deadline_ms = 300,
                                                      .retry_period_ms = 50,
                                                      .on_started = on_started,
                                                      .on_stopped = on_stopped,
                                                      .arg = holder},
                              &err);
    assert_non_null(holder->lease);
    return holder->lease;
}

static void world_init(struct election_world *world) {
    *world = (struct election_world){0};
    fake_api_init(&world->api, on_request, world);
}

static void world_release(struct election_world *world) {
    lease_free(world->first.lease);
    lease_free(world->second.lease);
    fake_api_release(&world->api);
    json_decref(world->lease);
}

static bool has_started(void *arg) {
    return ((struct holder *)arg)->started > 0;
}

static bool has_stopped(void *arg) {
    return ((struct holder *)arg)->stopped > 0;
}

static bool was_released(void *arg) {
    return ((struct holder *)arg)->released > 0;
}

static bool was_answered(void *arg) {
    return ((struct election_world *)arg)->answered > 0;
}

static void test_one_leads_and_hands_over(void **state) {
    (void)state;
    struct election_world world;
    world_init(&world);
    campaign(&world, &world.first, "one");
    fake_api_run_until(&world.api, has_started, &world.first);
    assert_string_equal(json_string_at(world.lease, "spec.holderIdentity", ""), "one");
    campaign(&world, &world.second, NULL);
    assert_string_not_equal(lease_identity(world.second.lease), "");
    lease_release(world.first.lease, on_released, &world.first);
    assert_false(lease_is_held(world.first.lease));
    fake_api_run_until(&world.api, was_released, &world.first);
    fake_api_run_until(&world.api, has_started, &world.second);
    assert_string_equal(lease_holder(world.second.lease), lease_identity(world.second.lease));
    assert_int_equal(world.first.stopped, 0);
    world_release(&world);
}

static void test_lost_when_the_api_is_away(void **state) {
    (void)state;
    for (int frees = 0; frees < 2; frees++) {
        struct election_world world;
        world_init(&world);
        world.first.frees_on_stopped = frees != 0;
        campaign(&world, &world.first, "one");
        fake_api_run_until(&world.api, has_started, &world.first);
        world.is_away = true;
        fake_api_run_until(&world.api, has_stopped, &world.first);
        world_release(&world);
    }
}

static void test_release_without_holding(void **state) {
    (void)state;
    struct election_world world;
    world_init(&world);
    world.is_away = true;
    campaign(&world, &world.first, "one");
    lease_release(world.first.lease, on_released, &world.first);
    fake_api_run_until(&world.api, was_released, &world.first);
    assert_int_equal(world.first.started, 0);
    world_release(&world);
}

static void on_write_done(void *arg, json_t *object, const struct error *err) {
    (void)object;
    struct election_world *world = arg;
    world->answered++;
    world->err = err != NULL ? *err : (struct error){0};
}

static void write_something(struct election_world *world, enum kube_verb verb) {
    cleanup_json json_t *body = json_object();
    world->answered = 0;
    kube_start(world->api.client, &(struct kube_request){.verb = verb,
                                                         .resource = &kube_pods,
                                                         .namespace = "ns",
                                                         .name = "p",
                                                         .body = verb == KUBE_GET ? NULL : body,
                                                         .on_done = on_write_done,
                                                         .arg = world});
    fake_api_run_until(&world->api, was_answered, world);
}

static void test_writes_are_sent_by_the_leader_only(void **state) {
    (void)state;
    struct election_world world;
    world_init(&world);
    campaign(&world, &world.first, "one");
    kube_client_guard_writes(world.api.client, lease_may_send, world.first.lease);
    write_something(&world, KUBE_PATCH_MERGE);
    /* The election itself goes on. */
    fake_api_run_until(&world.api, has_started, &world.first);
    write_something(&world, KUBE_PATCH_MERGE);
    assert_int_equal(world.err.code, ERROR_NONE);
    int sent = world.other_requests;
    /* Frozen past the deadline, as SIGSTOP does it: no timer has run when the next write is about to be sent. */
    while (lease_is_held(world.first.lease)) {
        (void)usleep(1000);
    }
    world.is_away = true;
    write_something(&world, KUBE_PATCH_MERGE);
    assert_int_equal(world.err.code, ERROR_DENIED);
    assert_non_null(strstr(world.err.message, "not sent"));
    write_something(&world, KUBE_GET);
    assert_int_equal(world.err.code, ERROR_NONE);
    assert_int_equal(world.other_requests, sent + 1);
    world_release(&world);
}

static void test_bad_periods_are_refused(void **state) {
    (void)state;
    struct error err;
    assert_null(lease_new(&(struct lease_options){.namespace = "ns", .name = "x", .duration_ms = 9000}, &err));
    assert_int_equal(err.code, ERROR_INVALID);
    assert_non_null(strstr(err.message, "ns/x"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_leads_and_hands_over), cmocka_unit_test(test_lost_when_the_api_is_away),
        cmocka_unit_test(test_release_without_holding),  cmocka_unit_test(test_writes_are_sent_by_the_leader_only),
        cmocka_unit_test(test_bad_periods_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
