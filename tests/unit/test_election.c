/* Leader election under a simulated clock: one API with its Lease, candidates that are cut off, frozen, restarted or slow. */
#include "kube/election.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define TICK_MS 10
#define CANDIDATES_MAX 3
#define CALLS_MAX 64

/* A request on the network. It is applied when it arrives, also when its sender has given it up meanwhile. */
struct call {
    bool is_used;
    int sender;
    int life; /* of the sender; an answer to an earlier life is dropped */
    enum election_action action;
    json_t *lease;
    int64_t arrives_ms; /* INT64_MAX = never */
    bool has_arrived;
    int64_t answered_ms; /* INT64_MAX = the answer is lost; the time-out tells */
    int64_t times_out_ms;
    json_t *answer;
    enum error_code code;
};

struct candidate {
    struct election election;
    char identity[16];
    int life;
    int64_t frozen_until_ms;
    int64_t wake_ms;
    bool is_down;
    bool is_over;
    int times_started;
    bool was_held;
};

struct world {
    int64_t now_ms;
    uint64_t random;
    struct candidate candidates[CANDIDATES_MAX];
    int count;
    struct call calls[CALLS_MAX];
    json_t *lease; /* what the API holds; NULL = none */
    int revision;
    bool is_away;       /* the API refuses everything */
    int loss_percent;   /* of requests, and of answers */
    int64_t latency_ms; /* at most, each way */
    int writes;
    int holders_seen; /* how often the invariant was looked at with a holder */
};

static uint32_t draw(struct world *world, uint32_t below) {
    world->random = world->random * 6364136223846793005ULL + 1442695040888963407ULL;
    return (uint32_t)(world->random >> 33) % below;
}

static struct election_time time_of(struct world *world) {
    return (struct election_time){
        .now_ms = world->now_ms, .wall_ms = 1800000000000 + world->now_ms, .jitter = draw(world, 1000) / 1000.0};
}

static void start(struct world *world, int index) {
    struct candidate *candidate = &world->candidates[index];
    election_release(&candidate->election);
    candidate->life++;
    (void)snprintf(candidate->identity, sizeof(candidate->identity), "c%d-%d", index, candidate->life);
    election_init(&candidate->election, &(struct election_options){.namespace = "ns",
                                                                   .name = "davit",
                                                                   .identity = candidate->identity,
                                                                   .duration_ms = 15000,
                                                                   .renew_deadline_ms = 10000,
                                                                   .retry_period_ms = 2000});
    candidate->is_down = false;
    candidate->is_over = false;
    candidate->was_held = false;
    candidate->wake_ms = world->now_ms;
    candidate->frozen_until_ms = 0;
}

static void world_init(struct world *world, int count, uint64_t seed) {
    *world = (struct world){.count = count, .random = seed * 0x9e3779b97f4a7c15ULL + 1, .latency_ms = 20, .now_ms = 1000000};
    for (int i = 0; i < count; i++) {
        start(world, i);
    }
}

static void world_release(struct world *world) {
    for (int i = 0; i < CANDIDATES_MAX; i++) {
        election_release(&world->candidates[i].election);
    }
    for (int i = 0; i < CALLS_MAX; i++) {
        json_decref(world->calls[i].lease);
        json_decref(world->calls[i].answer);
    }
    json_decref(world->lease);
}

/* ---- the API ---- */

static const char *revision_of(const json_t *lease) {
    return json_string_at(lease, "metadata.resourceVersion", "");
}

static void store(struct world *world, const json_t *lease) {
    json_t *stored = json_deep_copy(lease);
    json_object_set_new(json_object_get(stored, "metadata"), "resourceVersion", json_sprintf("%d", ++world->revision));
    json_decref(world->lease);
    world->lease = stored;
    world->writes++;
}

static enum error_code apply(struct world *world, const struct call *call) {
    if (world->is_away) {
        return ERROR_UNAVAILABLE;
    }
    if (call->action == ELECTION_CREATE) {
        if (world->lease != NULL) {
            return ERROR_EXISTS;
        }
        store(world, call->lease);
    } else if (world->lease == NULL) {
        return ERROR_NOT_FOUND;
    } else if (call->action == ELECTION_UPDATE) {
        assert_string_not_equal(revision_of(call->lease), "");
        if (strcmp(revision_of(call->lease), revision_of(world->lease)) != 0) {
            return ERROR_CONFLICT;
        }
        store(world, call->lease);
    }
    return ERROR_NONE;
}

