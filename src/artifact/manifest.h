/* What an object of the cache holds, as its manifest.json says: names, sizes and SHA-256 of its files, and where they came from.
 * Pure.
 */
#ifndef DAVIT_ARTIFACT_MANIFEST_H
#define DAVIT_ARTIFACT_MANIFEST_H

#include "artifact/artifact.h"
#include "base/buffer.h"

#define MANIFEST_FILE "manifest.json"
#define MANIFEST_BYTES_MAX (512u << 10)
#define OBJECT_ID_BYTES 33 /* 32 hexadecimal digits */

struct manifest_file {
    char *name;
    uint64_t bytes;
    char sha256[HASH_HEX_BYTES];
};

struct manifest {
    char id[OBJECT_ID_BYTES];
    char *url; /* one of those that it came from, without what is secret */
    char *version;
    char digest[HASH_HEX_BYTES]; /* of the weights */
    uint64_t bytes;
    struct manifest_file *files; /* by name; at most ARTIFACT_FILES_MAX */
    size_t count;
};

/* A new row, which takes the name; there is room. */
void manifest_add(struct manifest *manifest, char *name, uint64_t bytes, const char *sha256);
/* Sorts the files and derives id, digest and bytes from them. */
void manifest_seal(struct manifest *manifest);
void manifest_write(const struct manifest *manifest, struct buffer *out);
/* ERROR_INVALID also for names that lead elsewhere and an id that is not that of the files. The caller releases *ret. */
int manifest_parse(const char *text, size_t len, struct manifest *ret, struct error *err) DAVIT_MUST_USE;
void manifest_release(struct manifest *manifest);

bool manifest_is_id(const char *text);

#endif
