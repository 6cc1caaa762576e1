/* The planner in simulated worlds: engines that load, forget, hang, refuse and restart under a clock that jumps from tick to tick,
 * and the invariants of design 10 checked at every step. No sockets, no sleeps. */
#include "controller/plan.h"
#include "controller/publish.h"

#include "kube/client.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <string.h>

#define PODS 4
#define ADAPTERS 3
#define TICK_MS 50
#define POLL_MS 2000

enum mood { GOOD, REFUSES, HANGS, MOODS };

struct engine {
    bool exists, is_ready;
    enum mood mood;
    int start;
    char roots[ADAPTERS][32]; /* "" = not loaded */
    /* what runs on it */
    int adapter; /* -1 = nothing */
    enum hold_action action;
    int64_t done_ms;
    char revision[REVISION_BYTES], url[32];
    /* the last poll */
    char listed[ADAPTERS][32];
    bool is_observed;
    int observed_start, failures;
    int64_t asked_ms, poll_due_ms, failing_since_ms;
};

struct object {
    json_t *object, *service, *slice; /* object NULL = gone */
    struct hold *holds[PODS];
    int64_t deleted_ms, status_written_ms, slice_written_ms, published_out_ms[PODS];
    int64_t wrong_since_ms[PODS]; /* a published endpoint that does not hold it */
    int writes, events;
    int writes_at_ready;
};

struct world {
    int64_t now_ms;
    unsigned random;
    struct engine engines[PODS];
    struct object objects[ADAPTERS];
    int actions;
};

static unsigned next_random(struct world *world, unsigned below) {
    world->random = world->random * 1664525u + 1013904223u;
    return (world->random >> 8) % below;
}

static const char *const names[ADAPTERS] = {"sql", "json", "pirate"};

static void create(struct world *world, int a, int replicas) {
    static int serial;
    struct object *object = &world->objects[a];
    char uid[32];
    snprintf(uid, sizeof(uid), "uid-%d", serial++);
    char url[32];
    snprintf(url, sizeof(url), "/a/%s/1", names[a]);
    *object = (struct object){.writes_at_ready = -1};
    object->object =
        json_pack("{s:s, s:s, s:{s:s, s:s, s:s, s:i, s:s}, s:{s:s, s:{s:{s:s}}}}", "apiVersion", "model.aibrix.ai/v1alpha1", "kind",
                  "ModelAdapter", "metadata", "name", names[a], "namespace", "default", "uid", uid, "generation", 1,
                  "resourceVersion", "1", "spec", "artifactURL", url, "podSelector", "matchLabels", "app", "llm");
    assert_non_null(object->object);
    if (replicas >= 0) {
        json_object_set_new(json_at(object->object, "spec"), "replicas", json_integer(replicas));
    }
    for (int p = 0; p < PODS; p++) {
        object->holds[p] = hold_new();
        object->published_out_ms[p] = -1;
    }
}

static void drop(struct world *world, int a) {
    struct object *object = &world->objects[a];
    for (int p = 0; p < PODS; p++) {
        hold_free(object->holds[p]);
        object->holds[p] = NULL;
    }
    json_decref(object->object);
    json_decref(object->service);
    json_decref(object->slice);
    *object = (struct object){0};
}

static void start_engine(struct world *world, int p) {
    static int serial;
    struct engine *engine = &world->engines[p];
    *engine = (struct engine){.exists = true, .is_ready = true, .start = ++serial, .adapter = -1, .poll_due_ms = world->now_ms};
}

static bool is_published(const struct world *world, int a, int p) {
    char uid[32];
    snprintf(uid, sizeof(uid), "pod-%d", p);
    return publish_has_pod(world->objects[a].slice, uid, "");
}

/* ---- engines ---- */

