#include "artifact/artifact.h"

#include "adapter/artifact_url.h"
#include "artifact/cache/store.h"
#include "artifact/check.h"
#include "artifact/download.h"
#include "artifact/exchange.h"
#include "artifact/fetch_folder.h"
#include "artifact/folders.h"
#include "artifact/hub/url.h"
#include "artifact/model_files.h"
#include "artifact/source.h"
#include "base/clock.h"
#include "base/log.h"
#include "io/url.h"

#include <fcntl.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#define LOCK_POLL_MS 50
#define LISTS_MAX 2               /* when the source changes between list and download */
#define SPARE_BYTES (16ull << 20) /* that stay free on the disk beside the files */
#define FETCH_TIMEOUT_MS_DEFAULT 3600000
#define STALL_MS_DEFAULT 30000
#define STALLS_A_LIST 10 /* that all requests for the list may take together: five minutes */

static const struct {
    enum artifact_scheme scheme;
    const struct source_type *type;
} sources[] = {
    {ARTIFACT_HUGGINGFACE, &source_hub}, {ARTIFACT_S3, &source_s3},     {ARTIFACT_TOS, &source_s3},
    {ARTIFACT_GCS, &source_gcs},         {ARTIFACT_HTTP, &source_http},
};

struct fetch {
    struct artifact_cache *cache;
    const struct artifact_options *options;
    const struct artifact_wanted *wanted;
    struct artifact_progress *progress;
    struct artifact_http *http;
    const struct source_type *type;
    void *source;
    char *label;   /* the URL for people */
    char *key_url; /* the same for all ways to write it; with what is secret */
    char *key_revision;
    int64_t deadline_ms;
    struct artifact_listing listing;
    struct manifest manifest; /* of what was found */
    bool was_cached;
};

static const char *text_or_empty(const char *text) {
    return text != NULL ? text : "";
}

void artifact_found_release(struct artifact_found *found) {
    free(found->folder);
    free(found->version);
    *found = (struct artifact_found){0};
}

/* ---- keys of records and locks ---- */

/* Whoever chooses the server chooses what is there, under any version: what a Secret says of an endpoint is part of the keys, so
 * that nobody puts something into the cache for those who ask another server. */
static void append_endpoints(const struct fetch *fetch, struct buffer *text) {
    const struct artifact_secrets *secrets = fetch->wanted->secrets;
    for (size_t i = 0; secrets != NULL && i < secrets->count; i++) {
        if (strcasestr(secrets->items[i].key, "endpoint") != NULL && secrets->items[i].value != NULL) {
            buffer_printf(text, "\nendpoint %s", secrets->items[i].value);
        }
    }
}

static void key_of(const struct fetch *fetch, const char *kind, const char *url, const char *version, char out[CACHE_KEY_BYTES]) {
    cleanup_buffer struct buffer text = BUFFER_INIT;
    buffer_printf(&text, "%s\n%s\n%s", kind, url, version);
    if (fetch->wanted->model_suffixes != NULL) { /* other files of the same version */
        buffer_printf(&text, "\nmodel %s", fetch->wanted->model_suffixes);
    }
    append_endpoints(fetch, &text);
    cache_key(buffer_text(&text), out);
}

static void find_key_url(struct fetch *fetch) {
    const struct artifact_wanted *wanted = fetch->wanted;
    struct hub_place place;
    if (artifact_scheme_of(wanted->url) == ARTIFACT_HUGGINGFACE &&
        hub_place_parse(wanted->url, wanted->revision, &place, NULL) == 0) {
        fetch->key_url = hub_place_url(&place);
        fetch->key_revision = xstrdup(strcmp(place.revision, "main") != 0 ? place.revision : "");
        hub_place_release(&place);
        return;
    }
    fetch->key_url = xstrdup(wanted->url);
    fetch->key_revision = xstrdup(text_or_empty(wanted->revision));
}

