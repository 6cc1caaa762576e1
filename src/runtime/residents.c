#include "runtime/residents.h"

#include <string.h>

struct resident {
    char *folder;
    uint64_t change; /* when it was told; compared with the list's */
    bool is_listed;
};

struct holding {
    size_t count;
};

void residents_init(struct residents *residents, struct artifact_cache *cache) {
    *residents = (struct residents){.cache = cache};
}

void residents_hold(struct residents *residents, const char *folder) {
    struct holding *holding = map_get(&residents->folders, folder);
    if (holding == NULL) {
        holding = xcalloc(1, sizeof(*holding));
        map_set(&residents->folders, folder, holding);
        artifact_cache_use(residents->cache, folder);
    }
    holding->count++;
}

void residents_let_go(struct residents *residents, const char *folder) {
    struct holding *holding = map_get(&residents->folders, folder);
    if (holding != NULL && --holding->count == 0) {
        artifact_cache_unuse(residents->cache, folder);
        free(map_remove(&residents->folders, folder));
    }
}

static void forget(struct residents *residents, const char *name) {
    struct resident *resident = map_remove(&residents->names, name);
    if (resident != NULL) {
        residents_let_go(residents, resident->folder);
        free(resident->folder);
        free(resident);
    }
}

static void remember(struct residents *residents, const char *name, const char *folder) {
    struct resident *before = map_get(&residents->names, name);
    if (before != NULL && strcmp(before->folder, folder) == 0) {
        before->change = residents->changes;
        before->is_listed = true;
        return;
    }
    struct resident *resident = xcalloc(1, sizeof(*resident));
    *resident = (struct resident){.folder = xstrdup(folder), .change = residents->changes, .is_listed = true};
    residents_hold(residents, folder); /* before the old one is let go: it may be the same */
    forget(residents, name);
    map_set(&residents->names, name, resident);
}

void residents_set(struct residents *residents, const char *name, const char *folder) {
    residents->changes++;
    if (folder != NULL && artifact_cache_holds(residents->cache, folder)) {
        remember(residents, name, folder);
    } else {
        forget(residents, name);
    }
}

void residents_see(struct residents *residents, const struct dialect_models *models, uint64_t changes_before) {
    struct map_entry *entry;
    size_t at = 0;
    while ((entry = map_next(&residents->names, &at)) != NULL) {
        struct resident *resident = entry->value;
        resident->is_listed = resident->change > changes_before;
    }
    for (size_t i = 0; i < models->count; i++) {
        const struct dialect_model *model = &models->items[i];
        const struct resident *known = map_get(&residents->names, model->id);
        bool is_newer = known != NULL && known->change > changes_before;
        if (model->parent != NULL && !is_newer && artifact_cache_holds(residents->cache, model->root)) {
            remember(residents, model->id, model->root);
        }
    }
    at = 0;
    while ((entry = map_next(&residents->names, &at)) != NULL) {
        if (!((struct resident *)entry->value)->is_listed) {
            cleanup_free char *name = xstrdup(entry->key);
            forget(residents, name);
        }
    }
}

void residents_release(struct residents *residents) {
    struct map_entry *entry;
    size_t at = 0;
    while ((entry = map_next(&residents->names, &at)) != NULL) {
        cleanup_free char *name = xstrdup(entry->key);
        forget(residents, name);
    }
    map_release(&residents->names);
    at = 0;
    while ((entry = map_next(&residents->folders, &at)) != NULL) {
        artifact_cache_unuse(residents->cache, entry->key);
        free(entry->value);
    }
    map_release(&residents->folders);
}