static void finish_action(struct world *world, int p) {
    struct engine *engine = &world->engines[p];
    int a = engine->adapter;
    struct object *object = &world->objects[a];
    struct dialect_answer answer = {.outcome = DIALECT_DONE};
    engine->adapter = -1;
    struct hold *hold = object->holds[p];
    char start[16];
    snprintf(start, sizeof(start), "%d", engine->start);
    bool is_for_us = hold != NULL && hold->running == engine->action && hold->start != NULL && strcmp(hold->start, start) == 0;
    if (engine->mood == HANGS) {
        answer = (struct dialect_answer){.outcome = DIALECT_UNREACHABLE, .message = "timed out"};
    } else if (engine->mood == REFUSES) {
        answer = (struct dialect_answer){.outcome = DIALECT_FAILED, .message = "refused"};
    } else if (engine->action == HOLD_LOADING) {
        if (engine->roots[a][0] != '\0') {
            answer = (struct dialect_answer){.outcome = DIALECT_ALREADY_LOADED, .message = "already loaded"};
        } else {
            memcpy(engine->roots[a], engine->url, sizeof(engine->url));
        }
    } else if (engine->action == HOLD_UNLOADING) {
        engine->roots[a][0] = '\0';
    } else if (engine->roots[a][0] == '\0') {
        answer = (struct dialect_answer){.outcome = DIALECT_FAILED, .message = "does not exist"};
    }
    if (!is_for_us) {
        return;
    }
    if (engine->action == HOLD_LOADING) {
        hold_note_load(hold, engine->revision, &answer, 10, world->now_ms);
    } else if (engine->action == HOLD_UNLOADING) {
        hold_note_unload(hold, &answer, world->now_ms);
    } else if (answer.outcome == DIALECT_DONE) {
        hold_note_proof(hold, EFFECT_SEEN);
    } else {
        hold_note_failure(hold, engine->revision, &answer, "ProofFailed", world->now_ms);
    }
}

static void start_action(struct world *world, int a, int p, enum hold_action kind, const struct plan_input *input) {
    struct engine *engine = &world->engines[p];
    struct object *object = &world->objects[a];
    assert_int_equal(engine->adapter, -1);
    if (kind == HOLD_UNLOADING) { /* endpoint out at least a second before */
        assert_false(is_published(world, a, p));
        assert_true(object->published_out_ms[p] < 0 || world->now_ms - object->published_out_ms[p] >= 1000);
    }
    object->holds[p]->running = kind;
    engine->adapter = a;
    engine->action = kind;
    engine->done_ms = world->now_ms + (engine->mood == HANGS ? 20000 : 20 + next_random(world, 300));
    memcpy(engine->revision, input->revision, REVISION_BYTES);
    snprintf(engine->url, sizeof(engine->url), "%s", input->adapter->artifact_url);
    world->actions++;
}

static void poll_engine(struct world *world, int p) {
    struct engine *engine = &world->engines[p];
    if (world->now_ms < engine->poll_due_ms || !engine->is_ready) {
        return;
    }
    engine->poll_due_ms = world->now_ms + POLL_MS;
    if (engine->mood == HANGS) {
        engine->failing_since_ms = engine->failures++ == 0 ? world->now_ms : engine->failing_since_ms;
        return;
    }
    engine->failures = 0;
    engine->is_observed = true;
    engine->observed_start = engine->start;
    engine->asked_ms = world->now_ms;
    memcpy(engine->listed, engine->roots, sizeof(engine->roots));
}

/* ---- the controller's shell, simulated ---- */

