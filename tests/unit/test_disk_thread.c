/* Work beside a loop: in order, never on it, and what is not told of when it ends. */
#include "runtime/disk_thread.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "http_peer.h"

struct errand {
    struct disk_job job;
    atomic_bool *may_end; /* NULL = at once */
    atomic_int *clock;
    atomic_int worked; /* when, by the clock; 0 = not yet */
    atomic_int done;
    atomic_int dropped;
    pthread_t worker;
};

static void work(struct disk_job *job) {
    struct errand *errand = (struct errand *)job;
    while (errand->may_end != NULL && !atomic_load(errand->may_end)) {
        usleep(500);
    }
    errand->worker = pthread_self();
    atomic_store(&errand->worked, atomic_fetch_add(errand->clock, 1) + 1);
}

static void on_done(struct disk_job *job) {
    struct errand *errand = (struct errand *)job;
    atomic_store(&errand->done, atomic_fetch_add(errand->clock, 1) + 1);
}

static void on_drop(struct disk_job *job) {
    struct errand *errand = (struct errand *)job;
    atomic_store(&errand->dropped, atomic_fetch_add(errand->clock, 1) + 1);
}

static struct loop_thread loop;
static struct disk_thread *thread;
static struct errand errands[3];
static atomic_int ticks;
static atomic_bool may_end;

static int set_up(void **state) {
    (void)state;
    atomic_store(&ticks, 0);
    atomic_store(&may_end, false);
    for (size_t i = 0; i < 3; i++) {
        errands[i] = (struct errand){.job = {.work = work, .on_done = on_done, .on_drop = on_drop}, .clock = &ticks};
    }
    loop.loop = loop_new();
    thread = disk_thread_new(loop.loop);
    loop_thread_start(&loop);
    return 0;
}

static void submit(void *arg) {
    (void)arg;
    for (size_t i = 0; i < 3; i++) {
        disk_thread_do(thread, &errands[i].job);
    }
}

static void nothing(void *arg) {
    (void)arg;
}

static void test_in_order_and_beside_the_loop(void **state) {
    (void)state;
    errands[0].may_end = &may_end;
    loop_thread_do(&loop, submit, NULL);
    loop_thread_do(&loop, nothing, NULL); /* the loop turns while the first is at work */
    assert_int_equal(atomic_load(&errands[0].worked), 0);
    atomic_store(&may_end, true);
    wait_until(atomic_load(&errands[2].done) != 0);
    assert_true(errands[0].worked < errands[1].worked && errands[1].worked < errands[2].worked);
    assert_true(errands[0].done < errands[1].done && errands[1].done < errands[2].done);
    assert_false(pthread_equal(errands[0].worker, loop.thread));
    loop_thread_stop(&loop);
    disk_thread_free(thread);
    assert_int_equal(errands[0].dropped + errands[1].dropped + errands[2].dropped, 0);
    loop_free(loop.loop);
}

static void *let_go(void *arg) {
    (void)arg;
    usleep(20000);
    atomic_store(&may_end, true);
    return NULL;
}

static void test_an_end_waits_for_what_is_being_done(void **state) {
    (void)state;
    pthread_t other;
    errands[1].may_end = &may_end;
    loop_thread_do(&loop, submit, NULL);
    wait_until(atomic_load(&errands[0].done) != 0);
    loop_thread_stop(&loop);
    assert_int_equal(pthread_create(&other, NULL, let_go, NULL), 0);
    disk_thread_free(thread);
    pthread_join(other, NULL);
    assert_true(errands[0].done != 0 && errands[0].dropped == 0);
    assert_true(errands[1].worked != 0 && errands[1].done == 0 && errands[1].dropped != 0);
    assert_true(errands[2].done == 0 && errands[2].dropped != 0);
    loop_free(loop.loop);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_in_order_and_beside_the_loop, set_up),
        cmocka_unit_test_setup(test_an_end_waits_for_what_is_being_done, set_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
