/* Keys and values of the tokens seen so far, in blocks of a fixed number of tokens that sequences take and give back. The size is
 * fixed when it is made; memory is touched only as blocks are first used. One thread takes and gives; while a step runs, compute
 * threads write and read the blocks of its rows. */
#ifndef DAVIT_ENGINE_MODEL_KV_CACHE_H
#define DAVIT_ENGINE_MODEL_KV_CACHE_H

#include "base/error.h"
#include "engine/model/model.h"

#include <stddef.h>

#define KV_BLOCK_TOKENS 16

struct kv_cache {
    size_t layers;
    size_t kv_heads;
    size_t head_size;
    size_t block_count;
    size_t bytes;
    float *data;      /* [layer][block][key or value][kv head][token][head_size] */
    int *free_blocks; /* a stack */
    size_t free_count;
};

/* How many bytes one block takes, over all layers. */
size_t kv_cache_block_bytes(const struct model_config *config);
size_t kv_cache_blocks_for(size_t tokens);

int kv_cache_init(struct kv_cache *cache, const struct model_config *config, size_t block_count, struct error *err) DAVIT_MUST_USE;
void kv_cache_release(struct kv_cache *cache);

/* Takes `count` blocks, or none and false when fewer are free. */
bool kv_cache_take(struct kv_cache *cache, size_t count, int *ret_blocks) DAVIT_MUST_USE;
void kv_cache_give(struct kv_cache *cache, const int *blocks, size_t count);

/* The tokens of one block and key-value head: [KV_BLOCK_TOKENS, head_size]. */
float *kv_cache_keys(const struct kv_cache *cache, size_t layer, int block, size_t kv_head);
float *kv_cache_values(const struct kv_cache *cache, size_t layer, int block, size_t kv_head);

#endif
