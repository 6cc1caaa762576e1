/* The API, the pods and the events. The controller's shell is in plan_world_shell.c, the invariants in plan_world_check.c. */
#include "plan_world_parts.h"

#include "base/clock.h"
#include "kube/client.h"

#include <string.h>

static const char *const names[WORLD_ADAPTERS] = {"sql", "json", "pirate", "legal", "haiku"};

unsigned world_random(struct world *world, unsigned below) {
    world->random = world->random * 6364136223846793005u + 1442695040888963407u;
    return below > 0 ? (unsigned)(world->random >> 33) % below : 0;
}

void world_fail(const struct world *world, const char *format, ...) {
    char message[2048];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof(message), format, arguments);
    va_end(arguments);
    fail_msg("world SEED=%u step %lld at %lld ms: %s", world->seed, (long long)world->step, (long long)world->now_ms, message);
    abort();
}

/* ---- objects ---- */

void world_put(struct world *world, struct world_resource *resource, json_t *api) {
    json_decref(resource->api);
    resource->api = api;
    int64_t see_ms = world->now_ms + world_random(world, (unsigned)world->lag_ms + 1);
    resource->see_ms = see_ms < resource->see_ms ? see_ms : resource->see_ms;
}

/* A copy with another resourceVersion. */
static json_t *copy_of(struct world *world, const json_t *object) {
    char version[16];
    json_t *copy = json_deep_copy(object);
    snprintf(version, sizeof(version), "%d", ++world->serial);
    json_object_set_new(json_object_get(copy, "metadata"), "resourceVersion", json_string(version));
    return copy;
}

void world_expected_root(const struct world *world, int a, char ret_root[WORLD_ROOT_BYTES]) {
    struct model_adapter spec = {
        .artifact_url = json_string_at(world->adapters[a].object.api, "spec.artifactURL", ""), .source_revision = "", .digest = ""};
    char revision[REVISION_BYTES];
    model_adapter_revision(&spec, revision);
    world_root(world, a, spec.artifact_url, revision, ret_root);
}

int world_version_of(const struct world *world, int a, const char *tag) {
    for (int v = 0; v < WORLD_VERSIONS; v++) {
        if (strcmp(world->adapters[a].tags[v], tag) == 0) {
            return v;
        }
    }
    world_fail(world, "%s: no version has the tag \"%s\"", names[a], tag);
}

char *world_root_under(struct world *world, int a, int p, const char *tag) {
    struct world_pod *pod = &world->pods[p];
    return tag[0] == '\0' ? pod->roots[a] : pod->tagged[a][world_version_of(world, a, tag)];
}

static void make_tags(struct world_adapter *adapter) {
    for (int v = 0; v < WORLD_VERSIONS; v++) {
        char url[64], revision[REVISION_BYTES];
        snprintf(url, sizeof(url), "/a/%s/%d", adapter->name, v);
        struct model_adapter spec = {.artifact_url = url, .source_revision = "", .digest = ""};
        model_adapter_revision(&spec, revision);
        engine_tag_of(revision, adapter->tags[v]);
    }
}

void world_root(const struct world *world, int a, const char *url, const char *revision, char ret_root[WORLD_ROOT_BYTES]) {
    if (world->uses_sidecar) {
        snprintf(ret_root, WORLD_ROOT_BYTES, "/cache/%s/%s", names[a], revision);
    } else {
        snprintf(ret_root, WORLD_ROOT_BYTES, "%s", url);
    }
}

void world_create(struct world *world, int a, int replicas) {
    struct world_adapter *adapter = &world->adapters[a];
    char uid[32], url[64];
    snprintf(uid, sizeof(uid), "uid-%d", ++world->serial);
    snprintf(url, sizeof(url), "/a/%s/1", names[a]);
    json_t *object =
        json_pack("{s:s, s:s, s:{s:s, s:s, s:s, s:i, s:s}, s:{s:s, s:{s:{s:s}}}}", "apiVersion", "model.aibrix.ai/v1alpha1", "kind",
                  "ModelAdapter", "metadata", "name", names[a], "namespace", "default", "uid", uid, "generation", 1,
                  "resourceVersion", "1", "spec", "artifactURL", url, "podSelector", "matchLabels", "app", "llm");
    assert_non_null(object);
    if (replicas >= 0) {
        json_object_set_new(json_at(object, "spec"), "replicas", json_integer(replicas));
    }
    adapter->write_count = adapter->event_count = 0;
    adapter->writes_at_ready = adapter->events_at_ready = -1;
    adapter->made_ms = world->now_ms;
    adapter->deleted_ms = adapter->ready_wrong_ms = 0;
    memset(adapter->wrong_ms, 0, sizeof(adapter->wrong_ms));
    memset(adapter->rolling_start, 0, sizeof(adapter->rolling_start));
    world_put(world, &adapter->object, object);
}

