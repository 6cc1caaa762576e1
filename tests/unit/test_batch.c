/* Who runs and what a step holds, without threads or arithmetic. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/batch/batch.h"

#define SEQUENCES 200

static const struct model_config config = {.layers = 1, .kv_heads = 1, .head_size = 2};

struct world {
    struct kv_cache cache;
    struct batch batch;
    struct resident adapters[3];
    struct sequence *all[SEQUENCES];
    size_t count;
};

static void world_init(struct world *world, size_t blocks, size_t max_running, size_t max_adapters) {
    struct error err = {0};
    *world = (struct world){0};
    assert_int_equal(kv_cache_init(&world->cache, &config, blocks, &err), 0);
    batch_init(&world->batch, &world->cache, max_running, max_adapters);
    for (size_t i = 0; i < ARRAY_LEN(world->adapters); i++) {
        world->adapters[i].weights = xcalloc(1, sizeof(struct lora_adapter));
        world->adapters[i].weights->content = hash_bytes(&i, sizeof(i));
    }
}

static void world_release(struct world *world) {
    while (batch_take_cancelled(&world->batch, true) != NULL) {
    }
    assert_int_equal(world->cache.free_count, world->cache.block_count);
    for (size_t i = 0; i < ARRAY_LEN(world->adapters); i++) {
        assert_int_equal(world->adapters[i].running, 0);
        assert_int_equal(world->adapters[i].waiting, 0);
        free(world->adapters[i].weights);
    }
    for (size_t i = 0; i < world->count; i++) {
        sequence_free(world->all[i]);
    }
    batch_release(&world->batch);
    kv_cache_release(&world->cache);
}

/* adapter -1 = base. Ids count from 1. */
static struct sequence *enqueue(struct world *world, int adapter, size_t prompt_len, int max_tokens) {
    int prompt[256] = {0};
    const struct engine_request request = {.prompt = prompt, .prompt_len = prompt_len, .max_tokens = max_tokens, .top_p = 1};
    struct sequence *sequence = sequence_new(&request, world->count + 1, 0);
    world->all[world->count++] = sequence;
    sequence->resident = adapter >= 0 ? &world->adapters[adapter] : NULL;
    batch_enqueue(&world->batch, sequence);
    return sequence;
}

static bool is_running(const struct world *world, const struct sequence *sequence) {
    for (size_t i = 0; i < world->batch.running_count; i++) {
        if (world->batch.running[i] == sequence) {
            return true;
        }
    }
    return false;
}

static void test_waits_for_blocks(void **state) {
    struct world world;
    (void)state;
    world_init(&world, 4, 8, 8);
    struct sequence *first = enqueue(&world, -1, 32, 16);  /* 3 blocks */
    struct sequence *second = enqueue(&world, -1, 16, 16); /* 2 */
    struct sequence *third = enqueue(&world, -1, 8, 8);    /* 1: would fit, but is not first */
    batch_admit(&world.batch);
    assert_true(is_running(&world, first) && !is_running(&world, second) && !is_running(&world, third));
    batch_finish(&world.batch, first);
    batch_admit(&world.batch);
    assert_true(is_running(&world, second) && is_running(&world, third));
    world_release(&world);
}

static void test_waits_for_adapter_slot(void **state) {
    struct world world;
    (void)state;
    world_init(&world, 100, 8, 1);
    struct sequence *a = enqueue(&world, 0, 4, 4);
    struct sequence *b = enqueue(&world, 1, 4, 4);
    struct sequence *base = enqueue(&world, -1, 4, 4);
    struct sequence *a_again = enqueue(&world, 0, 4, 4);
    batch_admit(&world.batch);
    assert_true(is_running(&world, a) && is_running(&world, base) && is_running(&world, a_again) && !is_running(&world, b));
    assert_int_equal(world.adapters[1].waiting, 1);
    assert_int_equal(world.adapters[0].running, 2);
    batch_finish(&world.batch, a);
    batch_admit(&world.batch);
    assert_false(is_running(&world, b));
    batch_finish(&world.batch, a_again);
    batch_admit(&world.batch);
    assert_true(is_running(&world, b));
    world_release(&world);
}

/* Others may pass a request whose adapter has no slot, but not for ever. */
static void test_overtaking_ends(void **state) {
    struct world world;
    int passed = 0;
    (void)state;
    world_init(&world, 100, 2, 1);
    struct sequence *running = enqueue(&world, 0, 4, 4);
    batch_admit(&world.batch);
    struct sequence *starving = enqueue(&world, 1, 4, 4);
    while (!is_running(&world, starving) && world.count + 1 < SEQUENCES) {
        struct sequence *next = enqueue(&world, 0, 4, 4);
        batch_admit(&world.batch);
        passed += is_running(&world, next) ? 1 : 0;
        if (world.batch.running_count > 0) {
            batch_finish(&world.batch, running);
            running = world.batch.running_count > 0 ? world.batch.running[0] : NULL;
        }
        batch_admit(&world.batch);
        running = running != NULL ? running : world.batch.running[0];
    }
    assert_true(is_running(&world, starving));
    assert_true(passed <= BATCH_OVERTAKES_MAX);
    world_release(&world);
}

