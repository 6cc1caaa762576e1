#include "runtime/models.h"

#include "adapter/artifact_url.h"
#include "base/log.h"
#include "runtime/model_job.h"
#include "runtime/model_listing.h"

#include <string.h>

/* What runs has a job. */
struct model {
    struct models *models;
    char *path; /* of its folder */
    char *name;
    const char *source;
    char identity[HASH_HEX_BYTES];
    struct model_folder *folder; /* NULL = it was not needed yet */
    char *root;                  /* of one that lies on this machine; NULL = its name below the folder */
    struct model_job *job;
    struct artifact_ticket *ticket;
    int64_t begun_ms;
    /* as of the last try */
    enum model_state foreign;
    bool is_there;
    bool never_began; /* not a byte was on its way */
    struct error err; /* ERROR_NONE = well */
    uint64_t bytes;
};

struct models {
    struct models_options options;
    struct disk_thread *disk;
    struct map map; /* "<folder>\n<name>" -> struct model */
    LIST_HEAD(folder_list, model_folder) folders;
    size_t folder_count;
    size_t listing_count;
};

const char *model_state_name(enum model_state state) {
    static const char *const names[] = {[MODEL_NOT_EXIST] = "not_exist",
                                        [MODEL_DOWNLOADING] = "downloading",
                                        [MODEL_DOWNLOADED] = "downloaded",
                                        [MODEL_NO_OPERATION] = "no_operation"};
    return names[state];
}

static void model_free(struct model *model) {
    artifact_ticket_leave(model->ticket);
    model_job_free(model->job);
    free(model->root);
    free(model->path);
    free(model->name);
    free(model);
}

struct models *models_new(const struct models_options *options) {
    struct models *models = xcalloc(1, sizeof(*models));
    models->options = *options;
    models->disk = disk_thread_new(options->loop);
    LIST_INIT(&models->folders);
    return models;
}

static void drop_folder(struct models *models, struct model_folder *folder) {
    LIST_REMOVE(folder, next);
    models->folder_count--;
    model_folder_free(folder);
}

void models_free(struct models *models) {
    size_t at = 0;
    disk_thread_free(models->disk);
    for (struct map_entry *entry; (entry = map_next(&models->map, &at)) != NULL;) {
        model_free(entry->value);
    }
    map_release(&models->map);
    while (!LIST_EMPTY(&models->folders)) {
        drop_folder(models, LIST_FIRST(&models->folders));
    }
    free(models);
}

/* ---- what is remembered ---- */

/* Forgets models that have ended: those of one folder, or (NULL) of any. What they left on the disk says how they are. Returns
 * whether some of the folder go on. */
static bool forget_ended(struct models *models, const struct model_folder *folder) {
    bool has_running = false;
    size_t at = 0;
    for (struct map_entry *entry; (entry = map_next(&models->map, &at)) != NULL;) {
        struct model *model = entry->value;
        bool is_concerned = folder == NULL || model->folder == folder;
        has_running |= is_concerned && model->job != NULL;
        if (is_concerned && model->job == NULL) {
            (void)map_remove(&models->map, entry->key);
            model_free(model);
        }
    }
    return has_running;
}

static char *key_of(const char *folder, const char *name) {
    return xasprintf("%s\n%s", folder, name);
}

static struct model *find(const struct models *models, const char *folder, const char *name) {
    cleanup_free char *key = key_of(folder, name);
    return map_get(&models->map, key);
}

static struct model *find_or_make(struct models *models, const struct model_request *request, struct error *err) {
    struct model *model = find(models, request->folder, request->name);
    if (model != NULL) {
        return model;
    }
    if (models->map.count >= MODELS_MAX) {
        (void)forget_ended(models, NULL);
    }
    if (models->map.count >= MODELS_MAX) {
        error_set(err, ERROR_BUSY, "%d models are being downloaded already", MODELS_MAX);
        return NULL;
    }
    cleanup_free char *key = key_of(request->folder, request->name);
    model = xcalloc(1, sizeof(*model));
    *model = (struct model){
        .models = models, .path = xstrdup(request->folder), .name = xstrdup(request->name), .source = request->source};
    map_set(&models->map, key, model);
    return model;
}

/* ---- folders ---- */

static struct model_folder *find_folder(const struct models *models, const char *path) {
    struct model_folder *folder = NULL;
    LIST_FOREACH(folder, &models->folders, next) {
        if (strcmp(folder->path, path) == 0) {
            break;
        }
    }
    return folder;
}

static int make_room_for_folder(struct models *models, struct error *err) {
    struct model_folder *folder = NULL;
    struct model_folder *next = NULL;
    for (folder = LIST_FIRST(&models->folders); folder != NULL && models->folder_count >= MODEL_FOLDERS_MAX; folder = next) {
        next = LIST_NEXT(folder, next);
        if (!forget_ended(models, folder)) {
            drop_folder(models, folder);
        }
    }
    return models->folder_count < MODEL_FOLDERS_MAX
               ? 0
               : error_set(err, ERROR_BUSY, "models are being downloaded into %d folders already", MODEL_FOLDERS_MAX);
}

