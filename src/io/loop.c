#include "io/loop.h"

#include "base/alloc.h"
#include "base/clock.h"

#include <event2/event.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>

struct posted {
    struct posted *next;
    void (*fn)(void *arg);
    void *arg;
};

struct signal_watch {
    struct signal_watch *next;
    struct event *event;
    void (*on_signal)(void *arg, int number);
    void *arg;
};

struct loop {
    struct event_base *base;
    int wake_fd;
    struct event *wake;
    atomic_bool stopping;
    pthread_mutex_t mutex; /* guards the queue; never held across a callback */
    struct posted *first;
    struct posted **last;
    struct signal_watch *signals;
};

static void wake_up(struct loop *loop) {
    uint64_t one = 1;
    ssize_t written = write(loop->wake_fd, &one, sizeof(one)); /* fails only when the counter is full: awake anyway */
    (void)written;
}

static struct posted *take_posted(struct loop *loop) {
    pthread_mutex_lock(&loop->mutex);
    struct posted *first = loop->first;
    loop->first = NULL;
    loop->last = &loop->first;
    pthread_mutex_unlock(&loop->mutex);
    return first;
}

static void on_wake(evutil_socket_t fd, short what, void *arg) {
    (void)what;
    struct loop *loop = arg;
    uint64_t count = 0;
    ssize_t got = read((int)fd, &count, sizeof(count));
    (void)got;
    struct posted *next = NULL;
    for (struct posted *at = take_posted(loop); at != NULL; at = next) {
        next = at->next;
        at->fn(at->arg);
        free(at);
    }
    if (atomic_load(&loop->stopping)) {
        (void)event_base_loopbreak(loop->base);
    }
}

static struct event_base *new_event_base(void) {
    /* One thread uses the base. The precise clock is asked for since the coarse one lets timers fire up to 4 ms early, and the
     * cached time is not used since it would do so by the length of the callback that sets the timer. */
    struct event_config *config = event_config_new();
    if (config == NULL) {
        abort();
    }
    (void)event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK | EVENT_BASE_FLAG_PRECISE_TIMER | EVENT_BASE_FLAG_NO_CACHE_TIME);
    struct event_base *base = event_base_new_with_config(config);
    event_config_free(config);
    return base;
}

struct loop *loop_new(void) {
    /* A peer that closes early shows as EPIPE on its own connection. */
    struct sigaction old;
    if (sigaction(SIGPIPE, NULL, &old) == 0 && old.sa_handler == SIG_DFL) {
        (void)signal(SIGPIPE, SIG_IGN);
    }
    struct loop *loop = xcalloc(1, sizeof(*loop));
    loop->base = new_event_base();
    loop->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (loop->base == NULL || loop->wake_fd < 0) {
        (void)fprintf(stderr, "davit: cannot make an event loop: no descriptors left\n");
        abort();
    }
    (void)pthread_mutex_init(&loop->mutex, NULL);
    loop->last = &loop->first;
    loop->wake = event_new(loop->base, loop->wake_fd, EV_READ | EV_PERSIST, on_wake, loop);
    (void)event_add(loop->wake, NULL);
    return loop;
}

void loop_free(struct loop *loop) {
    if (loop == NULL) {
        return;
    }
    struct posted *next = NULL;
    for (struct posted *at = take_posted(loop); at != NULL; at = next) {
        next = at->next;
        free(at);
    }
    while (loop->signals != NULL) {
        struct signal_watch *watch = loop->signals;
        loop->signals = watch->next;
        event_free(watch->event);
        free(watch);
    }
    event_free(loop->wake);
    close(loop->wake_fd);
    event_base_free(loop->base);
    (void)pthread_mutex_destroy(&loop->mutex);
    free(loop);
}

void loop_run(struct loop *loop) {
    while (!atomic_exchange(&loop->stopping, false)) {
        if (event_base_loop(loop->base, EVLOOP_NO_EXIT_ON_EMPTY) < 0) {
            return;
        }
    }
}

void loop_stop(struct loop *loop) {
    atomic_store(&loop->stopping, true);
    wake_up(loop);
}

void loop_post(struct loop *loop, void (*fn)(void *arg), void *arg) {
    struct posted *posted = xmalloc(sizeof(*posted));
    *posted = (struct posted){.fn = fn, .arg = arg};
    pthread_mutex_lock(&loop->mutex);
    *loop->last = posted;
    loop->last = &posted->next;
    pthread_mutex_unlock(&loop->mutex);
    wake_up(loop);
}

struct event_base *loop_event_base(struct loop *loop) {
    return loop->base;
}

int64_t loop_now_ms(const struct loop *loop) {
    (void)loop;
    return clock_now_ms();
}

/* ---- timers ---- */

static void on_timer(evutil_socket_t fd, short what, void *arg) {
    (void)fd;
    (void)what;
    struct timer *timer = arg;
    timer->on_fire(timer->arg);
}

void timer_init(struct timer *timer, struct loop *loop, void (*on_fire)(void *arg), void *arg) {
    *timer = (struct timer){.on_fire = on_fire, .arg = arg};
    timer->event = event_new(loop->base, -1, 0, on_timer, timer);
    if (timer->event == NULL) {
        abort();
    }
}

void timer_release(struct timer *timer) {
    if (timer->event != NULL) {
        event_free(timer->event);
        timer->event = NULL;
    }
}

void timer_set(struct timer *timer, int64_t delay_ms) {
    if (delay_ms < 0) {
        delay_ms = 0;
    }
    struct timeval delay = {.tv_sec = (time_t)(delay_ms / 1000), .tv_usec = (suseconds_t)(delay_ms % 1000) * 1000};
    (void)event_add(timer->event, &delay);
}

void timer_clear(struct timer *timer) {
    (void)event_del(timer->event);
}

bool timer_is_set(const struct timer *timer) {
    return event_pending(timer->event, EV_TIMEOUT, NULL) != 0;
}

/* ---- signals ---- */

static void on_signal_event(evutil_socket_t number, short what, void *arg) {
    (void)what;
    struct signal_watch *watch = arg;
    watch->on_signal(watch->arg, (int)number);
}

void loop_on_signals(struct loop *loop, const int *signals, void (*on_signal)(void *arg, int number), void *arg) {
    for (; *signals != 0; signals++) {
        struct signal_watch *watch = xmalloc(sizeof(*watch));
        *watch = (struct signal_watch){.next = loop->signals, .on_signal = on_signal, .arg = arg};
        watch->event = evsignal_new(loop->base, *signals, on_signal_event, watch);
        (void)event_add(watch->event, NULL);
        loop->signals = watch;
    }
}

/* ---- descriptors ---- */

struct watch {
    struct event *event;
    void (*on_ready)(void *arg);
    void *arg;
};

static void on_readable(evutil_socket_t fd, short what, void *arg) {
    (void)fd;
    (void)what;
    struct watch *watch = arg;
    watch->on_ready(watch->arg);
}

struct watch *watch_new(struct loop *loop, int fd, void (*on_ready)(void *arg), void *arg) {
    struct watch *watch = xmalloc(sizeof(*watch));
    *watch = (struct watch){.on_ready = on_ready, .arg = arg};
    watch->event = event_new(loop->base, fd, EV_READ | EV_PERSIST, on_readable, watch);
    (void)event_add(watch->event, NULL);
    return watch;
}

void watch_free(struct watch *watch) {
    if (watch != NULL) {
        event_free(watch->event);
        free(watch);
    }
}
