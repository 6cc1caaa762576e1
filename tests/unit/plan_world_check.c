/* What must hold in every world at every moment. */
#include "plan_world_parts.h"

#include "controller/publish.h"
#include "kube/client.h"

#include <string.h>

/* Two polls, and writes that fail three times in a row and are seen late, as the API is or has been. */
static int64_t patience_ms(struct world *world) {
    int64_t now_ms =
        2 * WORLD_POLL_MS + 1000 + (world->write_fails_percent > 0 ? 3000 : 0) + 4 * world->write_ms + 4 * world->lag_ms;
    world->patience_ms = now_ms > world->patience_ms ? now_ms : world->patience_ms;
    return world->patience_ms;
}

static bool is_ours(const struct world_adapter *adapter, const json_t *slice) {
    return slice != NULL && adapter->object.api != NULL && !publish_is_foreign(adapter->object.api, slice);
}

bool world_is_published(const struct world *world, int a, int p) {
    const struct world_adapter *adapter = &world->adapters[a];
    for (size_t i = 0; i < WORLD_SLICES && world->pods[p].uid[0] != '\0'; i++) {
        const json_t *slice = adapter->slices[i].api;
        if (is_ours(adapter, slice) && publish_has_pod(slice, world->pods[p].uid, "")) {
            return true;
        }
    }
    return false;
}

bool world_is_busy(const struct world *world, int a, int p) {
    const struct world_adapter *adapter = &world->adapters[a];
    return world->now_ms >= adapter->busy_from_ms[p] && world->now_ms < adapter->busy_until_ms[p];
}

void world_published_tag(const struct world *world, int a, int p, char ret_tag[ENGINE_TAG_BYTES]) {
    const struct world_adapter *adapter = &world->adapters[a];
    ret_tag[0] = '\0';
    for (size_t i = 0; i < WORLD_SLICES; i++) {
        const json_t *slice = adapter->slices[i].api;
        if (is_ours(adapter, slice) && publish_has_pod(slice, world->pods[p].uid, "")) {
            cleanup_json json_t *names = publish_names(slice);
            publish_tag_in(names, adapter->name, world->pods[p].name, ret_tag);
        }
    }
}

/* What the engine has under the name by which it is asked through the slices. */
static const char *published_root(const struct world *world, int a, int p) {
    char tag[ENGINE_TAG_BYTES];
    world_published_tag(world, a, p, tag);
    return world_root_under((struct world *)world, a, p, tag);
}

int world_count_published(const struct world *world, int a) {
    int count = 0;
    for (int p = 0; p < WORLD_PODS; p++) {
        count += world_is_published(world, a, p);
    }
    return count;
}

const char *world_condition(const struct world *world, int a, const char *type, const char *member) {
    const json_t *conditions = json_at(world->adapters[a].object.api, "status.conditions");
    for (size_t i = 0; i < json_array_size(conditions); i++) {
        if (strcmp(json_string_at(json_array_get(conditions, i), "type", ""), type) == 0) {
            return json_string_at(json_array_get(conditions, i), member, "");
        }
    }
    return "";
}

bool world_is_ready(const struct world *world, int a) {
    return strcmp(world_condition(world, a, "Ready", "status"), "True") == 0;
}

/* ---- a plan ---- */

/* Among the endpoints that the plan writes or leaves. */
static bool is_in_plan(const struct world_adapter *adapter, const struct plan *plan, const struct plan_pod *pod) {
    for (size_t i = 0; i < WORLD_SLICES; i++) {
        const json_t *slice = adapter->slices[i].seen;
        slice = slice != NULL && !publish_is_foreign(adapter->known, slice) ? slice : NULL;
        cleanup_free char *name = publish_slice_name(adapter->name, i);
        for (size_t k = 0; k < plan->slice_count; k++) {
            bool is_it = strcmp(plan->slices[k].name, name) == 0 && json_at(plan->slices[k].body, "endpoints") != NULL;
            slice = is_it ? plan->slices[k].body : slice;
        }
        if (publish_has_pod(slice, pod->uid, pod->ip)) {
            return true;
        }
    }
    return false;
}

static int allowed_out(const struct plan_input *input, int wanted) {
    int percent = input->adapter->max_unavailable_percent;
    int allowed = percent > 0 ? wanted * percent / 100 : input->adapter->max_unavailable;
    return allowed > 1 ? allowed : 1;
}

