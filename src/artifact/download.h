/* Brings the files of a listing into a staging folder: several at a time, large ones in chunks, going on where an earlier try or
 * process stopped, hashing meanwhile. */
#ifndef DAVIT_ARTIFACT_DOWNLOAD_H
#define DAVIT_ARTIFACT_DOWNLOAD_H

#include "artifact/manifest.h"
#include "artifact/source.h"

struct download_args {
    const struct artifact_options *options;
    struct artifact_progress *progress;
    struct artifact_http *http;
    const struct source_type *type;
    void *source;
    const struct artifact_listing *listing;
    const char *label; /* the URL for people */
    int folder;        /* staging/<key> */
};

/* 0: all files are whole, compared with what the source says of them, and synced; *ret has their names, sizes and hashes. -1:
 * errors as of artifact_fetch; what was staged and may be right stays. *ret_is_stale: the source has something else by now, so that
 * another list is worth asking for. */
int download_files(const struct download_args *args, struct manifest *ret, bool *ret_is_stale, struct error *err) DAVIT_MUST_USE;

#endif