/* A version says all of a source's content. The whole URL: a query may be what chooses the adapter, and servers that tell contents
 * apart by size and time alone say the same of two that were trained and saved together. */
static void version_key(const struct fetch *fetch, const char *version, char out[CACHE_KEY_BYTES]) {
    key_of(fetch, "version", fetch->key_url, version, out);
}

/* What a URL and a revision led to the last time. Of the URL only its hash is kept. */
static void name_key(const struct fetch *fetch, char out[CACHE_KEY_BYTES]) {
    key_of(fetch, "name", fetch->key_url, fetch->key_revision, out);
}

/* ---- what the cache has ---- */

/* What has to hold of an object for this caller. */
static int check_object(struct fetch *fetch, struct error *err) {
    const char *digest = text_or_empty(fetch->wanted->digest);
    const struct artifact_check_args args = {.max_rank = fetch->wanted->max_rank,
                                             .is_pickle_allowed = fetch->options->is_pickle_allowed};
    if (digest[0] != '\0' && strcasecmp(digest, fetch->manifest.digest) != 0) {
        return error_set(err, ERROR_INVALID, "%s: expected weights with SHA-256 %s, found %s", fetch->label, digest,
                         fetch->manifest.digest);
    }
    cleanup_close int folder = folder_open(fetch->cache->objects_fd, fetch->manifest.id, 0, err);
    if (folder < 0) {
        return -1;
    }
    return fetch->wanted->model_suffixes != NULL ? model_check_folder(folder, &fetch->manifest, fetch->label, err)
                                                 : artifact_check_folder(folder, fetch->label, &args, err);
}

/* 1 found (fetch->manifest is set), 0 not, -1 found and not what was wanted, or nobody can say. */
static int find(struct fetch *fetch, const char *key, struct error *err) {
    manifest_release(&fetch->manifest);
    int found = cache_find(fetch->cache, key, &fetch->manifest, err);
    if (found <= 0) {
        return found < 0 ? error_wrap(err, "%s", fetch->label) : 0;
    }
    fetch->was_cached = true;
    return check_object(fetch, err) < 0 ? -1 : 1;
}

static int find_version(struct fetch *fetch, const char *version, struct error *err) {
    char key[CACHE_KEY_BYTES];
    if (version[0] == '\0') {
        return 0;
    }
    version_key(fetch, version, key);
    return find(fetch, key, err);
}

static int find_offline(struct fetch *fetch, struct error *err) {
    char key[CACHE_KEY_BYTES];
    const char *version = text_or_empty(fetch->wanted->version);
    if (version[0] != '\0') {
        return find_version(fetch, version, err);
    }
    name_key(fetch, key);
    return find(fetch, key, err);
}

/* ---- the lock ---- */

static int check_still_wanted(const struct fetch *fetch, struct error *err) {
    if (artifact_progress_check(fetch->progress, err) < 0) {
        return error_wrap(err, "%s", fetch->label);
    }
    if (clock_now_ms() >= fetch->deadline_ms) {
        return error_set(err, ERROR_TIMEOUT, "%s: the time for the fetch is over while somebody else downloads it", fetch->label);
    }
    return 0;
}

/* Waits for the lock, or for the object that its holder brings. 0: *ret_lock is ours. 1: the object is there. -1. */
static int lock_or_find(struct fetch *fetch, const char *key, int *ret_lock, struct error *err) {
    for (;;) {
        *ret_lock = cache_try_lock(fetch->cache, key, err);
        int found = *ret_lock >= 0 || err->code == ERROR_BUSY ? find_version(fetch, fetch->listing.version, err) : -1;
        if (found != 0 || *ret_lock >= 0) {
            return found;
        }
        if (check_still_wanted(fetch, err) < 0) {
            return -1;
        }
        atomic_store(&fetch->progress->stage, ARTIFACT_WAITING);
        (void)usleep(LOCK_POLL_MS * 1000);
    }
}

/* ---- room ---- */

