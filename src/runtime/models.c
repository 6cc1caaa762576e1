#include "runtime/models.h"

#include "base/file.h"
#include "base/log.h"
#include "io/url.h"
#include "runtime/model_folder.h"
#include "runtime/model_foreign.h"
#include "runtime/model_store.h"

#include <string.h>
#include <strings.h>
#include <sys/stat.h>

struct model {
    struct models *models;
    struct model_folder *folder;
    char *name;
    char *url; /* for people */
    const char *source;
    char identity[HASH_HEX_BYTES];
    enum model_state foreign;       /* another program brought it; NOT_EXIST = none did */
    bool is_there;                  /* as it was asked for */
    bool never_began;               /* the last try ended before a byte was on its way */
    struct model_record *before;    /* what the name was until this try; NULL = nothing */
    struct artifact_ticket *ticket; /* NULL = nothing is under way */
    int64_t begun_ms;
    struct error err; /* of the last try; ERROR_NONE = well */
    uint64_t bytes;
};

struct models {
    struct models_options options;
    struct map map; /* "<folder>\n<name>" -> struct model */
    LIST_HEAD(folder_list, model_folder) folders;
    size_t folder_count;
};

const char *model_state_name(enum model_state state) {
    static const char *const names[] = {[MODEL_NOT_EXIST] = "not_exist",
                                        [MODEL_DOWNLOADING] = "downloading",
                                        [MODEL_DOWNLOADED] = "downloaded",
                                        [MODEL_NO_OPERATION] = "no_operation"};
    return names[state];
}

/* ---- folders ---- */

static void drop_folder(struct models *models, struct model_folder *folder) {
    LIST_REMOVE(folder, next);
    models->folder_count--;
    model_folder_free(folder);
}

static void forget_before(struct model *model) {
    if (model->before != NULL) {
        model_record_release(model->before);
        free(model->before);
        model->before = NULL;
    }
}

static void model_free(struct model *model) {
    forget_before(model);
    free(model->name);
    free(model->url);
    free(model);
}

/* Forgets models that have ended: those of one folder, or (NULL) of any. What they left on the disk says how they are. Returns
 * whether some of the folder go on. */
