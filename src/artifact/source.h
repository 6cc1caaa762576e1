/* Where artifacts come from: one row of functions a scheme. A source says which files there are and how each is asked for; it never
 * touches a disk's cache and never downloads weights itself.
 *
 * Whatever decides is pure and tested alone (signatures, listings, tokens, names); what is here sends it with artifact/http.h. */
#ifndef DAVIT_ARTIFACT_SOURCE_H
#define DAVIT_ARTIFACT_SOURCE_H

#include "artifact/artifact.h"
#include "artifact/http.h"

struct artifact_file {
    char *name;                  /* below the artifact's folder: "adapter_config.json"; source_add_file has checked it */
    uint64_t bytes;              /* UINT64_MAX = the source does not say */
    char sha256[HASH_HEX_BYTES]; /* "" = the source does not say */
    char git_sha1[41];           /* of "blob <len>\0<bytes>", as the hub and git have it; "" = none */
    char md5[33];                /* "" = none */
    char crc32c[9];              /* 8 hexadecimal digits; "" = none. See artifact/crc32c.h */
    char *etag;                  /* sent as If-Match (or the source's own way) with every later part; NULL = none */
    char *key;                   /* the source's: an object's key or a URL */
    char *local;                 /* this file lies on this machine already, as the local hub cache keeps it; NULL = no */
};

struct artifact_listing {
    char *version;               /* see artifact_found.version */
    struct artifact_file *files; /* at most ARTIFACT_FILES_MAX */
    size_t count;
};
void artifact_listing_release(struct artifact_listing *listing);

/* What is looked for. */
struct source_filter {
    bool is_pickle_allowed;
    const char *model_suffixes; /* as artifact_wanted has them; NULL = an adapter */
};
struct source_filter source_filter_of(const struct artifact_options *options, const struct artifact_wanted *wanted);
/* Which files of a source are needed. Of an adapter: adapter_config.json, the weights, and what a tokenizer adds; of a model what
 * artifact/model_files.h says; nothing else is fetched. `name` is relative to the artifact's folder. */
bool source_is_needed(const char *name, const struct source_filter *filter);
/* "adapter_config.json", or what a model lacks, for messages about a folder that holds nothing of use. */
const char *source_needs(const struct source_filter *filter);
/* A new row, zeroed but for its name. ERROR_INVALID for a name that is empty, "." or "..", has a slash, a backslash, a control
 * character, more than 255 bytes or bytes that are no UTF-8, or is there already; ERROR_LIMIT past ARTIFACT_FILES_MAX. Borrowed
 * from the listing, until the next row. */
struct artifact_file *source_add_file(struct artifact_listing *listing, const char *name, struct error *err);

struct source_args {
    const struct artifact_options *options;
    const struct artifact_wanted *wanted;
    struct artifact_http *http;
};

struct source_type {
    /* Whether the environment says that this source is not to be asked; NULL = it never does. */
    bool (*is_offline)(void);
    /* Reads the URL and finds credentials; asks nobody yet. */
    int (*open)(const struct source_args *args, void **ret_source, struct error *err);
    /* What there is now, resolved once: every later request is for exactly this. Errors as of artifact_fetch. */
    int (*list)(void *source, struct artifact_listing *ret_listing, struct error *err);
    /* The GET of a file, without Range: that is added by the downloader (so it is no signed header). Called again before every part
     * and every further try, so that tokens and signatures are fresh. The caller releases *ret on success. */
    int (*request)(void *source, const struct artifact_file *file, struct artifact_request *ret, struct error *err);
    /* What a status other than 200 and 206 means here; sets *err with an ERROR_ code that keeps its meaning. */
    void (*explain)(void *source, const struct artifact_file *file, const struct artifact_reply *reply, struct error *err);
    void (*close)(void *source);
};

extern const struct source_type source_hub;  /* hf://, huggingface:// */
extern const struct source_type source_s3;   /* s3://, tos:// */
extern const struct source_type source_gcs;  /* gs://, gcs:// */
extern const struct source_type source_http; /* http://, https:// */

#endif
