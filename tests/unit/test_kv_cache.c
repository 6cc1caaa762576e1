/* Blocks of the KV cache: who holds them, what stays findable, and what is forgotten first. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/model/kv_cache.h"

#include <string.h>

static const struct model_config config = {.layers = 1, .kv_heads = 1, .head_size = 2};

static void cache_init(struct kv_cache *cache, size_t blocks) {
    struct error err = {0};
    assert_int_equal(kv_cache_init(cache, &config, blocks, &err), 0);
}

static struct hash key_of(int number) {
    return hash_bytes(&number, sizeof(number));
}

static void publish(struct kv_cache *cache, int block, int number) {
    struct hash key = key_of(number);
    kv_cache_publish(cache, block, &key);
}

static int reuse(struct kv_cache *cache, int number) {
    struct hash key = key_of(number);
    return kv_cache_reuse(cache, &key);
}

static void test_shared_block(void **state) {
    struct kv_cache cache;
    int blocks[4];
    (void)state;
    cache_init(&cache, 4);
    assert_true(reuse(&cache, 1) < 0);
    assert_true(kv_cache_take(&cache, 2, blocks));
    publish(&cache, blocks[0], 1);
    publish(&cache, blocks[1], 1); /* the first stays */
    assert_int_equal(reuse(&cache, 1), blocks[0]);
    assert_int_equal(cache.free_count, 2);
    kv_cache_give(&cache, blocks, 2);
    assert_int_equal(cache.free_count, 3); /* one is held still */
    assert_true(kv_cache_take(&cache, 3, blocks + 1));
    assert_false(kv_cache_take(&cache, 1, blocks + 1));
    assert_int_equal(reuse(&cache, 1), blocks[0]);
    kv_cache_release(&cache);
}

/* Blocks without content go first, then the end of what has been unused for longest. */
static void test_order_of_loss(void **state) {
    struct kv_cache cache;
    int older[3];
    int newer[2];
    int taken[6];
    (void)state;
    cache_init(&cache, 6);
    assert_true(kv_cache_take(&cache, 3, older));
    assert_true(kv_cache_take(&cache, 2, newer));
    publish(&cache, older[0], 1);
    publish(&cache, older[1], 2);
    publish(&cache, newer[0], 3);
    kv_cache_give(&cache, older, 3);
    kv_cache_give(&cache, newer, 2);
    const int expected[] = {newer[1], older[2], 5, older[1], older[0], newer[0]};
    assert_true(kv_cache_take(&cache, 3, taken));
    assert_memory_equal(taken, expected, 3 * sizeof(*taken));
    assert_int_equal(reuse(&cache, 1), older[0]);
    kv_cache_give(&cache, &older[0], 1); /* used: now it is the newest */
    assert_true(kv_cache_take(&cache, 1, taken));
    assert_int_equal(taken[0], older[1]);
    assert_true(reuse(&cache, 2) < 0);
    assert_true(kv_cache_take(&cache, 1, taken));
    assert_int_equal(taken[0], newer[0]);
    assert_true(reuse(&cache, 3) < 0);
    assert_int_equal(reuse(&cache, 1), older[0]);
    kv_cache_release(&cache);
}

/* ---- many random steps against a plain model of what should be so ---- */

#define BLOCKS 13
#define HOLDERS 6
#define HELD_MAX 5
#define KEYS 20

struct holder {
    int blocks[HELD_MAX];
    size_t count;
};

static void check_model(const struct kv_cache *cache, const struct holder *holders, const int *held) {
    size_t free_blocks = 0;
    int counted[BLOCKS] = {0};
    for (size_t i = 0; i < HOLDERS; i++) {
        for (size_t j = 0; j < holders[i].count; j++) {
            counted[holders[i].blocks[j]]++;
        }
    }
    for (size_t i = 0; i < BLOCKS; i++) {
        assert_int_equal(counted[i], held[i]);
        free_blocks += held[i] == 0 ? 1 : 0;
    }
    assert_int_equal(cache->free_count, free_blocks);
}

static void hold(struct holder *holder, int *held, int block) {
    holder->blocks[holder->count++] = block;
    held[block]++;
}

/* Takes one block and publishes it under `key`, unless another has that key; content[] is what each block was published as. */
static void take_one(struct kv_cache *cache, struct holder *holder, int *held, int *content, int key) {
    int block = -1;
    if (!kv_cache_take(cache, 1, &block)) {
        assert_int_equal(cache->free_count, 0);
        return;
    }
    assert_int_equal(held[block], 0); /* nobody's */
    content[block] = key;
    for (int i = 0; i < BLOCKS; i++) {
        content[block] = i != block && content[i] == key ? -1 : content[block];
    }
    hold(holder, held, block);
    publish(cache, block, key);
}

static void test_random_use(void **state) {
    struct kv_cache cache;
    struct holder holders[HOLDERS] = {{.count = 0}};
    int held[BLOCKS] = {0};
    int content[BLOCKS];
    uint64_t random = 7;
    (void)state;
    memset(content, 0xff, sizeof(content));
    cache_init(&cache, BLOCKS);
    for (int step = 0; step < 50000; step++) {
        random = random * 6364136223846793005U + 1442695040888963407U;
        struct holder *holder = &holders[(random >> 33) % HOLDERS];
        int key = (int)((random >> 40) % KEYS);
        int block = reuse(&cache, key);
        for (int i = 0; i < BLOCKS; i++) {
            assert_int_equal(content[i] == key, block == i); /* found exactly when it is there, with its own content */
        }
        if (block >= 0 && holder->count < HELD_MAX) {
            hold(holder, held, block);
        } else if (block >= 0) {
            kv_cache_give(&cache, &block, 1);
        } else if (holder->count < HELD_MAX) {
            take_one(&cache, holder, held, content, key);
        }
        if (holder->count == HELD_MAX || (random >> 50) % 4 == 0) {
            kv_cache_give(&cache, holder->blocks, holder->count);
            while (holder->count > 0) {
                held[holder->blocks[--holder->count]]--;
            }
        }
        check_model(&cache, holders, held);
    }
    kv_cache_release(&cache);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shared_block),
        cmocka_unit_test(test_order_of_loss),
        cmocka_unit_test(test_random_use),
    };
    return cmocka_run_group_tests_name("kv_cache", tests, NULL, NULL);
}
