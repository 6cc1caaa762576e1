/* The steps of a job: fetch, load, look at the list, unload. Each ends in the next or in loader_job_finish. */
#include "runtime/loader_job.h"

#include <string.h>

#define ENGINE_WORDS_MAX 1024 /* of its answer that are repeated */

static void load_on_engine(struct job *job);

/* ---- ends ---- */

static void finish_with_error(struct job *job, bool is_engines, int status, const char *reason, const char *message) {
    loader_job_finish(job,
                      &(struct loader_result){.status = status, .is_engines = is_engines, .reason = reason, .message = message});
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

static void finish_well(struct job *job, bool was_not_loaded, const char *words) {
    cleanup_free char *some = xstrndup(words, strnlen(words, ENGINE_WORDS_MAX));
    struct residents *residents = job->options->residents;
    if (!job->is_unload) {
        residents_set(residents, job->name, job->path);
    } else if (!job->keeps_files) {
        residents_set(residents, job->name, NULL);
    }
    loader_job_finish(job, &(struct loader_result){
                               .status = 200,
                               .was_not_loaded = was_not_loaded,
                               .reason = "",
                               .message = some,
                               .path = job->path,
                               .version = job->version != NULL ? job->version : "",
                               .digest = job->digest != NULL ? job->digest : "",
                           });
}

/* What could not be fetched. A version that is no longer there is a condition that failed (412): 409 means a name that is taken. */
static void finish_without_files(struct job *job) {
    static const struct {
        enum error_code code;
        int status;
        const char *reason;
    } rows[] = {
        {ERROR_NOT_FOUND, 404, "ArtifactNotFound"},
        {ERROR_UNAUTHORIZED, 401, "ArtifactUnauthorized"},
        {ERROR_DENIED, 403, "ArtifactForbidden"},
        {ERROR_CONFLICT, 412, "ArtifactChanged"},
        {ERROR_LIMIT, 413, "ArtifactTooLarge"},
        {ERROR_UNSUPPORTED, 501, "ArtifactUnsupported"},
        {ERROR_UNAVAILABLE, 503, "ArtifactUnavailable"},
        {ERROR_TIMEOUT, 504, "ArtifactTimeout"},
        {ERROR_BUSY, 429, "Busy"},
        {ERROR_IO, 500, "DiskError"},
        {ERROR_INVALID, 400, "ArtifactInvalid"},
    };
    const struct error err = job->fetch_error;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if (rows[i].code == err.code) {
            finish_with_error(job, false, rows[i].status, rows[i].reason, err.message);
            return;
        }
    }
    finish_with_error(job, false, 500, "ArtifactError", err.message);
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
    dialect_classify_unload(job->options->engine->dialect, response->status, response->body, response->body_len, &answer);
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
    dialect_unload(job->options->engine->dialect, job->name, &request);
    job->transfer = engine_call(job->options->engine, &request, job->authorization, ENGINE_LOAD_TIMEOUT_MS, on_unloaded, job);
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
    dialect_classify_load(job->options->engine->dialect, response->status, response->body, response->body_len, &answer);
    if (answer.outcome == DIALECT_DONE) {
        finish_well(job, false, response->body);
    } else if (answer.outcome == DIALECT_ALREADY_LOADED) {
        struct dialect_request request;
        dialect_list(job->options->engine->dialect, &request);
        job->transfer = engine_call(job->options->engine, &request, job->authorization, ENGINE_LIST_TIMEOUT_MS, on_listed, job);
    } else {
        finish_with_refusal(job, response->status, &answer);
    }
}

static void load_on_engine(struct job *job) {
    struct dialect_request request;
    dialect_load(job->options->engine->dialect, &(struct dialect_load){.name = job->name, .path = job->path}, &request);
    job->transfer = engine_call(job->options->engine, &request, job->authorization, ENGINE_LOAD_TIMEOUT_MS, on_loaded, job);
}

/* ---- fetch ---- */

static void on_fetched(void *arg, const struct artifact_found *found, const struct error *err) {
    struct job *job = arg;
    const struct loader_options *options = job->options;
    job->ticket = NULL;
    options->on_fetched(options->arg, err == NULL ? found : NULL, loop_now_ms(options->loop) - job->begun_ms);
    if (err != NULL) {
        job->fetch_error = *err;
    } else {
        job->path = xstrdup(found->folder);
        job->version = xstrdup(found->version != NULL ? found->version : "");
        job->digest = xstrdup(found->digest);
        job->is_held = true;
        residents_hold(options->residents, job->path);
    }
    if (job->is_its_turn) {
        job_start(job);
    }
}

int job_fetch(struct job *job, const struct artifact_wanted *wanted, struct error *err) {
    job->ticket = artifact_pool_start(job->options->pool, wanted, on_fetched, job, err);
    return job->ticket != NULL ? 0 : -1;
}

void job_start(struct job *job) {
    job->is_its_turn = true;
    if (job->is_unload) {
        unload_on_engine(job);
    } else if (job->fetch_error.code != ERROR_NONE) {
        finish_without_files(job);
    } else if (job->ticket == NULL) {
        load_on_engine(job);
    }
}

void job_cancel(struct job *job) {
    if (job->ticket != NULL) {
        artifact_ticket_leave(job->ticket);
    }
    if (job->transfer != NULL) {
        transfer_cancel(job->transfer);
    }
}
