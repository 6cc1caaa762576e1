#include "runtime/loader.h"

#include "base/map.h"

#include <string.h>
#include <sys/queue.h>

#define ENGINE_WORDS_MAX 1024 /* of its answer that are repeated */

struct loader_waiter {
    struct job *job;
    loader_done *on_done;
    void *arg;
    LIST_ENTRY(loader_waiter) next;
};

struct job {
    struct loader *loader;
    bool is_unload;
    char *name;
    char *path;
    char *authorization;
    char *revision;
    LIST_HEAD(waiter_list, loader_waiter) waiters;
    size_t waiter_count;
    struct check *check; /* what runs: at most one of the two */
    struct transfer *transfer;
    bool is_second_load; /* after another root was unloaded, or the name vanished */
    TAILQ_ENTRY(job) next;
};

TAILQ_HEAD(job_list, job);

/* The jobs of a name; the first one runs. */
struct name_queue {
    struct job_list jobs;
};

struct loader {
    const struct engine_client *engine;
    struct check_thread *checks;
    struct map queues;    /* name -> name_queue */
    struct map revisions; /* name -> revision (owned) */
    size_t job_count;
};

static void start_job(struct job *job);
static void load_on_engine(struct job *job);

struct loader *loader_new(const struct engine_client *engine, struct check_thread *checks) {
    struct loader *loader = xcalloc(1, sizeof(*loader));
    loader->engine = engine;
    loader->checks = checks;
    return loader;
}

size_t loader_running(const struct loader *loader) {
    return loader->job_count;
}

/* ---- the end of a job ---- */

static void free_job(struct job *job) {
    struct loader_waiter *waiter;
    while ((waiter = LIST_FIRST(&job->waiters)) != NULL) {
        LIST_REMOVE(waiter, next);
        free(waiter);
    }
    free(job->name);
    free(job->path);
    free(job->authorization);
    free(job->revision);
    free(job);
}

static void finish(struct job *job, const struct loader_result *result) {
    struct loader *loader = job->loader;
    struct name_queue *queue = map_get(&loader->queues, job->name);
    TAILQ_REMOVE(&queue->jobs, job, next);
    loader->job_count--;
    struct job *following = TAILQ_FIRST(&queue->jobs);
    if (following == NULL) {
        map_remove(&loader->queues, job->name);
        free(queue);
    }
    struct loader_waiter *waiter;
    while ((waiter = LIST_FIRST(&job->waiters)) != NULL) {
        LIST_REMOVE(waiter, next);
        waiter->on_done(waiter->arg, result);
        free(waiter);
    }
    free_job(job);
    if (following != NULL) {
        start_job(following);
    }
}

static void finish_with_error(struct job *job, bool is_engines, int status, const char *reason, const char *message) {
    finish(job, &(struct loader_result){.status = status, .is_engines = is_engines, .reason = reason, .message = message});
}

/* The engine gave no answer. */
static void finish_without_answer(struct job *job, const struct error *err) {
    finish_with_error(job, true, err->code == ERROR_TIMEOUT ? 504 : 502, dialect_outcome_name(DIALECT_UNREACHABLE), err->message);
}

/* The engine refused. What will never work is 4xx (newer vLLM says 500 there, which callers would retry); a switched-off feature is
 * 501, not the 404 that means "no such artifact". */
static void finish_with_refusal(struct job *job, int status, const struct dialect_answer *answer) {
    const char *reason = dialect_outcome_name(answer->outcome);
    if (answer->outcome == DIALECT_DISABLED) {
        cleanup_free char *message = xasprintf("the engine does not load adapters at run time: LoRA is not enabled, or "
                                               "VLLM_ALLOW_RUNTIME_LORA_UPDATING is not set there (%s)",
                                               answer->message);
        finish_with_error(job, true, 501, reason, message);
        return;
    }
    if (status < 400 || (answer->outcome == DIALECT_PERMANENT && status >= 500)) {
        status = answer->outcome == DIALECT_PERMANENT ? 400 : 502;
    }
    finish_with_error(job, true, status, reason, answer->message);
}

static void keep_revision(struct job *job) {
    struct map *revisions = &job->loader->revisions;
    free(map_remove(revisions, job->name));
    if (job->revision != NULL && revisions->count < LOADER_REVISIONS_MAX) {
        map_set(revisions, job->name, take_pointer(job->revision));
    }
}

void loader_show_revisions(const struct loader *loader, void (*show)(void *arg, const char *name, const char *revision),
                           void *arg) {
    size_t at = 0;
    for (struct map_entry *entry; (entry = map_next(&loader->revisions, &at)) != NULL;) {
        show(arg, entry->key, entry->value);
    }
}

