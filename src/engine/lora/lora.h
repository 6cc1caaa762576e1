/* A LoRA adapter made for one base model: y += scaling * B (A x) on any of the seven projections of each layer. Immutable and
 * reference-counted; any thread may read it, and the last reference frees it. */
#ifndef DAVIT_ENGINE_LORA_LORA_H
#define DAVIT_ENGINE_LORA_LORA_H

#include "base/error.h"
#include "base/hash.h"
#include "engine/model/model.h"

#include <stdatomic.h>

struct lora_pair {
    struct matrix a; /* [rank, in] F32, as stored; data NULL when the adapter leaves the projection alone */
    const float *b;  /* [rank, out]: stored B transposed and times scaling */
};

struct lora_adapter {
    atomic_int references;
    int rank;
    struct hash content; /* SHA-256 over the hashes of the two files */
    size_t bytes;        /* resident */
    float *weights;
    struct lora_pair pairs[]; /* layers * PROJECTION_COUNT */
};

/* Reads and checks the PEFT adapter in folder `path`. ERROR_NOT_FOUND, "No adapter found for <path>", when there is none; other
 * messages name the key or tensor, what was expected and what was found. Blocks on the disk. */
int lora_load(const struct model *model, const char *path, int max_rank, struct lora_adapter **ret_adapter,
              struct error *err) DAVIT_MUST_USE;
struct lora_adapter *lora_ref(struct lora_adapter *adapter);
void lora_unref(struct lora_adapter *adapter); /* NULL is fine */

#endif
