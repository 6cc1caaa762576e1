/* One file of a download: what came of it, its hash on the way, and its end. */
#ifndef DAVIT_ARTIFACT_DOWNLOAD_ITEM_H
#define DAVIT_ARTIFACT_DOWNLOAD_ITEM_H

#include "artifact/artifact.h"
#include "artifact/digests.h"
#include "artifact/manifest.h"
#include "artifact/staged.h"

#define ITEM_LARGE_BYTES (8ull << 20) /* smaller files are hashed as they come, by those who bring them */
#define ITEM_VALIDATOR_BYTES 128

struct item {
    struct staged staged; /* closed before its turn, and when it is finished */
    uint64_t finished_bytes;
    struct follower *follower;
    uint64_t followed;
    char sha256[HASH_HEX_BYTES]; /* known already, of a copy of a local file; "" = not */
    struct digester *digester;   /* NULL = what is there is read for its hash */
    uint64_t digested;
    bool is_unranged; /* its server sends the whole file in any case */
    bool must_restart;
    int restarts;
    int64_t due_ms;                       /* nobody works at it before */
    char validator[ITEM_VALIDATOR_BYTES]; /* what the first answer said; a later one that says otherwise is of another file */
    size_t next_chunk;                    /* those before it are taken or whole */
    bool is_whole;
};

/* Hashed beside the download, by a thread of its own. */
bool item_is_large(const struct item *item);

/* Opens what an earlier try left of `file` in the folder (a descriptor), copies what lies here already (file->local), and begins to
 * hash. `item` is zeroed; item_release also after a failure. */
int item_open(struct item *item, const struct artifact_file *file, int folder, struct artifact_progress *progress,
              struct error *err) DAVIT_MUST_USE;
/* After bytes were written to item->staged. */
void item_follow(struct item *item);
/* Throws away what there is. */
int item_restart(struct item *item, struct artifact_progress *progress, struct error *err) DAVIT_MUST_USE;
/* Judges size and hash of what is there, syncs it, adds it to the manifest and closes it. */
int item_finish(struct item *item, struct artifact_progress *progress, struct manifest *manifest, struct error *err) DAVIT_MUST_USE;
void item_release(struct item *item);

#endif
