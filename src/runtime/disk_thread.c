#include "runtime/disk_thread.h"

#include "base/alloc.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define STACK_BYTES (256u << 10)

STAILQ_HEAD(job_queue, disk_job);

struct disk_thread {
    struct loop *loop;
    int news_fd;
    struct watch *news;
    pthread_t thread;
    bool has_thread;
    pthread_mutex_t mutex; /* guards what follows; never held across a callback */
    pthread_cond_t changed;
    struct job_queue waiting;
    struct job_queue done;
    bool is_ending;
};

/* ---- the thread's side ---- */

static struct disk_job *take(struct disk_thread *thread, struct job_queue *queue, bool waits) {
    pthread_mutex_lock(&thread->mutex);
    while (waits && STAILQ_EMPTY(queue) && !thread->is_ending) {
        pthread_cond_wait(&thread->changed, &thread->mutex);
    }
    struct disk_job *job = waits && thread->is_ending ? NULL : STAILQ_FIRST(queue);
    if (job != NULL) {
        STAILQ_REMOVE_HEAD(queue, next);
    }
    pthread_mutex_unlock(&thread->mutex);
    return job;
}

static void put(struct disk_thread *thread, struct job_queue *queue, struct disk_job *job) {
    pthread_mutex_lock(&thread->mutex);
    STAILQ_INSERT_TAIL(queue, job, next);
    pthread_cond_signal(&thread->changed);
    pthread_mutex_unlock(&thread->mutex);
}

static void *work(void *arg) {
    struct disk_thread *thread = arg;
    struct disk_job *job = NULL;
    (void)pthread_setname_np(pthread_self(), "disk");
    while ((job = take(thread, &thread->waiting, true)) != NULL) {
        job->work(job);
        put(thread, &thread->done, job);
        (void)eventfd_write(thread->news_fd, 1);
    }
    return NULL;
}

/* ---- the loop's side ---- */

static void on_news(void *arg) {
    struct disk_thread *thread = arg;
    struct disk_job *job = NULL;
    eventfd_t count = 0;
    (void)eventfd_read(thread->news_fd, &count);
    while ((job = take(thread, &thread->done, false)) != NULL) {
        job->on_done(job);
    }
}

struct disk_thread *disk_thread_new(struct loop *loop) {
    struct disk_thread *thread = xcalloc(1, sizeof(*thread));
    thread->loop = loop;
    STAILQ_INIT(&thread->waiting);
    STAILQ_INIT(&thread->done);
    (void)pthread_mutex_init(&thread->mutex, NULL);
    (void)pthread_cond_init(&thread->changed, NULL);
    thread->news_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (thread->news_fd < 0) {
        (void)fprintf(stderr, "davit: cannot make a thread for the disk: no descriptors left\n");
        abort();
    }
    thread->news = watch_new(loop, thread->news_fd, on_news, thread);
    return thread;
}

void disk_thread_do(struct disk_thread *thread, struct disk_job *job) {
    pthread_attr_t attributes;
    if (!thread->has_thread) {
        (void)pthread_attr_init(&attributes);
        (void)pthread_attr_setstacksize(&attributes, STACK_BYTES);
        thread->has_thread = pthread_create(&thread->thread, &attributes, work, thread) == 0;
        (void)pthread_attr_destroy(&attributes);
    }
    if (!thread->has_thread) { /* slow is better than never */
        job->work(job);
        put(thread, &thread->done, job);
        (void)eventfd_write(thread->news_fd, 1);
        return;
    }
    put(thread, &thread->waiting, job);
}

void disk_thread_free(struct disk_thread *thread) {
    struct disk_job *job = NULL;
    pthread_mutex_lock(&thread->mutex);
    thread->is_ending = true;
    pthread_cond_signal(&thread->changed);
    pthread_mutex_unlock(&thread->mutex);
    if (thread->has_thread) {
        (void)pthread_join(thread->thread, NULL);
    }
    while ((job = take(thread, &thread->done, false)) != NULL || (job = take(thread, &thread->waiting, false)) != NULL) {
        job->on_drop(job);
    }
    watch_free(thread->news);
    close(thread->news_fd);
    (void)pthread_mutex_destroy(&thread->mutex);
    (void)pthread_cond_destroy(&thread->changed);
    free(thread);
}