static void send(struct world *world, int sender, const struct election_step *step) {
    struct call *call = world->calls;
    while (call->is_used) {
        call++;
        assert_true(call < world->calls + CALLS_MAX);
    }
    bool loses_request = (int)draw(world, 100) < world->loss_percent;
    bool loses_answer = (int)draw(world, 100) < world->loss_percent;
    int64_t there_ms = 1 + draw(world, (uint32_t)world->latency_ms);
    int64_t back_ms = 1 + draw(world, (uint32_t)world->latency_ms);
    *call = (struct call){.is_used = true,
                          .sender = sender,
                          .life = world->candidates[sender].life,
                          .action = step->action,
                          .lease = step->lease,
                          .arrives_ms = loses_request ? INT64_MAX : world->now_ms + there_ms,
                          .answered_ms = loses_request || loses_answer ? INT64_MAX : world->now_ms + there_ms + back_ms,
                          .times_out_ms = world->now_ms + step->timeout_ms};
}

static void carry(struct world *world, struct call *call) {
    if (!call->has_arrived && world->now_ms >= call->arrives_ms) {
        call->has_arrived = true;
        call->code = apply(world, call);
        call->answer = call->code == ERROR_NONE ? json_deep_copy(world->lease) : NULL;
    }
    struct candidate *sender = &world->candidates[call->sender];
    bool is_alive = call->life == sender->life && !sender->is_down;
    bool is_answered = world->now_ms >= call->answered_ms;
    bool times_out = world->now_ms >= call->times_out_ms;
    if (call->sender >= 0 && is_alive && world->now_ms >= sender->frozen_until_ms && (is_answered || times_out)) {
        struct election_time time = time_of(world);
        election_answer(&sender->election, &time, is_answered ? call->answer : NULL, is_answered ? call->code : ERROR_TIMEOUT);
        sender->wake_ms = world->now_ms;
        call->life = -1; /* told */
        is_alive = false;
    }
    bool may_arrive = !call->has_arrived && call->arrives_ms != INT64_MAX;
    if (!is_alive && !may_arrive) {
        json_decref(call->lease);
        json_decref(call->answer);
        *call = (struct call){0};
    }
}

/* ---- time passes ---- */

static void look(struct world *world) {
    int held = 0;
    for (int i = 0; i < world->count; i++) {
        struct candidate *candidate = &world->candidates[i];
        bool is_held = !candidate->is_down && election_is_held(&candidate->election, world->now_ms);
        candidate->times_started += is_held && !candidate->was_held;
        candidate->was_held = is_held;
        held += is_held;
    }
    assert_true(held <= 1);
    world->holders_seen += held;
}

static void run_candidate(struct world *world, int index) {
    struct candidate *candidate = &world->candidates[index];
    if (candidate->is_down || candidate->is_over || world->now_ms < candidate->frozen_until_ms ||
        world->now_ms < candidate->wake_ms) {
        return;
    }
    struct election_time time = time_of(world);
    struct election_step step = election_next(&candidate->election, &time);
    if (step.action == ELECTION_OVER) {
        candidate->is_over = true;
        return;
    }
    if (step.action != ELECTION_WAIT) {
        send(world, index, &step);
        step = election_next(&candidate->election, &time);
        assert_int_equal(step.action, ELECTION_WAIT); /* one call at a time */
    }
    candidate->wake_ms = world->now_ms + step.delay_ms;
}

static void tick(struct world *world) {
    world->now_ms += TICK_MS;
    for (int i = 0; i < CALLS_MAX; i++) {
        if (world->calls[i].is_used) {
            carry(world, &world->calls[i]);
        }
    }
    for (int i = 0; i < world->count; i++) {
        run_candidate(world, i);
    }
    look(world);
}

static void run(struct world *world, int64_t for_ms) {
    for (int64_t end_ms = world->now_ms + for_ms; world->now_ms < end_ms;) {
        tick(world);
    }
}