void world_edit(struct world *world, int a, const char *field, json_t *value) {
    struct world_resource *object = &world->adapters[a].object;
    json_t *copy = copy_of(world, object->api);
    if (value != NULL) {
        json_object_set_new(json_object_get(copy, "spec"), field, value);
    } else {
        json_object_del(json_object_get(copy, "spec"), field);
    }
    json_object_set_new(json_object_get(copy, "metadata"), "generation",
                        json_integer(json_int_at(copy, "metadata.generation", 1) + 1));
    world_put(world, object, copy);
}

void world_set_url(struct world *world, int a, int version) {
    char url[64];
    snprintf(url, sizeof(url), "/a/%s/%d", names[a], version);
    world_edit(world, a, "artifactURL", json_string(url));
}

/* What had it as its owner is collected a while later. */
static void remove_object(struct world *world, int a) {
    world->adapters[a].collect_ms = world->now_ms + 1 + world_random(world, 2000);
    world_put(world, &world->adapters[a].object, NULL);
    world->adapters[a].released_ms = world->now_ms;
}

void world_delete(struct world *world, int a) {
    struct world_adapter *adapter = &world->adapters[a];
    adapter->deleted_ms = world->now_ms;
    if (json_array_size(json_at(adapter->object.api, "metadata.finalizers")) == 0) {
        remove_object(world, a);
        return;
    }
    char deleted[CLOCK_RFC3339_BYTES];
    clock_format_rfc3339(world->now_ms, deleted);
    json_t *copy = copy_of(world, adapter->object.api);
    json_object_set_new(json_object_get(copy, "metadata"), "deletionTimestamp", json_string(deleted));
    world_put(world, &adapter->object, copy);
}

struct world_resource *world_resource_at(struct world_adapter *adapter, size_t index) {
    return index == 0 ? &adapter->object : index == 1 ? &adapter->service : &adapter->slices[index - 2];
}

static void collect(struct world *world, int a) {
    struct world_adapter *adapter = &world->adapters[a];
    adapter->collect_ms = PLAN_NEVER;
    for (size_t i = 1; i < WORLD_RESOURCES; i++) {
        struct world_resource *resource = world_resource_at(adapter, i);
        const char *owner = kube_controller_uid(resource->api);
        if (owner[0] != '\0' && strcmp(owner, json_string_at(adapter->object.api, "metadata.uid", "")) != 0) {
            world_put(world, resource, NULL);
        }
    }
}

/* ---- writes arrive ---- */

static struct world_resource *target_of(struct world_adapter *adapter, const struct world_write *write) {
    return write->kind == WRITE_SERVICE ? &adapter->service
           : write->kind == WRITE_SLICE ? &adapter->slices[write->slice]
                                        : &adapter->object;
}

/* Whether the API took it. */
static bool take_write(struct world *world, int a, const struct world_write *write, struct world_resource *resource) {
    const char *version = json_string_at(write->body, "metadata.resourceVersion", NULL);
    if (write->fails || write->is_create != (resource->api == NULL) ||
        (version != NULL && strcmp(version, json_string_at(resource->api, "metadata.resourceVersion", "")) != 0)) {
        return false;
    }
    json_t *next = write->is_create ? copy_of(world, write->body) : json_merge_patch(copy_of(world, resource->api), write->body);
    char stamp[16];
    snprintf(stamp, sizeof(stamp), "%d", ++world->serial);
    json_object_set_new(json_object_get(next, "metadata"), "resourceVersion", json_string(stamp));
    if (write->releases && json_string_at(next, "metadata.deletionTimestamp", NULL) != NULL) {
        json_decref(next);
        world_check_release(world, a);
        remove_object(world, a);
    } else {
        world_put(world, resource, next);
    }
    return true;
}