static uint64_t free_bytes(const struct fetch *fetch) {
    struct statvfs status;
    return fstatvfs(fetch->cache->staging_fd, &status) == 0 ? (uint64_t)status.f_bavail * status.f_frsize : UINT64_MAX;
}

static uint64_t unused_bytes(const struct artifact_cache_list *list) {
    uint64_t sum = 0;
    for (size_t i = 0; i < list->count; i++) {
        sum += list->items[i].is_in_use ? 0 : list->items[i].bytes;
    }
    return sum;
}

/* What was used longest ago goes first; nothing does where all of it would not be enough. */
static int evict(const struct fetch *fetch, uint64_t lacking, struct error *err) {
    struct artifact_cache_list list = {0};
    uint64_t freed = 0;
    if (artifact_cache_list(fetch->cache, &list, err) < 0) {
        return -1;
    }
    uint64_t kept = list.bytes > lacking ? list.bytes - lacking : 1; /* 0 would remove other downloads too */
    bool is_enough = unused_bytes(&list) >= lacking;
    artifact_cache_list_release(&list);
    return is_enough && artifact_cache_prune(fetch->cache, kept, &freed, err) < 0 ? -1 : 0;
}

static int make_room(struct fetch *fetch, uint64_t total, const char *key, struct error *err) {
    uint64_t staged = folder_bytes(fetch->cache->staging_fd, key);
    uint64_t needed = (total > staged ? total - staged : 0) + SPARE_BYTES;
    uint64_t there = free_bytes(fetch);
    uint64_t freed = 0;
    if (there < needed) { /* downloads that nobody went on with */
        if (artifact_cache_prune(fetch->cache, UINT64_MAX, &freed, err) < 0) {
            return -1;
        }
        there = free_bytes(fetch);
    }
    if (there < needed) {
        if (evict(fetch, needed - there, err) < 0) {
            return -1;
        }
        there = free_bytes(fetch);
    }
    if (there < needed) {
        return error_set(err, ERROR_IO, "%s: the disk of the cache is too full: %.1f MB are needed, %.1f MB are free in %s",
                         fetch->label, (double)needed / 1e6, (double)there / 1e6, fetch->cache->root);
    }
    return 0;
}

static void keep_to_the_cap(const struct fetch *fetch) {
    uint64_t freed = 0;
    struct error err = {0};
    if (fetch->options->cache_bytes_max > 0) {
        int removed = artifact_cache_prune(fetch->cache, fetch->options->cache_bytes_max, &freed, &err);
        if (removed > 0) {
            log_info("removed %d adapters from the cache that were not used, %.1f MB", removed, (double)freed / 1e6);
        }
    }
}

/* ---- the list ---- */

static bool has_file(const struct artifact_listing *listing, const char *name) {
    for (size_t i = 0; i < listing->count; i++) {
        if (strcmp(listing->files[i].name, name) == 0) {
            return true;
        }
    }
    return false;
}

static int check_adapters_files(const struct fetch *fetch, struct error *err) {
    const struct artifact_listing *listing = &fetch->listing;
    if (!has_file(listing, "adapter_config.json")) {
        return error_set(err, ERROR_NOT_FOUND, "%s has no adapter_config.json: expected the folder of a PEFT adapter",
                         fetch->label);
    }
    if (!has_file(listing, "adapter_model.safetensors") &&
        !(fetch->options->is_pickle_allowed && has_file(listing, "adapter_model.bin"))) {
        return error_set(err, ERROR_NOT_FOUND, "%s has no adapter_model.safetensors%s", fetch->label,
                         fetch->options->is_pickle_allowed ? " and no adapter_model.bin"
                                                           : " (adapter_model.bin is not looked at without --allow-pickle)");
    }
    return 0;
}