static void view(struct world *world, int a, struct plan_input *input, struct plan_pod *views, char text[PODS][4][32]) {
    struct object *object = &world->objects[a];
    for (int p = 0; p < PODS; p++) {
        struct engine *engine = &world->engines[p];
        struct hold *hold = object->holds[p];
        if (!engine->exists) {
            hold_meet(hold, "gone");
        } else {
            snprintf(text[p][3], 32, "%d", engine->start);
            hold_meet(hold, text[p][3]);
            char observed[16];
            snprintf(observed, sizeof(observed), "%d", engine->observed_start);
            struct hold_target target = {names[a], input->adapter->artifact_url, input->revision, false};
            struct hold_listing listing = {engine->listed[a][0] != '\0', engine->listed[a], false, engine->asked_ms, observed};
            if (engine->is_observed) {
                hold_observe(hold, &target, &listing);
            }
        }
        snprintf(text[p][0], 32, "pod-%d", p);
        snprintf(text[p][1], 32, "127.1.0.%d", p + 1);
        snprintf(text[p][2], 32, "node-%d", p % 2);
        bool published = is_published(world, a, p);
        hold->unpublished_ms = published ? 0 : hold->unpublished_ms != 0 ? hold->unpublished_ms : world->now_ms;
        views[p] = (struct plan_pod){.name = text[p][0],
                                     .uid = text[p][0],
                                     .ip = text[p][1],
                                     .node = text[p][2],
                                     .second_ip = "",
                                     .zone = "",
                                     .domain = text[p][2],
                                     .engine_port = 8000,
                                     .matches = engine->exists,
                                     .is_ready = engine->exists && engine->is_ready,
                                     .is_gone = !engine->exists,
                                     .is_observed = engine->is_observed && engine->observed_start == engine->start,
                                     .is_unreachable = engine->failures >= 3 && world->now_ms - engine->failing_since_ms >= 10000,
                                     .observe_failure = engine->failures > 0 ? "timed out" : NULL,
                                     .is_busy = engine->adapter >= 0,
                                     .is_published = published,
                                     .hold = hold};
        for (int other = 0; other < ADAPTERS; other++) {
            views[p].adapters += other != a && world->objects[other].holds[p] != NULL && world->objects[other].holds[p]->is_wanted;
        }
    }
}

static void apply_slice(struct world *world, int a, json_t *patch, const struct plan_input *input) {
    struct object *object = &world->objects[a];
    bool before[PODS];
    for (int p = 0; p < PODS; p++) {
        before[p] = is_published(world, a, p);
    }
    object->slice = object->slice == NULL ? json_incref(patch) : json_merge_patch(object->slice, patch);
    for (int p = 0; p < PODS; p++) {
        bool after = is_published(world, a, p);
        if (after && !before[p]) { /* only the current revision is published anew, and only when it was proved */
            assert_true(plan_is_current(input, &input->pods[p]) && input->pods[p].hold->is_proved);
            assert_true(input->pods[p].is_ready);
        }
        if (!after && before[p]) {
            object->published_out_ms[p] = world->now_ms;
        }
    }
}

static void apply(struct world *world, int a, const struct plan_input *input, struct plan *plan) {
    struct object *object = &world->objects[a];
    for (int p = 0; p < PODS; p++) {
        object->holds[p]->is_wanted = plan->is_wanted[p];
        if (plan->is_polled[p]) {
            world->engines[p].poll_due_ms =
                world->now_ms + TICK_MS < world->engines[p].poll_due_ms ? world->now_ms + TICK_MS : world->engines[p].poll_due_ms;
        }
    }
    for (size_t i = 0; i < plan->action_count; i++) {
        start_action(world, a, (int)plan->actions[i].pod, plan->actions[i].kind, input);
    }
    json_t *patches[] = {plan->finalizers, plan->service, plan->status};
    for (size_t i = 0; i < ARRAY_LEN(patches); i++) {
        object->writes += patches[i] != NULL;
    }
    object->writes += (int)plan->slice_count;
    object->events += (int)plan->event_count;
    if (plan->service != NULL) {
        object->service = object->service == NULL ? json_incref(plan->service) : json_merge_patch(object->service, plan->service);
    }
    for (size_t i = 0; i < plan->slice_count; i++) {
        assert_string_equal(plan->slices[i].name, names[a]);
        apply_slice(world, a, plan->slices[i].body, input);
        object->slice_written_ms = world->now_ms;
    }
    json_t *next = object->object;
    if (plan->finalizers != NULL) {
        next = json_merge_patch(next, plan->finalizers);
    }
    if (plan->status != NULL) {
        next = json_merge_patch(next, plan->status);
        object->status_written_ms = world->now_ms;
    }
    object->object = next;
    if (plan->releases && plan->finalizers != NULL) {
        drop(world, a);
    }
}