static void finish_well(struct job *job, bool was_not_loaded, const char *words) {
    keep_revision(job); /* an unload has none */
    cleanup_free char *some = xstrndup(words, strnlen(words, ENGINE_WORDS_MAX));
    finish(job, &(struct loader_result){.status = 200, .was_not_loaded = was_not_loaded, .reason = "", .message = some});
}

/* ---- unload ---- */

static void on_unloaded(void *arg, const struct transfer_response *response, const struct error *err) {
    struct job *job = arg;
    job->transfer = NULL;
    if (err != NULL) {
        finish_without_answer(job, err);
        return;
    }
    struct dialect_answer answer;
    dialect_classify_unload(job->loader->engine->dialect, response->status, response->body, response->body_len, &answer);
    bool is_gone = answer.outcome == DIALECT_DONE || answer.outcome == DIALECT_NOT_LOADED;
    if (!is_gone) {
        finish_with_refusal(job, response->status, &answer);
    } else if (job->is_unload) {
        finish_well(job, answer.outcome == DIALECT_NOT_LOADED, response->body);
    } else {
        load_on_engine(job);
    }
}

static void unload_on_engine(struct job *job) {
    struct dialect_request request;
    dialect_unload(job->loader->engine->dialect, job->name, &request);
    job->transfer = engine_call(job->loader->engine, &request, job->authorization, ENGINE_LOAD_TIMEOUT_MS, on_unloaded, job);
}

/* ---- load ---- */

static bool is_same_path(const char *a, const char *b) {
    size_t a_len = strlen(a);
    size_t b_len = strlen(b);
    while (a_len > 1 && a[a_len - 1] == '/') {
        a_len--;
    }
    while (b_len > 1 && b[b_len - 1] == '/') {
        b_len--;
    }
    return a_len == b_len && memcmp(a, b, a_len) == 0;
}

static void finish_with_conflict(struct job *job) {
    cleanup_free char *message =
        xasprintf("the name \"%s\" is taken on the engine by something that cannot be replaced", job->name);
    finish_with_error(job, true, 409, "NameConflict", message);
}

static const struct dialect_model *find_model(const struct dialect_models *models, const char *name) {
    for (size_t i = 0; i < models->count; i++) {
        if (strcmp(models->items[i].id, name) == 0) {
            return &models->items[i];
        }
    }
    return NULL;
}

/* The name was taken: by what? */
static void on_listed(void *arg, const struct transfer_response *response, const struct error *err) {
    struct job *job = arg;
    job->transfer = NULL;
    struct dialect_models models = {0};
    struct error bad = {0};
    if (err != NULL) {
        finish_without_answer(job, err);
        return;
    }
    if (response->status != 200 || dialect_parse_models(response->body, response->body_len, &models, &bad) < 0) {
        finish_with_error(job, true, response->status >= 400 ? response->status : 502, "EngineListFailed",
                          "the engine says that the adapter is loaded already, but its list of models cannot be read");
        return;
    }
    const struct dialect_model *model = find_model(&models, job->name);
    if (model != NULL && is_same_path(model->root, job->path)) {
        finish_well(job, false, "Success: the engine has this adapter from this path already.");
    } else if (job->is_second_load) {
        finish_with_conflict(job);
    } else {
        job->is_second_load = true;
        if (model != NULL) {
            unload_on_engine(job);
        } else {
            load_on_engine(job); /* it has just been unloaded */
        }
    }
    dialect_models_release(&models);
}

static void on_loaded(void *arg, const struct transfer_response *response, const struct error *err) {
    struct job *job = arg;
    job->transfer = NULL;
    if (err != NULL) {
        finish_without_answer(job, err);
        return;
    }
    struct dialect_answer answer;
    dialect_classify_load(job->loader->engine->dialect, response->status, response->body, response->body_len, &answer);
    if (answer.outcome == DIALECT_DONE) {
        finish_well(job, false, response->body);
    } else if (answer.outcome == DIALECT_ALREADY_LOADED) {
        struct dialect_request request;
        dialect_list(job->loader->engine->dialect, &request);
        job->transfer = engine_call(job->loader->engine, &request, job->authorization, ENGINE_LIST_TIMEOUT_MS, on_listed, job);
    } else {
        finish_with_refusal(job, response->status, &answer);
    }
}

static void load_on_engine(struct job *job) {
    struct dialect_request request;
    dialect_load(job->loader->engine->dialect, &(struct dialect_load){.name = job->name, .path = job->path}, &request);
    job->transfer = engine_call(job->loader->engine, &request, job->authorization, ENGINE_LOAD_TIMEOUT_MS, on_loaded, job);
}

