#include "artifact/s3/aws_key_cache.h"

#include "base/hash.h"

#include <pthread.h>
#include <string.h>

struct entry {
    struct hash identity;
    struct aws_keys keys; /* access_key NULL = free */
    int64_t until_ms;
};

struct turn {
    struct hash identity;
    uint64_t number; /* of this turn; 0 = of nobody yet */
    bool is_under_way;
    struct error failure; /* how it ended; code ERROR_NONE = well */
};

static struct {
    pthread_mutex_t mutex;
    struct entry entries[AWS_KEYS_MAX];
    struct turn turns[AWS_KEYS_MAX];
    uint64_t last_turn;
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

/* ---- turns ---- */

/* That of the identity, else the one that is over for the longest time; NULL = all are under way. */
static struct turn *find_turn(const struct hash *identity) {
    struct turn *found = NULL;
    for (size_t i = 0; i < AWS_KEYS_MAX; i++) {
        struct turn *turn = &cache.turns[i];
        if (turn->number != 0 && memcmp(turn->identity.bytes, identity->bytes, HASH_BYTES) == 0) {
            return turn;
        }
        found = !turn->is_under_way && (found == NULL || turn->number < found->number) ? turn : found;
    }
    return found;
}

static enum aws_key_turn take_turn(const struct hash *identity, uint64_t *ticket, struct error *err) {
    struct turn *turn = find_turn(identity);
    if (turn == NULL) {
        return AWS_KEY_ASK; /* so many identities at once: this one is not joined */
    }
    if (turn->is_under_way) {
        *ticket = turn->number;
        return AWS_KEY_WAIT;
    }
    if (*ticket != 0 && *ticket == turn->number && turn->failure.code != ERROR_NONE) {
        *err = turn->failure;
        return AWS_KEY_FAILED;
    }
    *turn = (struct turn){.identity = *identity, .number = ++cache.last_turn, .is_under_way = true};
    return AWS_KEY_ASK;
}

enum aws_key_turn aws_key_turn_begin(const struct aws_identity *identity, uint64_t *ticket, struct error *err) {
    struct hash hash = identity_of(identity);
    struct error failure = {0};
    pthread_mutex_lock(&cache.mutex);
    enum aws_key_turn result = take_turn(&hash, ticket, &failure);
    pthread_mutex_unlock(&cache.mutex);
    if (result == AWS_KEY_FAILED && err != NULL) {
        *err = failure;
    }
    return result;
}

void aws_key_turn_end(const struct aws_identity *identity, const struct error *failure) {
    struct hash hash = identity_of(identity);
    pthread_mutex_lock(&cache.mutex);
    struct turn *turn = find_turn(&hash);
    if (turn != NULL && turn->is_under_way && memcmp(turn->identity.bytes, hash.bytes, HASH_BYTES) == 0) {
        turn->is_under_way = false;
        turn->failure = failure != NULL ? *failure : (struct error){0};
    }
    pthread_mutex_unlock(&cache.mutex);
}
