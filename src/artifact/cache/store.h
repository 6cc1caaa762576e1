/* The cache's inside, for artifact_fetch and the cache's own files: records of what came from where, locks of downloads, objects in
 * and out. Names of records and locks are keys: the first 32 hexadecimal digits of a SHA-256. */
#ifndef DAVIT_ARTIFACT_CACHE_STORE_H
#define DAVIT_ARTIFACT_CACHE_STORE_H

#include "artifact/cache/cache.h"
#include "artifact/manifest.h"
#include "base/map.h"

#include <pthread.h>

#define CACHE_KEY_BYTES OBJECT_ID_BYTES

struct cache_uses {
    pthread_mutex_t mutex;  /* guards what follows; never held while a lock is asked for */
    pthread_cond_t changed; /* there is something to lock or unlock, or it was done */
    struct map items;       /* object id -> struct use */
    pthread_t keeper;       /* sets locks for those who must not wait */
    bool has_keeper;
    bool is_ending;
    bool is_blind; /* a lock could not be set, so that nobody else's may be seen either: nothing is removed */
    bool has_warned;
};

struct artifact_cache {
    const struct artifact_options *options;
    char *root; /* <cache>/v1, absolute */
    int root_fd;
    int objects_fd;
    int sources_fd;
    int staging_fd;
    int locks_fd;
    int uses_fd; /* its byte locks are this handle's uses */
    struct cache_uses uses;
};

void cache_key(const char *text, char out[CACHE_KEY_BYTES]);

/* ---- uses (uses.c) ---- */
void cache_uses_init(struct artifact_cache *cache);
/* The object stays for a while, until somebody says that it is used: who was given its folder must have the time. May wait for
 * whoever removes it now. */
void cache_hold(struct artifact_cache *cache, const char *id);
/* Calls remove(arg) when nobody, here or in another process, uses the object; nobody begins to meanwhile. 1: it was called and
 * returned 0. 0: in use, or nobody can say, as on a file system without locks. */
int cache_unless_used(struct artifact_cache *cache, const char *id, int (*remove)(void *arg), void *arg);
bool cache_is_used(struct artifact_cache *cache, const char *id);
void cache_uses_release(struct artifact_cache *cache);
/* The id of an object's folder, or of a path in it; false for every other path. */
bool cache_id_of(const struct artifact_cache *cache, const char *path, char out[OBJECT_ID_BYTES]);

/* ---- objects and records (store.c) ---- */
/* The object that a record names, held, with all its files there in their sizes. 1, or 0 when there is none, or one that is not
 * whole. -1 when it cannot be read, so that nobody knows. The caller releases *ret. */
int cache_find(struct artifact_cache *cache, const char *key, struct manifest *ret, struct error *err) DAVIT_MUST_USE;
bool cache_leads_nowhere(const struct artifact_cache *cache, const char *key); /* the record's object is gone */
int cache_record(struct artifact_cache *cache, const char *key, const struct manifest *manifest, struct error *err) DAVIT_MUST_USE;
/* Makes an object, held, of staging/<key>/files, which is whole and synced; the same content is there once. */
int cache_keep(struct artifact_cache *cache, const char *key, const struct manifest *manifest, struct error *err) DAVIT_MUST_USE;
char *cache_object_folder(const struct artifact_cache *cache, const char *id);
/* Manifest and sizes of an object. 0 or -1; cache_is_broken says whether that was about the object or about reading it. */
int cache_read_object(const struct artifact_cache *cache, const char *id, struct manifest *ret, struct error *err) DAVIT_MUST_USE;
/* What was read is not an object: something is missing, of another size or kind, or says what it should not. */
bool cache_is_broken(const struct error *err);
#define CACHE_TRASH_PREFIX "trash." /* in staging: what is being removed */

/* The lock of a download: the descriptor, which ends it when closed; -1 with ERROR_BUSY when somebody else has it. */
int cache_try_lock(struct artifact_cache *cache, const char *key, struct error *err) DAVIT_MUST_USE;

#endif
