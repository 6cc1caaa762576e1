/* Who uses which object. Within this process by counting; between processes by read locks on one byte of v1/uses an object, of the
 * kind that belongs to the open file ("open file description locks", fcntl(2)), so that a process which dies uses nothing.
 *
 * On a network's file system a lock is a question to a server. So locks are set and taken off without the mutex, and for those on a
 * loop by a thread, the keeper; whoever fetches does it alone. */
#include "artifact/cache/store.h"

#include "base/clock.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <time.h>

#define HOLD_MS 600000   /* as long as a caller may take from artifact_fetch to artifact_cache_use */
#define RETRY_MS 1000    /* after a lock could not be set or taken off */
#define REMOVAL_MS 10000 /* the longest that whoever holds waits for whoever removes */
#define REMOVAL_POLL_MS 2
#define KEEPER_STACK_BYTES (128u << 10)

struct use {
    unsigned count;
    int64_t held_until_ms; /* 0 = not held */
    unsigned holders;      /* that wait in cache_hold */
    bool is_locked;
    bool is_changing; /* somebody is at its lock, without the mutex */
    int64_t retry_ms;
};

/* ---- the locks ---- */

/* The byte that stands for an object. Two objects on one byte would only be kept longer. */
static off_t byte_of(const char *id) {
    off_t at = 0;
    for (int i = 0; i < 15; i++) { /* 60 bits */
        char digit = id[i];
        at = at << 4 | (digit <= '9' ? digit - '0' : digit - 'a' + 10);
    }
    return at;
}

static struct flock lock_of(const char *id, short type) {
    return (struct flock){.l_type = type, .l_whence = SEEK_SET, .l_start = byte_of(id), .l_len = 1};
}

static int lock_byte(int fd, const char *id, short type) {
    struct flock lock = lock_of(id, type);
    int result = 0;
    do {
        result = fcntl(fd, F_OFD_SETLK, &lock);
    } while (result < 0 && errno == EINTR);
    return result;
}

static bool is_somebody_elses(int error_number) {
    return error_number == EAGAIN || error_number == EACCES;
}

static bool is_wanted(const struct use *use, int64_t now_ms) {
    return use->count > 0 || use->held_until_ms > now_ms;
}

/* With the mutex held. */
static void warn_once(struct artifact_cache *cache, int error_number) {
    if (!cache->uses.has_warned) {
        cache->uses.has_warned = true;
        log_warn("%s/uses cannot be locked (%s): nothing is removed from this cache, since nobody can say what is in use",
                 cache->root, strerror(error_number));
    }
}

/* With the mutex held, but for the change itself. */
static void settle(struct artifact_cache *cache, struct use *use, const char *key) {
    struct cache_uses *uses = &cache->uses;
    bool locks = !use->is_locked;
    char id[OBJECT_ID_BYTES];
    (void)snprintf(id, sizeof(id), "%.32s", key);
    use->is_changing = true;
    pthread_mutex_unlock(&uses->mutex);
    int error_number = lock_byte(cache->uses_fd, id, locks ? F_RDLCK : F_UNLCK) < 0 ? errno : 0;
    pthread_mutex_lock(&uses->mutex);
    use->is_changing = false;
    use->is_locked = error_number == 0 ? locks : use->is_locked;
    use->retry_ms = error_number == 0 ? 0 : clock_now_ms() + RETRY_MS;
    if (error_number != 0 && !is_somebody_elses(error_number)) {
        uses->is_blind = true;
        warn_once(cache, error_number);
    } else if (locks && error_number == 0) {
        uses->is_blind = false;
    }
    pthread_cond_broadcast(&uses->changed);
}

/* ---- what is due ---- */

/* With the mutex held: drops what is over, and finds one whose lock is to be changed; NULL = none. *ret_next_ms is when there may
 * be one. */
static struct map_entry *find_due(struct artifact_cache *cache, int64_t now_ms, int64_t *ret_next_ms) {
    struct map_entry *entry = NULL;
    *ret_next_ms = INT64_MAX;
    for (size_t at = 0; (entry = map_next(&cache->uses.items, &at)) != NULL;) {
        struct use *use = entry->value;
        bool wanted = is_wanted(use, now_ms);
        if (!wanted && !use->is_locked && !use->is_changing && use->holders == 0) {
            (void)map_remove(&cache->uses.items, entry->key);
            free(use);
            continue;
        }
        bool is_settled = use->is_changing || wanted == use->is_locked;
        if (!is_settled && use->retry_ms <= now_ms) {
            return entry;
        }
        int64_t next_ms = !is_settled ? use->retry_ms : use->count == 0 && wanted ? use->held_until_ms : INT64_MAX;
        *ret_next_ms = next_ms < *ret_next_ms ? next_ms : *ret_next_ms;
    }
    return NULL;
}

/* With the mutex held. Not on a loop. Returns when there may be something to do again. */
static int64_t settle_all(struct artifact_cache *cache) {
    int64_t next_ms = INT64_MAX;
    struct map_entry *entry = NULL;
    while ((entry = find_due(cache, clock_now_ms(), &next_ms)) != NULL) {
        settle(cache, entry->value, entry->key);
    }
    return next_ms;
}

static void wait_until(struct cache_uses *uses, int64_t until_ms) {
    if (until_ms == INT64_MAX) {
        (void)pthread_cond_wait(&uses->changed, &uses->mutex);
        return;
    }
    struct timespec until = {.tv_sec = until_ms / 1000, .tv_nsec = (long)(until_ms % 1000) * 1000000L};
    (void)pthread_cond_timedwait(&uses->changed, &uses->mutex, &until);
}