static void check_roll(struct world *world, int a, const struct plan_input *input, const struct plan *plan, const int *slots) {
    struct world_adapter *adapter = &world->adapters[a];
    int wanted = 0, out = 0, added = 0;
    for (size_t i = 0; i < input->pod_count; i++) {
        const struct plan_pod *pod = &input->pods[i];
        int *rolling = &adapter->rolling_start[slots[i]];
        bool is_taken = pod->hold->state == HOLD_CONFLICT;
        bool counts = plan->is_wanted[i] && pod->is_ready && !pod->is_unreachable && !is_taken;
        wanted += counts;
        bool is_in = is_in_plan(adapter, plan, pod);
        if (*rolling != 0 && (!counts || is_in || *rolling != world->pods[slots[i]].start || plan_is_current(input, pod))) {
            *rolling = 0; /* something else keeps it out, or it is done, or it never came to it */
        }
        bool is_old = !hold_is_of(pod->hold, input->revision, pod->tag) && pod->hold->state == HOLD_LOADED && pod->hold->is_proved;
        if (counts && pod->is_published && is_old && !is_in) {
            *rolling = world->pods[slots[i]].start;
            added++;
        }
        out += *rolling != 0;
    }
    if (added > 0 && out > allowed_out(input, wanted)) {
        world_fail(world, "%s: %d pods out for the new revision, %d allowed of %d", adapter->name, out, allowed_out(input, wanted),
                   wanted);
    }
}

static void check_endpoints_of(struct world *world, int a, const struct plan_input *input, const struct plan *plan,
                               const int *slots) {
    struct world_adapter *adapter = &world->adapters[a];
    char root[WORLD_ROOT_BYTES];
    world_root(world, a, adapter->spec.artifact_url, adapter->revision, root);
    for (size_t i = 0; i < input->pod_count; i++) {
        const struct plan_pod *pod = &input->pods[i];
        const struct world_pod *real = &world->pods[slots[i]];
        bool is_in = is_in_plan(adapter, plan, pod);
        adapter->removals += pod->is_published && !is_in;
        if (!is_in || pod->is_published) {
            continue;
        }
        if (!plan_is_current(input, pod) || !pod->hold->is_proved || !pod->is_ready || pod->is_unreachable || !pod->matches) {
            world_fail(world, "%s: %s is published anew without being ready and proved", adapter->name, pod->name);
        }
        bool has_answered = strcmp(real->answered[a], root) == 0 && strcmp(real->answered_tag[a], publish_tag(pod)) == 0;
        if (!has_answered && real->touched_ms < real->asked_ms) {
            world_fail(world, "%s: %s is published anew as \"%s\", the engine has answered with \"%s\" as \"%s\" only",
                       adapter->name, pod->name, publish_tag(pod), real->answered[a], real->answered_tag[a]);
        }
    }
}

static void check_ready_said(struct world *world, int a, const struct plan_input *input, const struct plan *plan) {
    const json_t *conditions = json_at(plan->status, "status.conditions");
    int good = 0, need = input->adapter->replicas >= 0 ? input->adapter->replicas : 1;
    bool says_ready = false;
    for (size_t i = 0; i < json_array_size(conditions); i++) {
        const json_t *condition = json_array_get(conditions, i);
        says_ready |= strcmp(json_string_at(condition, "type", ""), "Ready") == 0 &&
                      strcmp(json_string_at(condition, "status", ""), "True") == 0;
    }
    for (size_t i = 0; i < input->pod_count; i++) {
        const struct plan_pod *pod = &input->pods[i];
        good += pod->is_published && plan_is_current(input, pod) && pod->is_ready && !pod->is_unreachable;
    }
    if (says_ready && (good < need || need == 0 || input->adapter->is_deleting)) {
        world_fail(world, "%s: Ready is said with %d good pods, %d needed", world->adapters[a].name, good, need);
    }
}

static void check_same_again(struct world *world, int a, const struct plan_input *input, const struct plan *plan) {
    struct plan again;
    plan_adapter(input, &again);
    bool is_same = again.action_count == plan->action_count && again.due == plan->due && again.digest == plan->digest &&
                   again.look_again_ms == plan->look_again_ms &&
                   memcmp(again.is_wanted, plan->is_wanted, input->pod_count * sizeof(bool)) == 0 &&
                   memcmp(again.actions, plan->actions, plan->action_count * sizeof(*plan->actions)) == 0;
    plan_release(&again);
    if (!is_same) {
        world_fail(world, "%s: the same world is planned in two ways", world->adapters[a].name);
    }
}