static const json_t *condition_object(const json_t *object, const char *type) {
    const json_t *conditions = json_at(object, "status.conditions");
    for (size_t i = 0; i < json_array_size(conditions); i++) {
        if (strcmp(json_string_at(json_array_get(conditions, i), "type", ""), type) == 0) {
            return json_array_get(conditions, i);
        }
    }
    return NULL;
}

static const char *condition(const struct world *world, int a, const char *type, const char *member) {
    return json_string_at(condition_object(world->objects[a].object, type), member, "");
}

static bool is_ready(const struct world *world, int a) {
    return strcmp(condition(world, a, "Ready", "status"), "True") == 0;
}

static void see(const struct object *object, struct plan_seen *seen, const json_t *ready, const json_t *full) {
    *seen = (struct plan_seen){.has_service = object->service != NULL,
                               .has_slice = object->slice != NULL,
                               .is_service_foreign = publish_is_foreign(object->object, object->service),
                               .is_slice_foreign = publish_is_foreign(object->object, object->slice),
                               .phase = json_string_at(object->object, "status.phase", ""),
                               .ready_status = json_string_at(ready, "status", ""),
                               .ready_reason = json_string_at(ready, "reason", ""),
                               .is_fully_loaded = strcmp(json_string_at(full, "status", ""), "True") == 0,
                               .observed_generation = json_int_at(object->object, "status.observedGeneration", 0)};
}

static void reconcile(struct world *world, int a) {
    struct object *object = &world->objects[a];
    struct model_adapter adapter;
    struct plan_pod views[PODS];
    char text[PODS][4][32];
    struct error err;
    struct plan plan;
    cleanup_json json_t *kept = json_deep_copy(object->object);
    assert_int_equal(model_adapter_read(kept, &adapter, &err), 0);
    struct plan_input input = {.object = kept,
                               .adapter = &adapter,
                               .pods = views,
                               .pod_count = PODS,
                               .policy = PLACEMENT_LEAST_ADAPTERS,
                               .status_written_ms = object->status_written_ms,
                               .slice_written_ms = object->slice_written_ms,
                               .deleting_since_ms = object->deleted_ms,
                               .drain_ms = 1000,
                               .give_up_ms = 30000,
                               .now_ms = world->now_ms,
                               .wall_ms = world->now_ms};
    model_adapter_revision(&adapter, input.revision);
    view(world, a, &input, views, text);
    for (int p = 0; p < PODS; p++) {
        input.matching += views[p].matches;
        input.ready += views[p].matches && views[p].is_ready;
    }
    see(object, &input.seen, condition_object(kept, "Ready"), condition_object(kept, "FullyLoaded"));
    struct plan_objects objects = {.service = object->service, .slices = {object->slice}, .status = json_at(kept, "status")};
    plan_adapter(&input, &plan);
    plan_words(&input, &objects, &plan);
    apply(world, a, &input, &plan);
    plan_release(&plan);
    model_adapter_release(&adapter);
    if (object->object != NULL && object->writes_at_ready < 0 && is_ready(world, a)) {
        object->writes_at_ready = object->writes;
    }
}

/* An endpoint whose pod does not hold the adapter any more is taken out within two polls, whatever happened to it; a pod that hangs
 * has longer. */
static void check_endpoints(struct world *world) {
    for (int a = 0; a < ADAPTERS; a++) {
        struct object *object = &world->objects[a];
        for (int p = 0; p < PODS && object->object != NULL; p++) {
            const struct engine *engine = &world->engines[p];
            bool is_wrong = is_published(world, a, p) && (!engine->exists || !engine->is_ready || engine->roots[a][0] == '\0');
            if (!is_wrong) {
                object->wrong_since_ms[p] = 0;
            } else if (object->wrong_since_ms[p] == 0) {
                object->wrong_since_ms[p] = world->now_ms;
            }
            int64_t limit_ms = engine->mood == HANGS ? 20000 : 2 * POLL_MS + 1000;
            assert_true(!is_wrong || world->now_ms - object->wrong_since_ms[p] <= limit_ms);
        }
        assert_true(object->object == NULL || object->deleted_ms == 0 || world->now_ms - object->deleted_ms <= 32000);
    }
}

