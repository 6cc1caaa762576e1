#include "artifact/cache/store.h"

#include "artifact/folders.h"
#include "base/file.h"
#include "base/json.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#define RECORD_BYTES_MAX (16u << 10)
#define FOLDER_MODE 0755 /* of objects: the engine may run as somebody else; the umask has the last word */
#define OWN_MODE 0700    /* of what only those who fetch need */

void cache_key(const char *text, char out[CACHE_KEY_BYTES]) {
    char hex[HASH_HEX_BYTES];
    struct hash hash = hash_bytes(text, strlen(text));
    hash_hex(&hash, hex);
    (void)snprintf(out, CACHE_KEY_BYTES, "%.32s", hex);
}

/* ---- open and close ---- */

static int open_parts(struct artifact_cache *cache, struct error *err) {
    cache->root_fd = open(cache->root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (cache->root_fd < 0) {
        return error_set_errno(err, "%s", cache->root);
    }
    const struct {
        const char *name;
        mode_t mode;
        int *fd;
    } parts[] = {{"objects", FOLDER_MODE, &cache->objects_fd},
                 {"sources", OWN_MODE, &cache->sources_fd},
                 {"staging", OWN_MODE, &cache->staging_fd},
                 {"locks", OWN_MODE, &cache->locks_fd}};
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        *parts[i].fd = folder_open(cache->root_fd, parts[i].name, parts[i].mode, err);
        if (*parts[i].fd < 0) {
            return error_wrap(err, "%s", cache->root);
        }
    }
    cache->uses_fd = openat(cache->root_fd, "uses", O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    return cache->uses_fd >= 0 ? 0 : error_set_errno(err, "%s/uses", cache->root);
}

struct artifact_cache *artifact_cache_open(const struct artifact_options *options, struct error *err) {
    cleanup_free char *wanted = path_join(options->cache, "v1");
    struct artifact_cache *cache = xcalloc(1, sizeof(*cache));
    cache->options = options;
    cache->root_fd = cache->objects_fd = cache->sources_fd = cache->staging_fd = cache->locks_fd = cache->uses_fd = -1;
    cache_uses_init(cache);
    if (file_make_dirs(wanted, FOLDER_MODE, err) == 0) {
        cache->root = realpath(wanted, NULL);
        if (cache->root == NULL) {
            error_set_errno(err, "%s", wanted);
        }
    }
    if (cache->root == NULL || open_parts(cache, err) < 0) {
        (void)error_wrap(err, "the cache");
        artifact_cache_close(cache);
        return NULL;
    }
    return cache;
}

void artifact_cache_close(struct artifact_cache *cache) {
    if (cache == NULL) {
        return;
    }
    cache_uses_release(cache);
    const int fds[] = {cache->uses_fd, cache->locks_fd, cache->staging_fd, cache->sources_fd, cache->objects_fd, cache->root_fd};
    for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
        if (fds[i] >= 0) {
            close(fds[i]);
        }
    }
    free(cache->root);
    free(cache);
}

bool artifact_cache_holds(const struct artifact_cache *cache, const char *path) {
    size_t len = strlen(cache->root);
    if (strncmp(path, cache->root, len) != 0 || path[len] != '/') {
        return false;
    }
    for (const char *part = path + len; part != NULL; part = strchr(part + 1, '/')) {
        if (strncmp(part, "/..", 3) == 0 && (part[3] == '/' || part[3] == '\0')) {
            return false;
        }
    }
    return true;
}

/* ---- objects ---- */

char *cache_object_folder(const struct artifact_cache *cache, const char *id) {
    return xasprintf("%s/objects/%s", cache->root, id);
}

int cache_read_object(const struct artifact_cache *cache, const char *id, struct manifest *ret, struct error *err) {
    cleanup_buffer struct buffer text = BUFFER_INIT;
    struct manifest manifest = {0};
    cleanup_close int fd = folder_open(cache->objects_fd, id, 0, err);
    if (fd < 0 || folder_read(fd, MANIFEST_FILE, MANIFEST_BYTES_MAX, &text, err) < 0 ||
        manifest_parse(buffer_text(&text), text.len, &manifest, err) < 0) {
        return error_wrap(err, "%s/objects/%s", cache->root, id);
    }
    int result = strcmp(manifest.id, id) == 0
                     ? 0
                     : error_set(err, ERROR_INVALID, "%s/objects/%s: its manifest is of another object", cache->root, id);
    for (size_t i = 0; i < manifest.count && result == 0; i++) {
        uint64_t bytes = 0;
        cleanup_close int file = folder_open_file(fd, manifest.files[i].name, &bytes, err);
        if (file < 0) {
            result = error_wrap(err, "%s/objects/%s", cache->root, id);
        } else if (bytes != manifest.files[i].bytes) {
            result = error_set(err, ERROR_INVALID, "%s/objects/%s/%s: expected %llu bytes, found %llu", cache->root, id,
                               manifest.files[i].name, (unsigned long long)manifest.files[i].bytes, (unsigned long long)bytes);
        }
    }
    if (result < 0) {
        manifest_release(&manifest);
        return -1;
    }
    *ret = manifest;
    return 0;
}

bool cache_is_broken(const struct error *err) {
    return err->code == ERROR_NOT_FOUND || err->code == ERROR_INVALID || err->code == ERROR_LIMIT;
}

/* The time of last use is that of the folder. */
static void touch(const struct artifact_cache *cache, const char *id) {
    (void)utimensat(cache->objects_fd, id, NULL, AT_SYMLINK_NOFOLLOW);
}

/* ---- records ---- */

