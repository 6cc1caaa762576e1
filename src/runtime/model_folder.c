#include "runtime/model_folder.h"

#include "base/file.h"
#include "runtime/model_store.h"

#define MODEL_BYTES_MAX (16ull << 40) /* the disk is what counts */
#define MODEL_TIMEOUT_MS (24 * 3600 * 1000LL)
#define MODEL_PARTS 8

struct model_folder *model_folder_open(const char *path, const struct artifact_options *artifacts, struct error *err) {
    if (file_make_dirs(path, 0755, err) < 0) {
        return NULL;
    }
    struct model_folder *folder = xcalloc(1, sizeof(*folder));
    folder->path = xstrdup(path);
    folder->cache_path = model_store_cache(path);
    folder->options = *artifacts;
    folder->options.cache = folder->cache_path;
    folder->options.cache_bytes_max = 0; /* what a name leads to stays */
    folder->options.artifact_bytes_max = MODEL_BYTES_MAX;
    folder->options.timeout_ms = MODEL_TIMEOUT_MS;
    folder->options.parts = MODEL_PARTS;
    folder->cache = artifact_cache_open(&folder->options, err);
    if (folder->cache == NULL) {
        model_folder_free(folder);
        return NULL;
    }
    return folder;
}

void model_folder_start(struct model_folder *folder, struct loop *loop) {
    folder->pool = artifact_pool_new(loop, folder->cache, MODEL_FETCHES_MAX);
}

void model_folder_free(struct model_folder *folder) {
    if (folder == NULL) {
        return;
    }
    artifact_pool_free(folder->pool);
    artifact_cache_close(folder->cache);
    size_t at = 0;
    for (struct map_entry *entry; (entry = map_next(&folder->used, &at)) != NULL;) {
        free(entry->value);
    }
    map_release(&folder->used);
    free(folder->path);
    free(folder->cache_path);
    free(folder);
}

/* ---- what must stay ---- */

/* As the cache names it, so that it knows it again. */
static char *object_folder(const struct model_folder *folder, const char *object) {
    cleanup_free char *cache = realpath(folder->cache_path, NULL);
    return xasprintf("%s/v1/objects/%s", cache != NULL ? cache : folder->cache_path, object);
}

static void see_record(void *arg, const struct model_record *record) {
    struct model_folder *folder = arg;
    char object[MODEL_OBJECT_BYTES];
    if (!model_store_leads_to(folder->path, record->name, object)) {
        return;
    }
    unsigned *round = map_get(&folder->used, object);
    if (round == NULL) {
        cleanup_free char *path = object_folder(folder, object);
        artifact_cache_use(folder->cache, path);
        round = xcalloc(1, sizeof(*round));
        map_set(&folder->used, object, round);
    }
    *round = folder->round;
}

void model_folder_see_names(struct model_folder *folder) {
    folder->round++;
    model_store_each(folder->path, see_record, folder);
    size_t at = 0;
    for (struct map_entry *entry; (entry = map_next(&folder->used, &at)) != NULL;) {
        unsigned *round = entry->value;
        if (*round != folder->round) {
            cleanup_free char *path = object_folder(folder, entry->key);
            artifact_cache_unuse(folder->cache, path);
            (void)map_remove(&folder->used, entry->key);
            free(round);
        }
    }
}