void world_check_plan(struct world *world, int a, const struct plan_input *input, const struct plan *plan, const int *slots) {
    check_roll(world, a, input, plan, slots);
    if (plan->slice_count > 0) {
        check_endpoints_of(world, a, input, plan, slots);
    }
    if (plan->status != NULL) {
        check_ready_said(world, a, input, plan);
    }
    for (size_t i = 0; i < plan->action_count; i++) {
        const struct plan_pod *pod = &input->pods[plan->actions[i].pod];
        if (pod->hold->running != HOLD_IDLE || pod->is_busy || pod->is_gone) {
            world_fail(world, "%s: action %d on %s, which is not free", world->adapters[a].name, plan->actions[i].kind, pod->name);
        }
        if (plan->actions[i].kind == HOLD_LOADING && input->adapter->replicas >= 0 && pod->is_full && !pod->hold->is_wanted &&
            pod->hold->state == HOLD_NONE && !pod->hold->is_fetching) { /* what is fetched has its room already */
            world_fail(world, "%s: %s is full and is given one more", world->adapters[a].name, pod->name);
        }
    }
    if (world->step % 32 == 0) {
        check_same_again(world, a, input, plan);
    }
}

/* ---- an action ---- */

void world_check_action(struct world *world, int a, int p, enum hold_action kind) {
    const struct world_adapter *adapter = &world->adapters[a];
    const struct world_pod *pod = &world->pods[p];
    char root[WORLD_ROOT_BYTES];
    for (int i = 0; i < WORLD_OPERATIONS; i++) {
        const struct world_operation *operation = &world->operations[i];
        if (operation->kind != HOLD_IDLE && operation->adapter == a && operation->pod == p && !operation->is_orphan) {
            world_fail(world, "%s: two actions at once on %s", adapter->name, pod->name);
        }
    }
    char published[ENGINE_TAG_BYTES];
    world_published_tag(world, a, p, published);
    if (kind == HOLD_CLEARING && world_is_published(world, a, p) && strcmp(published, adapter->holds[p]->other) == 0) {
        world_fail(world, "%s: cleared from %s under the name that is published", adapter->name, pod->name);
    }
    if (kind == HOLD_UNLOADING) {
        if (world_is_published(world, a, p)) {
            world_fail(world, "%s: unloaded from %s while it is published there", adapter->name, pod->name);
        }
        if (adapter->out_ms[p] >= 0 && world->now_ms - adapter->out_ms[p] < WORLD_DRAIN_MS) {
            world_fail(world, "%s: unloaded from %s %lld ms after its endpoint went", adapter->name, pod->name,
                       (long long)(world->now_ms - adapter->out_ms[p]));
        }
        if (adapter->out_ms[p] >= 0 && world_is_busy(world, a, p) &&
            world->now_ms - adapter->out_ms[p] < plan_drain_ms(&adapter->spec)) {
            world_fail(world, "%s: unloaded from %s %lld ms after its endpoint went, with a request running", adapter->name,
                       pod->name, (long long)(world->now_ms - adapter->out_ms[p]));
        }
    }
    world_root(world, a, adapter->spec.artifact_url, adapter->revision, root);
    bool is_asked =
        pod->is_observed && strcmp(pod->observed_start, pod->start_text) == 0 && pod->asked_ms >= adapter->holds[p]->since_ms;
    if (kind == HOLD_LOADING && is_asked && !adapter->holds[p]->is_fetching && world_lists_ours(world, a, p)) {
        world_fail(world, "%s: loaded on %s although its list has it", adapter->name, pod->name);
    }
}

void world_check_release(struct world *world, int a) {
    const struct world_adapter *adapter = &world->adapters[a];
    for (int p = 0; p < WORLD_PODS; p++) {
        const struct world_pod *pod = &world->pods[p];
        bool is_healthy = pod->exists && pod->is_ready && pod->has_label && pod->gone_ms == 0 && pod->mood == GOOD &&
                          pod->touched_ms < adapter->deleted_ms;
        if (is_healthy && world_count_names(world, a, p) > 0) {
            world_fail(world, "%s: released, and %s still has it", adapter->name, pod->name);
        }
    }
}

/* ---- the API and the engines, after each step ---- */

static bool has_foreign(const struct world_adapter *adapter) {
    bool is_foreign = adapter->object.api != NULL && publish_is_foreign(adapter->object.api, adapter->service.api);
    for (size_t i = 0; i < WORLD_SLICES; i++) {
        is_foreign |= adapter->object.api != NULL && publish_is_foreign(adapter->object.api, adapter->slices[i].api);
    }
    return is_foreign;
}

