/* Work that may block, as a file server that does not answer makes it, done one after another on a thread beside a loop. */
#ifndef DAVIT_RUNTIME_DISK_THREAD_H
#define DAVIT_RUNTIME_DISK_THREAD_H

#include "io/loop.h"

#include <sys/queue.h>

struct disk_thread;

/* Embedded in what the work is about, whose owner it has until one of the two ends is called. */
struct disk_job {
    STAILQ_ENTRY(disk_job) next;
    void (*work)(struct disk_job *job);    /* on the thread */
    void (*on_done)(struct disk_job *job); /* then, on the loop */
    void (*on_drop)(struct disk_job *job); /* instead: disk_thread_free came first; on the loop's thread */
};

struct disk_thread *disk_thread_new(struct loop *loop);
/* In order of calling. The thread starts with the first. */
void disk_thread_do(struct disk_thread *thread, struct disk_job *job);
void disk_thread_free(struct disk_thread *thread); /* waits for what is being done */

#endif
