#include "engine/api/adapter_thread.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"

#include <pthread.h>
#include <string.h>

struct queued_job {
    struct adapter_thread *thread;
    struct adapter_job job;
    char *name;
    char *path;
    char *folder;
    bool has_failed;
    struct error err;
    struct queued_job *next;
};

struct adapter_thread {
    struct loop *loop;
    struct engine *engine;
    pthread_t thread;
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t wake;
    struct queued_job *first;
    struct queued_job **last;
    struct queued_job *finished; /* posted to the loop, not yet reported */
    size_t waiting;
    bool is_stopping;
};

static void free_job(struct queued_job *queued) {
    free(queued->name);
    free(queued->path);
    free(queued->folder);
    free(queued);
}

static void log_loaded(struct engine *engine, const char *name, int64_t took_ms) {
    size_t count = 0;
    struct engine_adapter_info *list = engine_adapters(engine, &count);
    for (size_t i = 0; i < count; i++) {
        if (strcmp(list[i].name, name) == 0) {
            log_info("adapter \"%s\" loaded from %s rank=%d bytes=%zu took_ms=%lld resident=%zu", name, list[i].path, list[i].rank,
                     list[i].bytes, (long long)took_ms, count);
        }
    }
    engine_adapters_free(list, count);
}

int adapter_load_now(struct engine *engine, const char *name, const char *path, const char *folder, bool in_place,
                     struct error *err) {
    int64_t began_ms = clock_now_ms();
    if (engine_load_adapter(engine, name, path, folder, in_place, err) < 0) {
        log_warn("adapter \"%s\" not loaded from %s: %s", name, path, err->message);
        return -1;
    }
    log_loaded(engine, name, clock_now_ms() - began_ms);
    return 0;
}

static int look_for(const struct queued_job *queued, struct error *err) {
    cleanup_free char *config = path_join(queued->folder != NULL ? queued->folder : queued->path, "adapter_config.json");
    return access(config, F_OK) == 0 ? 0 : error_set(err, ERROR_NOT_FOUND, "No adapter found for %s", queued->path);
}

static int load_job(struct adapter_thread *thread, struct queued_job *queued) {
    if (queued->job.is_lookup && look_for(queued, &queued->err) < 0) {
        return -1;
    }
    return adapter_load_now(thread->engine, queued->name, queued->path, queued->folder, queued->job.in_place, &queued->err);
}

static int unload_now(struct engine *engine, const char *name, struct error *err) {
    int64_t began_ms = clock_now_ms();
    if (engine_unload_adapter(engine, name, err) < 0) {
        return -1;
    }
    log_info("adapter \"%s\" unloaded took_ms=%lld", name, (long long)(clock_now_ms() - began_ms));
    return 0;
}

static void unlink_finished(struct adapter_thread *thread, const struct queued_job *queued) {
    (void)pthread_mutex_lock(&thread->lock);
    struct queued_job **at = &thread->finished;
    while (*at != NULL && *at != queued) {
        at = &(*at)->next;
    }
    if (*at != NULL) {
        *at = (*at)->next;
    }
    (void)pthread_mutex_unlock(&thread->lock);
}

static void report(void *arg) {
    struct queued_job *queued = arg;
    unlink_finished(queued->thread, queued);
    queued->job.on_done(queued->job.arg, queued->has_failed ? &queued->err : NULL);
    free_job(queued);
}

static struct queued_job *next_job(struct adapter_thread *thread) {
    (void)pthread_mutex_lock(&thread->lock);
    while (thread->first == NULL && !thread->is_stopping) {
        (void)pthread_cond_wait(&thread->wake, &thread->lock);
    }
    struct queued_job *queued = thread->is_stopping ? NULL : thread->first;
    if (queued != NULL) {
        thread->first = queued->next;
        if (thread->first == NULL) {
            thread->last = &thread->first;
        }
        thread->waiting--;
    }
    (void)pthread_mutex_unlock(&thread->lock);
    return queued;
}

static void *run(void *arg) {
    struct adapter_thread *thread = arg;
    struct queued_job *queued = NULL;
    while ((queued = next_job(thread)) != NULL) {
        int result = queued->job.is_unload ? unload_now(thread->engine, queued->name, &queued->err) : load_job(thread, queued);
        queued->has_failed = result < 0;
        (void)pthread_mutex_lock(&thread->lock);
        queued->next = thread->finished;
        thread->finished = queued;
        (void)pthread_mutex_unlock(&thread->lock);
        loop_post(thread->loop, report, queued);
    }
    return NULL;
}

struct adapter_thread *adapter_thread_new(struct loop *loop, struct engine *engine) {
    struct adapter_thread *thread = xcalloc(1, sizeof(*thread));
    thread->loop = loop;
    thread->engine = engine;
    thread->last = &thread->first;
    (void)pthread_mutex_init(&thread->lock, NULL);
    (void)pthread_cond_init(&thread->wake, NULL);
    if (pthread_create(&thread->thread, NULL, run, thread) != 0) {
        log_error("cannot start the adapter thread");
        abort();
    }
    (void)pthread_setname_np(thread->thread, "lora-loader");
    return thread;
}

int adapter_thread_submit(struct adapter_thread *thread, const struct adapter_job *job, struct error *err) {
    struct queued_job *queued = xcalloc(1, sizeof(*queued));
    queued->thread = thread;
    queued->job = *job;
    queued->name = xstrdup(job->name);
    queued->path = job->path != NULL ? xstrdup(job->path) : NULL;
    queued->folder = job->folder != NULL ? xstrdup(job->folder) : NULL;
    (void)pthread_mutex_lock(&thread->lock);
    bool is_full = thread->waiting == ADAPTER_QUEUE_MAX;
    if (!is_full) {
        *thread->last = queued;
        thread->last = &queued->next;
        thread->waiting++;
        (void)pthread_cond_signal(&thread->wake);
    }
    (void)pthread_mutex_unlock(&thread->lock);
    if (is_full) {
        free_job(queued);
        return error_set(err, ERROR_BUSY, "%d adapter loads and unloads are waiting already", ADAPTER_QUEUE_MAX);
    }
    return 0;
}

static void drop_list(struct queued_job *list) {
    while (list != NULL) {
        struct queued_job *next = list->next;
        list->job.on_dropped(list->job.arg);
        free_job(list);
        list = next;
    }
}

void adapter_thread_free(struct adapter_thread *thread) {
    (void)pthread_mutex_lock(&thread->lock);
    thread->is_stopping = true;
    (void)pthread_cond_signal(&thread->wake);
    (void)pthread_mutex_unlock(&thread->lock);
    (void)pthread_join(thread->thread, NULL);
    drop_list(thread->first);
    drop_list(thread->finished);
    (void)pthread_cond_destroy(&thread->wake);
    (void)pthread_mutex_destroy(&thread->lock);
    free(thread);
}
