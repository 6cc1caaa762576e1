#include "runtime/model_job.h"

#include "adapter/artifact_url.h"
#include "base/file.h"
#include "base/log.h"
#include "io/url.h"
#include "runtime/model_foreign.h"

#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

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

struct model_job *model_job_new(struct model_request *request, const struct artifact_options *artifacts, void *owner) {
    struct model_job *job = xcalloc(1, sizeof(*job));
    job->request = *request;
    *request = (struct model_request){0};
    job->url = url_for_people(job->request.url);
    job->artifacts = artifacts;
    job->owner = owner;
    job->lock = -1;
    identity_of(&job->request, job->identity);
    return job;
}

void model_job_free(struct model_job *job) {
    if (job == NULL) {
        return;
    }
    if (job->before != NULL) {
        model_record_release(job->before);
        free(job->before);
    }
    if (job->lock >= 0) {
        close(job->lock);
    }
    model_request_release(&job->request);
    free(job->url);
    free(job->object);
    free(job);
}

/* ---- before the fetch ---- */

/* What has the name and is no link of ours: 1 when it is the model, brought by another program; 0 when nothing has it; or -1. */
static int look_at_what_has_the_name(struct model_job *job) {
    const struct model_request *request = &job->request;
    const char *source = "";
    struct stat status;
    cleanup_free char *path = path_join(request->folder, request->name);
    if (lstat(path, &status) < 0 || S_ISLNK(status.st_mode)) {
        return 0;
    }
    enum model_foreign found = model_foreign_look(request->folder, request->name, &source);
    if ((found == MODEL_FOREIGN_WHOLE || found == MODEL_FOREIGN_COMING) && strcmp(source, request->source) == 0 &&
        !request->is_forced) {
        job->foreign = model_foreign_state(found);
        return 1;
    }
    return error_set(&job->err, ERROR_EXISTS, "%s is there, %s: expected nothing, or a link of an earlier download", path,
                     found == MODEL_FOREIGN_NONE   ? "and no model that was downloaded"
                     : found == MODEL_FOREIGN_HALF ? "and only some of the model, of another program's making"
                                                   : "of another program's making");
}

static void read_before(struct model_job *job) {
    struct model_record before;
    if (model_store_read(job->request.folder, job->request.name, &before)) {
        job->before = xmalloc(sizeof(before));
        *job->before = before;
        job->is_there = strcmp(before.identity, job->identity) == 0 && model_store_is_there(job->request.folder, &before);
    }
}

static int write_record(struct model_job *job, const char *object) {
    struct model_record record = {
        .name = job->request.name, .url = job->url, .source = (char *)job->request.source, .object = (char *)object};
    memcpy(record.identity, job->identity, sizeof(record.identity));
    return model_store_write(job->request.folder, &record, &job->err);
}

static void begin(struct model_job *job) {
    if (job->folder == NULL) {
        job->folder = model_folder_open(job->request.folder, job->artifacts, &job->err);
        job->is_folder_new = job->folder != NULL;
    }
    if (job->folder == NULL) {
        return;
    }
    model_folder_see_names(job->folder); /* what other processes brought meanwhile, too */
    job->is_to_be_fetched = job->is_there || write_record(job, "") == 0;
    job->lock = job->is_to_be_fetched ? model_store_begin(job->request.folder, job->request.name) : -1;
}

/* What lies on this machine is used where it is. */
static void look_at_local(struct model_job *job, const char *path) {
    struct stat status;
    if (stat(path, &status) == 0) {
        job->foreign = MODEL_DOWNLOADED;
    } else {
        error_set(&job->err, ERROR_NOT_FOUND, "model_uri: there is no %s on this machine", path);
    }
}

void model_job_prepare(struct disk_job *disk) {
    struct model_job *job = (struct model_job *)disk;
    const char *local = artifact_local_path(job->request.url);
    if (local != NULL) {
        look_at_local(job, local);
        return;
    }
    if (look_at_what_has_the_name(job) != 0) {
        return;
    }
    read_before(job);
    if (!job->is_there || job->request.is_forced) {
        begin(job);
    }
}

/* ---- after the fetch ---- */

static void restore(struct model_job *job) {
    struct error err = {0};
    if (job->before == NULL) {
        model_store_forget(job->request.folder, job->request.name);
    } else if (model_store_write(job->request.folder, job->before, &err) < 0) {
        log_warn("model \"%s\": %s", job->request.name, err.message);
    }
}

void model_job_keep(struct disk_job *disk) {
    struct model_job *job = (struct model_job *)disk;
    if (job->object == NULL) {
        restore(job);
    } else if (model_store_link(job->request.folder, job->request.name, job->object, &job->err) == 0 &&
               write_record(job, job->object) == 0) {
        job->is_there = true;
        model_folder_see_names(job->folder);
    }
}
