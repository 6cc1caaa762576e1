/* Who uses which object. Within this process by counting; between processes by read locks on one byte of v1/uses an object, of the
 * kind that belongs to the open file ("open file description locks", fcntl(2)), so that a process which dies uses nothing. */
#include "artifact/cache/store.h"

#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#define HOLD_MS 600000 /* as long as a caller may take from artifact_fetch to artifact_cache_use */

struct use {
    unsigned count;
    int64_t held_until_ms; /* 0 = not held */
};

/* The byte that stands for an object. Two objects on one byte would only be kept longer. */
static off_t byte_of(const char *id) {
    off_t at = 0;
    for (int i = 0; i < 15; i++) { /* 60 bits */
        char digit = id[i];
        at = at << 4 | (digit <= '9' ? digit - '0' : digit - 'a' + 10);
    }
    return at;
}

static int lock_byte(int fd, const char *id, short type, bool waits) {
    struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_start = byte_of(id), .l_len = 1};
    int result = 0;
    do {
        result = fcntl(fd, waits ? F_OFD_SETLKW : F_OFD_SETLK, &lock);
    } while (result < 0 && errno == EINTR);
    return result;
}

/* With the mutex held. */
static struct use *use_of(struct artifact_cache *cache, const char *id) {
    struct use *use = map_get(&cache->uses, id);
    if (use == NULL) {
        use = xcalloc(1, sizeof(*use));
        (void)map_set(&cache->uses, id, use);
        (void)lock_byte(cache->uses_fd, id, F_RDLCK, true); /* whoever removes it now is quick */
    }
    return use;
}

/* With the mutex held. */
static void drop_what_is_over(struct artifact_cache *cache) {
    struct map_entry *entry = NULL;
    int64_t now_ms = clock_now_ms();
    for (size_t at = 0; (entry = map_next(&cache->uses, &at)) != NULL;) {
        struct use *use = entry->value;
        if (use->count == 0 && use->held_until_ms <= now_ms) {
            (void)lock_byte(cache->uses_fd, entry->key, F_UNLCK, false);
            (void)map_remove(&cache->uses, entry->key);
            free(use);
        }
    }
}

void cache_hold(struct artifact_cache *cache, const char *id) {
    pthread_mutex_lock(&cache->mutex);
    use_of(cache, id)->held_until_ms = clock_now_ms() + HOLD_MS;
    drop_what_is_over(cache);
    pthread_mutex_unlock(&cache->mutex);
}

bool cache_id_of(const struct artifact_cache *cache, const char *path, char out[OBJECT_ID_BYTES]) {
    size_t root_len = strlen(cache->root);
    if (strncmp(path, cache->root, root_len) != 0 || strncmp(path + root_len, "/objects/", 9) != 0) {
        return false;
    }
    const char *id = path + root_len + 9;
    size_t len = strcspn(id, "/");
    if (len != OBJECT_ID_BYTES - 1) {
        return false;
    }
    (void)snprintf(out, OBJECT_ID_BYTES, "%.32s", id);
    return manifest_is_id(out);
}

void artifact_cache_use(struct artifact_cache *cache, const char *folder) {
    char id[OBJECT_ID_BYTES];
    if (!cache_id_of(cache, folder, id)) {
        return;
    }
    pthread_mutex_lock(&cache->mutex);
    struct use *use = use_of(cache, id);
    use->count++;
    use->held_until_ms = 0;
    drop_what_is_over(cache);
    pthread_mutex_unlock(&cache->mutex);
}

void artifact_cache_unuse(struct artifact_cache *cache, const char *folder) {
    char id[OBJECT_ID_BYTES];
    if (!cache_id_of(cache, folder, id)) {
        return;
    }
    pthread_mutex_lock(&cache->mutex);
    struct use *use = map_get(&cache->uses, id);
    if (use != NULL && use->count > 0) {
        use->count--;
    }
    drop_what_is_over(cache);
    pthread_mutex_unlock(&cache->mutex);
}

static bool is_used_here(struct artifact_cache *cache, const char *id) {
    pthread_mutex_lock(&cache->mutex);
    drop_what_is_over(cache);
    bool is_used = map_get(&cache->uses, id) != NULL;
    pthread_mutex_unlock(&cache->mutex);
    return is_used;
}

int cache_unless_used(struct artifact_cache *cache, const char *id, int (*remove)(void *arg), void *arg) {
    /* An open file of its own: its write lock meets the read locks of all, this process's too. */
    cleanup_close int fd = openat(cache->root_fd, "uses", O_RDWR | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || is_used_here(cache, id) || lock_byte(fd, id, F_WRLCK, false) < 0) {
        return 0;
    }
    return remove(arg) == 0 ? 1 : 0;
}

static int nothing(void *arg) {
    (void)arg;
    return 0;
}

bool cache_is_used(struct artifact_cache *cache, const char *id) {
    return cache_unless_used(cache, id, nothing, NULL) == 0;
}

void cache_uses_release(struct artifact_cache *cache) {
    struct map_entry *entry = NULL;
    for (size_t at = 0; (entry = map_next(&cache->uses, &at)) != NULL;) {
        free(entry->value);
    }
    map_release(&cache->uses);
}
