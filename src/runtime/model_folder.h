/* A folder of base models that this process downloads into: its cache, the threads that fetch, and what must stay in it. */
#ifndef DAVIT_RUNTIME_MODEL_FOLDER_H
#define DAVIT_RUNTIME_MODEL_FOLDER_H

#include "artifact/cache/cache.h"
#include "artifact/pool.h"
#include "base/map.h"

#include <sys/queue.h>

#define MODEL_FETCHES_MAX 2 /* at a time, of a folder; further ones wait */

struct model_folder {
    LIST_ENTRY(model_folder) next;
    char *path;
    char *cache_path;
    struct artifact_options options;
    struct artifact_cache *cache;
    struct artifact_pool *pool;
    struct map used; /* object -> the round in which a name led to it; the disk thread's */
    unsigned round;
};

/* Makes the folder when it is missing. `artifacts`: as of adapters; cache and sizes are models' own. May block. */
struct model_folder *model_folder_open(const char *path, const struct artifact_options *artifacts, struct error *err);
/* Lets it fetch. On the loop. */
void model_folder_start(struct model_folder *folder, struct loop *loop);
void model_folder_free(struct model_folder *folder); /* NULL is fine; what runs is cancelled */

/* What names lead to, whoever brought it, is in use: no download makes room of it. What they no longer lead to may go.
 * May block. */
void model_folder_see_names(struct model_folder *folder);

#endif
