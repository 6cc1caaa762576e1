/* Jobs and tickets belong to the loop's thread. Workers take jobs from a queue and put them into another when they are done; an
 * eventfd tells the loop. */
#include "artifact/pool.h"

#include "base/buffer.h"
#include "base/hash.h"

#include <malloc.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/queue.h>

#define THREADS_MAX 64
#define STACK_BYTES (512u << 10)
#define WORDS_BYTES 96

struct job;

struct artifact_ticket {
    TAILQ_ENTRY(artifact_ticket) link;
    struct job *job;
    artifact_pool_done *on_done;
    void *arg;
    char words[WORDS_BYTES];
};

struct job {
    TAILQ_ENTRY(job) link;    /* of all jobs; the loop's */
    STAILQ_ENTRY(job) queued; /* of those that wait or are done; under the mutex */
    struct artifact_pool *pool;
    char key[HASH_HEX_BYTES];
    struct artifact_wanted wanted; /* owned */
    struct artifact_secrets secrets;
    struct artifact_progress progress;
    bool is_taken; /* by a worker; under the mutex */
    TAILQ_HEAD(ticket_list, artifact_ticket) tickets;
    struct artifact_found found;
    struct error err;
    int result;
};
STAILQ_HEAD(job_queue, job);

struct artifact_pool {
    struct loop *loop;
    struct artifact_cache *cache;
    TAILQ_HEAD(job_list, job) jobs;
    size_t job_count;
    size_t ticket_count;
    int news_fd;
    struct watch *news;
    pthread_t threads[THREADS_MAX];
    unsigned thread_count;
    unsigned threads_max;
    pthread_mutex_t mutex; /* guards what follows; never held across a callback */
    pthread_cond_t work;
    struct job_queue waiting;
    struct job_queue done;
    unsigned idle_count;
    unsigned waiting_count;
    bool is_ending;
};

/* ---- what is wanted, copied ---- */

static char *copy(const char *text) {
    return xstrdup(text != NULL ? text : "");
}

static void wipe(const char *text) {
    char *own = (char *)(uintptr_t)text;
    if (own != NULL) {
        explicit_bzero(own, strlen(own));
        free(own);
    }
}

static void copy_wanted(struct job *job, const struct artifact_wanted *wanted) {
    job->wanted = (struct artifact_wanted){
        .url = copy(wanted->url),
        .revision = copy(wanted->revision),
        .digest = copy(wanted->digest),
        .version = copy(wanted->version),
        .model_suffixes = wanted->model_suffixes != NULL ? copy(wanted->model_suffixes) : NULL,
        .max_rank = wanted->max_rank,
        .secrets = wanted->secrets != NULL ? &job->secrets : NULL,
    };
    for (size_t i = 0; wanted->secrets != NULL && i < wanted->secrets->count; i++) {
        const struct artifact_secret *item = &wanted->secrets->items[i];
        job->secrets.items[job->secrets.count++] = (struct artifact_secret){.key = copy(item->key), .value = copy(item->value)};
    }
}

static void job_free(struct job *job) {
    for (size_t i = 0; i < job->secrets.count; i++) {
        wipe(job->secrets.items[i].key);
        wipe(job->secrets.items[i].value);
    }
    wipe(job->wanted.url);
    wipe(job->wanted.revision);
    wipe(job->wanted.digest);
    wipe(job->wanted.version);
    wipe(job->wanted.model_suffixes);
    if (job->result == 0) {
        artifact_found_release(&job->found);
    }
    free(job);
}

static void append(struct buffer *out, const char *text) {
    text = text != NULL ? text : "";
    buffer_printf(out, "%zu:%s,", strlen(text), text);
}

/* Who wants the same with the same rights has the same key. */
static void key_of(const struct artifact_wanted *wanted, char out[HASH_HEX_BYTES]) {
    cleanup_buffer struct buffer text = BUFFER_INIT;
    append(&text, wanted->url);
    append(&text, wanted->revision);
    append(&text, wanted->digest);
    append(&text, wanted->version);
    append(&text, wanted->model_suffixes);
    buffer_printf(&text, "%d,%d,%d,", wanted->model_suffixes != NULL, wanted->max_rank, wanted->secrets != NULL);
    for (size_t i = 0; wanted->secrets != NULL && i < wanted->secrets->count; i++) {
        append(&text, wanted->secrets->items[i].key);
        append(&text, wanted->secrets->items[i].value);
    }
    struct hash hash = hash_bytes(buffer_text(&text), text.len);
    hash_hex(&hash, out);
    explicit_bzero(text.data, text.len);
}

/* ---- workers ---- */

