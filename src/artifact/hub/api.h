/* What the Hub answers about a repository. Pure.
 *
 *   info   GET /api/models/{repo}/revision/{revision}?blobs=true
 * {"id","sha","siblings":[{"rfilename","size","blobId","lfs":{...}}]} tree   GET /api/models/{repo}/tree/{commit}/{folder}
 * [{"type":"file","path","size","oid","lfs":{"oid","size"}}], in pages
 *
 * A small file is named by git's SHA-1 of it, a large one (LFS, whether it lies in Xet's store or not) by its SHA-256. */
#ifndef DAVIT_ARTIFACT_HUB_API_H
#define DAVIT_ARTIFACT_HUB_API_H

#include "artifact/hub/url.h"
#include "artifact/source.h"

#define HUB_ANSWER_BYTES_MAX (4 * 1024 * 1024)
#define HUB_VALUES_MAX 131072 /* of one answer: some 14,000 files with all that is said of them */
#define HUB_PAGES_MAX 64

/* A reader of several answers about one repository. */
struct hub_reading {
    const struct hub_place *place;
    struct source_filter filter;
    char commit[HUB_COMMIT_LEN + 1];
    bool is_gated; /* anybody may read the list, not everybody the files */
    struct artifact_listing
        *listing;    /* the needed files of the folder are added to it; keys are paths from the repository's root */
    char *elsewhere; /* a folder that has an adapter_config.json, when the one asked for is the root; NULL = none seen */
};

/* Fills the commit, and the listing when `with_files`. ERROR_INVALID: not an answer of a hub; ERROR_LIMIT. */
int hub_info_read(struct hub_reading *reading, const char *text, size_t len, bool with_files, struct error *err) DAVIT_MUST_USE;
/* Adds a page of the folder's files. */
int hub_tree_read(struct hub_reading *reading, const char *text, size_t len, struct error *err) DAVIT_MUST_USE;

#endif
