/* The base models of a folder as the disk shows them. */
#ifndef DAVIT_RUNTIME_MODEL_LISTING_H
#define DAVIT_RUNTIME_MODEL_LISTING_H

#include "runtime/disk_thread.h"
#include "runtime/models.h"

#define MODEL_ROWS_MAX 4096

struct model_row {
    char *name;
    char *source;
    enum model_state state; /* DOWNLOADED; NO_OPERATION: it was begun; DOWNLOADING: somebody is at it */
};

struct model_listing {
    struct disk_job disk; /* first; its work is model_listing_look */
    char *folder;
    struct model_row *rows;
    size_t count;
};

void model_listing_look(struct disk_job *disk);
void model_listing_release(struct model_listing *listing);

#endif
