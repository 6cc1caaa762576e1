#include "kube/work_queue.h"

#include "base/alloc.h"
#include "base/map.h"

#include <string.h>

#define NOT_IN_HEAP ((size_t)-1)

struct item {
    char *key;
    int64_t due_ms;
    size_t heap_index; /* NOT_IN_HEAP while it does not wait */
    bool is_out;       /* between on_key and work_queue_done */
    bool is_due_again; /* was added while out */
};

struct work_queue {
    struct loop *loop;
    struct timer timer;
    int parallel;
    int out_count;
    void (*on_key)(void *arg, const char *key);
    void *arg;
    struct map items;   /* key -> struct item */
    struct item **heap; /* waiting items, the earliest first */
    size_t heap_count;
    size_t heap_capacity;
};

static void heap_put(struct work_queue *queue, size_t index, struct item *item) {
    queue->heap[index] = item;
    item->heap_index = index;
}

static void heap_rise(struct work_queue *queue, size_t index) {
    struct item *item = queue->heap[index];
    while (index > 0 && queue->heap[(index - 1) / 2]->due_ms > item->due_ms) {
        heap_put(queue, index, queue->heap[(index - 1) / 2]);
        index = (index - 1) / 2;
    }
    heap_put(queue, index, item);
}

static void heap_sink(struct work_queue *queue, size_t index) {
    struct item *item = queue->heap[index];
    for (;;) {
        size_t child = 2 * index + 1;
        if (child >= queue->heap_count) {
            break;
        }
        if (child + 1 < queue->heap_count && queue->heap[child + 1]->due_ms < queue->heap[child]->due_ms) {
            child++;
        }
        if (queue->heap[child]->due_ms >= item->due_ms) {
            break;
        }
        heap_put(queue, index, queue->heap[child]);
        index = child;
    }
    heap_put(queue, index, item);
}

static void heap_add(struct work_queue *queue, struct item *item) {
    if (queue->heap_count == queue->heap_capacity) {
        queue->heap_capacity = queue->heap_capacity == 0 ? 16 : 2 * queue->heap_capacity;
        queue->heap = xrealloc(queue->heap, queue->heap_capacity * sizeof(*queue->heap));
    }
    heap_put(queue, queue->heap_count++, item);
    heap_rise(queue, item->heap_index);
}

static void heap_remove(struct work_queue *queue, struct item *item) {
    size_t index = item->heap_index;
    struct item *last = queue->heap[--queue->heap_count];
    item->heap_index = NOT_IN_HEAP;
    if (last != item) {
        heap_put(queue, index, last);
        heap_sink(queue, index);
        heap_rise(queue, last->heap_index);
    }
}

static void item_free(struct work_queue *queue, struct item *item) {
    map_remove(&queue->items, item->key);
    free(item->key);
    free(item);
}

static void arm(struct work_queue *queue) {
    if (queue->heap_count == 0 || queue->out_count >= queue->parallel) {
        timer_clear(&queue->timer);
        return;
    }
    int64_t wait_ms = queue->heap[0]->due_ms - loop_now_ms(queue->loop);
    timer_set(&queue->timer, wait_ms > 0 ? wait_ms : 0);
}

static void hand_out(void *arg) {
    struct work_queue *queue = arg;
    /* What on_key adds for now is handed out at the next turn of the loop, so that one key cannot keep the loop from everything
     * else. */
    size_t budget = queue->heap_count;
    int64_t now_ms = loop_now_ms(queue->loop);
    while (budget-- > 0 && queue->heap_count > 0 && queue->out_count < queue->parallel && queue->heap[0]->due_ms <= now_ms) {
        struct item *item = queue->heap[0];
        heap_remove(queue, item);
        item->is_out = true;
        queue->out_count++;
        cleanup_free char *key = xstrdup(item->key); /* work_queue_done may be called inside and free the item */
        queue->on_key(queue->arg, key);
    }
    arm(queue);
}

struct work_queue *work_queue_new(struct loop *loop, int parallel, void (*on_key)(void *arg, const char *key), void *arg) {
    struct work_queue *queue = xcalloc(1, sizeof(*queue));
    queue->loop = loop;
    queue->parallel = parallel;
    queue->on_key = on_key;
    queue->arg = arg;
    timer_init(&queue->timer, loop, hand_out, queue);
    return queue;
}

void work_queue_free(struct work_queue *queue) {
    if (queue == NULL) {
        return;
    }
    struct map_entry *entry = NULL;
    for (size_t at = 0; (entry = map_next(&queue->items, &at)) != NULL;) {
        struct item *item = entry->value;
        free(item->key);
        free(item);
    }
    map_release(&queue->items);
    timer_release(&queue->timer);
    free(queue->heap);
    free(queue);
}

void work_queue_add(struct work_queue *queue, const char *key, int64_t delay_ms) {
    int64_t due_ms = loop_now_ms(queue->loop) + (delay_ms > 0 ? delay_ms : 0);
    struct item *item = map_get(&queue->items, key);
    if (item == NULL) {
        item = xcalloc(1, sizeof(*item));
        item->key = xstrdup(key);
        item->heap_index = NOT_IN_HEAP;
        map_set(&queue->items, key, item);
    }
    if (item->is_out) {
        item->due_ms = item->is_due_again && item->due_ms < due_ms ? item->due_ms : due_ms;
        item->is_due_again = true;
        return;
    }
    if (item->heap_index == NOT_IN_HEAP) {
        item->due_ms = due_ms;
        heap_add(queue, item);
    } else if (due_ms < item->due_ms) {
        item->due_ms = due_ms;
        heap_rise(queue, item->heap_index);
    }
    arm(queue);
}

void work_queue_done(struct work_queue *queue, const char *key) {
    struct item *item = map_get(&queue->items, key);
    if (item == NULL || !item->is_out) {
        return;
    }
    item->is_out = false;
    queue->out_count--;
    if (item->is_due_again) {
        item->is_due_again = false;
        heap_add(queue, item);
    } else {
        item_free(queue, item);
    }
    arm(queue);
}

void work_queue_forget(struct work_queue *queue, const char *key) {
    struct item *item = map_get(&queue->items, key);
    if (item == NULL) {
        return;
    }
    if (item->is_out) {
        item->is_due_again = false;
        return;
    }
    heap_remove(queue, item);
    item_free(queue, item);
    arm(queue);
}

int work_queue_depth(const struct work_queue *queue) {
    return (int)queue->heap_count;
}
