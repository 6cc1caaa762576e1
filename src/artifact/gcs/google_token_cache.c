#include "artifact/gcs/google_token_cache.h"

#include "base/hash.h"

#include <openssl/crypto.h>
#include <pthread.h>
#include <string.h>

struct entry {
    struct hash identity;
    char *token; /* NULL = free */
    int64_t until_ms;
};

/* Fetches come and go on threads of their own and share nothing else. */
static struct {
    pthread_mutex_t mutex;
    struct entry entries[GOOGLE_TOKENS_MAX];
} cache = {.mutex = PTHREAD_MUTEX_INITIALIZER};

/* Of everything that decides which token one gets. */
static struct hash identity_of(const struct google_credentials *credentials) {
    const char *const parts[] = {credentials->email,        credentials->private_key,   credentials->token_uri,
                                 credentials->client_id,    credentials->client_secret, credentials->refresh_token,
                                 credentials->metadata_host};
    cleanup_buffer struct buffer all = BUFFER_INIT;
    buffer_printf(&all, "%d", (int)credentials->kind);
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        buffer_append(&all, "\0", 1);
        buffer_append_text(&all, parts[i] != NULL ? parts[i] : "");
    }
    struct hash hash = hash_bytes(all.data, all.len);
    OPENSSL_cleanse(all.data, all.len);
    return hash;
}

static void clear(struct entry *entry) {
    if (entry->token != NULL) {
        OPENSSL_cleanse(entry->token, strlen(entry->token));
        free(entry->token);
    }
    *entry = (struct entry){0};
}

static struct entry *find(const struct hash *identity) {
    for (size_t i = 0; i < GOOGLE_TOKENS_MAX; i++) {
        struct entry *entry = &cache.entries[i];
        if (entry->token != NULL && memcmp(entry->identity.bytes, identity->bytes, HASH_BYTES) == 0) {
            return entry;
        }
    }
    return NULL;
}

/* A free one, or the one that ends soonest. */
static struct entry *make_room(void) {
    struct entry *found = &cache.entries[0];
    for (size_t i = 0; i < GOOGLE_TOKENS_MAX && found->token != NULL; i++) {
        struct entry *entry = &cache.entries[i];
        found = entry->token == NULL || entry->until_ms < found->until_ms ? entry : found;
    }
    return found;
}

char *google_token_cached(const struct google_credentials *credentials, int64_t now_ms) {
    struct hash identity = identity_of(credentials);
    pthread_mutex_lock(&cache.mutex);
    struct entry *entry = find(&identity);
    char *token = entry != NULL && entry->until_ms > now_ms ? xstrdup(entry->token) : NULL;
    pthread_mutex_unlock(&cache.mutex);
    return token;
}

void google_token_keep(const struct google_credentials *credentials, const char *token, int64_t until_ms) {
    struct hash identity = identity_of(credentials);
    pthread_mutex_lock(&cache.mutex);
    struct entry *entry = find(&identity);
    entry = entry != NULL ? entry : make_room();
    clear(entry);
    *entry = (struct entry){.identity = identity, .token = xstrdup(token), .until_ms = until_ms};
    pthread_mutex_unlock(&cache.mutex);
}

void google_token_drop(const struct google_credentials *credentials, const char *token) {
    struct hash identity = identity_of(credentials);
    pthread_mutex_lock(&cache.mutex);
    struct entry *entry = find(&identity);
    if (entry != NULL && strcmp(entry->token, token) == 0) {
        clear(entry);
    }
    pthread_mutex_unlock(&cache.mutex);
}