static void step(struct world *world) {
    world->now_ms += TICK_MS;
    for (int p = 0; p < PODS; p++) {
        struct engine *engine = &world->engines[p];
        if (engine->adapter >= 0 && world->now_ms >= engine->done_ms) {
            finish_action(world, p);
        }
        if (engine->exists) {
            poll_engine(world, p);
        }
    }
    unsigned first = next_random(world, ADAPTERS);
    for (unsigned i = 0; i < ADAPTERS; i++) {
        int a = (int)((first + i) % ADAPTERS);
        if (world->objects[a].object != NULL) {
            reconcile(world, a);
        }
    }
    check_endpoints(world);
}

static void run(struct world *world, int64_t for_ms) {
    for (int64_t end = world->now_ms + for_ms; world->now_ms < end;) {
        step(world);
    }
}

static void begin(struct world *world, unsigned seed, int pods) {
    *world = (struct world){.now_ms = 1000000, .random = seed};
    for (int p = 0; p < PODS; p++) {
        world->engines[p].adapter = -1;
        if (p < pods) {
            start_engine(world, p);
        }
    }
}

static void end(struct world *world) {
    for (int a = 0; a < ADAPTERS; a++) {
        if (world->objects[a].object != NULL) {
            drop(world, a);
        }
    }
}

static void set_url(struct world *world, int a, const char *url) {
    json_t *object = world->objects[a].object;
    json_object_set_new(json_at(object, "spec"), "artifactURL", json_string(url));
    json_object_set_new(json_at(object, "metadata"), "generation", json_integer(json_int_at(object, "metadata.generation", 1) + 1));
}

static void delete_object(struct world *world, int a) {
    json_object_set_new(json_at(world->objects[a].object, "metadata"), "deletionTimestamp", json_string("2026-11-23T10:00:00Z"));
    world->objects[a].deleted_ms = world->now_ms;
}

static int count_published(const struct world *world, int a) {
    int count = 0;
    for (int p = 0; p < PODS; p++) {
        count += is_published(world, a, p);
    }
    return count;
}

/* Everything that can be right is right. */
static void assert_settled(const struct world *world) {
    int good = 0;
    for (int p = 0; p < PODS; p++) {
        good += world->engines[p].exists && world->engines[p].is_ready && world->engines[p].mood == GOOD;
    }
    for (int a = 0; a < ADAPTERS; a++) {
        const struct object *object = &world->objects[a];
        if (object->object == NULL) {
            for (int p = 0; p < PODS; p++) {
                assert_string_equal(world->engines[p].roots[a], "");
            }
            continue;
        }
        int replicas = (int)json_int_at(object->object, "spec.replicas", -1);
        const char *url = json_string_at(object->object, "spec.artifactURL", "");
        int want = replicas < 0 || replicas > good ? good : replicas;
        if (count_published(world, a) != want) {
            fail_msg("%s: %d published, %d wanted: %s", names[a], count_published(world, a), want,
                     condition(world, a, "Ready", "message"));
        }
        assert_int_equal(is_ready(world, a), want > 0 && want >= replicas);
        assert_int_equal(json_int_at(object->object, "status.readyReplicas", -1), want);
        assert_int_equal(json_array_size(json_at(object->object, "status.instances")), want);
        for (int p = 0; p < PODS; p++) {
            const char *root = world->engines[p].roots[a];
            bool is_held = world->engines[p].exists && root[0] != '\0';
            assert_true(!is_published(world, a, p) || strcmp(root, url) == 0);
            assert_true(world->engines[p].mood != GOOD || is_held == is_published(world, a, p));
        }
    }
}

/* ---- single stories ---- */

