#include "engine/model/kv_cache.h"

#include <string.h>
#include <sys/mman.h>

static size_t half_floats(size_t kv_heads, size_t head_size) {
    return KV_BLOCK_TOKENS * kv_heads * head_size;
}

size_t kv_cache_block_bytes(const struct model_config *config) {
    return config->layers * 2 * half_floats(config->kv_heads, config->head_size) * sizeof(float);
}

size_t kv_cache_blocks_for(size_t tokens) {
    return (tokens + KV_BLOCK_TOKENS - 1) / KV_BLOCK_TOKENS;
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
    cache->free_blocks = xcalloc(block_count, sizeof(*cache->free_blocks));
    for (size_t i = 0; i < block_count; i++) {
        cache->free_blocks[i] = (int)(block_count - 1 - i);
    }
    cache->free_count = block_count;
    return 0;
}

void kv_cache_release(struct kv_cache *cache) {
    if (cache->data != NULL) {
        (void)munmap(cache->data, cache->bytes);
    }
    free(cache->free_blocks);
    *cache = (struct kv_cache){0};
}

bool kv_cache_take(struct kv_cache *cache, size_t count, int *ret_blocks) {
    if (count > cache->free_count) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        ret_blocks[i] = cache->free_blocks[--cache->free_count];
    }
    return true;
}

void kv_cache_give(struct kv_cache *cache, const int *blocks, size_t count) {
    for (size_t i = count; i > 0; i--) {
        cache->free_blocks[cache->free_count++] = blocks[i - 1];
    }
}

float *kv_cache_keys(const struct kv_cache *cache, size_t layer, int block, size_t kv_head) {
    size_t half = half_floats(cache->kv_heads, cache->head_size);
    return cache->data + (layer * cache->block_count + (size_t)block) * 2 * half + kv_head * KV_BLOCK_TOKENS * cache->head_size;
}

float *kv_cache_values(const struct kv_cache *cache, size_t layer, int block, size_t kv_head) {
    return kv_cache_keys(cache, layer, block, kv_head) + half_floats(cache->kv_heads, cache->head_size);
}