/* The folder that a job has opened becomes everybody's, unless another job was as quick. */
static void adopt_folder(struct models *models, struct model_job *job) {
    struct model_folder *known = find_folder(models, job->folder->path);
    job->is_folder_new = false;
    if (known == NULL && make_room_for_folder(models, &job->err) == 0) {
        model_folder_start(job->folder, models->options.loop);
        LIST_INSERT_HEAD(&models->folders, job->folder, next);
        models->folder_count++;
        return;
    }
    model_folder_free(job->folder);
    job->folder = known;
}

/* ---- the end of a try ---- */

static void end(struct model *model) {
    const struct models_options *options = &model->models->options;
    struct model_job *job = take_pointer(model->job);
    model->err = job->err;
    model->is_there = job->is_there;
    model->foreign = job->foreign;
    if (job->is_to_be_fetched) {
        long long took_ms = (long long)(loop_now_ms(options->loop) - model->begun_ms);
        bool is_well = job->err.code == ERROR_NONE;
        model->bytes = is_well ? job->bytes : model->bytes;
        if (is_well) {
            log_info("model \"%s\": %s bytes=%llu took_ms=%lld in %s/%s", model->name, job->was_cached ? "found" : "downloaded",
                     (unsigned long long)job->bytes, took_ms, model->path, model->name);
        } else {
            log_warn("model \"%s\": %s took_ms=%lld", model->name, job->err.message, took_ms);
        }
        options->on_ended(options->arg, is_well, job->was_cached);
    }
    model_job_free(job);
    options->on_change(options->arg);
}

static void on_kept(struct disk_job *disk) {
    end(((struct model_job *)disk)->owner);
}

static void on_dropped(struct disk_job *disk) {
    struct model_job *job = (struct model_job *)disk;
    if (job->is_folder_new) {
        model_folder_free(job->folder);
    }
}

static void keep(struct model *model) {
    model->job->disk = (struct disk_job){.work = model_job_keep, .on_done = on_kept, .on_drop = on_dropped};
    disk_thread_do(model->models->disk, &model->job->disk);
}

static void on_fetched(void *arg, const struct artifact_found *found, const struct error *err) {
    struct model *model = arg;
    struct model_job *job = model->job;
    struct artifact_ticket_state state = artifact_ticket_state(model->ticket);
    model->ticket = NULL;
    model->never_began = err != NULL && state.bytes_total == 0;
    if (err != NULL) {
        job->err = *err;
    } else {
        job->object = xstrdup(strrchr(found->folder, '/') + 1);
        job->bytes = found->bytes;
        job->was_cached = found->was_cached;
    }
    if (err == NULL || (model->never_began && !job->is_there)) {
        keep(model);
    } else {
        end(model);
    }
}

/* ---- the beginning ---- */

static void fetch(struct model *model) {
    struct model_job *job = model->job;
    const struct model_request *request = &job->request;
    const struct artifact_wanted wanted = {.url = request->url,
                                           .revision = request->revision,
                                           .digest = "",
                                           .version = "",
                                           .model_suffixes = request->suffixes,
                                           .secrets = request->secrets.count > 0 ? &request->secrets : NULL};
    model->ticket = artifact_pool_start(model->folder->pool, &wanted, on_fetched, model, &job->err);
    if (model->ticket == NULL) {
        model->never_began = true;
        keep(model);
        return;
    }
    log_info("model \"%s\": fetching %s into %s", model->name, job->url, model->path);
}

static void on_prepared(struct disk_job *disk) {
    struct model_job *job = (struct model_job *)disk;
    struct model *model = job->owner;
    if (job->is_folder_new) {
        adopt_folder(model->models, job);
    }
    model->folder = job->folder;
    model->never_began = job->err.code != ERROR_NONE;
    if (job->is_to_be_fetched && job->folder != NULL) {
        fetch(model);
    } else if (job->is_to_be_fetched) {
        keep(model); /* nothing but the note that it was begun is there */
    } else {
        end(model);
    }
}

int models_download(struct models *models, struct model_request *request, struct error *err) {
    struct model *model = find_or_make(models, request, err);
    if (model == NULL) {
        model_request_release(request);
        return -1;
    }
    struct model_job *job = model_job_new(request, models->options.artifacts, model);
    if (model->job != NULL) {
        bool is_same = strcmp(model->identity, job->identity) == 0;
        model_job_free(job);
        return is_same ? 0
                       : error_set(err, ERROR_CONFLICT,
                                   "model \"%s\" is being downloaded with another URL, revision or set of files", model->name);
    }
    memcpy(model->identity, job->identity, sizeof(model->identity));
    const char *root = artifact_local_path(job->request.url);
    free(model->root);
    model->root = root != NULL ? xstrdup(root) : NULL;
    model->source = job->request.source;
    model->begun_ms = loop_now_ms(models->options.loop);
    model->err = (struct error){0};
    model->job = job;
    job->folder = find_folder(models, model->path);
    model->folder = job->folder; /* it stays while somebody needs it */
    job->disk = (struct disk_job){.work = model_job_prepare, .on_done = on_prepared, .on_drop = on_dropped};
    disk_thread_do(models->disk, &job->disk);
    return 0;
}