static void finish_write(struct world *world, int a, struct world_write *write) {
    struct world_adapter *adapter = &world->adapters[a];
    struct world_resource *resource = target_of(adapter, write);
    struct world_write done = *write;
    *write = (struct world_write){0};
    if (take_write(world, a, &done, resource) && !done.is_lost) {
        adapter->write_failures = 0;
        adapter->is_released |= done.releases;
        adapter->told_generation = done.kind == WRITE_STATUS ? done.generation : adapter->told_generation;
        if (!done.releases) {
            resource->see_ms = world->now_ms; /* the answer goes into the cache */
        }
    } else {
        adapter->write_after_ms = world->now_ms + ((int64_t)200 << (adapter->write_failures < 8 ? adapter->write_failures : 8));
        adapter->write_failures++;
    }
    adapter->slice_written_ms = done.kind == WRITE_SLICE ? world->now_ms : adapter->slice_written_ms;
    adapter->is_woken = true;
    json_decref(done.body);
}

/* ---- pods ---- */

static void drop_bindings(struct world *world, int p) {
    for (int a = 0; a < WORLD_ADAPTERS; a++) {
        struct world_adapter *adapter = &world->adapters[a];
        hold_free(adapter->holds[p]);
        adapter->holds[p] = adapter->known != NULL ? hold_new() : NULL;
        adapter->out_ms[p] = -1;
        adapter->wrong_ms[p] = adapter->busy_until_ms[p] = adapter->idle_ms[p] = 0;
        adapter->gauge_ms[p] = PLAN_NEVER;
    }
    for (int i = 0; i < WORLD_OPERATIONS; i++) {
        if (world->operations[i].pod == p) {
            world->operations[i].kind = HOLD_IDLE;
        }
    }
}

static void wake_all(struct world *world) {
    for (int a = 0; a < WORLD_ADAPTERS; a++) {
        world->adapters[a].is_woken = true;
    }
}

void world_touch(struct world *world, int p) {
    world->pods[p].touched_ms = world->now_ms;
    world->pods[p].poll_ms = world->pods[p].exists ? world->now_ms : PLAN_NEVER;
    wake_all(world);
}

void world_restart_engine(struct world *world, int p) {
    struct world_pod *pod = &world->pods[p];
    pod->start = ++world->serial;
    snprintf(pod->start_text, sizeof(pod->start_text), "%d", pod->start);
    memset(pod->roots, 0, sizeof(pod->roots));
    memset(pod->tagged, 0, sizeof(pod->tagged));
    memset(pod->answered, 0, sizeof(pod->answered));
    memset(pod->listed, 0, sizeof(pod->listed));
    memset(pod->listed_tagged, 0, sizeof(pod->listed_tagged));
    pod->is_observed = pod->has_failed = false;
    pod->failures = 0;
    for (int i = 0; i < WORLD_OPERATIONS; i++) { /* it died with what it was doing */
        if (world->operations[i].pod == p) {
            world->operations[i].kind = HOLD_IDLE;
        }
    }
    for (int a = 0; a < WORLD_ADAPTERS; a++) {
        world->adapters[a].busy_until_ms[p] = 0;
        if (world->adapters[a].holds[p] != NULL) {
            hold_meet(world->adapters[a].holds[p], pod->start_text);
        }
    }
    world_touch(world, p);
}

void world_start_pod(struct world *world, int p, bool is_renamed) {
    struct world_pod *pod = &world->pods[p];
    char name[sizeof(pod->name)];
    snprintf(name, sizeof(name), "%s", pod->name);
    drop_bindings(world, p);
    *pod = (struct world_pod){.exists = true, .is_ready = true, .has_label = true, .port = 8000};
    pod->has_gauge = world->serial % 3 > 0;
    if (is_renamed) {
        snprintf(pod->name, sizeof(pod->name), "pod-%d-%d", p, world->serial + 1);
    } else if (name[0] == '\0') {
        snprintf(pod->name, sizeof(pod->name), "pod-%d", p);
    } else {
        memcpy(pod->name, name, sizeof(name));
    }
    snprintf(pod->uid, sizeof(pod->uid), "pod-%d", ++world->serial);
    snprintf(pod->ip, sizeof(pod->ip), "127.1.%d.%d", world->serial / 250 % 250, world->serial % 250 + 1);
    if (world->has_two_families && world_random(world, 3) > 0) {
        snprintf(pod->second_ip, sizeof(pod->second_ip), "fd00::%x", (unsigned)world->serial);
    }
    if (world->has_two_ports && world_random(world, 2) == 0) {
        pod->port = 9000;
    }
    snprintf(pod->node, sizeof(pod->node), "node-%d", p % 3);
    snprintf(pod->zone, sizeof(pod->zone), "zone-%d", p % 2);
    world_restart_engine(world, p);
}