static int check_listing(const struct fetch *fetch, uint64_t *ret_total, struct error *err) {
    const struct artifact_listing *listing = &fetch->listing;
    const struct source_filter filter = source_filter_of(fetch->options, fetch->wanted);
    uint64_t most = fetch->options->artifact_bytes_max > 0 ? fetch->options->artifact_bytes_max : ARTIFACT_BYTES_MAX_DEFAULT;
    uint64_t total = 0;
    if ((filter.model_suffixes != NULL ? model_check_listing(listing, &filter, fetch->label, err)
                                       : check_adapters_files(fetch, err)) < 0) {
        return -1;
    }
    for (size_t i = 0; i < listing->count; i++) {
        uint64_t bytes = listing->files[i].bytes == UINT64_MAX ? 0 : listing->files[i].bytes;
        if (bytes > most - total) {
            return error_set(err, ERROR_LIMIT,
                             "%s: its files are larger than the limit of %llu bytes for an adapter (%s alone has %llu)",
                             fetch->label, (unsigned long long)most, listing->files[i].name, (unsigned long long)bytes);
        }
        total += bytes;
    }
    *ret_total = total;
    return 0;
}

static int list(struct fetch *fetch, struct error *err) {
    atomic_store(&fetch->progress->stage, ARTIFACT_LISTING);
    artifact_listing_release(&fetch->listing);
    int64_t stall_ms = fetch->options->stall_ms > 0 ? fetch->options->stall_ms : STALL_MS_DEFAULT;
    exchange_limit(fetch->http, STALLS_A_LIST * stall_ms, "too slow: the time for listing what is there is over");
    int result = fetch->type->list(fetch->source, &fetch->listing, err);
    exchange_limit(fetch->http, 0, NULL);
    if (result < 0) {
        return -1;
    }
    if (fetch->listing.version == NULL) {
        fetch->listing.version = xstrdup("");
    }
    return 0;
}

/* ---- download ---- */

static int record(struct fetch *fetch, struct error *err) {
    char key[CACHE_KEY_BYTES];
    name_key(fetch, key);
    if (cache_record(fetch->cache, key, &fetch->manifest, err) < 0) {
        return -1;
    }
    if (fetch->listing.version == NULL || fetch->listing.version[0] == '\0') {
        return 0;
    }
    version_key(fetch, fetch->listing.version, key);
    return cache_record(fetch->cache, key, &fetch->manifest, err);
}

static void remove_strangers(int folder, const struct artifact_listing *listing);

static int download(struct fetch *fetch, const char *key, int folder, bool *ret_is_stale, bool *ret_is_kept, struct error *err) {
    const struct download_args args = {
        .options = fetch->options,
        .progress = fetch->progress,
        .http = fetch->http,
        .type = fetch->type,
        .source = fetch->source,
        .listing = &fetch->listing,
        .label = fetch->label,
        .folder = folder,
    };
    struct manifest *manifest = &fetch->manifest;
    manifest_release(manifest);
    remove_strangers(folder, &fetch->listing);
    atomic_store(&fetch->progress->stage, ARTIFACT_DOWNLOADING);
    if (download_files(&args, manifest, ret_is_stale, err) < 0) {
        return -1;
    }
    atomic_store(&fetch->progress->stage, ARTIFACT_CHECKING);
    manifest->url = xstrdup(fetch->label);
    manifest->version = xstrdup(fetch->listing.version);
    manifest_seal(manifest);
    /* Kept first: what is whole and no use to this caller need not be brought again to say so. */
    if (cache_keep(fetch->cache, key, manifest, err) < 0 || record(fetch, err) < 0) {
        return -1;
    }
    *ret_is_kept = true;
    return check_object(fetch, err);
}

/* What another list of the same artifact left in the staging folder. */
struct strangers {
    int at;
    const struct artifact_listing *listing;
};

static int remove_stranger(void *arg, const char *name) {
    const struct strangers *strangers = arg;
    return has_file(strangers->listing, name) ? 0 : folder_remove(strangers->at, name, NULL);
}

