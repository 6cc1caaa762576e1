#include "fake_api.h"
#include "kube/work_queue.h"

struct seen {
    struct loop *loop;
    struct work_queue *queue;
    struct buffer keys;
    int out;
    int out_max;
    bool keeps; /* do not call done */
};

static void on_key(void *arg, const char *key) {
    struct seen *seen = arg;
    buffer_printf(&seen->keys, "%s ", key);
    seen->out++;
    seen->out_max = seen->out > seen->out_max ? seen->out : seen->out_max;
    if (!seen->keeps) {
        seen->out--;
        work_queue_done(seen->queue, key);
    }
}

static void stop(void *arg) {
    loop_stop(((struct seen *)arg)->loop);
}

static void run_for(struct seen *seen, int64_t ms) {
    struct timer timer;
    timer_init(&timer, seen->loop, stop, seen);
    timer_set(&timer, ms);
    loop_run(seen->loop);
    timer_release(&timer);
}

static void seen_init(struct seen *seen, int parallel) {
    *seen = (struct seen){.loop = loop_new()};
    seen->queue = work_queue_new(seen->loop, parallel, on_key, seen);
}

static void seen_release(struct seen *seen) {
    work_queue_free(seen->queue);
    loop_free(seen->loop);
    buffer_release(&seen->keys);
}

static void test_coalesces_and_orders(void **state) {
    (void)state;
    struct seen seen;
    seen_init(&seen, 10);
    work_queue_add(seen.queue, "late", 30);
    work_queue_add(seen.queue, "a", 20);
    work_queue_add(seen.queue, "a", 0);
    work_queue_add(seen.queue, "a", 10);
    work_queue_add(seen.queue, "never", 10);
    work_queue_forget(seen.queue, "never");
    assert_int_equal(work_queue_depth(seen.queue), 2);
    assert_int_equal(seen.keys.len, 0); /* not from inside of add */
    run_for(&seen, 60);
    assert_string_equal(buffer_text(&seen.keys), "a late ");
    seen_release(&seen);
}

static void test_one_key_is_out_once(void **state) {
    (void)state;
    struct seen seen;
    seen_init(&seen, 10);
    seen.keeps = true;
    work_queue_add(seen.queue, "a", 0);
    run_for(&seen, 10);
    work_queue_add(seen.queue, "a", 0);
    run_for(&seen, 10);
    assert_string_equal(buffer_text(&seen.keys), "a ");
    work_queue_done(seen.queue, "a");
    run_for(&seen, 10);
    assert_string_equal(buffer_text(&seen.keys), "a a ");
    work_queue_done(seen.queue, "a");
    run_for(&seen, 10);
    assert_string_equal(buffer_text(&seen.keys), "a a ");
    seen_release(&seen);
}

static void test_parallel_limit(void **state) {
    (void)state;
    struct seen seen;
    seen_init(&seen, 2);
    seen.keeps = true;
    for (char key[2] = "a"; key[0] <= 'e'; key[0]++) {
        work_queue_add(seen.queue, key, 0);
    }
    run_for(&seen, 10);
    assert_int_equal(seen.out, 2);
    assert_int_equal(work_queue_depth(seen.queue), 3);
    seen.out--;
    work_queue_done(seen.queue, "a");
    run_for(&seen, 10);
    assert_int_equal(seen.out, 2);
    assert_int_equal(seen.out_max, 2);
    seen_release(&seen);
}

static void test_many_random_delays_come_in_order(void **state) {
    (void)state;
    struct seen seen;
    seen_init(&seen, 1000);
    unsigned random = 1;
    for (int i = 0; i < 300; i++) {
        random = random * 1103515245 + 12345;
        cleanup_free char *key = xasprintf("%03u", (random >> 16) % 10);
        work_queue_add(seen.queue, key, 30 * strtol(key, NULL, 10));
        random = random * 1103515245 + 12345;
        cleanup_free char *forgotten = xasprintf("x%u", (random >> 16) % 40);
        work_queue_add(seen.queue, forgotten, (random >> 8) % 40);
        work_queue_forget(seen.queue, forgotten);
    }
    run_for(&seen, 400);
    long last = -1;
    int count = 0;
    for (char *at = seen.keys.data; *at != '\0'; count++) {
        long key = strtol(at, &at, 10);
        assert_true(key >= last);
        last = key;
        at++;
    }
    assert_int_equal(count, 10);
    seen_release(&seen);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_coalesces_and_orders),
        cmocka_unit_test(test_one_key_is_out_once),
        cmocka_unit_test(test_parallel_limit),
        cmocka_unit_test(test_many_random_delays_come_in_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