static bool holds(const struct world *world, int index) {
    return !world->candidates[index].is_down && election_is_held(&world->candidates[index].election, world->now_ms);
}

/* How long until somebody (`index`), or anybody (-1), holds it. */
static int64_t wait_for_holder(struct world *world, int index, int64_t at_most_ms) {
    int64_t start_ms = world->now_ms;
    while (world->now_ms < start_ms + at_most_ms) {
        tick(world);
        for (int i = 0; i < world->count; i++) {
            if (holds(world, i) && (index < 0 || index == i)) {
                return world->now_ms - start_ms;
            }
        }
    }
    fail_msg("nobody holds the lease after %lld ms", (long long)at_most_ms);
    return -1;
}

static int holder(const struct world *world) {
    for (int i = 0; i < world->count; i++) {
        if (holds(world, i)) {
            return i;
        }
    }
    return -1;
}

static const char *spec(const struct world *world, const char *member) {
    return json_string_at(json_object_get(world->lease, "spec"), member, "");
}

/* ---- cases ---- */

static void test_takes_what_nobody_has_and_renews(void **state) {
    (void)state;
    struct world world;
    world_init(&world, 1, 1);
    assert_true(wait_for_holder(&world, 0, 1000) < 200);
    assert_string_equal(spec(&world, "holderIdentity"), "c0-1");
    assert_int_equal(json_int_at(world.lease, "spec.leaseDurationSeconds", 0), 15);
    assert_int_equal(json_int_at(world.lease, "spec.leaseTransitions", -1), 0);
    assert_int_equal(strlen(spec(&world, "renewTime")), strlen("2026-11-23T10:00:00.123456Z"));
    cleanup_free char *acquired = xstrdup(spec(&world, "acquireTime"));
    cleanup_free char *renewed = xstrdup(spec(&world, "renewTime"));
    int writes = world.writes;
    run(&world, 60000);
    assert_true(world.writes - writes >= 28 && world.writes - writes <= 31); /* one a retry period */
    assert_string_equal(spec(&world, "acquireTime"), acquired);
    assert_string_not_equal(spec(&world, "renewTime"), renewed);
    assert_int_equal(world.candidates[0].times_started, 1);
    world_release(&world);
}

static void test_dead_leader_is_followed_after_the_duration(void **state) {
    (void)state;
    struct world world;
    world_init(&world, 2, 2);
    (void)wait_for_holder(&world, -1, 1000);
    run(&world, 30000);
    int first = holder(&world);
    world.candidates[first].is_down = true;
    int64_t took_ms = wait_for_holder(&world, 1 - first, 60000);
    assert_true(took_ms >= 15000 - 2000 && took_ms <= 15000 + 2200 * 2);
    assert_int_equal(json_int_at(world.lease, "spec.leaseTransitions", -1), 1);
    start(&world, first); /* comes back under another identity and waits */
    run(&world, 60000);
    assert_int_equal(holder(&world), 1 - first);
    world_release(&world);
}

static void test_released_lease_is_taken_at_the_next_try(void **state) {
    (void)state;
    struct world world;
    world_init(&world, 2, 3);
    (void)wait_for_holder(&world, -1, 1000);
    run(&world, 10000);
    int first = holder(&world);
    election_give_up(&world.candidates[first].election, world.now_ms);
    world.candidates[first].wake_ms = world.now_ms;
    assert_false(holds(&world, first)); /* at once */
    assert_true(wait_for_holder(&world, 1 - first, 60000) <= 4400 + 200);
    assert_true(world.candidates[first].is_over);
    assert_int_equal(json_int_at(world.lease, "spec.leaseTransitions", -1), 1);
    /* The last one leaves: the Lease says so. */
    election_give_up(&world.candidates[1 - first].election, world.now_ms);
    run(&world, 12000);
    assert_true(world.candidates[1 - first].is_over);
    assert_string_equal(spec(&world, "holderIdentity"), "");
    world_release(&world);
}

