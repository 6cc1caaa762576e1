#include "engine/tokenizer/bpe.h"

#include "base/alloc.h"

#include <stdbool.h>

#define STACK_SYMBOLS 64 /* longer pieces use the heap */
#define NONE UINT32_MAX

void bpe_init(struct bpe *bpe, size_t merge_count) {
    size_t slot_count = 16;
    while (slot_count < merge_count * 2) {
        slot_count *= 2;
    }
    bpe->slots = xcalloc(slot_count, sizeof(*bpe->slots));
    bpe->mask = slot_count - 1;
    for (size_t i = 0; i < slot_count; i++) {
        bpe->slots[i].merged = -1;
    }
}

void bpe_release(struct bpe *bpe) {
    free(bpe->slots);
    *bpe = (struct bpe){0};
}

static struct bpe_merge *find_slot(const struct bpe *bpe, int left, int right) {
    uint64_t pair = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    size_t slot = (size_t)((pair * 0x9e3779b97f4a7c15U) >> 32) & bpe->mask;
    while (bpe->slots[slot].merged >= 0 && bpe->slots[slot].pair != pair) {
        slot = (slot + 1) & bpe->mask;
    }
    return &bpe->slots[slot];
}

void bpe_add(struct bpe *bpe, int left, int right, uint32_t rank, int merged) {
    struct bpe_merge *slot = find_slot(bpe, left, right);
    if (slot->merged < 0) {
        *slot = (struct bpe_merge){.pair = (uint64_t)(uint32_t)left << 32 | (uint32_t)right, .rank = rank, .merged = merged};
    }
}

/* A doubly linked list of what is left of the piece; `id` is -1 once merged away. */
struct symbol {
    int id;
    uint32_t previous;
    uint32_t next;
};

/* A merge that was possible when it was pushed. It is stale when either side has changed since. */
struct candidate {
    uint32_t rank;
    uint32_t at; /* the left symbol */
    int left;
    int right;
    int merged;
};

struct work {
    const struct bpe *bpe;
    struct symbol *symbols;
    struct candidate *heap; /* smallest first; each merge pushes at most two, so 3 * count suffice */
    size_t heap_count;
};

static bool is_before(const struct candidate *a, const struct candidate *b) {
    return a->rank != b->rank ? a->rank < b->rank : a->at < b->at;
}

static void push(struct work *work, struct candidate candidate) {
    size_t at = work->heap_count++;
    while (at > 0 && is_before(&candidate, &work->heap[(at - 1) / 2])) {
        work->heap[at] = work->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    work->heap[at] = candidate;
}

static struct candidate pop(struct work *work) {
    struct candidate top = work->heap[0];
    struct candidate last = work->heap[--work->heap_count];
    size_t at = 0;
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= work->heap_count) {
            break;
        }
        if (child + 1 < work->heap_count && is_before(&work->heap[child + 1], &work->heap[child])) {
            child++;
        }
        if (!is_before(&work->heap[child], &last)) {
            break;
        }
        work->heap[at] = work->heap[child];
        at = child;
    }
    work->heap[at] = last;
    return top;
}

static void consider(struct work *work, uint32_t at) {
    if (at == NONE || work->symbols[at].next == NONE) {
        return;
    }
    int left = work->symbols[at].id;
    int right = work->symbols[work->symbols[at].next].id;
    const struct bpe_merge *merge = find_slot(work->bpe, left, right);
    if (merge->merged >= 0) {
        push(work, (struct candidate){.rank = merge->rank, .at = at, .left = left, .right = right, .merged = merge->merged});
    }
}

static bool is_stale(const struct work *work, const struct candidate *candidate) {
    const struct symbol *left = &work->symbols[candidate->at];
    return left->id != candidate->left || left->next == NONE || work->symbols[left->next].id != candidate->right;
}

static void merge_all(struct work *work, size_t count) {
    for (uint32_t i = 0; i + 1 < count; i++) {
        consider(work, i);
    }
    while (work->heap_count > 0) {
        struct candidate candidate = pop(work);
        if (is_stale(work, &candidate)) {
            continue;
        }
        struct symbol *left = &work->symbols[candidate.at];
        struct symbol *right = &work->symbols[left->next];
        left->id = candidate.merged;
        left->next = right->next;
        right->id = -1;
        if (left->next != NONE) {
            work->symbols[left->next].previous = candidate.at;
        }
        consider(work, left->previous);
        consider(work, candidate.at);
    }
}

size_t bpe_apply(const struct bpe *bpe, int *ids, size_t count) {
    struct symbol stack_symbols[STACK_SYMBOLS];
    struct candidate stack_heap[3 * STACK_SYMBOLS];
    cleanup_free struct symbol *symbols = NULL;
    cleanup_free struct candidate *heap = NULL;
    if (count < 2) {
        return count;
    }
    struct work work = {.bpe = bpe, .symbols = stack_symbols, .heap = stack_heap};
    if (count > STACK_SYMBOLS) {
        work.symbols = symbols = xcalloc(count, sizeof(*symbols));
        work.heap = heap = xcalloc(3 * count, sizeof(*heap));
    }
    for (size_t i = 0; i < count; i++) {
        work.symbols[i] = (struct symbol){
            .id = ids[i], .previous = i > 0 ? (uint32_t)i - 1 : NONE, .next = i + 1 < count ? (uint32_t)i + 1 : NONE};
    }
    merge_all(&work, count);
    size_t kept = 0;
    for (uint32_t at = 0; at != NONE; at = work.symbols[at].next) {
        ids[kept++] = work.symbols[at].id;
    }
    return kept;
}
