/* The loop: timers, posts from other threads, signals, descriptors. */
#include "io_support.h"

#include <pthread.h>
#include <signal.h>

struct order {
    struct loop *loop;
    char text[16];
    size_t len;
    struct timer timers[3];
};

static void note(struct order *order, char what) {
    order->text[order->len++] = what;
}

static void fire_a(void *arg) {
    note(arg, 'a');
}

static void fire_b(void *arg) {
    note(arg, 'b');
}

static void fire_last(void *arg) {
    struct order *order = arg;
    note(order, '.');
    loop_stop(order->loop);
}

static void test_timers_fire_in_order_and_never_early(void **state) {
    (void)state;
    struct order order = {.loop = loop_new()};
    timer_init(&order.timers[0], order.loop, fire_a, &order);
    timer_init(&order.timers[1], order.loop, fire_b, &order);
    timer_init(&order.timers[2], order.loop, fire_last, &order);
    int64_t start_ns = clock_now_ns();
    timer_set(&order.timers[0], 1000);
    timer_set(&order.timers[0], 10); /* again: the later call holds */
    timer_set(&order.timers[1], 5);
    timer_set(&order.timers[2], 20);
    assert_true(timer_is_set(&order.timers[1]));
    loop_run(order.loop);
    assert_true(clock_now_ns() - start_ns >= 20 * 1000000);
    assert_string_equal(order.text, "ba.");
    assert_false(timer_is_set(&order.timers[1]));
    timer_set(&order.timers[0], 0);
    timer_clear(&order.timers[0]);
    timer_set(&order.timers[2], 0);
    loop_run(order.loop); /* a loop that was stopped can run again */
    assert_string_equal(order.text, "ba..");
    for (size_t i = 0; i < 3; i++) {
        timer_release(&order.timers[i]);
    }
    loop_free(order.loop);
}

static void fire_releases_itself(void *arg) {
    struct order *order = arg;
    timer_release(&order->timers[0]);
    loop_stop(order->loop);
}

static void test_a_timer_may_release_itself(void **state) {
    (void)state;
    struct order order = {.loop = loop_new()};
    timer_init(&order.timers[0], order.loop, fire_releases_itself, &order);
    timer_set(&order.timers[0], 0);
    loop_run(order.loop);
    timer_release(&order.timers[0]); /* twice is fine */
    loop_free(order.loop);
}

#define POSTERS 4
#define POSTS 5000

struct poster {
    struct loop *loop;
    int next; /* what the loop's thread expects of this poster */
    int total;
    struct post {
        struct poster *poster;
        int number;
    } posts[POSTS];
};

static void receive(void *arg) {
    struct post *post = arg;
    assert_int_equal(post->number, post->poster->next);
    post->poster->next++;
}

static void *post_all(void *arg) {
    struct poster *poster = arg;
    for (int i = 0; i < POSTS; i++) {
        poster->posts[i] = (struct post){.poster = poster, .number = i};
        loop_post(poster->loop, receive, &poster->posts[i]);
    }
    return NULL;
}

static void test_posts_of_many_threads_keep_their_order(void **state) {
    (void)state;
    struct loop *loop = loop_new();
    struct poster *posters = xcalloc(POSTERS, sizeof(*posters));
    pthread_t threads[POSTERS];
    for (size_t i = 0; i < POSTERS; i++) {
        posters[i].loop = loop;
        assert_int_equal(pthread_create(&threads[i], NULL, post_all, &posters[i]), 0);
    }
    for (size_t i = 0; i < POSTERS; i++) {
        RUN_UNTIL(loop, posters[i].next == POSTS);
        pthread_join(threads[i], NULL);
    }
    loop_post(loop, receive, posters); /* dropped */
    loop_free(loop);
    free(posters);
}

static void *stop_it(void *arg) {
    loop_stop(arg);
    return NULL;
}

static void test_stop_from_another_thread(void **state) {
    (void)state;
    struct loop *loop = loop_new();
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, stop_it, loop), 0);
    alarm(30);
    loop_run(loop);
    alarm(0);
    pthread_join(thread, NULL);
    loop_free(loop);
}

static void keep_number(void *arg, int number) {
    *(int *)arg = number;
}

static void test_signals(void **state) {
    (void)state;
    struct loop *loop = loop_new();
    int seen = 0;
    loop_on_signals(loop, (const int[]){SIGUSR1, SIGUSR2, 0}, keep_number, &seen);
    (void)raise(SIGUSR2);
    RUN_UNTIL(loop, seen == SIGUSR2);
    (void)raise(SIGUSR1);
    RUN_UNTIL(loop, seen == SIGUSR1);
    loop_free(loop);
}

struct pipe_end {
    int fd;
    struct watch *watch;
    char got;
};

static void read_one(void *arg) {
    struct pipe_end *end = arg;
    assert_int_equal(read(end->fd, &end->got, 1), 1);
    if (end->got == 'z') {
        watch_free(end->watch); /* from its own callback */
    }
}

static void test_watches(void **state) {
    (void)state;
    struct loop *loop = loop_new();
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    struct pipe_end end = {.fd = fds[0]};
    end.watch = watch_new(loop, fds[0], read_one, &end);
    assert_int_equal(write(fds[1], "az", 2), 2);
    RUN_UNTIL(loop, end.got == 'z');
    close(fds[0]);
    close(fds[1]);
    loop_free(loop);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_timers_fire_in_order_and_never_early),
        cmocka_unit_test(test_a_timer_may_release_itself),
        cmocka_unit_test(test_posts_of_many_threads_keep_their_order),
        cmocka_unit_test(test_stop_from_another_thread),
        cmocka_unit_test(test_signals),
        cmocka_unit_test(test_watches),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
