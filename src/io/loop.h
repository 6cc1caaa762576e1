/* The event loop (libevent) and what hangs on it: timers, signals, work from other threads.
 *
 * One thread runs a loop; everything registered on it is called on that thread and must not block. Only loop_post and loop_stop
 * may be called from other threads. */
#ifndef DAVIT_IO_LOOP_H
#define DAVIT_IO_LOOP_H

#include <stdbool.h>
#include <stdint.h>

struct event_base;
struct loop;

struct loop *loop_new(void);
void loop_free(struct loop *loop); /* after loop_run returned, and after everything on it was released */
void loop_run(struct loop *loop);  /* until loop_stop */
void loop_stop(struct loop *loop);
/* Runs fn(arg) on the loop's thread, in order of posting. What was posted and not run when the loop is freed is dropped. */
void loop_post(struct loop *loop, void (*fn)(void *arg), void *arg);
struct event_base *loop_event_base(struct loop *loop); /* for io/ only */
/* Monotonic milliseconds, read once per wake-up. */
int64_t loop_now_ms(const struct loop *loop);

struct event;
/* A one-shot timer, embedded in its owner. */
struct timer {
    struct event *event;
    void (*on_fire)(void *arg);
    void *arg;
};
void timer_init(struct timer *timer, struct loop *loop, void (*on_fire)(void *arg), void *arg);
void timer_release(struct timer *timer);
void timer_set(struct timer *timer, int64_t delay_ms); /* (re)arms; 0 = at the next turn of the loop */
void timer_clear(struct timer *timer);
bool timer_is_set(const struct timer *timer);

/* Calls on_signal(arg, number) on the loop for each of the signals, until loop_free. The list ends with 0. */
void loop_on_signals(struct loop *loop, const int *signals, void (*on_signal)(void *arg, int number), void *arg);

/* A descriptor to watch: on_ready is called while it is readable. */
struct watch;
struct watch *watch_new(struct loop *loop, int fd, void (*on_ready)(void *arg), void *arg);
void watch_free(struct watch *watch);

#endif