static struct job *take_job(struct artifact_pool *pool) {
    pthread_mutex_lock(&pool->mutex);
    pool->idle_count++;
    while (STAILQ_EMPTY(&pool->waiting) && !pool->is_ending) {
        pthread_cond_wait(&pool->work, &pool->mutex);
    }
    pool->idle_count--;
    struct job *job = pool->is_ending ? NULL : STAILQ_FIRST(&pool->waiting);
    if (job != NULL) {
        STAILQ_REMOVE_HEAD(&pool->waiting, queued);
        pool->waiting_count--;
        job->is_taken = true;
    }
    pthread_mutex_unlock(&pool->mutex);
    return job;
}

static void *work(void *arg) {
    struct artifact_pool *pool = arg;
    struct job *job = NULL;
    (void)pthread_setname_np(pthread_self(), "artifact");
    while ((job = take_job(pool)) != NULL) {
        job->result = artifact_fetch(pool->cache, &job->wanted, &job->progress, &job->found, &job->err);
        (void)malloc_trim(0); /* buffers of downloads are not needed again soon */
        pthread_mutex_lock(&pool->mutex);
        STAILQ_INSERT_TAIL(&pool->done, job, queued);
        (void)eventfd_write(pool->news_fd, 1);
        pthread_mutex_unlock(&pool->mutex);
    }
    return NULL;
}

/* One more thread when all are busy and there may be more; without any, an error. */
static int need_thread(struct artifact_pool *pool, struct error *err) {
    pthread_attr_t attributes;
    pthread_mutex_lock(&pool->mutex);
    bool is_needed = pool->idle_count <= pool->waiting_count && pool->thread_count < pool->threads_max;
    pthread_mutex_unlock(&pool->mutex);
    if (!is_needed) {
        return 0;
    }
    (void)pthread_attr_init(&attributes);
    (void)pthread_attr_setstacksize(&attributes, STACK_BYTES);
    int result = pthread_create(&pool->threads[pool->thread_count], &attributes, work, pool);
    (void)pthread_attr_destroy(&attributes);
    pool->thread_count += result == 0;
    return pool->thread_count > 0 ? 0 : error_set(err, ERROR_BUSY, "no thread is to be had for a fetch");
}

/* ---- the loop's side ---- */

static void finish(struct job *job) {
    struct artifact_pool *pool = job->pool;
    struct artifact_ticket *ticket = NULL;
    TAILQ_REMOVE(&pool->jobs, job, link); /* nobody joins it any more */
    pool->job_count--;
    while ((ticket = TAILQ_FIRST(&job->tickets)) != NULL) { /* callbacks may leave others */
        TAILQ_REMOVE(&job->tickets, ticket, link);
        pool->ticket_count--;
        ticket->on_done(ticket->arg, job->result == 0 ? &job->found : NULL, job->result == 0 ? NULL : &job->err);
        free(ticket);
    }
    job_free(job);
}

static struct job *next_done(struct artifact_pool *pool) {
    pthread_mutex_lock(&pool->mutex);
    struct job *job = STAILQ_FIRST(&pool->done);
    if (job != NULL) {
        STAILQ_REMOVE_HEAD(&pool->done, queued);
    }
    pthread_mutex_unlock(&pool->mutex);
    return job;
}

static void on_news(void *arg) {
    struct artifact_pool *pool = arg;
    struct job *job = NULL;
    eventfd_t count = 0;
    (void)eventfd_read(pool->news_fd, &count);
    while ((job = next_done(pool)) != NULL) {
        finish(job);
    }
}

struct artifact_pool *artifact_pool_new(struct loop *loop, struct artifact_cache *cache, unsigned threads_max) {
    struct artifact_pool *pool = xcalloc(1, sizeof(*pool));
    pool->loop = loop;
    pool->cache = cache;
    pool->threads_max = threads_max < 1 ? 1 : threads_max < THREADS_MAX ? threads_max : THREADS_MAX;
    TAILQ_INIT(&pool->jobs);
    STAILQ_INIT(&pool->waiting);
    STAILQ_INIT(&pool->done);
    (void)pthread_mutex_init(&pool->mutex, NULL);
    (void)pthread_cond_init(&pool->work, NULL);
    pool->news_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (pool->news_fd < 0) {
        (void)fprintf(stderr, "davit: cannot make a pool of fetches: no descriptors left\n");
        abort();
    }
    pool->news = watch_new(loop, pool->news_fd, on_news, pool);
    return pool;
}

void artifact_pool_free(struct artifact_pool *pool) {
    struct job *job = NULL;
    struct artifact_ticket *ticket = NULL;
    if (pool == NULL) {
        return;
    }
    TAILQ_FOREACH(job, &pool->jobs, link) {
        atomic_store(&job->progress.is_cancelled, true);
    }
    pthread_mutex_lock(&pool->mutex);
    pool->is_ending = true;
    pthread_cond_broadcast(&pool->work);
    pthread_mutex_unlock(&pool->mutex);
    for (unsigned i = 0; i < pool->thread_count; i++) {
        (void)pthread_join(pool->threads[i], NULL);
    }
    while ((job = TAILQ_FIRST(&pool->jobs)) != NULL) {
        TAILQ_REMOVE(&pool->jobs, job, link);
        while ((ticket = TAILQ_FIRST(&job->tickets)) != NULL) {
            TAILQ_REMOVE(&job->tickets, ticket, link);
            free(ticket);
        }
        job_free(job);
    }
    watch_free(pool->news);
    close(pool->news_fd);
    (void)pthread_mutex_destroy(&pool->mutex);
    (void)pthread_cond_destroy(&pool->work);
    free(pool);
}