static void test_creation(void **state) {
    (void)state;
    struct world world;
    begin(&world, 1, 2);
    create(&world, 0, -1);
    run(&world, 5000);
    assert_settled(&world);
    assert_in_range(world.objects[0].writes_at_ready, 1, 6);
    assert_int_equal(world.objects[0].events, 2);
    static const char *const reasons[][2] = {
        {"Initialized", "Initialized"},         {"Scheduled", "Scheduled"},         {"Bound", "Bound"},
        {"ResourceCreated", "ResourceCreated"}, {"Ready", "ModelAdapterAvailable"}, {"FullyLoaded", "FullyLoaded"}};
    for (size_t i = 0; i < ARRAY_LEN(reasons); i++) {
        assert_string_equal(condition(&world, 0, reasons[i][0], "status"), "True");
        assert_string_equal(condition(&world, 0, reasons[i][0], "reason"), reasons[i][1]);
    }
    assert_string_equal(json_string_at(world.objects[0].object, "status.phase", ""), "Running");
    int writes = world.objects[0].writes, actions = world.actions;
    run(&world, 60000);
    assert_int_equal(world.objects[0].writes, writes); /* the steady state writes nothing and asks nothing */
    assert_int_equal(world.actions, actions);
    end(&world);
}

static void test_no_pods(void **state) {
    (void)state;
    struct world world;
    begin(&world, 1, 0);
    create(&world, 0, -1);
    run(&world, 5000);
    assert_string_equal(condition(&world, 0, "Ready", "reason"), "NoMatchingPods");
    assert_string_equal(condition(&world, 0, "Ready", "status"), "False");
    start_engine(&world, 0);
    run(&world, 2000);
    assert_true(is_ready(&world, 0)); /* within two seconds of the pod being ready */
    end(&world);
}

static void test_scaling(void **state) {
    (void)state;
    struct world world;
    begin(&world, 7, 4);
    create(&world, 0, 2);
    run(&world, 5000);
    assert_int_equal(count_published(&world, 0), 2);
    json_object_set_new(json_at(world.objects[0].object, "spec"), "replicas", json_integer(4));
    run(&world, 5000);
    assert_int_equal(count_published(&world, 0), 4);
    json_object_set_new(json_at(world.objects[0].object, "spec"), "replicas", json_integer(0));
    run(&world, 10000);
    assert_settled(&world);
    assert_string_equal(condition(&world, 0, "Ready", "reason"), "ScaledToZero");
    end(&world);
}

static void test_engine_that_refuses(void **state) {
    (void)state;
    struct world world;
    begin(&world, 3, 2);
    world.engines[0].mood = world.engines[1].mood = REFUSES;
    create(&world, 0, -1);
    run(&world, 20000);
    assert_string_equal(condition(&world, 0, "Ready", "reason"), "ModelAdapterLoadingError");
    assert_non_null(strstr(condition(&world, 0, "Ready", "message"), "pod pod-1: EngineError: refused"));
    assert_string_equal(json_string_at(world.objects[0].object, "status.phase", ""), "Failed");
    assert_int_equal(count_published(&world, 0), 0);
    assert_in_range(world.actions, 4, 16); /* with back-off */
    world.engines[1].mood = GOOD;
    run(&world, 70000);
    assert_settled(&world);
    assert_string_equal(condition(&world, 0, "FullyLoaded", "message"), "1 of 2: pod pod-0: EngineError: refused");
    end(&world);
}

static void test_replicas_avoid_a_bad_pod(void **state) {
    (void)state;
    struct world world;
    for (unsigned seed = 0; seed < 4; seed++) {
        begin(&world, seed, 2);
        world.engines[seed % 2].mood = seed < 2 ? REFUSES : HANGS;
        create(&world, 0, 1);
        run(&world, 60000);
        assert_true(is_ready(&world, 0));
        end(&world);
    }
}

static void test_foreign_service(void **state) {
    (void)state;
    struct world world;
    begin(&world, 3, 1);
    create(&world, 0, -1);
    world.objects[0].service = json_pack("{s:{s:s}, s:{}}", "metadata", "name", "sql", "spec");
    run(&world, 5000);
    assert_string_equal(condition(&world, 0, "ResourceCreated", "reason"), "ServiceCreateError");
    assert_string_equal(condition(&world, 0, "Ready", "status"), "False");
    assert_null(world.objects[0].slice);
    end(&world);
}

