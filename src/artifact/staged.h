/* A file that is being downloaded, in staging/<key>/: the bytes in files/<name>, what of them is there in parts/<name>. Written in
 * chunks in any order; a process that is killed leaves both so that the next one goes on.
 *
 * What was noted but not yet on the disk when the machine itself went down would be zeros. So of a file whose hash the source does
 * not say nothing is taken over from before a reboot. */
#ifndef DAVIT_ARTIFACT_STAGED_H
#define DAVIT_ARTIFACT_STAGED_H

#include "artifact/source.h"

#define STAGED_CHUNK_BYTES (32ull << 20) /* of a file that is large enough for several */

struct staged {
    const struct artifact_file *file;
    int fd;
    int parts_fd;
    bool is_chunked;
    size_t chunk_count;
    uint64_t *done;  /* bytes of each chunk, from its beginning */
    uint64_t *noted; /* the same, as it is on disk */
};

/* Whether the source said something that changes with the file's content. */
bool staged_is_known(const struct artifact_file *file);
/* `folder` is staging/<key>. */
int staged_open(int folder, const struct artifact_file *file, bool is_chunked, struct staged *ret,
                struct error *err) DAVIT_MUST_USE;
void staged_close(struct staged *staged);
/* Closes what is not whole. The bytes stay where a later try can go on with them, and give their room back where it cannot. */
void staged_leave(struct staged *staged);

uint64_t staged_chunk_start(const struct staged *staged, size_t chunk);
uint64_t staged_chunk_bytes(const struct staged *staged, size_t chunk); /* UINT64_MAX = not known */
uint64_t staged_bytes(const struct staged *staged);                     /* that are there */
uint64_t staged_prefix(const struct staged *staged);                    /* that are there without a gap */
/* ERROR_IO, plainly when the disk is full. */
int staged_write(struct staged *staged, size_t chunk, const void *bytes, size_t len, struct error *err) DAVIT_MUST_USE;
/* fsync of all bytes, in steps between which the fetch can be cancelled. */
int staged_sync(const struct staged *staged, const struct artifact_progress *progress, struct error *err) DAVIT_MUST_USE;
void staged_note(struct staged *staged, size_t chunk); /* how far the chunk is, for the next process */
/* Begins again. As one piece: whoever serves it knows no ranges. */
int staged_restart(struct staged *staged, bool is_chunked, struct error *err) DAVIT_MUST_USE;

#endif