static void remove_strangers(int folder, const struct artifact_listing *listing) {
    static const char *const parts[] = {"files", "parts"};
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        cleanup_close int at = folder_open(folder, parts[i], 0, NULL);
        struct strangers strangers = {.at = at, .listing = listing};
        if (at >= 0) {
            (void)folder_each(at, remove_stranger, &strangers);
        }
    }
}

static void say_done(const struct fetch *fetch, int64_t started_ms, uint64_t resumed) {
    double seconds = (double)(clock_now_ms() - started_ms) / 1000.0;
    double fetched = fetch->manifest.bytes > resumed ? (double)(fetch->manifest.bytes - resumed) : 0;
    log_info("fetched %s: %llu bytes in %.2f s, %.1f MB/s", fetch->label, (unsigned long long)fetch->manifest.bytes, seconds,
             seconds > 0 ? fetched / 1e6 / seconds : 0);
}

/* With the lock. */
static int download_locked(struct fetch *fetch, const char *key, uint64_t total, bool *ret_is_stale, struct error *err) {
    int64_t started_ms = clock_now_ms();
    bool is_kept = false;
    if (make_room(fetch, total, key, err) < 0) {
        return -1;
    }
    cleanup_close int folder = folder_open(fetch->cache->staging_fd, key, 0700, err);
    if (folder < 0) {
        return -1;
    }
    uint64_t resumed = folder_bytes(fetch->cache->staging_fd, key);
    bool has_older_bytes = resumed > 0;
    resumed = resumed > (64u << 10) ? resumed : 0;
    log_info("downloading %s: %zu files, %.1f MB%s", fetch->label, fetch->listing.count, (double)total / 1e6,
             resumed > 0 ? ", some of which are here already" : "");
    atomic_store(&fetch->progress->bytes_total, total);
    fetch->was_cached = false;
    if (download(fetch, key, folder, ret_is_stale, &is_kept, err) < 0) {
        if (err->code == ERROR_INVALID && !is_kept) {
            (void)folder_remove(fetch->cache->staging_fd, key, NULL); /* it would be no better the next time */
            *ret_is_stale |= has_older_bytes; /* a crash may have spoiled them: all from its source is worth a try */
        }
        return -1;
    }
    say_done(fetch, started_ms, resumed);
    return 0;
}

/* ---- the whole of it ---- */

/* 0, or -1; then *ret_is_stale says that another list is worth it. */
static int fetch_listed(struct fetch *fetch, bool *ret_is_stale, struct error *err) {
    char key[CACHE_KEY_BYTES];
    uint64_t total = 0;
    const char *version = text_or_empty(fetch->wanted->version);
    cleanup_close int lock = -1;
    if (list(fetch, err) < 0) {
        return -1;
    }
    if (version[0] != '\0' && strcmp(version, fetch->listing.version) != 0) {
        int found = find_version(fetch, version, err);
        return found != 0
                   ? (found < 0 ? -1 : 0)
                   : error_set(err, ERROR_CONFLICT, "%s: expected version %s, found %s, and the cache has only what it is now",
                               fetch->label, version, fetch->listing.version);
    }
    int found = find_version(fetch, fetch->listing.version, err);
    if (found != 0) {
        return found < 0 || record(fetch, err) < 0 ? -1 : 0;
    }
    if (check_listing(fetch, &total, err) < 0) {
        return -1;
    }
    version_key(fetch, fetch->listing.version, key);
    found = lock_or_find(fetch, key, &lock, err);
    if (found != 0) {
        return found < 0 ? -1 : 0;
    }
    return download_locked(fetch, key, total, ret_is_stale, err);
}

static bool is_offline(const struct fetch *fetch) {
    return fetch->options->is_offline || (fetch->type->is_offline != NULL && fetch->type->is_offline());
}

