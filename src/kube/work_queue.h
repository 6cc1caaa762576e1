/* Keys to work on, each at most once at a time: adding a key that waits changes nothing (or brings it forward), adding one that is
 * being worked on makes it due again afterwards. */
#ifndef DAVIT_KUBE_WORK_QUEUE_H
#define DAVIT_KUBE_WORK_QUEUE_H

#include "io/loop.h"

struct work_queue;

/* on_key is called on the loop for each due key; work on it lasts until work_queue_done(key). At most `parallel` keys are out at
 * once. */
struct work_queue *work_queue_new(struct loop *loop, int parallel, void (*on_key)(void *arg, const char *key), void *arg);
void work_queue_free(struct work_queue *queue);
void work_queue_add(struct work_queue *queue, const char *key, int64_t delay_ms);
void work_queue_done(struct work_queue *queue, const char *key);
void work_queue_forget(struct work_queue *queue, const char *key); /* not due any more */
int work_queue_depth(const struct work_queue *queue);

#endif
