/* The cache that the Hub's own tools keep on a machine, read only.
 *
 *   models--org--name/refs/<revision>            40 hexadecimal digits
 *   models--org--name/snapshots/<commit>/<path>  a link to ../../blobs/<etag>, or a copy where there are no links
 *   models--org--name/blobs/<etag>               etag = SHA-256 of a large file, git's SHA-1 of a small one
 *
 * A link that leads out of the cache is not followed. What is said of a file is what the blob's name promises: whoever uses it
 * still checks. */
#ifndef DAVIT_ARTIFACT_HUB_CACHE_H
#define DAVIT_ARTIFACT_HUB_CACHE_H

#include "artifact/hub/url.h"
#include "artifact/source.h"

/* The commit that a revision was when a tool last asked. ERROR_NOT_FOUND. `root` is the hub cache. */
int hub_cache_resolve(const char *root, const struct hub_place *place, char ret_commit[HUB_COMMIT_LEN + 1],
                      struct error *err) DAVIT_MUST_USE;
/* Adds the needed files of the folder at a commit: name, size, hash, local. ERROR_NOT_FOUND when the snapshot is not there. */
int hub_cache_list(const char *root, const struct hub_place *place, const char *commit, const struct source_filter *filter,
                   struct artifact_listing *listing, struct error *err) DAVIT_MUST_USE;
/* Sets `local` of each listed file that the cache has with the listed size and hash. */
void hub_cache_use(const char *root, const struct hub_place *place, const char *commit, struct artifact_listing *listing);

#endif
