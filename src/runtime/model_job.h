/* One try to have a base model: what is wanted, and what the disk's side of it finds and does. The functions may block, and are
 * called on runtime/disk_thread.h's thread, one after another; between them the job is the loop's. */
#ifndef DAVIT_RUNTIME_MODEL_JOB_H
#define DAVIT_RUNTIME_MODEL_JOB_H

#include "runtime/disk_thread.h"
#include "runtime/model_folder.h"
#include "runtime/model_request.h"
#include "runtime/model_store.h"
#include "runtime/models.h"

struct model_job {
    struct disk_job disk;
    void *owner;
    struct model_request request;
    char *url; /* for people */
    char identity[HASH_HEX_BYTES];
    const struct artifact_options *artifacts;
    struct model_folder *folder; /* NULL = nobody has opened it yet */
    bool is_folder_new;          /* prepare opened it: the loop's to keep or to free */
    /* what prepare found */
    bool is_there;            /* as it was asked for */
    enum model_state foreign; /* another program brought it; NOT_EXIST = none did */
    bool is_to_be_fetched;
    int lock;                    /* of model_store_begin; -1 = none */
    struct model_record *before; /* what the name was until now; NULL = nothing */
    /* what the fetch found */
    char *object; /* NULL = it failed: the name is what it was before */
    uint64_t bytes;
    bool was_cached;
    struct error err; /* ERROR_NONE = well */
};

/* Takes what is in the request. */
struct model_job *model_job_new(struct model_request *request, const struct artifact_options *artifacts, void *owner);
void model_job_free(struct model_job *job); /* not the folder */

/* Looks at what has the name. When it is to be fetched, the folder is opened, and it is noted that it was begun. */
void model_job_prepare(struct disk_job *disk);
/* The name leads to the object from now on; what it led to before may go when the disk is short. */
void model_job_keep(struct disk_job *disk);

#endif