static void test_conflicts(void **state) {
    (void)state;
    struct world world;
    begin(&world, 3, 2);
    snprintf(world.engines[0].roots[0], 32, "/somebody/elses");
    create(&world, 0, -1);
    run(&world, 8000);
    assert_true(is_ready(&world, 0)); /* on the other pod */
    assert_int_equal(count_published(&world, 0), 1);
    assert_non_null(strstr(condition(&world, 0, "FullyLoaded", "message"), "Conflict"));
    delete_object(&world, 0);
    run(&world, 8000);
    assert_null(world.objects[0].object);
    assert_string_equal(world.engines[0].roots[0], "/somebody/elses"); /* not ours to unload */
    assert_string_equal(world.engines[1].roots[0], "");
    end(&world);
}

static void test_new_revision_rolls(void **state) {
    (void)state;
    struct world world;
    begin(&world, 5, 3);
    create(&world, 0, -1);
    run(&world, 5000);
    set_url(&world, 0, "/a/sql/2");
    int least = PODS;
    for (int i = 0; i < 400; i++) {
        step(&world);
        least = count_published(&world, 0) < least ? count_published(&world, 0) : least;
    }
    assert_int_equal(least, 2); /* pod by pod */
    assert_settled(&world);
    end(&world);
}

static void test_bad_revision_stops_the_roll(void **state) {
    (void)state;
    struct world world;
    begin(&world, 5, 3);
    create(&world, 0, -1);
    run(&world, 5000);
    for (int p = 0; p < 3; p++) {
        world.engines[p].mood = REFUSES;
    }
    set_url(&world, 0, "/a/sql/2");
    run(&world, 100); /* one endpoint is out */
    for (int i = 0; i < 2000; i++) {
        for (int p = 0; p < 3; p++) { /* unloading works, loading does not */
            world.engines[p].mood = world.engines[p].action == HOLD_UNLOADING ? GOOD : REFUSES;
        }
        step(&world);
    }
    assert_int_equal(count_published(&world, 0), 2);
    assert_string_equal(condition(&world, 0, "Ready", "status"), "False");
    end(&world);
}

static void test_deletion_with_a_dead_pod(void **state) {
    (void)state;
    struct world world;
    begin(&world, 5, 2);
    create(&world, 0, -1);
    run(&world, 5000);
    world.engines[1].mood = HANGS;
    delete_object(&world, 0);
    run(&world, 33000); /* check_endpoints has the limit */
    assert_null(world.objects[0].object);
    assert_string_equal(world.engines[0].roots[0], "");
    end(&world);
}

/* The controller is another process: all that it knows is what the object says. */
static void forget_holds(struct world *world, int a) {
    struct object *object = &world->objects[a];
    for (int p = 0; p < PODS; p++) {
        hold_free(object->holds[p]);
        object->holds[p] = hold_new();
    }
    const json_t *loads = json_at(object->object, "status.loads");
    for (size_t i = 0; i < json_array_size(loads); i++) {
        const json_t *row = json_array_get(loads, i);
        const char *revision = json_string_at(row, "revision", "");
        int p = json_string_at(row, "pod", "pod-0")[4] - '0';
        if (revision[0] != '\0') {
            struct hold_record record = {.revision = revision,
                                         .was_serving = strcmp(json_string_at(row, "state", ""), "Ready") == 0,
                                         .load_ms = json_int_at(row, "loadMillis", -1),
                                         .effect = EFFECT_SEEN};
            hold_recall(object->holds[p], &record);
        }
    }
}

