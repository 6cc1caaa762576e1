/* The engine's events on their way from the scheduler thread to the loop: one wake-up for many events, order kept. */
#ifndef DAVIT_ENGINE_API_INBOX_H
#define DAVIT_ENGINE_API_INBOX_H

#include "engine/engine.h"
#include "io/loop.h"

struct inbox;

struct inbox_item {
    void *generation;
    int64_t at_ns; /* monotonic, when the engine delivered it */
    struct engine_event event;
};

struct inbox *inbox_new(struct loop *loop, void (*on_item)(void *arg, const struct inbox_item *item), void *arg);
/* Any thread. */
void inbox_put(struct inbox *inbox, void *generation, const struct engine_event *event);
/* On the loop's thread: hands out what is there now. The loop calls it by itself; once more after the engine has stopped. */
void inbox_deliver(struct inbox *inbox);
void inbox_free(struct inbox *inbox);

#endif
