#include "runtime/loader.h"

#include "base/map.h"
#include "runtime/loader_job.h"

#include <string.h>

#define OUTCOMES_MAX 256
#define OUTCOME_MS (60 * 1000)

struct loader_waiter {
    struct job *job;
    loader_done *on_done;
    void *arg;
    LIST_ENTRY(loader_waiter) next;
};

TAILQ_HEAD(job_list, job);

/* The jobs of a name; the first one has its turn. */
struct name_queue {
    struct job_list jobs;
};

/* What a job failed with that nobody waited for. */
struct outcome {
    struct hash identity;
    int64_t until_ms;
    struct loader_result result; /* reason is static */
    char *message;
};

struct loader {
    struct loader_options options;
    struct map queues;    /* name -> name_queue */
    struct map revisions; /* name -> revision (owned) */
    struct map outcomes;  /* name -> outcome */
    struct job_list told; /* jobs that end at the next turn of the loop, with an outcome that is known */
    struct timer telling;
    size_t job_count;
};

static void free_outcome(struct outcome *outcome) {
    if (outcome != NULL) {
        free(outcome->message);
        free(outcome);
    }
}

/* ---- the end of a job ---- */

static void free_job(struct job *job) {
    struct loader_waiter *waiter;
    while ((waiter = LIST_FIRST(&job->waiters)) != NULL) {
        LIST_REMOVE(waiter, next);
        free(waiter);
    }
    if (job->is_held) {
        residents_let_go(job->options->residents, job->path);
    }
    free(job->name);
    free(job->path);
    free(job->authorization);
    free(job->revision);
    free(job->version);
    free(job->digest);
    free(job);
}

static void tell(struct job *job, const struct loader_result *result) {
    struct loader_waiter *waiter;
    while ((waiter = LIST_FIRST(&job->waiters)) != NULL) {
        LIST_REMOVE(waiter, next);
        waiter->on_done(waiter->arg, result);
        free(waiter);
    }
}

static void keep_revision(struct job *job) {
    struct map *revisions = &job->loader->revisions;
    free(map_remove(revisions, job->name));
    if (job->revision != NULL && revisions->count < LOADER_REVISIONS_MAX) {
        map_set(revisions, job->name, take_pointer(job->revision));
    }
}

static void drop_old_outcomes(struct loader *loader) {
    size_t at = 0;
    for (struct map_entry *entry; (entry = map_next(&loader->outcomes, &at)) != NULL;) {
        if (((struct outcome *)entry->value)->until_ms <= loop_now_ms(loader->options.loop)) {
            cleanup_free char *name = xstrdup(entry->key);
            free_outcome(map_remove(&loader->outcomes, name));
        }
    }
}

static void keep_outcome(struct job *job, const struct loader_result *result) {
    struct loader *loader = job->loader;
    drop_old_outcomes(loader);
    free_outcome(map_remove(&loader->outcomes, job->name));
    if (job->waiter_count == 0 && result->status != 200 && loader->outcomes.count < OUTCOMES_MAX) {
        struct outcome *outcome = xcalloc(1, sizeof(*outcome));
        outcome->identity = job->identity;
        outcome->until_ms = loop_now_ms(loader->options.loop) + OUTCOME_MS;
        outcome->result = *result;
        outcome->message = xstrdup(result->message);
        outcome->result.message = outcome->message;
        map_set(&loader->outcomes, job->name, outcome);
    }
}

void loader_job_finish(struct job *job, const struct loader_result *result) {
    struct loader *loader = job->loader;
    struct name_queue *queue = map_get(&loader->queues, job->name);
    TAILQ_REMOVE(&queue->jobs, job, next);
    loader->job_count--;
    if (result->status == 200) {
        keep_revision(job); /* an unload has none */
    }
    keep_outcome(job, result);
    struct job *following = TAILQ_FIRST(&queue->jobs);
    if (following == NULL) {
        map_remove(&loader->queues, job->name);
        free(queue);
    }
    tell(job, result);
    free_job(job);
    if (following != NULL) {
        job_start(following);
    }
}

/* ---- callers ---- */

static void add_part(struct buffer *all, const char *part) {
    buffer_printf(all, "%zu:", part != NULL ? strlen(part) + 1 : 0); /* so that no two lists of parts make one text */
    buffer_append_text(all, part != NULL ? part : "");
}

