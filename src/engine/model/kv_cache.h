/* Keys and values of the tokens seen so far, in blocks of a fixed number of tokens that sequences take and give back. The size is
 * fixed when it is made; memory is touched only as blocks are first used. One thread takes and gives; while a step runs, compute
 * threads write and read the blocks of its rows.
 *
 * A block that is full can be published under a key that says all its content depends on: the weights and every token up to its
 * end. Sequences with the same beginning then share it (the idea is vLLM's automatic prefix caching). A published block that
 * nobody holds counts as free and keeps its content until the block is needed: blocks without content are taken first, then those
 * that have been unused for longest. What is shared is never written to. */
#ifndef DAVIT_ENGINE_MODEL_KV_CACHE_H
#define DAVIT_ENGINE_MODEL_KV_CACHE_H

#include "base/error.h"
#include "base/hash.h"
#include "engine/model/model.h"

#include <stddef.h>

#define KV_BLOCK_TOKENS 16

struct kv_block; /* who holds it and what is in it */

struct kv_cache {
    size_t layers;
    size_t kv_heads;
    size_t head_size;
    size_t block_count;
    size_t bytes;
    float *data; /* [layer][block][key or value][kv head][token][head_size] */
    struct kv_block *blocks;
    int first_free; /* the next to be taken; -1 = none */
    int last_free;
    size_t free_count; /* blocks that nobody holds */
    int *buckets;      /* published blocks by key; -1 = none */
    size_t bucket_mask;
};

/* How many bytes one block takes, over all layers. */
size_t kv_cache_block_bytes(const struct model_config *config);
size_t kv_cache_blocks_for(size_t tokens);

int kv_cache_init(struct kv_cache *cache, const struct model_config *config, size_t block_count, struct error *err) DAVIT_MUST_USE;
void kv_cache_release(struct kv_cache *cache);

/* Takes `count` blocks, or none and false when fewer are free. What was in them is forgotten. */
bool kv_cache_take(struct kv_cache *cache, size_t count, int *ret_blocks) DAVIT_MUST_USE;
/* Lets go of a sequence's blocks, taken or reused, in the order of its tokens: of what stays findable the last is lost first. */
void kv_cache_give(struct kv_cache *cache, const int *blocks, size_t count);
/* The block of that key, which must be given back like one that was taken; -1 when there is none. */
int kv_cache_reuse(struct kv_cache *cache, const struct hash *key) DAVIT_MUST_USE;
/* A block that was taken is full and computed. Of two blocks of one key the first stays the findable one. */
void kv_cache_publish(struct kv_cache *cache, int block, const struct hash *key);

/* The tokens of one block and key-value head: [KV_BLOCK_TOKENS, head_size]. */
float *kv_cache_keys(const struct kv_cache *cache, size_t layer, int block, size_t kv_head);
float *kv_cache_values(const struct kv_cache *cache, size_t layer, int block, size_t kv_head);

#endif
