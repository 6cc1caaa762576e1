/* What lies in the cache: shown, read again, removed. */
#include "artifact/cache/store.h"
#include "artifact/digests.h"
#include "artifact/folders.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#define STAGING_SECONDS_MAX (24 * 3600) /* of a download that nobody went on with */
#define NEW_SECONDS_MAX 3600            /* that writing a small file takes */
#define ENTRIES_MAX 1000000

/* ---- the list ---- */

struct listing {
    struct artifact_cache *cache;
    struct artifact_cache_list *list;
};

static int add_entry(void *arg, const char *name) {
    struct listing *listing = arg;
    struct artifact_cache_list *list = listing->list;
    struct manifest manifest = {0};
    struct stat status;
    if (!manifest_is_id(name) || list->count == ENTRIES_MAX ||
        fstatat(listing->cache->objects_fd, name, &status, AT_SYMLINK_NOFOLLOW) < 0) {
        return 0;
    }
    /* One that is not whole is shown too: it can be removed. */
    bool is_whole = cache_read_object(listing->cache, name, &manifest, NULL) == 0;
    if ((list->count & (list->count - 1)) == 0) { /* grows by doubling */
        list->items = xrealloc(list->items, (list->count == 0 ? 1 : 2 * list->count) * sizeof(list->items[0]));
    }
    struct artifact_cache_entry *entry = &list->items[list->count++];
    *entry = (struct artifact_cache_entry){
        .folder = cache_object_folder(listing->cache, name),
        .url = xstrdup(is_whole ? manifest.url : ""),
        .version = xstrdup(is_whole ? manifest.version : ""),
        .bytes = is_whole ? manifest.bytes : folder_bytes(listing->cache->objects_fd, name),
        .used_s = status.st_mtim.tv_sec,
        .is_in_use = cache_is_used(listing->cache, name),
    };
    (void)snprintf(entry->id, sizeof(entry->id), "%s", name);
    (void)snprintf(entry->digest, sizeof(entry->digest), "%s", manifest.digest);
    list->bytes += entry->bytes;
    manifest_release(&manifest);
    return 0;
}

static int by_age(const void *a, const void *b) {
    const struct artifact_cache_entry *left = a, *right = b;
    return left->used_s < right->used_s ? -1 : left->used_s > right->used_s ? 1 : strcmp(left->id, right->id);
}

int artifact_cache_list(struct artifact_cache *cache, struct artifact_cache_list *ret, struct error *err) {
    struct artifact_cache_list list = {0};
    struct listing listing = {.cache = cache, .list = &list};
    (void)err;
    (void)folder_each(cache->objects_fd, add_entry, &listing);
    if (list.count > 0) {
        qsort(list.items, list.count, sizeof(list.items[0]), by_age);
    }
    list.staging_bytes = folder_bytes(cache->root_fd, "staging");
    *ret = list;
    return 0;
}

void artifact_cache_list_release(struct artifact_cache_list *list) {
    for (size_t i = 0; i < list->count; i++) {
        free(list->items[i].folder);
        free(list->items[i].url);
        free(list->items[i].version);
    }
    free(list->items);
    *list = (struct artifact_cache_list){0};
}

/* ---- reading again ---- */

static int verify_file(const struct artifact_cache_entry *entry, int folder, const struct manifest_file *file, struct error *err) {
    uint64_t bytes = 0;
    char found[HASH_HEX_BYTES];
    cleanup_close int fd = folder_open_file(folder, file->name, &bytes, err);
    if (fd < 0 || digests_of_file(fd, NULL, NULL, found, err) < 0) {
        return error_wrap(err, "%s", entry->folder);
    }
    return strcmp(found, file->sha256) == 0 ? 0
                                            : error_set(err, ERROR_INVALID, "%s/%s: expected SHA-256 %s, found %s", entry->folder,
                                                        file->name, file->sha256, found);
}

int artifact_cache_verify(struct artifact_cache *cache, const struct artifact_cache_entry *entry, struct error *err) {
    struct manifest manifest = {0};
    if (cache_read_object(cache, entry->id, &manifest, err) < 0) {
        return -1;
    }
    cleanup_close int folder = folder_open(cache->objects_fd, entry->id, 0, err);
    int result = folder < 0 ? -1 : 0;
    for (size_t i = 0; i < manifest.count && result == 0; i++) {
        result = verify_file(entry, folder, &manifest.files[i], err);
    }
    manifest_release(&manifest);
    return result;
}

/* ---- removing ---- */

struct removal {
    struct artifact_cache *cache;
    const char *id;
    char *trash;
    struct error *err;
};