void world_remove_pod(struct world *world, int p) {
    struct world_pod *pod = &world->pods[p];
    pod->exists = false;
    pod->gone_ms = 0;
    drop_bindings(world, p);
    for (int a = 0; a < WORLD_ADAPTERS; a++) {
        world->adapters[a].rolling_start[p] = 0;
    }
    world_touch(world, p);
}

/* ---- engines ---- */

static int64_t duration_ms(struct world *world, enum mood mood) {
    return mood == HANGS ? 20000 : mood == SLOW ? 2000 + world_random(world, 6000) : 20 + world_random(world, 300);
}

bool world_begin_operation(struct world *world, const struct world_operation *wanted) {
    for (int i = 0; i < WORLD_OPERATIONS; i++) {
        if (world->operations[i].kind == HOLD_IDLE) {
            world->operations[i] = *wanted;
            world->operations[i].done_ms = world->now_ms + duration_ms(world, world->pods[wanted->pod].mood);
            return true;
        }
    }
    return false;
}

static bool is_refused(const struct world_pod *pod, enum hold_action kind, struct dialect_answer *answer) {
    static const struct {
        enum mood mood;
        bool loads_only, proofs_only;
        enum dialect_outcome outcome;
        const char *message;
    } refusals[] = {{REFUSES, false, false, DIALECT_FAILED, "refused"},
                    {FETCHES, true, false, DIALECT_PENDING, "downloading 41 % of 12.3 MB"},
                    {REFUSES_LOADS, true, false, DIALECT_FAILED, "refused"},
                    {REFUSES_FOR_GOOD, true, false, DIALECT_PERMANENT, "rank 64 exceeds 16"},
                    {BUSY, false, false, DIALECT_BUSY, "too many requests"},
                    {LIES, false, true, DIALECT_FAILED, "no such model"}};
    for (size_t i = 0; i < ARRAY_LEN(refusals); i++) {
        if (pod->mood == refusals[i].mood && (!refusals[i].loads_only || kind == HOLD_LOADING) &&
            (!refusals[i].proofs_only || kind == HOLD_PROVING)) {
            *answer = (struct dialect_answer){.outcome = refusals[i].outcome};
            snprintf(answer->message, sizeof(answer->message), "%s", refusals[i].message);
            return true;
        }
    }
    return false;
}

static void perform(struct world *world, const struct world_operation *operation, struct dialect_answer *answer) {
    struct world_pod *pod = &world->pods[operation->pod];
    char *root = world_root_under(world, operation->adapter, operation->pod, operation->tag);
    if (is_refused(pod, operation->kind, answer)) {
        return;
    }
    *answer = (struct dialect_answer){.outcome = DIALECT_DONE};
    if (operation->kind == HOLD_LOADING && root[0] != '\0') {
        *answer = (struct dialect_answer){.outcome = DIALECT_ALREADY_LOADED, .message = "already loaded"};
    } else if (operation->kind == HOLD_LOADING) {
        memcpy(root, operation->root, WORLD_ROOT_BYTES);
        pod->answered[operation->adapter][0] = '\0';
    } else if (root[0] == '\0') {
        bool is_unload = operation->kind == HOLD_UNLOADING || operation->kind == HOLD_CLEARING;
        *answer = (struct dialect_answer){.outcome = is_unload ? DIALECT_NOT_LOADED : DIALECT_FAILED, .message = "no such adapter"};
    } else if (operation->kind == HOLD_UNLOADING || operation->kind == HOLD_CLEARING) {
        root[0] = '\0';
    } else {
        memcpy(pod->answered[operation->adapter], root, WORLD_ROOT_BYTES);
        memcpy(pod->answered_tag[operation->adapter], operation->tag, ENGINE_TAG_BYTES);
    }
}

static void finish_operation(struct world *world, struct world_operation *slot) {
    struct world_operation operation = *slot;
    struct world_pod *pod = &world->pods[operation.pod];
    struct dialect_answer answer;
    slot->kind = HOLD_IDLE;
    if (operation.kind == HOLD_UNLOADING && !operation.is_orphan && world_is_published(world, operation.adapter, operation.pod)) {
        world_fail(world, "%s: published on %s while it is unloaded there", names[operation.adapter], pod->name);
    }
    if (pod->mood != HANGS || world_random(world, 2) == 0) {
        perform(world, &operation, &answer);
    }
    if (pod->mood == HANGS) {
        answer = (struct dialect_answer){.outcome = DIALECT_UNREACHABLE, .message = "timed out"};
    }
    if (operation.is_orphan || pod->mood != GOOD) {
        pod->touched_ms = world->now_ms;
    }
    world_note_operation(world, &operation, &answer);
}