static void on_checked(void *arg, int result, const struct error *err) {
    struct job *job = arg;
    job->check = NULL;
    if (result < 0) {
        bool is_missing = err->code == ERROR_NOT_FOUND;
        int status = is_missing || err->code == ERROR_IO ? err->http_status : 400; /* also what is over a limit: it will stay so */
        finish_with_error(job, false, status, is_missing ? "ArtifactNotFound" : "ArtifactInvalid", err->message);
        return;
    }
    load_on_engine(job);
}

static void start_job(struct job *job) {
    if (job->is_unload) {
        unload_on_engine(job);
    } else if (job->path[0] == '/') {
        job->check = check_start(job->loader->checks, job->path, on_checked, job);
    } else {
        load_on_engine(job); /* a repository's name, for the engine to fetch */
    }
}

/* ---- callers ---- */

static bool is_equal_or_both_null(const char *a, const char *b) {
    return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

/* Only the last job of a name may be shared: what a caller asks for must still hold after all that were asked before. */
static struct job *find_shared(const struct name_queue *queue, const struct loader_job *wanted) {
    struct job *last = queue != NULL ? TAILQ_LAST(&queue->jobs, job_list) : NULL;
    bool is_same = last != NULL && last->is_unload == wanted->is_unload && is_equal_or_both_null(last->path, wanted->path) &&
                   is_equal_or_both_null(last->authorization, wanted->authorization) &&
                   is_equal_or_both_null(last->revision, wanted->revision);
    return is_same ? last : NULL;
}

static struct job *add_job(struct loader *loader, struct name_queue *queue, const struct loader_job *wanted) {
    struct job *job = xcalloc(1, sizeof(*job));
    job->loader = loader;
    job->is_unload = wanted->is_unload;
    job->name = xstrdup(wanted->name);
    job->path = wanted->path != NULL ? xstrdup(wanted->path) : NULL;
    job->authorization = wanted->authorization != NULL ? xstrdup(wanted->authorization) : NULL;
    job->revision = wanted->revision != NULL ? xstrdup(wanted->revision) : NULL;
    LIST_INIT(&job->waiters);
    TAILQ_INSERT_TAIL(&queue->jobs, job, next);
    loader->job_count++;
    return job;
}

struct loader_waiter *loader_submit(struct loader *loader, const struct loader_job *wanted, loader_done *on_done, void *arg,
                                    struct error *err) {
    struct name_queue *queue = map_get(&loader->queues, wanted->name);
    struct job *job = find_shared(queue, wanted);
    if (job == NULL && loader->job_count >= LOADER_JOBS_MAX) {
        error_set(err, ERROR_BUSY, "busy: %d loads and unloads are waiting already", LOADER_JOBS_MAX);
        return NULL;
    }
    if (job != NULL && job->waiter_count >= LOADER_WAITERS_MAX) {
        error_set(err, ERROR_BUSY, "busy: %d callers wait for adapter \"%s\" already", LOADER_WAITERS_MAX, wanted->name);
        return NULL;
    }
    bool is_first = queue == NULL;
    if (is_first) {
        queue = xcalloc(1, sizeof(*queue));
        TAILQ_INIT(&queue->jobs);
        map_set(&loader->queues, wanted->name, queue);
    }
    if (job == NULL) {
        job = add_job(loader, queue, wanted);
    }
    struct loader_waiter *waiter = xcalloc(1, sizeof(*waiter));
    *waiter = (struct loader_waiter){.job = job, .on_done = on_done, .arg = arg};
    LIST_INSERT_HEAD(&job->waiters, waiter, next);
    job->waiter_count++;
    if (is_first) {
        start_job(job);
    }
    return waiter;
}

void loader_leave(struct loader_waiter *waiter) {
    LIST_REMOVE(waiter, next);
    waiter->job->waiter_count--;
    free(waiter);
}

void loader_free(struct loader *loader) {
    size_t at = 0;
    for (struct map_entry *entry; (entry = map_next(&loader->queues, &at)) != NULL;) {
        struct name_queue *queue = entry->value;
        struct job *job;
        while ((job = TAILQ_FIRST(&queue->jobs)) != NULL) {
            TAILQ_REMOVE(&queue->jobs, job, next);
            if (job->check != NULL) {
                check_cancel(job->check);
            }
            if (job->transfer != NULL) {
                transfer_cancel(job->transfer);
            }
            free_job(job);
        }
        free(queue);
    }
    map_release(&loader->queues);
    at = 0;
    for (struct map_entry *entry; (entry = map_next(&loader->revisions, &at)) != NULL;) {
        free(entry->value);
    }
    map_release(&loader->revisions);
    free(loader);
}
