/* A list that keeps itself current, as client-go's informers do: one watch that begins with what there is (sendInitialEvents), or,
 * where the API does not do that, a list in pages and then a watch. Survives cut connections (resumes at the last revision), 410
 * Gone (lists again and reports the differences) and API servers that are away (back-off with jitter up to 30 s). Objects are
 * immutable and reference counted: keep one with json_incref. */
#ifndef DAVIT_KUBE_WATCH_CACHE_H
#define DAVIT_KUBE_WATCH_CACHE_H

#include "kube/client.h"

struct watch_cache;

enum watch_change { WATCH_ADDED, WATCH_MODIFIED, WATCH_DELETED };

struct watch_cache_options {
    struct kube_client *client;
    const struct kube_resource *resource;
    const char *namespace;      /* NULL = all; copied */
    const char *label_selector; /* NULL = none; copied */
    const char *field_selector; /* NULL = none; copied */
    /* What is kept of an object: a new one with the same name, namespace, uid and resourceVersion. NULL = all of it. The cache
     * gives and tells what was kept. */
    json_t *(*reduce)(const json_t *object);
    const char *name; /* only the object of this name, as a Role with resourceNames allows it; NULL = all; copied */
    /* After the cache holds the new state. old_object is NULL for ADDED, new_object for DELETED (old_object then is the last
     * known). */
    void (*on_change)(void *arg, enum watch_change change, json_t *old_object, json_t *new_object);
    void (*on_synced)(void *arg); /* once, when the first list is in; may be NULL */
    void *arg;
};

struct watch_cache *watch_cache_new(const struct watch_cache_options *options); /* starts at once */
void watch_cache_free(struct watch_cache *cache);
bool watch_cache_is_synced(const struct watch_cache *cache);
size_t watch_cache_count(const struct watch_cache *cache);
json_t *watch_cache_get(const struct watch_cache *cache, const char *namespace, const char *name); /* borrowed, or NULL */
/* for (size_t at = 0; (object = watch_cache_next(cache, &at)) != NULL;) — borrowed, in no order. */
json_t *watch_cache_next(const struct watch_cache *cache, size_t *at);
/* One's own write was answered with `object`: the cache takes it if it is newer, without calling on_change, so that the next
 * decision does not see the past. */
void watch_cache_note_write(struct watch_cache *cache, json_t *object);
/* Of an answer to an own write: watch_cache_note_write would do nothing with it. For kube_request.is_known. */
bool watch_cache_knows(const struct watch_cache *cache, const struct kube_glance *object);

#endif