static int strangers_in(const struct world *world, const struct world_adapter *adapter) {
    int strangers = 0;
    for (size_t i = 0; i < WORLD_SLICES; i++) {
        const json_t *endpoints = is_ours(adapter, adapter->slices[i].api) ? json_at(adapter->slices[i].api, "endpoints") : NULL;
        for (size_t k = 0; k < json_array_size(endpoints); k++) {
            const char *uid = json_string_at(json_array_get(endpoints, k), "targetRef.uid", "");
            bool is_known = false;
            for (int p = 0; p < WORLD_PODS; p++) {
                is_known |= world->pods[p].exists && strcmp(world->pods[p].uid, uid) == 0;
            }
            strangers += !is_known;
        }
    }
    return strangers;
}

static void check_since(struct world *world, int64_t *since_ms, bool is_wrong, int64_t limit_ms, const char *adapter,
                        const char *what) {
    if (!is_wrong) {
        *since_ms = 0;
    } else if (*since_ms == 0) {
        *since_ms = world->now_ms;
    } else if (world->now_ms - *since_ms > limit_ms) {
        world_fail(world, "%s: %s for %lld ms", adapter, what, (long long)(world->now_ms - *since_ms));
    }
}

/* The last request comes to the engine within a second after the endpoint went. */
static void begin_drain(struct world *world, struct world_adapter *adapter, int p) {
    int64_t longest_ms = world->busy_ms > 0 ? world->busy_ms : world_random(world, 6000);
    adapter->busy_from_ms[p] = world->now_ms + world_random(world, WORLD_DRAIN_MS);
    adapter->busy_until_ms[p] = world->now_ms + longest_ms;
}

/* A pod that has it, or may, and is slow rather than dead: it is waited for. */
static bool has_answering(const struct world *world, int a) {
    for (int p = 0; p < WORLD_PODS; p++) {
        const struct world_pod *pod = &world->pods[p];
        const struct hold *hold = world->adapters[a].holds[p];
        bool may_have = pod->roots[a][0] != '\0' || (hold != NULL && hold->running != HOLD_IDLE);
        if (pod->exists && pod->is_ready && pod->mood != HANGS && may_have) {
            return true;
        }
    }
    return false;
}

static void check_adapter(struct world *world, int a) {
    struct world_adapter *adapter = &world->adapters[a];
    const json_t *object = adapter->object.api;
    int good = 0, replicas = (int)json_int_at(object, "spec.replicas", -1);
    int64_t limit_ms = patience_ms(world);
    bool is_late = false; /* some pod hangs, which takes longer to notice */
    char root[WORLD_ROOT_BYTES];
    world_expected_root(world, a, root);
    for (int p = 0; p < WORLD_PODS; p++) {
        struct world_pod *pod = &world->pods[p];
        bool is_published = world_is_published(world, a, p);
        bool is_up = pod->exists && pod->is_ready && pod->gone_ms == 0;
        const char *published = is_published ? published_root(world, a, p) : "";
        bool is_wrong = is_published && (!is_up || !pod->has_label || published[0] == '\0');
        bool hangs = pod->mood == HANGS || (pod->hung_ms != 0 && world->now_ms - pod->hung_ms < WORLD_LOST_MS);
        int64_t pod_limit_ms = limit_ms + (hangs ? WORLD_LOST_MS : 0);
        check_since(world, &adapter->wrong_ms[p], is_wrong, pod_limit_ms, adapter->name, "an endpoint does not hold it");
        good += is_published && is_up && strcmp(published, root) == 0;
        is_late |= hangs;
        if (adapter->out_ms[p] == -2 && !is_published) {
            begin_drain(world, adapter, p);
        }
        adapter->out_ms[p] = is_published ? -2 : adapter->out_ms[p] == -2 ? world->now_ms : adapter->out_ms[p];
    }
    check_since(world, &adapter->wrong_ms[WORLD_PODS], strangers_in(world, adapter) > 0, limit_ms, adapter->name,
                "an endpoint is of no pod");
    bool is_ready = world_is_ready(world, a);
    bool is_said_of_another = json_int_at(object, "status.observedGeneration", 0) != json_int_at(object, "metadata.generation", 0);
    check_since(world, &adapter->ready_wrong_ms, is_ready && (good < (replicas < 0 ? 1 : replicas) || is_said_of_another),
                limit_ms + (is_late ? WORLD_LOST_MS : 0), adapter->name, "it is not so, yet Ready");
    if (is_ready && adapter->writes_at_ready < 0) {
        adapter->ready_ms = world->now_ms;
        adapter->writes_at_ready = adapter->write_count;
        adapter->events_at_ready = adapter->event_count;
    }
    int64_t drain_ms = 1000 * json_int_at(object, "spec.drainSeconds", 1);
    int64_t due_ms = adapter->deleted_ms + WORLD_GIVE_UP_MS + drain_ms;
    if (has_answering(world, a) && world->now_ms < due_ms + PLAN_QUEUE_MS) {
        adapter->answering_ms = world->now_ms;
    }
    due_ms = adapter->answering_ms > due_ms ? adapter->answering_ms : due_ms;
    if (adapter->deleted_ms != 0 && world->now_ms - due_ms > limit_ms) {
        world_fail(world, "%s: deleted %lld ms ago and still there", adapter->name,
                   (long long)(world->now_ms - adapter->deleted_ms));
    }
}

