#include "engine/model/kv_cache.h"

#include <string.h>
#include <sys/mman.h>

#define NONE (-1)

struct kv_block {
    int references;
    /* neighbours in the list of free blocks while nobody holds it */
    int previous;
    int next;
    bool is_published;
    struct hash key;
    int next_in_bucket;
};

static size_t half_floats(size_t kv_heads, size_t head_size) {
    return KV_BLOCK_TOKENS * kv_heads * head_size;
}

size_t kv_cache_block_bytes(const struct model_config *config) {
    return config->layers * 2 * half_floats(config->kv_heads, config->head_size) * sizeof(float);
}

size_t kv_cache_blocks_for(size_t tokens) {
    return (tokens + KV_BLOCK_TOKENS - 1) / KV_BLOCK_TOKENS;
}

static void init_blocks(struct kv_cache *cache) {
    size_t bucket_count = 1;
    while (bucket_count < cache->block_count) {
        bucket_count *= 2;
    }
    cache->blocks = xcalloc(cache->block_count, sizeof(*cache->blocks));
    cache->buckets = xmalloc(bucket_count * sizeof(*cache->buckets));
    cache->bucket_mask = bucket_count - 1;
    for (size_t i = 0; i < bucket_count; i++) {
        cache->buckets[i] = NONE;
    }
    for (size_t i = 0; i < cache->block_count; i++) {
        cache->blocks[i].previous = (int)i - 1;
        cache->blocks[i].next = i + 1 < cache->block_count ? (int)i + 1 : NONE;
    }
    cache->first_free = 0;
    cache->last_free = (int)cache->block_count - 1;
    cache->free_count = cache->block_count;
}

int kv_cache_init(struct kv_cache *cache, const struct model_config *config, size_t block_count, struct error *err) {
    *cache = (struct kv_cache){
        .layers = config->layers, .kv_heads = config->kv_heads, .head_size = config->head_size, .block_count = block_count};
    if (__builtin_mul_overflow(block_count, kv_cache_block_bytes(config), &cache->bytes) || block_count == 0 ||
        block_count > INT32_MAX) {
        return error_set(err, ERROR_LIMIT, "a KV cache of %zu blocks is not possible", block_count);
    }
    /* Not allocated but reserved: pages come as they are used. */
    void *data = mmap(NULL, cache->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (data == MAP_FAILED) {
        return error_set_errno(err, "cannot reserve %zu bytes of KV cache", cache->bytes);
    }
    cache->data = data;
    init_blocks(cache);
    return 0;
}

void kv_cache_release(struct kv_cache *cache) {
    if (cache->data != NULL) {
        (void)munmap(cache->data, cache->bytes);
    }
    free(cache->blocks);
    free(cache->buckets);
    *cache = (struct kv_cache){0};
}

/* ---- free blocks ---- */

static void append_free(struct kv_cache *cache, int at) {
    struct kv_block *block = &cache->blocks[at];
    block->previous = cache->last_free;
    block->next = NONE;
    *(cache->last_free != NONE ? &cache->blocks[cache->last_free].next : &cache->first_free) = at;
    cache->last_free = at;
    cache->free_count++;
}

static void prepend_free(struct kv_cache *cache, int at) {
    struct kv_block *block = &cache->blocks[at];
    block->previous = NONE;
    block->next = cache->first_free;
    *(cache->first_free != NONE ? &cache->blocks[cache->first_free].previous : &cache->last_free) = at;
    cache->first_free = at;
    cache->free_count++;
}

static void unlink_free(struct kv_cache *cache, int at) {
    const struct kv_block *block = &cache->blocks[at];
    *(block->previous != NONE ? &cache->blocks[block->previous].next : &cache->first_free) = block->next;
    *(block->next != NONE ? &cache->blocks[block->next].previous : &cache->last_free) = block->previous;
    cache->free_count--;
}

/* ---- published blocks ---- */

static int *bucket_of(const struct kv_cache *cache, const struct hash *key) {
    size_t bits = 0;
    memcpy(&bits, key->bytes, sizeof(bits)); /* of a SHA-256: as good as any */
    return &cache->buckets[bits & cache->bucket_mask];
}

static int find(const struct kv_cache *cache, const struct hash *key) {
    int at = *bucket_of(cache, key);
    while (at != NONE && memcmp(&cache->blocks[at].key, key, sizeof(*key)) != 0) {
        at = cache->blocks[at].next_in_bucket;
    }
    return at;
}

static void forget(struct kv_cache *cache, int at) {
    struct kv_block *block = &cache->blocks[at];
    if (block->is_published) {
        int *link = bucket_of(cache, &block->key);
        while (*link != at) {
            link = &cache->blocks[*link].next_in_bucket;
        }
        *link = block->next_in_bucket;
        block->is_published = false;
    }
}

/* ---- taking and giving ---- */

bool kv_cache_take(struct kv_cache *cache, size_t count, int *ret_blocks) {
    if (count > cache->free_count) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        int at = cache->first_free;
        unlink_free(cache, at);
        forget(cache, at);
        cache->blocks[at].references = 1;
        ret_blocks[i] = at;
    }
    return true;
}

void kv_cache_give(struct kv_cache *cache, const int *blocks, size_t count) {
    for (size_t i = count; i > 0; i--) {
        struct kv_block *block = &cache->blocks[blocks[i - 1]];
        if (--block->references > 0) {
            continue;
        }
        if (block->is_published) {
            append_free(cache, blocks[i - 1]);
        } else {
            prepend_free(cache, blocks[i - 1]);
        }
    }
}

int kv_cache_reuse(struct kv_cache *cache, const struct hash *key) {
    int at = find(cache, key);
    if (at != NONE && cache->blocks[at].references++ == 0) {
        unlink_free(cache, at);
    }
    return at;
}

void kv_cache_publish(struct kv_cache *cache, int block, const struct hash *key) {
    if (find(cache, key) != NONE) {
        return;
    }
    int *bucket = bucket_of(cache, key);
    cache->blocks[block].key = *key;
    cache->blocks[block].is_published = true;
    cache->blocks[block].next_in_bucket = *bucket;
    *bucket = block;
}

/* ---- content ---- */

float *kv_cache_keys(const struct kv_cache *cache, size_t layer, int block, size_t kv_head) {
    size_t half = half_floats(cache->kv_heads, cache->head_size);
    return cache->data + (layer * cache->block_count + (size_t)block) * 2 * half + kv_head * KV_BLOCK_TOKENS * cache->head_size;
}

float *kv_cache_values(const struct kv_cache *cache, size_t layer, int block, size_t kv_head) {
    return kv_cache_keys(cache, layer, block, kv_head) + half_floats(cache->kv_heads, cache->head_size);
}