/* 1; 0 when there is none, or none that says anything; -1 when it cannot be read. */
static int read_record(const struct artifact_cache *cache, const char *key, char out[OBJECT_ID_BYTES], struct error *err) {
    cleanup_free char *name = xasprintf("%s.json", key);
    cleanup_buffer struct buffer text = BUFFER_INIT;
    if (folder_read(cache->sources_fd, name, RECORD_BYTES_MAX, &text, err) < 0) {
        return cache_is_broken(err) ? 0 : error_wrap(err, "%s/sources", cache->root);
    }
    cleanup_json json_t *root = json_parse_bounded(buffer_text(&text), text.len, 64, NULL);
    const char *id = json_string_at(root, "object", "");
    (void)snprintf(out, OBJECT_ID_BYTES, "%.32s", id);
    return manifest_is_id(id);
}

int cache_find(struct artifact_cache *cache, const char *key, struct manifest *ret, struct error *err) {
    char id[OBJECT_ID_BYTES];
    int found = read_record(cache, key, id, err);
    if (found <= 0) {
        return found;
    }
    cache_hold(cache, id); /* first, so that it is not removed between the look and the use */
    if (cache_read_object(cache, id, ret, err) < 0) {
        return cache_is_broken(err) ? 0 : -1;
    }
    touch(cache, id);
    return 1;
}

bool cache_leads_nowhere(const struct artifact_cache *cache, const char *key) {
    char id[OBJECT_ID_BYTES];
    struct stat status;
    struct error err;
    int found = read_record(cache, key, id, &err);
    return found == 0 || (found > 0 && fstatat(cache->objects_fd, id, &status, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT);
}

int cache_record(struct artifact_cache *cache, const char *key, const struct manifest *manifest, struct error *err) {
    cleanup_free char *name = xasprintf("%s.json", key);
    char known[OBJECT_ID_BYTES];
    struct error unreadable;
    if (read_record(cache, key, known, &unreadable) == 1 && strcmp(known, manifest->id) == 0) {
        return 0;
    }
    cleanup_json json_t *root =
        json_pack("{s:s, s:o, s:o}", "object", manifest->id, "url", json_string_lossy(manifest->url != NULL ? manifest->url : ""),
                  "version", json_string_lossy(manifest->version != NULL ? manifest->version : ""));
    cleanup_buffer struct buffer text = BUFFER_INIT;
    json_append(&text, root);
    return folder_replace(cache->sources_fd, name, &text, 0600, false, err); /* one that is lost costs another download */
}

/* ---- keeping ---- */

static int sync_folder(int fd, struct error *err) {
    return fsync(fd) == 0 ? 0 : error_set_errno(err, "the cache cannot be synced");
}

/* An object of that id that is not whole, as another program or a failing disk may have left it, makes room. */
static int replace_broken(struct artifact_cache *cache, int from_fd, const char *id, struct error *err) {
    struct manifest there = {0};
    struct error problem;
    if (cache_read_object(cache, id, &there, &problem) == 0) {
        manifest_release(&there);
        return 0;
    }
    if (!cache_is_broken(&problem)) { /* it may be whole, and in use */
        return error_set(err, problem.code, "%s", problem.message);
    }
    cleanup_free char *trash = folder_new_name(CACHE_TRASH_PREFIX);
    if (renameat(cache->objects_fd, id, cache->staging_fd, trash) < 0 && errno != ENOENT) {
        return error_set_errno(err, "%s/objects/%s", cache->root, id);
    }
    (void)folder_remove(cache->staging_fd, trash, NULL);
    return renameat(from_fd, "files", cache->objects_fd, id) == 0 ? 0 : error_set_errno(err, "%s/objects/%s", cache->root, id);
}

int cache_keep(struct artifact_cache *cache, const char *key, const struct manifest *manifest, struct error *err) {
    cleanup_buffer struct buffer text = BUFFER_INIT;
    cleanup_close int staged = folder_open(cache->staging_fd, key, 0, err);
    cleanup_close int files = staged >= 0 ? folder_open(staged, "files", 0, err) : -1;
    manifest_write(manifest, &text);
    if (files < 0 || folder_replace(files, MANIFEST_FILE, &text, 0644, true, err) < 0) {
        return -1;
    }
    cache_hold(cache, manifest->id);
    if (renameat2(staged, "files", cache->objects_fd, manifest->id, RENAME_NOREPLACE) < 0) {
        if (errno != EEXIST) {
            return error_set_errno(err, "%s/objects/%s", cache->root, manifest->id);
        }
        if (replace_broken(cache, staged, manifest->id, err) < 0) {
            return -1;
        }
    }
    touch(cache, manifest->id);
    if (sync_folder(cache->objects_fd, err) < 0) {
        return -1;
    }
    return folder_remove(cache->staging_fd, key, err);
}

/* ---- locks ---- */

int cache_try_lock(struct artifact_cache *cache, const char *key, struct error *err) {
    cleanup_close int fd = openat(cache->locks_fd, key, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    struct stat here, there;
    if (fd < 0) {
        return error_set_errno(err, "%s/locks/%s", cache->root, key);
    }
    if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        return errno == EWOULDBLOCK ? error_set(err, ERROR_BUSY, "somebody else downloads it")
                                    : error_set_errno(err, "%s/locks/%s", cache->root, key);
    }
    /* The file may have been removed between open and lock: then the lock is of nothing. */
    if (fstat(fd, &here) < 0 || fstatat(cache->locks_fd, key, &there, AT_SYMLINK_NOFOLLOW) < 0 || here.st_ino != there.st_ino) {
        return error_set(err, ERROR_BUSY, "somebody else downloads it");
    }
    int taken = fd;
    fd = -1;
    return taken;
}