void world_check_step(struct world *world) {
    for (int a = 0; a < WORLD_ADAPTERS; a++) {
        if (world->adapters[a].object.api != NULL) {
            check_adapter(world, a);
        }
    }
}

/* ---- when all is quiet ---- */

static void assert_adapter_settled(struct world *world, int a) {
    struct world_adapter *adapter = &world->adapters[a];
    int published = world_count_published(world, a), usable = 0, full = 0;
    int replicas = (int)json_int_at(adapter->object.api, "spec.replicas", -1);
    char root[WORLD_ROOT_BYTES];
    world_expected_root(world, a, root);
    for (int p = 0; p < WORLD_PODS; p++) {
        const struct world_pod *pod = &world->pods[p];
        bool is_published = world_is_published(world, a, p);
        bool is_foreign = pod->exists && adapter->holds[p]->state == HOLD_CONFLICT;
        int others = 0;
        char tag[ENGINE_TAG_BYTES], wanted[ENGINE_TAG_BYTES] = "";
        world_published_tag(world, a, p, tag);
        if (is_published) {
            world_wanted_tag(world, a, p, wanted);
        }
        if (is_published && (strcmp(world_root_under(world, a, p, tag), root) != 0 || strcmp(tag, wanted) != 0)) {
            world_fail(world, "%s: %s is published with \"%s\" as \"%s\", wanted \"%s\" as \"%s\"", adapter->name, pod->name,
                       world_root_under(world, a, p, tag), tag, root, wanted);
        }
        if (!pod->exists || !pod->is_ready || !pod->has_label || pod->mood != GOOD || is_foreign) {
            continue;
        }
        for (int other = 0; other < WORLD_ADAPTERS; other++) {
            others += other != a && world->adapters[other].holds[p] != NULL && world->adapters[other].holds[p]->is_wanted;
        }
        usable++;
        full += !is_published && replicas >= 0 && pod->capacity > 0 && others >= pod->capacity;
        if (world_count_names(world, a, p) != is_published) {
            world_fail(world, "%s: %s has it under %d names and is %spublished", adapter->name, pod->name,
                       world_count_names(world, a, p), is_published ? "" : "not ");
        }
    }
    int want = replicas < 0 || replicas > usable - full ? usable - full : replicas;
    bool is_ready = want > 0 && want >= replicas;
    if (published != want || world_is_ready(world, a) != is_ready ||
        json_int_at(adapter->object.api, "status.readyReplicas", -1) != want ||
        json_array_size(json_at(adapter->object.api, "status.instances")) != (size_t)want) {
        world_fail(world, "%s: %d published, %d wanted of %d usable and %d full, Ready %s: %s", adapter->name, published, want,
                   usable, full, world_condition(world, a, "Ready", "status"), world_condition(world, a, "Ready", "message"));
    }
}

/* A pod that was taken out for new weights and has somebody else's now: the roll stops there. */
static bool has_stopped(const struct world_adapter *adapter) {
    bool has = false;
    for (int p = 0; p < WORLD_PODS; p++) {
        has |= adapter->holds[p] != NULL && adapter->holds[p]->state == HOLD_CONFLICT && adapter->holds[p]->is_rolled;
    }
    return has;
}

void world_assert_settled(struct world *world) {
    for (int a = 0; a < WORLD_ADAPTERS; a++) {
        const struct world_adapter *adapter = &world->adapters[a];
        if (world_would_act(world, a)) {
            world_fail(world, "%s: all is quiet, and something is asked for", adapter->name);
        }
        if (adapter->object.api != NULL && !has_foreign(adapter) && !has_stopped(adapter)) {
            assert_adapter_settled(world, a);
        }
    }
}