static void test_restarted_controller_adopts(void **state) {
    (void)state;
    struct world world;
    begin(&world, 5, 2);
    create(&world, 0, -1);
    run(&world, 5000);
    int actions = world.actions, writes = world.objects[0].writes;
    forget_holds(&world, 0);
    run(&world, 5000);
    assert_settled(&world);
    assert_int_equal(world.actions - actions, 2);                      /* a proof each, no load */
    assert_int_equal(world.objects[0].writes, writes);                 /* and no endpoint was taken away meanwhile */
    memset(world.engines[1].roots, 0, sizeof(world.engines[1].roots)); /* this one forgets while nobody looks */
    forget_holds(&world, 0);
    int least = PODS;
    for (int i = 0; i < 100; i++) {
        step(&world);
        least = count_published(&world, 0) < least ? count_published(&world, 0) : least;
    }
    assert_int_equal(least, 1);
    assert_settled(&world);
    end(&world);
}

/* ---- random worlds ---- */

static void disturb(struct world *world) {
    int p = (int)next_random(world, PODS);
    int a = (int)next_random(world, ADAPTERS);
    struct engine *engine = &world->engines[p];
    struct object *object = &world->objects[a];
    switch (next_random(world, 10)) {
    case 0:
        start_engine(world, p); /* restarted, or a new pod */
        break;
    case 1:
        *engine = (struct engine){.adapter = -1};
        break;
    case 2:
        engine->is_ready = engine->exists && !engine->is_ready;
        break;
    case 3:
        engine->mood = (enum mood)next_random(world, MOODS);
        break;
    case 4:
        memset(engine->roots, 0, sizeof(engine->roots)); /* forgets */
        break;
    case 5:
        if (object->object == NULL) {
            create(world, a, (int)next_random(world, PODS + 2) - 1);
        }
        break;
    case 6:
        if (object->object != NULL && object->deleted_ms == 0) {
            delete_object(world, a);
        }
        break;
    case 8:
        if (object->object != NULL) {
            forget_holds(world, a);
            for (int other = 0; other < PODS; other++) { /* what was under way is forgotten with it */
                world->engines[other].adapter = world->engines[other].adapter == a ? -1 : world->engines[other].adapter;
            }
        }
        break;
    case 7:
        if (object->object != NULL) {
            char url[32];
            snprintf(url, sizeof(url), "/a/%s/%u", names[a], next_random(world, 3));
            set_url(world, a, url);
        }
        break;
    default:
        if (object->object != NULL) {
            json_object_set_new(json_at(object->object, "spec"), "replicas", json_integer(next_random(world, PODS + 1)));
        }
        break;
    }
}

static void test_random_worlds(void **state) {
    (void)state;
    for (unsigned seed = 0; seed < 16; seed++) {
        struct world world;
        begin(&world, seed, 2);
        create(&world, 0, -1);
        create(&world, 1, 1);
        for (int i = 0; i < 40; i++) {
            run(&world, (int64_t)next_random(&world, 4000));
            disturb(&world);
        }
        for (int p = 0; p < PODS; p++) { /* the storm is over */
            world.engines[p].mood = GOOD;
            world.engines[p].is_ready = world.engines[p].exists;
        }
        for (int a = 0; a < ADAPTERS; a++) { /* what was given up stays on engines; these are told to forget */
            for (int p = 0; p < PODS && world.objects[a].object == NULL; p++) {
                world.engines[p].roots[a][0] = '\0';
                world.engines[p].adapter = world.engines[p].adapter == a ? -1 : world.engines[p].adapter;
            }
            world.objects[a].deleted_ms = world.objects[a].deleted_ms != 0 ? world.now_ms : 0;
        }
        run(&world, 330000);
        assert_settled(&world);
        int actions = world.actions;
        run(&world, 30000);
        assert_int_equal(world.actions, actions);
        end(&world);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_creation),
        cmocka_unit_test(test_no_pods),
        cmocka_unit_test(test_scaling),
        cmocka_unit_test(test_engine_that_refuses),
        cmocka_unit_test(test_replicas_avoid_a_bad_pod),
        cmocka_unit_test(test_foreign_service),
        cmocka_unit_test(test_conflicts),
        cmocka_unit_test(test_new_revision_rolls),
        cmocka_unit_test(test_bad_revision_stops_the_roll),
        cmocka_unit_test(test_deletion_with_a_dead_pod),
        cmocka_unit_test(test_restarted_controller_adopts),
        cmocka_unit_test(test_random_worlds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