static void *keep(void *arg) {
    struct artifact_cache *cache = arg;
    struct cache_uses *uses = &cache->uses;
    (void)pthread_setname_np(pthread_self(), "cache-uses");
    pthread_mutex_lock(&uses->mutex);
    while (!uses->is_ending) {
        int64_t next_ms = settle_all(cache);
        if (!uses->is_ending) {
            wait_until(uses, next_ms);
        }
    }
    pthread_mutex_unlock(&uses->mutex);
    return NULL;
}

/* With the mutex held. Without a thread to be had it is done by whoever fetches next. */
static void have_settled(struct artifact_cache *cache) {
    struct cache_uses *uses = &cache->uses;
    pthread_attr_t attributes;
    if (!uses->has_keeper) {
        (void)pthread_attr_init(&attributes);
        (void)pthread_attr_setstacksize(&attributes, KEEPER_STACK_BYTES);
        uses->has_keeper = pthread_create(&uses->keeper, &attributes, keep, cache) == 0;
        (void)pthread_attr_destroy(&attributes);
    }
    pthread_cond_broadcast(&uses->changed);
}

/* ---- uses ---- */

/* With the mutex held. */
static struct use *use_of(struct artifact_cache *cache, const char *id) {
    struct use *use = map_get(&cache->uses.items, id);
    if (use == NULL) {
        use = xcalloc(1, sizeof(*use));
        (void)map_set(&cache->uses.items, id, use);
    }
    return use;
}

void cache_hold(struct artifact_cache *cache, const char *id) {
    struct cache_uses *uses = &cache->uses;
    int64_t give_up_ms = clock_now_ms() + REMOVAL_MS;
    pthread_mutex_lock(&uses->mutex);
    struct use *use = use_of(cache, id);
    use->held_until_ms = clock_now_ms() + HOLD_MS;
    use->retry_ms = 0;
    use->holders++;
    (void)settle_all(cache);
    /* Somebody removes it now: once that is over, it is not there, and whoever looks sees that. */
    while (!use->is_locked && is_wanted(use, clock_now_ms()) && !uses->is_blind && clock_now_ms() < give_up_ms) {
        wait_until(uses, clock_now_ms() + REMOVAL_POLL_MS);
        use->retry_ms = 0;
        (void)settle_all(cache);
    }
    use->holders--;
    pthread_mutex_unlock(&uses->mutex);
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
    pthread_mutex_lock(&cache->uses.mutex);
    struct use *use = use_of(cache, id);
    use->count++;
    use->held_until_ms = 0;
    have_settled(cache);
    pthread_mutex_unlock(&cache->uses.mutex);
}

void artifact_cache_unuse(struct artifact_cache *cache, const char *folder) {
    char id[OBJECT_ID_BYTES];
    if (!cache_id_of(cache, folder, id)) {
        return;
    }
    pthread_mutex_lock(&cache->uses.mutex);
    struct use *use = map_get(&cache->uses.items, id);
    if (use != NULL && use->count > 0) {
        use->count--;
        have_settled(cache);
    }
    pthread_mutex_unlock(&cache->uses.mutex);
}

/* ---- removing ---- */

static bool is_used_here(struct artifact_cache *cache, const char *id) {
    pthread_mutex_lock(&cache->uses.mutex);
    (void)settle_all(cache);
    bool is_used = cache->uses.is_blind || map_get(&cache->uses.items, id) != NULL;
    pthread_mutex_unlock(&cache->uses.mutex);
    return is_used;
}

int cache_unless_used(struct artifact_cache *cache, const char *id, int (*remove)(void *arg), void *arg) {
    if (is_used_here(cache, id)) {
        return 0;
    }
    /* An open file of its own: its write lock meets the read locks of all, this process's too. */
    cleanup_close int fd = openat(cache->root_fd, "uses", O_RDWR | O_NOFOLLOW | O_CLOEXEC);
    int result = fd >= 0 ? lock_byte(fd, id, F_WRLCK) : -1;
    int error_number = errno;
    if (result < 0 && (fd < 0 || !is_somebody_elses(error_number))) {
        pthread_mutex_lock(&cache->uses.mutex);
        warn_once(cache, error_number);
        pthread_mutex_unlock(&cache->uses.mutex);
    }
    return result == 0 && remove(arg) == 0 ? 1 : 0;
}

bool cache_is_used(struct artifact_cache *cache, const char *id) {
    struct flock lock = lock_of(id, F_WRLCK);
    /* Asked, not taken: nobody who begins to use it meets us. */
    return is_used_here(cache, id) || fcntl(cache->uses_fd, F_OFD_GETLK, &lock) < 0 || lock.l_type != F_UNLCK;
}

/* ---- the beginning and the end ---- */

void cache_uses_init(struct artifact_cache *cache) {
    pthread_condattr_t attributes;
    (void)pthread_mutex_init(&cache->uses.mutex, NULL);
    (void)pthread_condattr_init(&attributes);
    (void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&cache->uses.changed, &attributes);
    (void)pthread_condattr_destroy(&attributes);
}

void cache_uses_release(struct artifact_cache *cache) {
    struct cache_uses *uses = &cache->uses;
    struct map_entry *entry = NULL;
    pthread_mutex_lock(&uses->mutex);
    uses->is_ending = true;
    pthread_cond_broadcast(&uses->changed);
    pthread_mutex_unlock(&uses->mutex);
    if (uses->has_keeper) {
        (void)pthread_join(uses->keeper, NULL);
    }
    for (size_t at = 0; (entry = map_next(&uses->items, &at)) != NULL;) {
        free(entry->value);
    }
    map_release(&uses->items);
    (void)pthread_mutex_destroy(&uses->mutex);
    (void)pthread_cond_destroy(&uses->changed);
}
