/* Base models: what waits for a disk that does not answer is bounded. */
#include "runtime/models.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void on_ended(void *arg, bool is_well, bool was_cached) {
    (void)arg, (void)is_well, (void)was_cached;
}

static void on_change(void *arg) {
    (void)arg;
}

/* A NULL row is the list's end. */
static void count_ends(void *arg, const struct model_status *status) {
    *(int *)arg += status == NULL;
}

static void stop_soon(void *arg) {
    loop_stop(arg);
}

static void turn(struct loop *loop) {
    struct timer timer;
    timer_init(&timer, loop, stop_soon, loop);
    timer_set(&timer, 1);
    loop_run(loop);
    timer_release(&timer);
}

static void test_lists_that_wait(void **state) {
    (void)state;
    int ends = 0;
    struct error err = {0};
    struct artifact_options artifacts = {0};
    struct models_listing *listings[MODEL_LISTINGS_MAX];
    struct loop *loop = loop_new();
    struct models *models =
        models_new(&(struct models_options){.loop = loop, .artifacts = &artifacts, .on_ended = on_ended, .on_change = on_change});
    /* As long as the loop does not turn none is told to be done, whatever the disk does. */
    for (int i = 0; i < MODEL_LISTINGS_MAX; i++) {
        listings[i] = models_list(models, "/nonexistent", count_ends, &ends, &err);
        assert_non_null(listings[i]);
    }
    assert_null(models_list(models, "/nonexistent", count_ends, &ends, &err));
    assert_int_equal(err.code, ERROR_BUSY);
    /* Whoever asks and leaves, again and again, does not fill the memory either. */
    models_listing_leave(listings[0]);
    assert_null(models_list(models, "/nonexistent", count_ends, &ends, &err));
    while (ends < MODEL_LISTINGS_MAX - 1) {
        turn(loop);
    }
    turn(loop);
    assert_non_null(models_list(models, "/nonexistent", count_ends, &ends, &err));
    models_free(models); /* with one that waits */
    loop_free(loop);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_lists_that_wait)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