static void test_giving_up_ends_without_an_api(void **state) {
    (void)state;
    struct world world;
    world_init(&world, 1, 4);
    (void)wait_for_holder(&world, 0, 1000);
    world.is_away = true;
    election_give_up(&world.candidates[0].election, world.now_ms);
    world.candidates[0].wake_ms = world.now_ms;
    run(&world, 10100);
    assert_true(world.candidates[0].is_over);
    world_release(&world);
}

static void test_frozen_leader_knows_before_it_acts(void **state) {
    (void)state;
    struct world world;
    world_init(&world, 2, 5);
    (void)wait_for_holder(&world, -1, 1000);
    run(&world, 10000);
    int first = holder(&world);
    world.candidates[first].frozen_until_ms = world.now_ms + 60000;
    run(&world, 9000);
    run(&world, 1100);
    assert_false(holds(&world, first)); /* asked without having run */
    (void)wait_for_holder(&world, 1 - first, 20000);
    run(&world, 60000);
    assert_int_equal(holder(&world), 1 - first);
    /* A short stop changes nothing. */
    world.candidates[1 - first].frozen_until_ms = world.now_ms + 7000;
    run(&world, 30000);
    assert_int_equal(holder(&world), 1 - first);
    assert_int_equal(world.candidates[1 - first].times_started, 1);
    world_release(&world);
}

static void test_frozen_while_a_renewal_is_on_its_way(void **state) {
    (void)state;
    struct world world;
    world_init(&world, 2, 11);
    (void)wait_for_holder(&world, -1, 1000);
    int first = holder(&world);
    int writes = world.writes;
    while (world.writes == writes) { /* applied, and its answer is on the way */
        tick(&world);
    }
    world.candidates[first].frozen_until_ms = world.now_ms + 40000;
    (void)wait_for_holder(&world, 1 - first, 20000);
    run(&world, 60000); /* on waking up it is told that its renewal of long ago succeeded */
    assert_int_equal(holder(&world), 1 - first);
    assert_int_equal(world.candidates[first].times_started, 1);
    world_release(&world);
}

static void test_api_away(void **state) {
    (void)state;
    struct world world;
    world_init(&world, 2, 6);
    (void)wait_for_holder(&world, -1, 1000);
    run(&world, 10000);
    int first = holder(&world);
    world.is_away = true;
    run(&world, 6000); /* shorter than the deadline: nothing happens */
    assert_int_equal(holder(&world), first);
    world.is_away = false;
    run(&world, 20000);
    assert_int_equal(holder(&world), first);
    assert_int_equal(world.candidates[first].times_started, 1);
    world.is_away = true;
    run(&world, 12500); /* nobody leads a while */
    assert_int_equal(holder(&world), -1);
    world.is_away = false;
    assert_true(wait_for_holder(&world, -1, 25000) <= 20000);
    world_release(&world);
}

static void test_lost_answer_of_a_renewal(void **state) {
    (void)state;
    struct world world;
    world_init(&world, 1, 7);
    (void)wait_for_holder(&world, 0, 1000);
    run(&world, 1500);
    world.loss_percent = 100;
    run(&world, 1000);
    struct call *call = world.calls;
    assert_true(call->is_used); /* the renewal is applied, its answer is lost: our resourceVersion is old now */
    call->arrives_ms = world.now_ms;
    world.loss_percent = 0;
    run(&world, 20000);
    assert_true(holds(&world, 0));
    assert_int_equal(world.candidates[0].times_started, 1);
    world_release(&world);
}

static void test_taken_by_force(void **state) {
    (void)state;
    struct world world;
    world_init(&world, 1, 8);
    (void)wait_for_holder(&world, 0, 1000);
    run(&world, 1000);
    cleanup_json json_t *taken = json_deep_copy(world.lease);
    json_object_set_new(json_object_get(taken, "spec"), "holderIdentity", json_string("stranger"));
    store(&world, taken);
    run(&world, 3000);
    assert_false(holds(&world, 0)); /* long before its deadline */
    run(&world, 30000);
    assert_true(holds(&world, 0));
    world_release(&world);
}

