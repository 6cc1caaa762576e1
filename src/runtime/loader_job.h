/* A job of the loader: what both halves know. loader.c keeps the queues and the callers; load_steps.c takes a job from step to step
 * and ends it with loader_job_finish. */
#ifndef DAVIT_RUNTIME_LOADER_JOB_H
#define DAVIT_RUNTIME_LOADER_JOB_H

#include "base/hash.h"
#include "runtime/loader.h"

#include <sys/queue.h>

struct job {
    struct loader *loader;
    const struct loader_options *options; /* the loader's */
    struct hash identity;                 /* of all that was asked */
    bool is_unload;
    bool keeps_files;
    bool is_its_turn;
    char *name;
    char *path; /* what the engine is given; NULL until it was fetched */
    char *authorization;
    char *revision;
    LIST_HEAD(waiter_list, loader_waiter) waiters;
    size_t waiter_count;
    struct artifact_ticket *ticket; /* what runs: at most one of the two */
    struct transfer *transfer;
    int64_t begun_ms;
    struct error fetch_error; /* ERROR_NONE = it was not tried, goes on, or went well */
    char *version;
    char *digest;
    bool is_held;        /* `path`, among the residents */
    bool is_second_load; /* after another root was unloaded, or the name vanished */
    TAILQ_ENTRY(job) next;
};

/* Begins the fetch; the job waits for its turn meanwhile. ERROR_BUSY. */
int job_fetch(struct job *job, const struct artifact_wanted *wanted, struct error *err) DAVIT_MUST_USE;
/* It is the job's turn. */
void job_start(struct job *job);
void job_cancel(struct job *job);

/* The job is gone afterwards, and the next one of its name started. */
void loader_job_finish(struct job *job, const struct loader_result *result);

#endif