static struct hash identity_of(const struct loader_job *job) {
    const struct artifact_wanted *wanted = job->wanted;
    cleanup_buffer struct buffer all = BUFFER_INIT;
    buffer_printf(&all, "%d %d %d ", job->is_unload, job->keeps_files, wanted != NULL ? wanted->max_rank : -1);
    const char *const parts[] = {job->path,
                                 job->authorization,
                                 job->revision,
                                 wanted != NULL ? wanted->url : NULL,
                                 wanted != NULL ? wanted->revision : NULL,
                                 wanted != NULL ? wanted->digest : NULL,
                                 wanted != NULL ? wanted->version : NULL};
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        add_part(&all, parts[i]);
    }
    for (size_t i = 0; wanted != NULL && wanted->secrets != NULL && i < wanted->secrets->count; i++) {
        add_part(&all, wanted->secrets->items[i].key);
        add_part(&all, wanted->secrets->items[i].value);
    }
    struct hash hash = hash_bytes(all.data, all.len);
    explicit_bzero(all.data, all.len);
    return hash;
}

static bool is_same(const struct hash *a, const struct hash *b) {
    return memcmp(a->bytes, b->bytes, HASH_BYTES) == 0;
}

static struct job *new_job(struct loader *loader, const struct loader_job *wanted, const struct hash *identity) {
    struct job *job = xcalloc(1, sizeof(*job));
    job->loader = loader;
    job->options = &loader->options;
    job->identity = *identity;
    job->is_unload = wanted->is_unload;
    job->keeps_files = wanted->keeps_files;
    job->name = xstrdup(wanted->name);
    job->path = wanted->path != NULL && wanted->wanted == NULL ? xstrdup(wanted->path) : NULL;
    job->authorization = wanted->authorization != NULL ? xstrdup(wanted->authorization) : NULL;
    job->revision = wanted->revision != NULL ? xstrdup(wanted->revision) : NULL;
    job->begun_ms = loop_now_ms(loader->options.loop);
    LIST_INIT(&job->waiters);
    return job;
}

static struct loader_waiter *add_waiter(struct job *job, loader_done *on_done, void *arg) {
    struct loader_waiter *waiter = xcalloc(1, sizeof(*waiter));
    *waiter = (struct loader_waiter){.job = job, .on_done = on_done, .arg = arg};
    LIST_INSERT_HEAD(&job->waiters, waiter, next);
    job->waiter_count++;
    return waiter;
}

/* Ends jobs whose outcome is known. */
static void on_telling(void *arg) {
    struct loader *loader = arg;
    struct job *job;
    while ((job = TAILQ_FIRST(&loader->told)) != NULL) {
        struct outcome *outcome = map_remove(&loader->outcomes, job->name);
        bool is_its = outcome != NULL && is_same(&outcome->identity, &job->identity);
        TAILQ_REMOVE(&loader->told, job, next);
        loader->job_count--;
        tell(job, is_its
                      ? &outcome->result
                      : &(struct loader_result){.status = 503, .reason = "Busy", .message = "another caller was told: ask again"});
        free_outcome(outcome);
        free_job(job);
    }
}

/* NULL: nothing is known of such a job. */
static struct loader_waiter *submit_to_outcome(struct loader *loader, const struct loader_job *wanted, const struct hash *identity,
                                               loader_done *on_done, void *arg) {
    drop_old_outcomes(loader);
    const struct outcome *outcome = map_get(&loader->outcomes, wanted->name);
    if (outcome == NULL || !is_same(&outcome->identity, identity)) {
        return NULL;
    }
    struct job *job = NULL;
    TAILQ_FOREACH(job, &loader->told, next) {
        if (is_same(&job->identity, identity) && strcmp(job->name, wanted->name) == 0) {
            break;
        }
    }
    if (job == NULL) {
        job = new_job(loader, wanted, identity);
        TAILQ_INSERT_TAIL(&loader->told, job, next);
        loader->job_count++;
        timer_set(&loader->telling, 0);
    }
    return add_waiter(job, on_done, arg);
}

static struct name_queue *queue_of(struct loader *loader, const char *name) {
    struct name_queue *queue = map_get(&loader->queues, name);
    if (queue == NULL) {
        queue = xcalloc(1, sizeof(*queue));
        TAILQ_INIT(&queue->jobs);
        map_set(&loader->queues, name, queue);
    }
    return queue;
}