static int move_to_trash(void *arg) {
    struct removal *removal = arg;
    removal->trash = folder_new_name(CACHE_TRASH_PREFIX);
    if (renameat(removal->cache->objects_fd, removal->id, removal->cache->staging_fd, removal->trash) < 0) {
        return error_set_errno(removal->err, "%s/objects/%s", removal->cache->root, removal->id);
    }
    return 0;
}

/* 1 removed, 0 in use or gone. Removed is what has no name: it takes a moment until its bytes are free. */
static int remove_object(struct artifact_cache *cache, const char *id, struct error *err) {
    struct removal removal = {.cache = cache, .id = id, .err = err};
    int result = cache_unless_used(cache, id, move_to_trash, &removal);
    if (result == 1) {
        (void)folder_remove(cache->staging_fd, removal.trash, NULL);
    }
    free(removal.trash);
    return result;
}

struct sweep {
    struct artifact_cache *cache;
    time_t now;
    time_t before; /* of a download's last change */
};

/* Downloads that nobody went on with, and what removals left that were killed. */
static int sweep_staging(void *arg, const char *name) {
    const struct sweep *sweep = arg;
    struct stat status;
    if (strncmp(name, CACHE_TRASH_PREFIX, strlen(CACHE_TRASH_PREFIX)) == 0) {
        (void)folder_remove(sweep->cache->staging_fd, name, NULL);
        return 0;
    }
    if (!manifest_is_id(name) || fstatat(sweep->cache->staging_fd, name, &status, AT_SYMLINK_NOFOLLOW) < 0 ||
        status.st_mtim.tv_sec > sweep->before) {
        return 0;
    }
    cleanup_close int lock = cache_try_lock(sweep->cache, name, NULL);
    if (lock >= 0) {
        (void)folder_remove(sweep->cache->staging_fd, name, NULL);
    }
    return 0;
}

static int sweep_lock(void *arg, const char *name) {
    const struct sweep *sweep = arg;
    struct stat status;
    if (fstatat(sweep->cache->staging_fd, name, &status, AT_SYMLINK_NOFOLLOW) == 0 || errno != ENOENT) {
        return 0;
    }
    cleanup_close int lock = cache_try_lock(sweep->cache, name, NULL);
    if (lock >= 0) {
        (void)unlinkat(sweep->cache->locks_fd, name, 0);
    }
    return 0;
}

static int sweep_record(void *arg, const char *name) {
    const struct sweep *sweep = arg;
    char key[CACHE_KEY_BYTES];
    (void)snprintf(key, sizeof(key), "%.32s", name);
    if (strlen(name) != CACHE_KEY_BYTES - 1 + 5 || !manifest_is_id(key)) {
        return 0;
    }
    if (cache_leads_nowhere(sweep->cache, key)) {
        (void)unlinkat(sweep->cache->sources_fd, name, 0);
    }
    return 0;
}

/* Files that were to replace others, of processes that were killed. Before there were such names they began with a dot too. */
static int sweep_new(void *arg, const char *name) {
    const struct sweep *sweep = arg;
    struct stat status;
    if (name[0] == '.' && fstatat(sweep->cache->sources_fd, name, &status, AT_SYMLINK_NOFOLLOW) == 0 &&
        status.st_mtim.tv_sec <= sweep->now - NEW_SECONDS_MAX) {
        (void)unlinkat(sweep->cache->sources_fd, name, 0);
    }
    return 0;
}

int artifact_cache_prune(struct artifact_cache *cache, uint64_t bytes_max, uint64_t *ret_freed_bytes, struct error *err) {
    struct artifact_cache_list list = {0};
    time_t now = time(NULL);
    struct sweep sweep = {.cache = cache, .now = now, .before = now - (bytes_max == 0 ? 0 : STAGING_SECONDS_MAX)};
    int removed = 0;
    *ret_freed_bytes = 0;
    (void)folder_each(cache->staging_fd, sweep_staging, &sweep);
    (void)folder_each(cache->sources_fd, sweep_new, &sweep);
    if (artifact_cache_list(cache, &list, err) < 0) {
        return -1;
    }
    uint64_t kept = list.bytes;
    for (size_t i = 0; i < list.count && kept > bytes_max; i++) {
        if (!list.items[i].is_in_use && remove_object(cache, list.items[i].id, err) == 1) {
            kept -= list.items[i].bytes;
            *ret_freed_bytes += list.items[i].bytes;
            removed++;
        }
    }
    artifact_cache_list_release(&list);
    if (removed > 0) {
        (void)folder_each(cache->sources_fd, sweep_record, &sweep);
        (void)folder_each(cache->locks_fd, sweep_lock, &sweep);
    }
    return removed;
}