/* ---- what there is ---- */

static struct model_status status_of_running(const struct model *model) {
    struct model_status status = {.name = model->name,
                                  .folder = model->path,
                                  .root = model->root,
                                  .source = model->source,
                                  .state = MODEL_DOWNLOADING,
                                  .is_beginning = true,
                                  .words = "looking what is there"};
    if (model->ticket != NULL) {
        struct artifact_ticket_state state = artifact_ticket_state(model->ticket);
        status.is_beginning = state.stage < ARTIFACT_DOWNLOADING;
        status.words = artifact_ticket_words(model->ticket);
        status.bytes_done = state.bytes_done;
        status.bytes_total = state.bytes_total;
    }
    return status;
}

static struct model_status status_of(const struct model *model) {
    bool has_failed = model->err.code != ERROR_NONE;
    if (model->job != NULL) {
        return status_of_running(model);
    }
    return (struct model_status){
        .name = model->name,
        .folder = model->path,
        .root = model->root,
        .source = model->source,
        .state = model->foreign != MODEL_NOT_EXIST ? model->foreign
                 : model->is_there                 ? MODEL_DOWNLOADED
                                                   : MODEL_NO_OPERATION,
        .words = has_failed ? model->err.message : "",
        .err = has_failed ? &model->err : NULL,
        .bytes_done = model->is_there ? model->bytes : 0,
        .bytes_total = model->is_there ? model->bytes : 0,
    };
}

bool models_look(struct models *models, const char *folder, const char *name, struct model_status *ret) {
    const struct model *model = find(models, folder, name);
    if (model != NULL) {
        *ret = status_of(model);
    }
    return model != NULL;
}

void models_each_running(struct models *models, void (*show)(void *arg, const struct model_status *status), void *arg) {
    size_t at = 0;
    for (struct map_entry *entry; (entry = map_next(&models->map, &at)) != NULL;) {
        const struct model *model = entry->value;
        if (model->job != NULL) {
            struct model_status status = status_of(model);
            show(arg, &status);
        }
    }
}

/* ---- lists ---- */

struct models_listing {
    struct model_listing disk; /* first */
    struct models *models;
    void (*show)(void *arg, const struct model_status *status); /* NULL = nobody waits any more */
    void *arg;
};

/* This process knows better than the disk what it is doing. */
static struct model_status status_of_row(const struct models_listing *listing, const struct model_row *row) {
    const struct model *model = find(listing->models, listing->disk.folder, row->name);
    if (model != NULL && model->job != NULL) {
        return status_of(model);
    }
    struct model_status status = {
        .name = row->name, .folder = listing->disk.folder, .source = row->source, .state = row->state, .words = ""};
    if (model != NULL && !model->never_began) {
        status.words = model->err.code != ERROR_NONE ? model->err.message : "";
        status.bytes_done = status.bytes_total = row->state == MODEL_DOWNLOADED ? model->bytes : 0;
    }
    return status;
}

static void listing_free(struct disk_job *disk) {
    struct models_listing *listing = (struct models_listing *)disk;
    listing->models->listing_count--;
    model_listing_release(&listing->disk);
    free(listing);
}

static void on_looked(struct disk_job *disk) {
    struct models_listing *listing = (struct models_listing *)disk;
    for (size_t i = 0; i < listing->disk.count && listing->show != NULL; i++) {
        struct model_status status = status_of_row(listing, &listing->disk.rows[i]);
        listing->show(listing->arg, &status);
    }
    if (listing->show != NULL) {
        listing->show(listing->arg, NULL);
    }
    listing_free(disk);
}

struct models_listing *models_list(struct models *models, const char *folder,
                                   void (*show)(void *arg, const struct model_status *status), void *arg, struct error *err) {
    if (models->listing_count == MODEL_LISTINGS_MAX) {
        error_set(err, ERROR_BUSY, "%d lists of models wait for the disk already", MODEL_LISTINGS_MAX);
        return NULL;
    }
    models->listing_count++;
    struct models_listing *listing = xcalloc(1, sizeof(*listing));
    listing->models = models;
    listing->show = show;
    listing->arg = arg;
    listing->disk.folder = xstrdup(folder);
    listing->disk.disk = (struct disk_job){.work = model_listing_look, .on_done = on_looked, .on_drop = listing_free};
    disk_thread_do(models->disk, &listing->disk.disk);
    return listing;
}

void models_listing_leave(struct models_listing *listing) {
    listing->show = NULL;
}
