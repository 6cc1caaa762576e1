#include "engine/tokenizer/bpe.h"

#include "base/alloc.h"

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

/* A doubly linked list of what is left of the piece. `rank` is that of the merge with the next symbol, NONE when there is none; a
 * symbol that was merged away has none. */
struct symbol {
    int id;
    uint32_t previous;
    uint32_t next;
    uint32_t rank;
};

/* Candidates are what was possible when it was pushed: rank << 32 | left symbol, so that the lowest rank comes first and of equal
 * ones the leftmost. One is stale when its symbol's rank is another by now. Each merge pushes at most two, so 3 * count suffice. */
struct work {
    const struct bpe *bpe;
    struct symbol *symbols;
    uint64_t *heap; /* smallest first */
    size_t heap_count;
};

static void push(struct work *work, uint64_t candidate) {
    size_t at = work->heap_count++;
    while (at > 0 && candidate < work->heap[(at - 1) / 2]) {
        work->heap[at] = work->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    work->heap[at] = candidate;
}

static uint64_t pop(struct work *work) {
    uint64_t top = work->heap[0];
    uint64_t last = work->heap[--work->heap_count];
    size_t at = 0;
    for (size_t child = 1; child < work->heap_count; child = 2 * at + 1) {
        child += child + 1 < work->heap_count && work->heap[child + 1] < work->heap[child] ? 1 : 0;
        if (last <= work->heap[child]) {
            break;
        }
        work->heap[at] = work->heap[child];
        at = child;
    }
    work->heap[at] = last;
    return top;
}

/* After a symbol or its neighbour has changed. */
static void consider(struct work *work, uint32_t at) {
    struct symbol *symbol = at != NONE ? &work->symbols[at] : NULL;
    if (symbol == NULL) {
        return;
    }
    symbol->rank = NONE;
    if (symbol->next != NONE) {
        const struct bpe_merge *merge = find_slot(work->bpe, symbol->id, work->symbols[symbol->next].id);
        if (merge->merged >= 0) {
            symbol->rank = merge->rank;
            push(work, (uint64_t)merge->rank << 32 | at);
        }
    }
}

static void merge_all(struct work *work, size_t count) {
    for (uint32_t i = 0; i + 1 < count; i++) {
        consider(work, i);
    }
    while (work->heap_count > 0) {
        uint64_t candidate = pop(work);
        uint32_t at = (uint32_t)candidate;
        struct symbol *left = &work->symbols[at];
        if (left->rank != (uint32_t)(candidate >> 32)) {
            continue;
        }
        struct symbol *right = &work->symbols[left->next];
        left->id = find_slot(work->bpe, left->id, right->id)->merged;
        left->next = right->next;
        right->rank = NONE;
        if (left->next != NONE) {
            work->symbols[left->next].previous = at;
        }
        consider(work, left->previous);
        consider(work, at);
    }
}

size_t bpe_apply(const struct bpe *bpe, int *ids, size_t count) {
    struct symbol stack_symbols[STACK_SYMBOLS];
    uint64_t stack_heap[3 * STACK_SYMBOLS];
    cleanup_free struct symbol *symbols = NULL;
    cleanup_free uint64_t *heap = NULL;
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
            .id = ids[i], .previous = i > 0 ? (uint32_t)i - 1 : NONE, .next = i + 1 < count ? (uint32_t)i + 1 : NONE, .rank = NONE};
    }
    merge_all(&work, count);
    size_t kept = 0;
    for (uint32_t at = 0; at != NONE; at = work.symbols[at].next) {
        ids[kept++] = work.symbols[at].id;
    }
    return kept;
}
