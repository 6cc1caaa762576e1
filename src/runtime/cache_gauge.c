#include "runtime/cache_gauge.h"

#include "base/clock.h"

#define PAUSE_FOLD 50 /* a pause is so many times what the last count took: 2 % of a core at most, however many are fetched */

static void *count(void *arg);

static void start(struct cache_gauge *gauge) {
    gauge->is_asked_again = false;
    gauge->started_ns = clock_now_ns();
    gauge->is_counting = pthread_create(&gauge->thread, NULL, count, gauge) == 0;
}

static void on_counted(void *arg) {
    struct cache_gauge *gauge = arg;
    (void)pthread_join(gauge->thread, NULL);
    gauge->is_counting = false;
    if (gauge->found != UINT64_MAX) {
        metric_set(gauge->bytes, NULL, (double)gauge->found);
    }
    timer_set(&gauge->pause, (clock_now_ns() - gauge->started_ns) * PAUSE_FOLD / 1000000);
}

static void on_paused(void *arg) {
    struct cache_gauge *gauge = arg;
    if (gauge->is_asked_again) {
        start(gauge);
    }
}

static void *count(void *arg) {
    struct cache_gauge *gauge = arg;
    struct artifact_cache_list list = {0};
    (void)pthread_setname_np(pthread_self(), "cache-gauge");
    gauge->found = UINT64_MAX;
    if (artifact_cache_list(gauge->cache, &list, NULL) == 0) {
        gauge->found = list.bytes;
        artifact_cache_list_release(&list);
    }
    loop_post(gauge->loop, on_counted, gauge);
    return NULL;
}

void cache_gauge_init(struct cache_gauge *gauge, struct loop *loop, struct artifact_cache *cache, struct metric *bytes) {
    *gauge = (struct cache_gauge){.loop = loop, .cache = cache, .bytes = bytes};
    timer_init(&gauge->pause, loop, on_paused, gauge);
}

void cache_gauge_count(struct cache_gauge *gauge) {
    if (gauge->is_counting || timer_is_set(&gauge->pause)) {
        gauge->is_asked_again = true;
    } else {
        start(gauge);
    }
}

void cache_gauge_release(struct cache_gauge *gauge) {
    if (gauge->is_counting) {
        (void)pthread_join(gauge->thread, NULL);
    }
    timer_release(&gauge->pause);
}