static int fetch_remote(struct fetch *fetch, struct error *err) {
    const struct source_args args = {.options = fetch->options, .wanted = fetch->wanted, .http = fetch->http};
    if (is_offline(fetch)) {
        int found = find_offline(fetch, err);
        if (found != 0) {
            return found < 0 ? -1 : 0;
        }
        if (artifact_scheme_of(fetch->wanted->url) != ARTIFACT_HUGGINGFACE) { /* the hub's client keeps a cache of its own */
            return error_set(err, ERROR_NOT_FOUND, "%s is not in the cache, and nothing is asked for offline", fetch->label);
        }
    }
    if (fetch->type->open(&args, &fetch->source, err) < 0) {
        return -1;
    }
    int result = -1;
    bool is_stale = true;
    for (int i = 0; i < LISTS_MAX && result < 0 && is_stale; i++) {
        is_stale = false;
        result = fetch_listed(fetch, &is_stale, err);
    }
    fetch->type->close(fetch->source);
    return result;
}

static const struct source_type *type_of(const char *url) {
    enum artifact_scheme scheme = artifact_scheme_of(url);
    for (size_t i = 0; i < ARRAY_LEN(sources); i++) {
        if (sources[i].scheme == scheme) {
            return sources[i].type;
        }
    }
    return NULL;
}

static void take_found(struct fetch *fetch, struct artifact_found *ret) {
    const char *version = fetch->listing.version != NULL ? fetch->listing.version : "";
    const char *wanted = text_or_empty(fetch->wanted->version);
    *ret = (struct artifact_found){
        .folder = cache_object_folder(fetch->cache, fetch->manifest.id),
        .version = xstrdup(wanted[0] != '\0'    ? wanted
                           : version[0] != '\0' ? version
                                                : text_or_empty(fetch->manifest.version)),
        .bytes = fetch->manifest.bytes,
        .was_cached = fetch->was_cached,
    };
    memcpy(ret->digest, fetch->manifest.digest, sizeof(ret->digest));
}

static int fetch_with(struct artifact_cache *cache, const struct artifact_wanted *wanted, struct artifact_progress *progress,
                      struct artifact_found *ret, struct error *err) {
    const struct artifact_options *options = cache->options;
    struct fetch fetch = {.cache = cache, .options = options, .wanted = wanted, .progress = progress, .type = type_of(wanted->url)};
    fetch.label = url_for_people(wanted->url);
    if (fetch.type == NULL) {
        int result = error_set(err, ERROR_UNSUPPORTED, "%s: expected %s", fetch.label, artifact_schemes_text());
        free(fetch.label);
        return result;
    }
    fetch.deadline_ms = clock_now_ms() + (options->timeout_ms > 0 ? options->timeout_ms : FETCH_TIMEOUT_MS_DEFAULT);
    fetch.http = artifact_http_new(options, progress);
    find_key_url(&fetch);
    int result = fetch_remote(&fetch, err);
    if (result < 0 &&
        strstr(err->message, fetch.label) == NULL) { /* sources know their servers and tokens, not what was asked for */
        (void)error_wrap(err, "%s", fetch.label);
    }
    if (result == 0) {
        take_found(&fetch, ret);
        if (!fetch.was_cached) {
            keep_to_the_cap(&fetch);
        }
    }
    artifact_http_free(fetch.http);
    artifact_listing_release(&fetch.listing);
    manifest_release(&fetch.manifest);
    free(fetch.key_url);
    free(fetch.key_revision);
    free(fetch.label);
    return result;
}

int artifact_fetch(struct artifact_cache *cache, const struct artifact_wanted *wanted, struct artifact_progress *progress,
                   struct artifact_found *ret, struct error *err) {
    struct artifact_progress own = {0};
    struct error failure = {0};
    struct artifact_found found = {0};
    const char *path = artifact_local_path(wanted->url);
    progress = progress != NULL ? progress : &own;
    int result = path != NULL ? fetch_folder(cache->options, wanted, path, progress, &found, &failure)
                              : fetch_with(cache, wanted, progress, &found, &failure);
    if (result < 0) {
        if (err != NULL) {
            *err = failure;
        }
        return -1;
    }
    *ret = found;
    atomic_store(&progress->stage, ARTIFACT_DONE);
    return 0;
}