static bool forget_ended(struct models *models, const struct model_folder *folder) {
    bool has_running = false;
    size_t at = 0;
    for (struct map_entry *entry; (entry = map_next(&models->map, &at)) != NULL;) {
        struct model *model = entry->value;
        bool is_concerned = folder == NULL || model->folder == folder;
        has_running |= is_concerned && model->ticket != NULL;
        if (is_concerned && model->ticket == NULL) {
            (void)map_remove(&models->map, entry->key);
            model_free(model);
        }
    }
    return has_running;
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

static struct model_folder *open_folder(struct models *models, const char *path, struct error *err) {
    struct model_folder *folder = NULL;
    LIST_FOREACH(folder, &models->folders, next) {
        if (strcmp(folder->path, path) == 0) {
            return folder;
        }
    }
    if (make_room_for_folder(models, err) < 0) {
        return NULL;
    }
    folder = model_folder_open(path, models->options.loop, models->options.artifacts, err);
    if (folder != NULL) {
        LIST_INSERT_HEAD(&models->folders, folder, next);
        models->folder_count++;
    }
    return folder;
}

/* ---- the models ---- */

struct models *models_new(const struct models_options *options) {
    struct models *models = xcalloc(1, sizeof(*models));
    models->options = *options;
    LIST_INIT(&models->folders);
    return models;
}

void models_free(struct models *models) {
    size_t at = 0;
    for (struct map_entry *entry; (entry = map_next(&models->map, &at)) != NULL;) {
        struct model *model = entry->value;
        artifact_ticket_leave(model->ticket);
        model_free(model);
    }
    map_release(&models->map);
    while (!LIST_EMPTY(&models->folders)) {
        drop_folder(models, LIST_FIRST(&models->folders));
    }
    free(models);
}

static char *key_of(const char *folder, const char *name) {
    return xasprintf("%s\n%s", folder, name);
}

static struct model *find(const struct models *models, const char *folder, const char *name) {
    cleanup_free char *key = key_of(folder, name);
    return map_get(&models->map, key);
}

static struct model *find_or_make(struct models *models, struct model_folder *folder, const char *name, struct error *err) {
    struct model *model = find(models, folder->path, name);
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
    cleanup_free char *key = key_of(folder->path, name);
    model = xcalloc(1, sizeof(*model));
    *model = (struct model){.models = models, .folder = folder, .name = xstrdup(name), .url = xstrdup(""), .source = ""};
    map_set(&models->map, key, model);
    return model;
}

/* Of all that decides which files there are; not of who may read them. */
static void identity_of(const struct model_request *request, char out[HASH_HEX_BYTES]) {
    cleanup_buffer struct buffer text = BUFFER_INIT;
    buffer_printf(&text, "%s\n%s\n%s", request->url, request->revision, request->suffixes);
    for (size_t i = 0; i < request->secrets.count; i++) {
        if (strcasestr(request->secrets.items[i].key, "endpoint") != NULL) {
            buffer_printf(&text, "\n%s", request->secrets.items[i].value);
        }
    }
    struct hash hash = hash_bytes(buffer_text(&text), text.len);
    hash_hex(&hash, out);
}

/* ---- the end of a download ---- */

static struct model_record record_of(const struct model *model, const char *object) {
    struct model_record record = {
        .name = xstrdup(model->name), .url = xstrdup(model->url), .source = xstrdup(model->source), .object = xstrdup(object)};
    memcpy(record.identity, model->identity, sizeof(record.identity));
    return record;
}

static int write_record(const struct model *model, const char *object, struct error *err) {
    struct model_record record = record_of(model, object);
    int result = model_store_write(model->folder->path, &record, err);
    model_record_release(&record);
    return result;
}

/* The name leads to the files from now on; what it led to before may go when the disk is short. */
static int keep(struct model *model, const struct artifact_found *found, struct error *err) {
    struct model_folder *folder = model->folder;
    const char *object = strrchr(found->folder, '/') + 1;
    if (model_store_link(folder->path, model->name, object, err) < 0 || write_record(model, object, err) < 0) {
        return -1;
    }
    model_folder_see_names(folder);
    return 0;
}

/* The name is what it was before. */
static void restore(struct model *model) {
    struct error err = {0};
    if (model->before == NULL) {
        model_store_forget(model->folder->path, model->name);
    } else if (model_store_write(model->folder->path, model->before, &err) < 0) {
        log_warn("model \"%s\": %s", model->name, err.message);
    }
}

static void on_fetched(void *arg, const struct artifact_found *found, const struct error *err) {
    struct model *model = arg;
    const struct models_options *options = &model->models->options;
    int64_t took_ms = loop_now_ms(options->loop) - model->begun_ms;
    struct artifact_ticket_state state = artifact_ticket_state(model->ticket);
    model->ticket = NULL;
    if (err != NULL) {
        model->err = *err;
    } else if (keep(model, found, &model->err) == 0) {
        model->is_there = true;
        model->bytes = found->bytes;
        log_info("model \"%s\": %s bytes=%llu took_ms=%lld in %s/%s", model->name, found->was_cached ? "found" : "downloaded",
                 (unsigned long long)found->bytes, (long long)took_ms, model->folder->path, model->name);
    }
    if (model->err.code != ERROR_NONE) {
        log_warn("model \"%s\": %s took_ms=%lld", model->name, model->err.message, (long long)took_ms);
        found = NULL;
    }
    model->never_began = model->err.code != ERROR_NONE && state.bytes_total == 0;
    if (model->never_began && !model->is_there) {
        restore(model);
    }
    forget_before(model);
    options->on_ended(options->arg, found, took_ms);
}

/* ---- the beginning ---- */

/* Whether what was asked for is there already. */
static bool is_there(const struct model *model) {
    struct model_record record = {0};
    bool is_same = model_store_read(model->folder->path, model->name, &record) && strcmp(record.identity, model->identity) == 0 &&
                   model_store_is_there(model->folder->path, &record);
    model_record_release(&record);
    return is_same;
}

static enum model_state state_of(enum model_foreign found) {
    return found == MODEL_FOREIGN_WHOLE ? MODEL_DOWNLOADED : found == MODEL_FOREIGN_COMING ? MODEL_DOWNLOADING : MODEL_NO_OPERATION;
}

/* What has the name and is no link of ours: 1 when it is the model, brought by another program; 0 when nothing has it; or -1. */
static int look_at_what_has_the_name(struct model *model, const struct model_request *request, struct error *err) {
    const char *source = "";
    struct stat status;
    cleanup_free char *path = path_join(model->folder->path, model->name);
    if (lstat(path, &status) < 0 || S_ISLNK(status.st_mode)) {
        return 0;
    }
    enum model_foreign found = model_foreign_look(model->folder->path, model->name, &source);
    if ((found == MODEL_FOREIGN_WHOLE || found == MODEL_FOREIGN_COMING) && strcmp(source, request->source) == 0 &&
        !request->is_forced) {
        model->foreign = state_of(found);
        return 1;
    }
    return error_set(err, ERROR_EXISTS, "%s is there, %s: expected nothing, or a link of an earlier download", path,
                     found == MODEL_FOREIGN_NONE   ? "and no model that was downloaded"
                     : found == MODEL_FOREIGN_HALF ? "and only some of the model, of another program's making"
                                                   : "of another program's making");
}

static int begin(struct model *model, const struct model_request *request, struct error *err) {
    struct model_folder *folder = model->folder;
    const struct artifact_wanted wanted = {.url = request->url,
                                           .revision = request->revision,
                                           .digest = "",
                                           .version = "",
                                           .model_suffixes = request->suffixes,
                                           .secrets = request->secrets.count > 0 ? &request->secrets : NULL};
    struct model_record before;
    model_folder_see_names(folder); /* what other processes brought meanwhile, too */
    forget_before(model);
    if (model_store_read(folder->path, model->name, &before)) {
        model->before = xmalloc(sizeof(before));
        *model->before = before;
    }
    if (!model->is_there && write_record(model, "", err) < 0) {
        return -1;
    }
    model->begun_ms = loop_now_ms(model->models->options.loop);
    model->ticket = artifact_pool_start(folder->pool, &wanted, on_fetched, model, err);
    if (model->ticket == NULL) {
        return -1;
    }
    log_info("model \"%s\": fetching %s into %s", model->name, model->url, folder->path);
    return 0;
}

int models_download(struct models *models, const struct model_request *request, struct error *err) {
    char identity[HASH_HEX_BYTES];
    struct model_folder *folder = open_folder(models, request->folder, err);
    struct model *model = folder != NULL ? find_or_make(models, folder, request->name, err) : NULL;
    if (model == NULL) {
        return -1;
    }
    identity_of(request, identity);
    if (model->ticket != NULL) {
        return strcmp(model->identity, identity) == 0
                   ? 0
                   : error_set(err, ERROR_CONFLICT, "model \"%s\" is being downloaded with another URL, revision or set of files",
                               model->name);
    }
    memcpy(model->identity, identity, sizeof(model->identity));
    free(model->url);
    model->url = url_for_people(request->url);
    model->source = request->source;
    model->err = (struct error){0};
    model->never_began = false;
    model->foreign = MODEL_NOT_EXIST;
    int found = look_at_what_has_the_name(model, request, &model->err);
    if (found != 0) {
        model->never_began = true;
        *err = model->err;
        return found < 0 ? -1 : 0;
    }
    model->is_there = is_there(model);
    if (model->is_there && !request->is_forced) {
        return 0;
    }
    if (begin(model, request, &model->err) < 0) {
        *err = model->err;
        return -1;
    }
    return 0;
}

/* ---- what there is ---- */

static struct model_status status_of(const struct model *model) {
    bool has_failed = model->err.code != ERROR_NONE;
    struct model_status status = {
        .name = model->name,
        .folder = model->folder->path,
        .source = model->source,
        .state = model->foreign != MODEL_NOT_EXIST ? model->foreign
                 : model->is_there                 ? MODEL_DOWNLOADED
                                                   : MODEL_NO_OPERATION,
        .words = has_failed ? model->err.message : "",
        .err = has_failed ? &model->err : NULL,
        .bytes_done = model->bytes,
        .bytes_total = model->bytes,
    };
    if (model->ticket != NULL) {
        struct artifact_ticket_state state = artifact_ticket_state(model->ticket);
        status.state = MODEL_DOWNLOADING;
        status.is_beginning = state.stage < ARTIFACT_DOWNLOADING;
        status.words = artifact_ticket_words(model->ticket);
        status.bytes_done = state.bytes_done;
        status.bytes_total = state.bytes_total;
    }
    return status;
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
        if (model->ticket != NULL) {
            struct model_status status = status_of(model);
            show(arg, &status);
        }
    }
}

struct listing {
    struct models *models;
    const char *folder;
    void (*show)(void *arg, const struct model_status *status);
    void *arg;
};

static void show_record(void *arg, const struct model_record *record) {
    const struct listing *listing = arg;
    const struct model *model = find(listing->models, listing->folder, record->name);
    struct model_status status = {.name = record->name, .folder = listing->folder, .source = record->source, .words = ""};
    if (model != NULL && !model->never_began) {
        status = status_of(model);
    } else {
        status.state = model_store_is_there(listing->folder, record) ? MODEL_DOWNLOADED : MODEL_NO_OPERATION;
    }
    listing->show(listing->arg, &status);
}

static void show_foreign(void *arg, const char *name, const char *source, enum model_foreign found) {
    const struct listing *listing = arg;
    const struct model_status status = {
        .name = name, .folder = listing->folder, .source = source, .state = state_of(found), .words = ""};
    listing->show(listing->arg, &status);
}

void models_each(struct models *models, const char *folder, void (*show)(void *arg, const struct model_status *status), void *arg) {
    struct listing listing = {.models = models, .folder = folder, .show = show, .arg = arg};
    model_store_each(folder, show_record, &listing);
    model_foreign_each(folder, show_foreign, &listing);
}
