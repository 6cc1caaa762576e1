#include "artifact/download_item.h"

#include "base/log.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#define CHUNKED_BYTES (64ull << 20)
#define ADVANCE_BYTES (1u << 20)
#define COPY_BYTES (1u << 20)

/* ---- the hash ---- */

bool item_is_large(const struct item *item) {
    return item->staged.file->bytes >= ITEM_LARGE_BYTES && item->staged.file->bytes != UINT64_MAX;
}

void item_follow(struct item *item) {
    if (item->follower != NULL) {
        uint64_t prefix = staged_prefix(&item->staged);
        if (prefix - item->followed >= ADVANCE_BYTES) {
            follower_advance(item->follower, prefix);
            item->followed = prefix;
        }
    }
}

static void begin_hashing(struct item *item, struct artifact_progress *progress) {
    if (item->sha256[0] != '\0') {
        return;
    }
    if (item_is_large(item)) {
        item->follower = follower_start(item->staged.fd, item->staged.file, progress);
        item->followed = 0;
        item_follow(item);
    } else if (item->staged.file->bytes != UINT64_MAX && staged_bytes(&item->staged) == 0) {
        item->digester = digester_start(item->staged.file);
        item->digested = 0;
    }
}

static void abandon_hashing(struct item *item) {
    follower_abandon(item->follower);
    digester_abandon(item->digester);
    item->follower = NULL;
    item->digester = NULL;
}

static int finish_hashing(struct item *item, struct artifact_progress *progress, char ret_sha256[HASH_HEX_BYTES],
                          struct error *err) {
    const struct staged *staged = &item->staged;
    if (item->sha256[0] != '\0') {
        memcpy(ret_sha256, item->sha256, sizeof(item->sha256));
        return 0;
    }
    if (item->follower != NULL) {
        follower_advance(item->follower, staged_prefix(staged));
        return follower_finish(take_pointer(item->follower), ret_sha256, err);
    }
    if (item->digester != NULL && item->digested == staged_bytes(staged)) {
        return digester_finish(take_pointer(item->digester), ret_sha256, err);
    }
    return digests_of_file(staged->fd, staged->file, progress, ret_sha256, err);
}

/* ---- files that lie here already ---- */

static int copy_bytes(struct artifact_progress *progress, struct staged *staged, int from, struct error *err) {
    cleanup_free char *piece = xmalloc(COPY_BYTES);
    ssize_t got = 0;
    while ((got = read(from, piece, COPY_BYTES)) > 0) {
        if (staged_write(staged, 0, piece, (size_t)got, err) < 0 || artifact_progress_check(progress, err) < 0) {
            return -1;
        }
    }
    return got < 0 ? error_set(err, ERROR_INVALID, "%s cannot be read", staged->file->local) : 0;
}

/* A file of another program's cache: as good as what its source sends, when it is read and its hash is right. Else the source is
 * asked. */
static int copy_local(struct item *item, struct artifact_progress *progress, struct error *err) {
    struct staged *staged = &item->staged;
    struct stat status;
    struct error problem = {0};
    cleanup_close int from = open(staged->file->local, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    bool is_file = from >= 0 && fstat(from, &status) == 0 && S_ISREG(status.st_mode);
    if (staged_restart(staged, false, err) < 0) {
        return -1;
    }
    int result = !is_file ? error_set(&problem, ERROR_INVALID, "%s is no file that may be read", staged->file->local)
                          : copy_bytes(progress, staged, from, &problem);
    result = result < 0 ? -1 : digests_of_file(staged->fd, staged->file, progress, item->sha256, &problem);
    if (result == 0) {
        item->is_whole = true;
        return 0;
    }
    item->sha256[0] = '\0';
    if (problem.code != ERROR_INVALID) {
        *err = problem;
        return -1;
    }
    log_warn("%s is not taken from %s: %s", staged->file->name, staged->file->local, problem.message);
    return staged_restart(staged, staged->file->bytes >= CHUNKED_BYTES, err);
}

/* ---- its beginnings ---- */

int item_open(struct item *item, const struct artifact_file *file, int folder, struct artifact_progress *progress,
              struct error *err) {
    if (staged_open(folder, file, file->bytes >= CHUNKED_BYTES, &item->staged, err) < 0 ||
        (file->local != NULL && copy_local(item, progress, err) < 0)) {
        return -1;
    }
    begin_hashing(item, progress);
    return 0;
}

int item_restart(struct item *item, struct artifact_progress *progress, struct error *err) {
    abandon_hashing(item);
    item->must_restart = false;
    item->next_chunk = 0;
    item->validator[0] = '\0';
    if (staged_restart(&item->staged, item->staged.is_chunked && !item->is_unranged, err) < 0) {
        return -1;
    }
    begin_hashing(item, progress);
    return 0;
}

/* ---- the end of a file ---- */

int item_finish(struct item *item, struct artifact_progress *progress, struct manifest *manifest, struct error *err) {
    const struct artifact_file *file = item->staged.file;
    char sha256[HASH_HEX_BYTES];
    struct stat status;
    if (finish_hashing(item, progress, sha256, err) < 0 || staged_sync(&item->staged, progress, err) < 0) {
        return -1;
    }
    if (fstat(item->staged.fd, &status) < 0) {
        return error_set_errno(err, "%s", file->name);
    }
    if (file->bytes != UINT64_MAX && (uint64_t)status.st_size != file->bytes) {
        return error_set(err, ERROR_INVALID, "%s: expected %llu bytes, found %llu", file->name, (unsigned long long)file->bytes,
                         (unsigned long long)status.st_size);
    }
    manifest_add(manifest, xstrdup(file->name), (uint64_t)status.st_size, sha256);
    item->finished_bytes = (uint64_t)status.st_size;
    staged_close(&item->staged);
    return 0;
}

void item_release(struct item *item) {
    abandon_hashing(item);
    staged_leave(&item->staged);
}
