/* Byte-pair merging of one piece of text. The cost is O(n log n) in the length of the piece, whatever it holds. */
#ifndef DAVIT_ENGINE_TOKENIZER_BPE_H
#define DAVIT_ENGINE_TOKENIZER_BPE_H

#include <stddef.h>
#include <stdint.h>

/* What a pair of neighbouring tokens becomes; a lower rank is merged first. */
struct bpe_merge {
    uint64_t pair; /* left id << 32 | right id */
    uint32_t rank;
    int merged; /* -1 in a free slot */
};

struct bpe {
    struct bpe_merge *slots; /* open addressing */
    size_t mask;
};

void bpe_init(struct bpe *bpe, size_t merge_count);
void bpe_release(struct bpe *bpe);
/* Of two merges of one pair the first counts. */
void bpe_add(struct bpe *bpe, int left, int right, uint32_t rank, int merged);

/* Merges ids[0..count) in place as long as a merge applies, the lowest rank first and of equal ones the leftmost; returns how many
 * remain. */
size_t bpe_apply(const struct bpe *bpe, int *ids, size_t count);

#endif