static void test_vanished_lease_is_not_free_at_once(void **state) {
    (void)state;
    struct world world;
    world_init(&world, 2, 9);
    (void)wait_for_holder(&world, -1, 1000);
    run(&world, 10000);
    int first = holder(&world);
    json_decref(world.lease);
    world.lease = NULL;
    run(&world, 30000);
    assert_int_equal(holder(&world), first); /* made anew by its holder */
    assert_int_equal(world.candidates[first].times_started, 1);
    json_decref(world.lease);
    world.lease = NULL;
    world.candidates[first].is_down = true;
    assert_true(wait_for_holder(&world, 1 - first, 60000) >= 14000);
    world_release(&world);
}

static void test_others_leases_keep_their_fields(void **state) {
    (void)state;
    struct world world;
    world_init(&world, 1, 10);
    cleanup_json json_t *foreign = json_pack("{s:{s:s, s:{s:s}}, s:{s:s, s:s, s:i, s:i}}", "metadata", "name", "davit", "labels",
                                             "a", "b", "spec", "holderIdentity", "stranger", "strategy", "OldestEmulationVersion",
                                             "leaseDurationSeconds", 40, "leaseTransitions", 7);
    store(&world, foreign);
    int64_t took_ms = wait_for_holder(&world, 0, 60000);
    assert_true(took_ms >= 40000 && took_ms < 42500); /* what its holder wrote counts */
    assert_string_equal(spec(&world, "strategy"), "OldestEmulationVersion");
    assert_string_equal(json_string_at(world.lease, "metadata.labels.a", ""), "b");
    assert_int_equal(json_int_at(world.lease, "spec.leaseTransitions", -1), 8);
    world_release(&world);
}

/* ---- random worlds: never two, and one again once the faults are over ---- */

static void disturb(struct world *world) {
    struct candidate *candidate = &world->candidates[draw(world, (uint32_t)world->count)];
    switch (draw(world, 8)) {
    case 0:
        candidate->frozen_until_ms = world->now_ms + draw(world, 40000);
        break;
    case 1:
        candidate->is_down = true;
        break;
    case 2:
        if (candidate->is_down || candidate->is_over) {
            start(world, (int)(candidate - world->candidates));
        }
        break;
    case 3:
        world->is_away = !world->is_away;
        break;
    case 4:
        world->loss_percent = (int)draw(world, 60);
        break;
    case 5:
        world->latency_ms = 1 + draw(world, 9000); /* also longer than a call waits */
        break;
    case 6:
        election_give_up(&candidate->election, world->now_ms);
        break;
    default:
        world->latency_ms = 20;
        world->loss_percent = 0;
        world->is_away = false;
        break;
    }
}

static void test_random_worlds(void **state) {
    (void)state;
    int holders_seen = 0;
    for (uint64_t seed = 1; seed <= 300; seed++) {
        struct world world;
        world_init(&world, 2 + (int)(seed % 2), seed);
        for (int i = 0; i < 40; i++) {
            disturb(&world);
            run(&world, 100 + draw(&world, 8000));
        }
        world.is_away = false;
        world.loss_percent = 0;
        world.latency_ms = 20;
        for (int i = 0; i < world.count; i++) {
            world.candidates[i].frozen_until_ms = 0;
            if (world.candidates[i].is_down || world.candidates[i].election.has_given_up) {
                start(&world, i);
            }
        }
        (void)wait_for_holder(&world, -1, 60000);
        holders_seen += world.holders_seen > 0;
        world_release(&world);
    }
    assert_int_equal(holders_seen, 300);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_takes_what_nobody_has_and_renews),
        cmocka_unit_test(test_dead_leader_is_followed_after_the_duration),
        cmocka_unit_test(test_released_lease_is_taken_at_the_next_try),
        cmocka_unit_test(test_giving_up_ends_without_an_api),
        cmocka_unit_test(test_frozen_leader_knows_before_it_acts),
        cmocka_unit_test(test_frozen_while_a_renewal_is_on_its_way),
        cmocka_unit_test(test_api_away),
        cmocka_unit_test(test_lost_answer_of_a_renewal),
        cmocka_unit_test(test_taken_by_force),
        cmocka_unit_test(test_vanished_lease_is_not_free_at_once),
        cmocka_unit_test(test_others_leases_keep_their_fields),
        cmocka_unit_test(test_random_worlds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