/* A new job at the end of its queue. */
static struct loader_waiter *submit_new(struct loader *loader, const struct loader_job *wanted, const struct hash *identity,
                                        loader_done *on_done, void *arg, struct error *err) {
    if (loader->job_count >= LOADER_JOBS_MAX) {
        error_set(err, ERROR_BUSY, "busy: %d loads and unloads are waiting already", LOADER_JOBS_MAX);
        return NULL;
    }
    struct job *job = new_job(loader, wanted, identity);
    if (wanted->wanted != NULL && job_fetch(job, wanted->wanted, err) < 0) {
        free_job(job);
        return NULL;
    }
    struct name_queue *queue = queue_of(loader, wanted->name);
    bool is_first = TAILQ_EMPTY(&queue->jobs);
    TAILQ_INSERT_TAIL(&queue->jobs, job, next);
    loader->job_count++;
    struct loader_waiter *waiter = add_waiter(job, on_done, arg);
    if (is_first) {
        job_start(job);
    }
    return waiter;
}

struct loader_waiter *loader_submit(struct loader *loader, const struct loader_job *wanted, loader_done *on_done, void *arg,
                                    struct error *err) {
    struct hash identity = identity_of(wanted);
    struct name_queue *queue = map_get(&loader->queues, wanted->name);
    /* Only the last job of a name may be shared: what a caller asks for must still hold after all that were asked before. */
    struct job *last = queue != NULL ? TAILQ_LAST(&queue->jobs, job_list) : NULL;
    if (last != NULL && is_same(&last->identity, &identity)) {
        if (last->waiter_count >= LOADER_WAITERS_MAX) {
            error_set(err, ERROR_BUSY, "busy: %d callers wait for adapter \"%s\" already", LOADER_WAITERS_MAX, wanted->name);
            return NULL;
        }
        return add_waiter(last, on_done, arg);
    }
    struct loader_waiter *waiter = queue == NULL ? submit_to_outcome(loader, wanted, &identity, on_done, arg) : NULL;
    return waiter != NULL ? waiter : submit_new(loader, wanted, &identity, on_done, arg, err);
}

void loader_leave(struct loader_waiter *waiter) {
    LIST_REMOVE(waiter, next);
    waiter->job->waiter_count--;
    free(waiter);
}

/* ---- what is shown ---- */

const char *loader_words(const struct loader_waiter *waiter, const char **ret_state) {
    const struct job *job = waiter->job;
    *ret_state = job->ticket != NULL ? "downloading" : job->is_its_turn ? "loading" : "waiting";
    if (job->ticket != NULL) {
        return artifact_ticket_words(job->ticket);
    }
    return job->is_its_turn ? "the engine is loading it" : "waiting for what was asked before";
}

void loader_show_fetches(const struct loader *loader, void (*show)(void *arg, const char *name, const char *words), void *arg) {
    size_t at = 0;
    for (struct map_entry *entry; (entry = map_next(&loader->queues, &at)) != NULL;) {
        struct name_queue *queue = entry->value;
        struct job *job;
        TAILQ_FOREACH(job, &queue->jobs, next) {
            if (job->ticket != NULL) {
                show(arg, job->name, artifact_ticket_words(job->ticket));
            }
        }
    }
}

void loader_show_revisions(const struct loader *loader, void (*show)(void *arg, const char *name, const char *revision),
                           void *arg) {
    size_t at = 0;
    for (struct map_entry *entry; (entry = map_next(&loader->revisions, &at)) != NULL;) {
        show(arg, entry->key, entry->value);
    }
}

size_t loader_running(const struct loader *loader) {
    return loader->job_count;
}

/* ---- the loader ---- */

struct loader *loader_new(const struct loader_options *options) {
    struct loader *loader = xcalloc(1, sizeof(*loader));
    loader->options = *options;
    TAILQ_INIT(&loader->told);
    timer_init(&loader->telling, options->loop, on_telling, loader);
    return loader;
}

static void free_jobs(struct job_list *jobs) {
    struct job *job;
    while ((job = TAILQ_FIRST(jobs)) != NULL) {
        TAILQ_REMOVE(jobs, job, next);
        job_cancel(job);
        free_job(job);
    }
}

void loader_free(struct loader *loader) {
    size_t at = 0;
    for (struct map_entry *entry; (entry = map_next(&loader->queues, &at)) != NULL;) {
        free_jobs(&((struct name_queue *)entry->value)->jobs);
        free(entry->value);
    }
    free_jobs(&loader->told);
    timer_release(&loader->telling);
    map_release(&loader->queues);
    at = 0;
    for (struct map_entry *entry; (entry = map_next(&loader->revisions, &at)) != NULL;) {
        free(entry->value);
    }
    map_release(&loader->revisions);
    at = 0;
    for (struct map_entry *entry; (entry = map_next(&loader->outcomes, &at)) != NULL;) {
        free_outcome(entry->value);
    }
    map_release(&loader->outcomes);
    free(loader);
}