static struct job *find_job(struct artifact_pool *pool, const char *key) {
    struct job *job = NULL;
    TAILQ_FOREACH(job, &pool->jobs, link) {
        if (strcmp(job->key, key) == 0) {
            return job;
        }
    }
    return NULL;
}

static struct job *new_job(struct artifact_pool *pool, const struct artifact_wanted *wanted, const char *key, struct error *err) {
    if (pool->job_count == ARTIFACT_POOL_WAITING_MAX) {
        error_set(err, ERROR_BUSY, "%d fetches wait already", ARTIFACT_POOL_WAITING_MAX);
        return NULL;
    }
    if (need_thread(pool, err) < 0) {
        return NULL;
    }
    struct job *job = xcalloc(1, sizeof(*job));
    job->pool = pool;
    job->result = -1;
    TAILQ_INIT(&job->tickets);
    (void)snprintf(job->key, sizeof(job->key), "%s", key);
    copy_wanted(job, wanted);
    TAILQ_INSERT_TAIL(&pool->jobs, job, link);
    pool->job_count++;
    pthread_mutex_lock(&pool->mutex);
    STAILQ_INSERT_TAIL(&pool->waiting, job, queued);
    pool->waiting_count++;
    pthread_cond_signal(&pool->work);
    pthread_mutex_unlock(&pool->mutex);
    return job;
}

struct artifact_ticket *artifact_pool_start(struct artifact_pool *pool, const struct artifact_wanted *wanted,
                                            artifact_pool_done *on_done, void *arg, struct error *err) {
    char key[HASH_HEX_BYTES];
    if (pool->ticket_count == ARTIFACT_POOL_WAITING_MAX) {
        error_set(err, ERROR_BUSY, "%d callers wait for fetches already", ARTIFACT_POOL_WAITING_MAX);
        return NULL;
    }
    key_of(wanted, key);
    struct job *job = find_job(pool, key);
    job = job != NULL ? job : new_job(pool, wanted, key, err);
    if (job == NULL) {
        return NULL;
    }
    struct artifact_ticket *ticket = xcalloc(1, sizeof(*ticket));
    ticket->job = job;
    ticket->on_done = on_done;
    ticket->arg = arg;
    TAILQ_INSERT_TAIL(&job->tickets, ticket, link);
    pool->ticket_count++;
    return ticket;
}

void artifact_ticket_leave(struct artifact_ticket *ticket) {
    if (ticket != NULL) {
        TAILQ_REMOVE(&ticket->job->tickets, ticket, link);
        ticket->job->pool->ticket_count--;
        free(ticket);
    }
}

struct artifact_ticket_state artifact_ticket_state(struct artifact_ticket *ticket) {
    struct artifact_pool *pool = ticket->job->pool;
    const struct artifact_progress *progress = &ticket->job->progress;
    struct artifact_ticket_state state = {
        .stage = (enum artifact_stage)atomic_load(&progress->stage),
        .bytes_done = atomic_load(&progress->bytes_done),
        .bytes_total = atomic_load(&progress->bytes_total),
    };
    pthread_mutex_lock(&pool->mutex);
    state.is_waiting = !ticket->job->is_taken;
    pthread_mutex_unlock(&pool->mutex);
    return state;
}

const char *artifact_ticket_words(struct artifact_ticket *ticket) {
    static const char *const words[] = {"waiting for another process", "looking what the source has", "downloading", "checking",
                                        "done"};
    struct artifact_ticket_state state = artifact_ticket_state(ticket);
    if (state.is_waiting) {
        (void)snprintf(ticket->words, sizeof(ticket->words), "waiting for other downloads");
    } else if (state.stage == ARTIFACT_DOWNLOADING && state.bytes_done > state.bytes_total) { /* nobody said how much it is */
        (void)snprintf(ticket->words, sizeof(ticket->words), "downloading, %.1f MB so far", (double)state.bytes_done / 1e6);
    } else if (state.stage == ARTIFACT_DOWNLOADING && state.bytes_total > 0) {
        (void)snprintf(ticket->words, sizeof(ticket->words), "downloading %u %% of %.1f MB",
                       artifact_percent(state.bytes_done, state.bytes_total), (double)state.bytes_total / 1e6);
    } else {
        (void)snprintf(ticket->words, sizeof(ticket->words), "%s", words[state.stage]);
    }
    return ticket->words;
}