static void poll_pod(struct world *world, int p) {
    struct world_pod *pod = &world->pods[p];
    bool wakes = true;
    if (!pod->is_ready) {
        pod->poll_ms = PLAN_NEVER; /* an event about the pod starts it again */
        return;
    }
    if (pod->mood == HANGS) {
        pod->hung_ms = world->now_ms;
        pod->failing_since_ms = pod->failures++ == 0 ? world->now_ms : pod->failing_since_ms;
        wakes = !pod->has_failed || pod->failures < 20 || world->now_ms - pod->failing_since_ms < 2 * UNREACHABLE_MS;
        pod->has_failed = true;
    } else {
        wakes = !pod->is_observed || pod->is_awaited || pod->has_failed || pod->has_changed ||
                memcmp(pod->listed, pod->roots, sizeof(pod->roots)) != 0 ||
                memcmp(pod->listed_tagged, pod->tagged, sizeof(pod->tagged)) != 0;
        memcpy(pod->listed, pod->roots, sizeof(pod->roots));
        memcpy(pod->listed_tagged, pod->tagged, sizeof(pod->tagged));
        memcpy(pod->observed_start, pod->start_text, sizeof(pod->start_text));
        pod->is_observed = true;
        pod->has_failed = false;
        pod->failures = 0;
        pod->asked_ms = world->now_ms;
    }
    pod->is_awaited = pod->has_changed = false;
    int64_t delay_ms = pod->failures > 0 && pod->failures < 5 ? (int64_t)100 << pod->failures : WORLD_POLL_MS;
    pod->poll_ms = world->now_ms + delay_ms;
    if (wakes) {
        wake_all(world);
    }
}

static void read_gauge(struct world *world, int a, int p) {
    struct world_adapter *adapter = &world->adapters[a];
    bool is_told = world->pods[p].has_gauge && world->pods[p].mood != HANGS;
    if (is_told && !world_is_busy(world, a, p)) {
        adapter->idle_ms[p] = adapter->gauge_asked_ms[p];
        adapter->gauge_ms[p] = PLAN_NEVER;
        adapter->is_woken = true;
    } else {
        adapter->gauge_asked_ms[p] = world->now_ms + 500;
        adapter->gauge_ms[p] = adapter->gauge_asked_ms[p] + 1 + world_random(world, 200);
    }
}

/* ---- time ---- */