static void test_plan(void **state) {
    struct world world;
    (void)state;
    world_init(&world, 100, 4, 4);
    struct sequence *decoding = enqueue(&world, 0, 5, 4);
    struct sequence *first = enqueue(&world, 1, 20, 4);
    struct sequence *second = enqueue(&world, 1, 20, 4);
    struct sequence *single = enqueue(&world, -1, 1, 4);
    batch_admit(&world.batch);
    decoding->computed = 4;
    assert_int_equal(batch_plan(&world.batch, 10), 10);
    assert_int_equal(decoding->planned, 1);
    assert_int_equal(single->planned, 1);
    assert_int_equal(first->planned, 8);
    assert_int_equal(second->planned, 0);
    assert_int_equal(batch_adapter_count(&world.batch), 2);
    first->computed = 8;
    assert_int_equal(batch_plan(&world.batch, 100), 34);
    assert_int_equal(first->planned, 12);
    assert_int_equal(second->planned, 20);
    world_release(&world);
}

static void test_cancel(void **state) {
    struct world world;
    (void)state;
    world_init(&world, 2, 1, 1);
    struct sequence *running = enqueue(&world, 0, 4, 4);
    struct sequence *waiting = enqueue(&world, 0, 4, 4);
    struct sequence *last = enqueue(&world, 0, 4, 4);
    batch_admit(&world.batch);
    assert_null(batch_take_cancelled(&world.batch, false));
    assert_ptr_equal(batch_find(&world.batch, last->id), last);
    assert_null(batch_find(&world.batch, 99));
    last->is_cancelled = true;
    assert_ptr_equal(batch_take_cancelled(&world.batch, false), last);
    struct sequence *later = enqueue(&world, -1, 4, 4); /* the queue's end is still right */
    running->is_cancelled = true;
    assert_ptr_equal(batch_take_cancelled(&world.batch, false), running);
    batch_admit(&world.batch);
    assert_true(is_running(&world, waiting));
    batch_finish(&world.batch, waiting);
    batch_admit(&world.batch);
    assert_true(is_running(&world, later));
    world_release(&world);
}

/* Computes the whole prompt of a sequence that runs. */
static void prefill(struct world *world, struct sequence *sequence) {
    batch_admit(&world->batch);
    assert_true(is_running(world, sequence));
    (void)batch_plan(&world->batch, 1000);
    batch_advance(&world->batch, sequence);
}

/* A prompt that has been computed is not computed again, except for another adapter, and never its last token. */
static void test_reuse(void **state) {
    struct world world;
    (void)state;
    world_init(&world, 100, 1, 4);
    static const struct {
        int adapter;
        size_t prompt_len;
        size_t cached;
    } cases[] = {
        {0, 40, 0}, {0, 40, 32}, {-1, 40, 0}, {1, 40, 0}, {0, 32, 16}, {0, 33, 32}, {0, 16, 0}, {-1, 100, 32}, {-1, 81, 80},
    };
    uint64_t queries = 0;
    uint64_t hits = 0;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct sequence *sequence = enqueue(&world, cases[i].adapter, cases[i].prompt_len, 4);
        prefill(&world, sequence);
        assert_int_equal(sequence->cached, cases[i].cached);
        assert_int_equal(sequence->planned, cases[i].prompt_len - cases[i].cached);
        queries += cases[i].prompt_len;
        hits += cases[i].cached;
        batch_finish(&world.batch, sequence);
    }
    assert_int_equal(world.batch.prefix_queries, queries);
    assert_int_equal(world.batch.prefix_hits, hits);
    world_release(&world);
}

/* Blocks that are shared count once, and what is kept for later never keeps a request waiting. */
static void test_reuse_and_room(void **state) {
    struct world world;
    (void)state;
    world_init(&world, 5, 3, 4);
    struct sequence *first = enqueue(&world, 0, 40, 8); /* 3 blocks */
    prefill(&world, first);
    struct sequence *second = enqueue(&world, 0, 40, 8); /* 1 more */
    batch_admit(&world.batch);
    assert_true(is_running(&world, second));
    assert_int_equal(second->cached, 32);
    assert_int_equal(world.cache.free_count, 1);
    struct sequence *third = enqueue(&world, 0, 40, 24); /* 2 more: one is missing */
    batch_admit(&world.batch);
    assert_false(is_running(&world, third));
    assert_int_equal(world.cache.free_count, 1);
    batch_finish(&world.batch, first);
    batch_admit(&world.batch);
    assert_true(is_running(&world, third));
    assert_int_equal(world.cache.free_count, 0);
    batch_finish(&world.batch, second);
    batch_finish(&world.batch, third);
    struct sequence *last = enqueue(&world, -1, 40, 40); /* all of them */
    batch_admit(&world.batch);
    assert_true(is_running(&world, last));
    assert_int_equal(last->cached, 0);
    world_release(&world);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_waits_for_blocks), cmocka_unit_test(test_waits_for_adapter_slot),
        cmocka_unit_test(test_overtaking_ends),  cmocka_unit_test(test_plan),
        cmocka_unit_test(test_cancel),           cmocka_unit_test(test_reuse),
        cmocka_unit_test(test_reuse_and_room),
    };
    return cmocka_run_group_tests_name("batch", tests, NULL, NULL);
}
