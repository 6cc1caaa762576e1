/* An adapter's files, brought from where its URL points into the cache: whole, checked, once.
 *
 * artifact_fetch blocks: it is called on a thread of its own (artifact/pool.h gives it some). Sources differ in two things only,
 * what files there are and how one is asked for (artifact/source.h); downloading, checking and keeping them is the same for all.
 *
 * In order: list what the source has with the caller's credentials -> is this content in the cache? -> take the artifact's lock
 * (one download, whatever the number of callers and processes) -> download into the staging folder, resuming what a killed process
 * left -> compare sizes and the source's hashes -> fsync, rename -> compare the digest, check the adapter (artifact/check.h). So
 * what lies in the cache is whole; a kill -9 at any point leaves that, and a staging folder that the next fetch goes on with. What
 * is whole and no use (a wrong digest, too high a rank) is kept too, so that asking again says so without bringing it again.
 *
 * Files and folders of artifacts are made for everybody to read, less the umask: the engine may run as another user in another
 * container. What only those who fetch need (staging, records, locks) is theirs alone. Make the cache's folder with mode 0700, or
 * set the umask, where other users of the machine are not to read weights. */
#ifndef DAVIT_ARTIFACT_ARTIFACT_H
#define DAVIT_ARTIFACT_ARTIFACT_H

#include "base/error.h"
#include "base/hash.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ARTIFACT_FILES_MAX 1024
#define ARTIFACT_SECRETS_MAX 64
#define ARTIFACT_BYTES_MAX_DEFAULT (16ull << 30)

/* The process's, made once; read only afterwards and shared by all threads. Everything is borrowed. */
struct artifact_options {
    const char *cache;            /* folder; made with mode 0755, less the umask, when missing */
    uint64_t cache_bytes_max;     /* above it what was used longest ago goes, never what is loaded or in use; 0 = no cap */
    uint64_t artifact_bytes_max;  /* of one artifact; 0 = ARTIFACT_BYTES_MAX_DEFAULT */
    int64_t timeout_ms;           /* of one fetch; 0 = one hour */
    int64_t stall_ms;             /* without a byte; 0 = 30 s */
    unsigned parts;               /* ranges of one large file that are asked for at a time; 0 = 4 */
    bool is_pickle_allowed;       /* adapter_model.bin where there are no safetensors */
    bool is_offline;              /* the cache, the local hub cache and folders only */
    const char *const *addresses; /* "10.1.0.0/16", "169.254.169.254", ..., NULL at the end: allowed though they are link-local or
                                     a cloud's metadata server; NULL = none */
    const char *ca_file;          /* authorities to trust beside the system's; NULL = none */
};

/* Keys and values of the adapter's Secret and additionalConfig. Keys are compared without regard to case. */
struct artifact_secret {
    const char *key;
    const char *value;
};
struct artifact_secrets {
    struct artifact_secret items[ARTIFACT_SECRETS_MAX];
    size_t count;
};
/* The first of `keys` (NULL at the end) that is there and not empty; NULL = none. Borrowed. */
const char *artifact_secret(const struct artifact_secrets *secrets, const char *const *keys);

struct artifact_wanted {
    const char *url;
    const char *revision; /* branch, tag, commit or object version; "" = what the URL says, else the newest */
    const char *digest;   /* SHA-256 of the weights file, 64 hexadecimal digits; "" = any */
    /* What an earlier fetch found (artifact_found.version), "" = any. A source that keeps its past (the hub) gives just that one;
     * of another, ERROR_CONFLICT when it has something else now, unless the cache has it still. */
    const char *version;
    /* NULL = an adapter. Else a base model (artifact/model_files.h): the files that end in one of these, joined by commas, where
     * "/model.gguf" is a whole name; "" = those that engines read. */
    const char *model_suffixes;
    int max_rank;                           /* the engine's limit; 0 = none known */
    const struct artifact_secrets *secrets; /* NULL = none: the environment's credentials */
};

struct artifact_cache;

enum artifact_stage { ARTIFACT_WAITING, ARTIFACT_LISTING, ARTIFACT_DOWNLOADING, ARTIFACT_CHECKING, ARTIFACT_DONE };

/* Written by the fetch, read by anybody; is_cancelled the other way round. */
struct artifact_progress {
    _Atomic int stage; /* enum artifact_stage */
    _Atomic uint64_t bytes_done;
    _Atomic uint64_t bytes_total; /* 0 = not known yet */
    _Atomic bool is_cancelled;    /* the fetch ends soon, with ERROR_TIMEOUT; what was staged stays */
};
/* 0 to 100, also when more came than was said before. */
unsigned artifact_percent(uint64_t done, uint64_t total);
/* ERROR_TIMEOUT when it was cancelled; NULL = nobody can. */
int artifact_progress_check(const struct artifact_progress *progress, struct error *err) DAVIT_MUST_USE;

struct artifact_found {
    char *folder;                /* with adapter_config.json and the weights */
    char *version;               /* a commit, or a digest over what the store says of its objects; "" for a folder */
    char digest[HASH_HEX_BYTES]; /* SHA-256 of the weights file; "" when nobody could read it */
    uint64_t bytes;
    bool was_cached;
    bool is_unseen; /* an absolute path that this process cannot see: for the engine to judge */
};

/* ERROR_NOT_FOUND, ERROR_UNAUTHORIZED (no or wrong credentials), ERROR_DENIED (credentials without the right; an address that is
 * not allowed), ERROR_INVALID (what is there is no adapter, or not what was promised: sizes, hashes, digest), ERROR_CONFLICT
 * (version), ERROR_LIMIT, ERROR_UNSUPPORTED (scheme, pickle), ERROR_UNAVAILABLE and ERROR_TIMEOUT (worth another try), ERROR_IO
 * (the disk; says so). Messages name the URL without what is secret in it, and never hold a secret's value. The caller releases
 * *ret on success. */
int artifact_fetch(struct artifact_cache *cache, const struct artifact_wanted *wanted, struct artifact_progress *progress,
                   struct artifact_found *ret, struct error *err) DAVIT_MUST_USE;
void artifact_found_release(struct artifact_found *found);

#endif