static int64_t earlier(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* Of all but polls. */
static int64_t next_event(const struct world *world) {
    int64_t next = PLAN_NEVER;
    for (int i = 0; i < WORLD_OPERATIONS; i++) {
        next = world->operations[i].kind != HOLD_IDLE ? earlier(next, world->operations[i].done_ms) : next;
    }
    for (int p = 0; p < WORLD_PODS; p++) {
        next = world->pods[p].gone_ms != 0 ? earlier(next, world->pods[p].gone_ms) : next;
    }
    for (int a = 0; a < WORLD_ADAPTERS; a++) {
        struct world_adapter *adapter = (struct world_adapter *)&world->adapters[a];
        next = earlier(next, adapter->is_woken ? world->now_ms : adapter->look_again_ms);
        next = earlier(next, adapter->collect_ms);
        for (int p = 0; p < WORLD_PODS; p++) {
            next = earlier(next, adapter->gauge_ms[p]);
        }
        for (size_t i = 0; i < WORLD_RESOURCES; i++) {
            next = earlier(next, world_resource_at(adapter, i)->see_ms);
        }
        for (int i = 0; i < WORLD_WRITES; i++) {
            next = adapter->writes[i].kind != 0 ? earlier(next, adapter->writes[i].done_ms) : next;
        }
    }
    return next;
}

static int64_t next_poll(const struct world *world) {
    int64_t next = PLAN_NEVER;
    for (int p = 0; p < WORLD_PODS; p++) {
        next = earlier(next, world->pods[p].poll_ms);
    }
    return next;
}

static void arrive(struct world *world, int a) {
    struct world_adapter *adapter = &world->adapters[a];
    for (int p = 0; p < WORLD_PODS; p++) {
        if (adapter->gauge_ms[p] <= world->now_ms) {
            read_gauge(world, a, p);
        }
    }
    for (int i = 0; i < WORLD_WRITES; i++) {
        if (adapter->writes[i].kind != 0 && adapter->writes[i].done_ms <= world->now_ms) {
            finish_write(world, a, &adapter->writes[i]);
        }
    }
    if (adapter->collect_ms <= world->now_ms) {
        collect(world, a);
    }
    for (size_t i = 0; i < WORLD_RESOURCES; i++) {
        struct world_resource *resource = world_resource_at(adapter, i);
        if (resource->see_ms <= world->now_ms) {
            resource->see_ms = PLAN_NEVER;
            json_decref(resource->seen);
            resource->seen = json_incref(resource->api);
            adapter->digest = i > 0 ? 0 : adapter->digest;
            adapter->is_woken = true;
        }
    }
}

bool world_step(struct world *world, int64_t until_ms) {
    int64_t next = earlier(next_event(world), next_poll(world));
    if (next > until_ms) {
        world->now_ms = until_ms;
        return false;
    }
    world->spins = next > world->now_ms ? 0 : world->spins + 1;
    if (world->spins > 200) {
        world_fail(world, "something is planned again and again without the clock moving");
    }
    world->now_ms = next > world->now_ms ? next : world->now_ms;
    world->step++;
    for (int i = 0; i < WORLD_OPERATIONS; i++) {
        if (world->operations[i].kind != HOLD_IDLE && world->operations[i].done_ms <= world->now_ms) {
            finish_operation(world, &world->operations[i]);
        }
    }
    for (int p = 0; p < WORLD_PODS; p++) {
        if (world->pods[p].gone_ms != 0 && world->pods[p].gone_ms <= world->now_ms) {
            world_remove_pod(world, p);
        }
        if (world->pods[p].poll_ms <= world->now_ms) {
            poll_pod(world, p);
        }
    }
    for (int a = 0; a < WORLD_ADAPTERS; a++) {
        arrive(world, a);
    }
    unsigned first = world_random(world, WORLD_ADAPTERS);
    for (unsigned i = 0; i < WORLD_ADAPTERS; i++) {
        int a = (int)((first + i) % WORLD_ADAPTERS);
        struct world_adapter *adapter = &world->adapters[a];
        if (adapter->is_woken || adapter->look_again_ms <= world->now_ms) {
            world_reconcile(world, a);
        }
    }
    world_check_step(world);
    return true;
}

void world_run(struct world *world, int64_t for_ms) {
    int64_t until_ms = world->now_ms + for_ms;
    while (world_step(world, until_ms)) {
    }
}

void world_settle(struct world *world, int64_t within_ms) {
    int64_t until_ms = world->now_ms + within_ms;
    int64_t quiet_since_ms = world->now_ms;
    while (world->now_ms - quiet_since_ms <= 3 * WORLD_POLL_MS) {
        if (next_event(world) != PLAN_NEVER) {
            quiet_since_ms = world->now_ms;
        }
        if (!world_step(world, until_ms)) {
            if (next_poll(world) == PLAN_NEVER && next_event(world) == PLAN_NEVER) {
                return;
            }
            world_fail(world, "still not settled after %lld ms", (long long)within_ms);
        }
    }
}

void world_begin(struct world *world, unsigned seed, int pods) {
    *world = (struct world){.seed = seed,
                            .random = seed * 2654435761u + 1,
                            .now_ms = 1000000,
                            .operations_max = 1,
                            .write_ms = 10,
                            .policy = PLACEMENT_LEAST_ADAPTERS};
    for (int a = 0; a < WORLD_ADAPTERS; a++) {
        world->adapters[a] = (struct world_adapter){.name = names[a], .look_again_ms = PLAN_NEVER, .collect_ms = PLAN_NEVER};
        make_tags(&world->adapters[a]);
        for (int p = 0; p < WORLD_PODS; p++) {
            world->adapters[a].gauge_ms[p] = PLAN_NEVER;
        }
        for (size_t i = 0; i < WORLD_RESOURCES; i++) {
            world_resource_at(&world->adapters[a], i)->see_ms = PLAN_NEVER;
        }
    }
    for (int p = 0; p < WORLD_PODS; p++) {
        world->pods[p].poll_ms = PLAN_NEVER;
        if (p < pods) {
            world_start_pod(world, p, false);
        }
    }
}

void world_end(struct world *world) {
    for (int a = 0; a < WORLD_ADAPTERS; a++) {
        struct world_adapter *adapter = &world->adapters[a];
        world_forget_record(world, a);
        for (size_t i = 0; i < WORLD_RESOURCES; i++) {
            json_decref(world_resource_at(adapter, i)->api);
            json_decref(world_resource_at(adapter, i)->seen);
        }
    }
}
