#include "engine/api/inbox.h"

#include "base/clock.h"

#include <pthread.h>

struct inbox {
    struct loop *loop;
    void (*on_item)(void *arg, const struct inbox_item *item);
    void *arg;
    pthread_mutex_t lock; /* guards what follows */
    struct inbox_item *items;
    size_t count;
    size_t capacity;
    bool is_posted;
};

struct inbox *inbox_new(struct loop *loop, void (*on_item)(void *arg, const struct inbox_item *item), void *arg) {
    struct inbox *inbox = xcalloc(1, sizeof(*inbox));
    inbox->loop = loop;
    inbox->on_item = on_item;
    inbox->arg = arg;
    (void)pthread_mutex_init(&inbox->lock, NULL);
    return inbox;
}

static void deliver_posted(void *arg) {
    inbox_deliver(arg);
}

void inbox_put(struct inbox *inbox, void *generation, const struct engine_event *event) {
    int64_t now_ns = clock_now_ns();
    (void)pthread_mutex_lock(&inbox->lock);
    if (inbox->count == inbox->capacity) {
        inbox->capacity = inbox->capacity == 0 ? 64 : inbox->capacity * 2;
        inbox->items = xrealloc(inbox->items, inbox->capacity * sizeof(*inbox->items));
    }
    inbox->items[inbox->count++] = (struct inbox_item){.generation = generation, .at_ns = now_ns, .event = *event};
    bool post = !inbox->is_posted;
    inbox->is_posted = true;
    (void)pthread_mutex_unlock(&inbox->lock);
    if (post) {
        loop_post(inbox->loop, deliver_posted, inbox);
    }
}

void inbox_deliver(struct inbox *inbox) {
    (void)pthread_mutex_lock(&inbox->lock);
    struct inbox_item *items = take_pointer(inbox->items);
    size_t count = inbox->count;
    inbox->count = 0;
    inbox->capacity = 0;
    inbox->is_posted = false;
    (void)pthread_mutex_unlock(&inbox->lock);
    for (size_t i = 0; i < count; i++) {
        inbox->on_item(inbox->arg, &items[i]);
    }
    free(items);
}

void inbox_free(struct inbox *inbox) {
    (void)pthread_mutex_destroy(&inbox->lock);
    free(inbox->items);
    free(inbox);
}
