#include "artifact/s3/aws_key_cache.h"

#include "base/hash.h"

#include <pthread.h>
#include <string.h>

struct entry {
    struct hash identity;
    struct aws_keys keys; /* access_key NULL = free */
    int64_t until_ms;
};

static struct {
    pthread_mutex_t mutex;
    struct entry entries[AWS_KEYS_MAX];
} cache = {.mutex = PTHREAD_MUTEX_INITIALIZER};

/* Of everything that decides which keys one gets. */
static struct hash identity_of(const struct aws_identity *identity) {
    const char *const parts[] = {identity->url, identity->role_arn, identity->session_name, identity->token_file,
                                 identity->authorization};
    cleanup_buffer struct buffer all = BUFFER_INIT;
    buffer_printf(&all, "%d", (int)identity->kind);
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        buffer_append(&all, "\0", 1);
        buffer_append_text(&all, parts[i] != NULL ? parts[i] : "");
    }
    return hash_bytes(all.data, all.len);
}

static struct entry *find(const struct hash *identity) {
    for (size_t i = 0; i < AWS_KEYS_MAX; i++) {
        struct entry *entry = &cache.entries[i];
        if (entry->keys.access_key != NULL && memcmp(entry->identity.bytes, identity->bytes, HASH_BYTES) == 0) {
            return entry;
        }
    }
    return NULL;
}

/* A free one, or the one that ends soonest. */
static struct entry *make_room(void) {
    struct entry *found = &cache.entries[0];
    for (size_t i = 0; i < AWS_KEYS_MAX && found->keys.access_key != NULL; i++) {
        struct entry *entry = &cache.entries[i];
        found = entry->keys.access_key == NULL || entry->until_ms < found->until_ms ? entry : found;
    }
    return found;
}

bool aws_key_cache_get(const struct aws_identity *identity, int64_t now_ms, struct aws_keys *ret) {
    struct hash hash = identity_of(identity);
    pthread_mutex_lock(&cache.mutex);
    const struct entry *entry = find(&hash);
    bool is_found = entry != NULL && entry->until_ms > now_ms;
    if (is_found) {
        aws_keys_copy(&entry->keys, ret);
    }
    pthread_mutex_unlock(&cache.mutex);
    return is_found;
}

void aws_key_cache_put(const struct aws_identity *identity, const struct aws_keys *keys, int64_t until_ms) {
    struct hash hash = identity_of(identity);
    pthread_mutex_lock(&cache.mutex);
    struct entry *entry = find(&hash);
    entry = entry != NULL ? entry : make_room();
    aws_keys_release(&entry->keys);
    *entry = (struct entry){.identity = hash, .until_ms = until_ms};
    aws_keys_copy(keys, &entry->keys);
    pthread_mutex_unlock(&cache.mutex);
}

void aws_key_cache_drop(const struct aws_identity *identity, const struct aws_keys *keys) {
    struct hash hash = identity_of(identity);
    pthread_mutex_lock(&cache.mutex);
    struct entry *entry = find(&hash);
    if (entry != NULL && strcmp(entry->keys.access_key, keys->access_key) == 0) {
        aws_keys_release(&entry->keys);
        *entry = (struct entry){0};
    }
    pthread_mutex_unlock(&cache.mutex);
}
