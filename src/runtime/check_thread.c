#include "runtime/check_thread.h"

#include "runtime/artifact_check.h"

#include <pthread.h>
#include <sys/queue.h>

struct check {
    struct check_thread *thread;
    char *folder;
    check_done *on_done; /* the loop's; NULL = cancelled */
    void *arg;
    int result;
    struct error err;
    STAILQ_ENTRY(check) next;
};

STAILQ_HEAD(check_list, check);

struct check_thread {
    struct loop *loop;
    pthread_t thread;
    pthread_mutex_t mutex; /* guards what follows */
    pthread_cond_t changed;
    struct check_list waiting;
    struct check_list done;
    bool is_reported; /* a call of report is posted */
    bool is_ending;
};

static void free_list(struct check_list *list) {
    struct check *check;
    while ((check = STAILQ_FIRST(list)) != NULL) {
        STAILQ_REMOVE_HEAD(list, next);
        free(check->folder);
        free(check);
    }
}

/* On the loop. Callbacks run without the lock. */
static void report(void *arg) {
    struct check_thread *thread = arg;
    struct check_list done = STAILQ_HEAD_INITIALIZER(done);
    pthread_mutex_lock(&thread->mutex);
    STAILQ_CONCAT(&done, &thread->done);
    thread->is_reported = false;
    pthread_mutex_unlock(&thread->mutex);
    struct check *check;
    STAILQ_FOREACH(check, &done, next) {
        if (check->on_done != NULL) {
            check->on_done(check->arg, check->result, check->result < 0 ? &check->err : NULL);
        }
    }
    free_list(&done);
}

static void *run(void *arg) {
    struct check_thread *thread = arg;
    (void)pthread_setname_np(pthread_self(), "check");
    pthread_mutex_lock(&thread->mutex);
    for (;;) {
        struct check *check = STAILQ_FIRST(&thread->waiting);
        if (thread->is_ending) {
            break;
        }
        if (check == NULL) {
            pthread_cond_wait(&thread->changed, &thread->mutex);
            continue;
        }
        STAILQ_REMOVE_HEAD(&thread->waiting, next);
        pthread_mutex_unlock(&thread->mutex);
        check->result = artifact_check(check->folder, &check->err);
        pthread_mutex_lock(&thread->mutex);
        STAILQ_INSERT_TAIL(&thread->done, check, next);
        if (!thread->is_reported) {
            thread->is_reported = true;
            loop_post(thread->loop, report, thread);
        }
    }
    pthread_mutex_unlock(&thread->mutex);
    return NULL;
}

struct check_thread *check_thread_new(struct loop *loop) {
    struct check_thread *thread = xcalloc(1, sizeof(*thread));
    thread->loop = loop;
    STAILQ_INIT(&thread->waiting);
    STAILQ_INIT(&thread->done);
    pthread_mutex_init(&thread->mutex, NULL);
    pthread_cond_init(&thread->changed, NULL);
    if (pthread_create(&thread->thread, NULL, run, thread) != 0) {
        abort(); /* at start, with one thread: the machine is out of threads */
    }
    return thread;
}

void check_thread_free(struct check_thread *thread) {
    pthread_mutex_lock(&thread->mutex);
    thread->is_ending = true;
    pthread_cond_signal(&thread->changed);
    pthread_mutex_unlock(&thread->mutex);
    pthread_join(thread->thread, NULL);
    free_list(&thread->waiting);
    free_list(&thread->done);
    pthread_cond_destroy(&thread->changed);
    pthread_mutex_destroy(&thread->mutex);
    free(thread);
}

struct check *check_start(struct check_thread *thread, const char *folder, check_done *on_done, void *arg) {
    struct check *check = xcalloc(1, sizeof(*check));
    check->thread = thread;
    check->folder = xstrdup(folder);
    check->on_done = on_done;
    check->arg = arg;
    pthread_mutex_lock(&thread->mutex);
    STAILQ_INSERT_TAIL(&thread->waiting, check, next);
    pthread_cond_signal(&thread->changed);
    pthread_mutex_unlock(&thread->mutex);
    return check;
}

void check_cancel(struct check *check) {
    check->on_done = NULL; /* only the loop reads and writes it */
}
