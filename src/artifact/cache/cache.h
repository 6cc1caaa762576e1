/* The folder in which artifacts are kept, by content.
 *
 *   v1/objects/<id>/             the files of an artifact and manifest.json; id = first 32 hexadecimal digits of SHA-256 over names
 *                                and SHA-256 of the files, so the same content from two places is there once
 *   v1/sources/<key>.json        which object a source's version was; key = the same of URL and version
 *   v1/staging/<key>/            what is being downloaded; goes on after a kill -9
 *   v1/locks/<key>               one process downloads
 *   v1/uses                      one byte a loaded or just opened object, locked shared by each process that uses it
 *
 * Objects appear by rename and are never changed. Several processes may share a cache; none trusts what another's crash left.
 *
 * A handle may be used by several threads at a time. */
#ifndef DAVIT_ARTIFACT_CACHE_CACHE_H
#define DAVIT_ARTIFACT_CACHE_CACHE_H

#include "artifact/source.h"

struct artifact_cache;

/* Makes the folders. `options` is borrowed. */
struct artifact_cache *artifact_cache_open(const struct artifact_options *options, struct error *err);
void artifact_cache_close(struct artifact_cache *cache);

/* While a folder is used by this process (an engine may read it again at any time) nobody evicts it. Folders elsewhere are ignored.
 * Neither waits for anything, so they may be called on a loop: what other processes see of it follows a moment later, and until
 * then an object that was just fetched is kept as such. */
void artifact_cache_use(struct artifact_cache *cache, const char *folder);
void artifact_cache_unuse(struct artifact_cache *cache, const char *folder);
/* Whether a path lies in the cache. */
bool artifact_cache_holds(const struct artifact_cache *cache, const char *path);

struct artifact_cache_entry {
    char id[33];
    char *folder;
    char *url; /* one of those that it came from */
    char *version;
    char digest[HASH_HEX_BYTES];
    uint64_t bytes;
    int64_t used_s; /* last, UTC */
    bool is_in_use;
};
struct artifact_cache_list {
    struct artifact_cache_entry *items;
    size_t count;
    uint64_t bytes;
    uint64_t staging_bytes;
};
int artifact_cache_list(struct artifact_cache *cache, struct artifact_cache_list *ret, struct error *err) DAVIT_MUST_USE;
void artifact_cache_list_release(struct artifact_cache_list *list);
/* Reads every file again. 0, or ERROR_INVALID that names the file. */
int artifact_cache_verify(struct artifact_cache *cache, const struct artifact_cache_entry *entry, struct error *err) DAVIT_MUST_USE;
/* Frees what was used longest ago until at most `bytes_max` are kept; what is in use stays. Returns the number of objects removed.
 */
int artifact_cache_prune(struct artifact_cache *cache, uint64_t bytes_max, uint64_t *ret_freed_bytes,
                         struct error *err) DAVIT_MUST_USE;

#endif
