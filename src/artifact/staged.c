#include "artifact/staged.h"

#include "artifact/folders.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#define NOTE_BYTES (256u << 10) /* what a kill -9 costs at most, a chunk */
#define SYNC_BYTES (32u << 20)  /* at a time: some tenths of a second */
#define BOOT_ID_FILE "/proc/sys/kernel/random/boot_id"

/* parts/<name>: this, then a uint64_t a chunk. Of this machine alone. */
struct parts_head {
    char magic[8];
    uint64_t chunk_count;
    char identity[HASH_HEX_BYTES]; /* of the file as its source has it now */
    char padding[7];
};
#define MAGIC "davit/1"

static void boot_id(char out[64]) {
    int fd = open(BOOT_ID_FILE, O_RDONLY | O_CLOEXEC);
    ssize_t got = fd >= 0 ? read(fd, out, 63) : -1;
    out[got > 0 ? got : 0] = '\0';
    if (fd >= 0) {
        close(fd);
    }
}

static bool has_hash(const struct artifact_file *file) {
    return file->sha256[0] != '\0' || file->git_sha1[0] != '\0' || file->md5[0] != '\0' || file->crc32c[0] != '\0';
}

bool staged_is_known(const struct artifact_file *file) {
    return file->etag != NULL || has_hash(file);
}

/* Whether bytes of an earlier process may be those of today's file. */
static bool can_go_on(const struct artifact_file *file) {
    return file->bytes != UINT64_MAX && staged_is_known(file);
}

static void identity_of(const struct staged *staged, char out[HASH_HEX_BYTES]) {
    const struct artifact_file *file = staged->file;
    char boot[64] = "";
    if (!has_hash(file)) {
        boot_id(boot);
    }
    cleanup_free char *text =
        xasprintf("%llu|%s|%s|%s|%s|%s|%s|%s", (unsigned long long)file->bytes, file->sha256, file->git_sha1, file->md5,
                  file->crc32c, file->etag != NULL ? file->etag : "", file->key != NULL ? file->key : "", boot);
    struct hash hash = hash_bytes(text, strlen(text));
    hash_hex(&hash, out);
}

static struct parts_head head_of(const struct staged *staged) {
    struct parts_head head = {.magic = MAGIC, .chunk_count = staged->chunk_count};
    identity_of(staged, head.identity);
    return head;
}

static void divide(struct staged *staged, bool is_chunked) {
    uint64_t bytes = staged->file->bytes;
    staged->is_chunked = is_chunked && bytes != UINT64_MAX && bytes > STAGED_CHUNK_BYTES;
    staged->chunk_count = staged->is_chunked ? (size_t)((bytes + STAGED_CHUNK_BYTES - 1) / STAGED_CHUNK_BYTES) : 1;
    free(staged->done);
    free(staged->noted);
    staged->done = xcalloc(staged->chunk_count, sizeof(uint64_t));
    staged->noted = xcalloc(staged->chunk_count, sizeof(uint64_t));
}

uint64_t staged_chunk_start(const struct staged *staged, size_t chunk) {
    (void)staged;
    return chunk * STAGED_CHUNK_BYTES;
}

uint64_t staged_chunk_bytes(const struct staged *staged, size_t chunk) {
    if (!staged->is_chunked) {
        return staged->file->bytes;
    }
    uint64_t left = staged->file->bytes - staged_chunk_start(staged, chunk);
    return left < STAGED_CHUNK_BYTES ? left : STAGED_CHUNK_BYTES;
}

uint64_t staged_bytes(const struct staged *staged) {
    uint64_t sum = 0;
    for (size_t i = 0; i < staged->chunk_count; i++) {
        sum += staged->done[i];
    }
    return sum;
}

uint64_t staged_prefix(const struct staged *staged) {
    size_t i = 0;
    while (i + 1 < staged->chunk_count && staged->done[i] == staged_chunk_bytes(staged, i)) {
        i++;
    }
    return staged_chunk_start(staged, i) + staged->done[i];
}

/* ---- what an earlier process left ---- */

static bool read_notes(struct staged *staged) {
    struct parts_head wanted = head_of(staged);
    struct parts_head found;
    struct stat status;
    size_t len = staged->chunk_count * sizeof(uint64_t);
    if (!can_go_on(staged->file) || pread(staged->parts_fd, &found, sizeof(found), 0) != (ssize_t)sizeof(found) ||
        memcmp(&found, &wanted, sizeof(found)) != 0 || pread(staged->parts_fd, staged->done, len, sizeof(found)) != (ssize_t)len ||
        fstat(staged->fd, &status) < 0) {
        return false;
    }
    for (size_t i = 0; i < staged->chunk_count; i++) {
        if (staged->done[i] > staged_chunk_bytes(staged, i) ||
            (staged->done[i] > 0 && staged_chunk_start(staged, i) + staged->done[i] > (uint64_t)status.st_size)) {
            return false;
        }
    }
    memcpy(staged->noted, staged->done, len);
    return true;
}

int staged_restart(struct staged *staged, bool is_chunked, struct error *err) {
    divide(staged, is_chunked);
    struct parts_head head = head_of(staged);
    if (ftruncate(staged->fd, 0) < 0 || ftruncate(staged->parts_fd, 0) < 0 ||
        pwrite(staged->parts_fd, &head, sizeof(head), 0) != (ssize_t)sizeof(head) ||
        ftruncate(staged->parts_fd, (off_t)(sizeof(head) + staged->chunk_count * sizeof(uint64_t))) < 0) {
        return error_set_errno(err, "%s in the staging folder", staged->file->name);
    }
    return 0;
}

static int open_in(int folder, const char *part, mode_t folder_mode, const char *name, mode_t mode, struct error *err) {
    cleanup_close int at = folder_open(folder, part, folder_mode, err);
    if (at < 0) {
        return -1;
    }
    int fd = openat(at, name, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, mode);
    struct stat status;
    if (fd < 0) {
        return error_set_errno(err, "%s in the staging folder", name);
    }
    if (fstat(fd, &status) < 0 || !S_ISREG(status.st_mode)) {
        close(fd);
        return error_set(err, ERROR_INVALID, "%s in the staging folder is not a regular file", name);
    }
    return fd;
}

int staged_open(int folder, const struct artifact_file *file, bool is_chunked, struct staged *ret, struct error *err) {
    struct staged staged = {.file = file, .fd = -1, .parts_fd = -1};
    staged.fd = open_in(folder, "files", 0755, file->name, 0644, err);
    staged.parts_fd = staged.fd >= 0 ? open_in(folder, "parts", 0700, file->name, 0600, err) : -1;
    divide(&staged, is_chunked);
    if (staged.parts_fd < 0 || (!read_notes(&staged) && staged_restart(&staged, is_chunked, err) < 0)) {
        staged_close(&staged);
        return -1;
    }
    *ret = staged;
    return 0;
}

void staged_close(struct staged *staged) {
    if (staged->file == NULL) {
        return; /* never opened */
    }
    if (staged->fd >= 0) {
        close(staged->fd);
    }
    if (staged->parts_fd >= 0) {
        close(staged->parts_fd);
    }
    free(staged->done);
    free(staged->noted);
    *staged = (struct staged){.fd = -1, .parts_fd = -1};
}

void staged_leave(struct staged *staged) {
    if (staged->file != NULL && !can_go_on(staged->file)) {
        (void)!ftruncate(staged->fd, 0);
    }
    staged_close(staged);
}

/* ---- writing ---- */

void staged_note(struct staged *staged, size_t chunk) {
    if (staged->noted[chunk] == staged->done[chunk]) {
        return;
    }
    off_t at = (off_t)(sizeof(struct parts_head) + chunk * sizeof(uint64_t));
    if (pwrite(staged->parts_fd, &staged->done[chunk], sizeof(uint64_t), at) == (ssize_t)sizeof(uint64_t)) {
        staged->noted[chunk] = staged->done[chunk];
    }
}

int staged_write(struct staged *staged, size_t chunk, const void *bytes, size_t len, struct error *err) {
    const char *at = bytes;
    while (len > 0) {
        ssize_t written = pwrite(staged->fd, at, len, (off_t)(staged_chunk_start(staged, chunk) + staged->done[chunk]));
        if (written < 0 && errno == EINTR) {
            continue;
        }
        if (written < 0 && (errno == ENOSPC || errno == EDQUOT)) {
            return error_set(err, ERROR_IO, "%s: the disk of the cache is full: %llu of %llu bytes could be written",
                             staged->file->name, (unsigned long long)staged_bytes(staged), (unsigned long long)staged->file->bytes);
        }
        if (written < 0) {
            return error_set_errno(err, "%s cannot be written", staged->file->name);
        }
        at += written;
        len -= (size_t)written;
        staged->done[chunk] += (uint64_t)written;
    }
    if (staged->done[chunk] - staged->noted[chunk] >= NOTE_BYTES) {
        staged_note(staged, chunk);
    }
    return 0;
}

/* An error of writing back is told once, so it is not left to fsync. */
static bool is_written_back(int fd, uint64_t at, uint64_t len) {
    unsigned steps = SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER;
    return sync_file_range(fd, (off_t)at, (off_t)len, steps) == 0 || (errno != EIO && errno != ENOSPC && errno != EDQUOT);
}

int staged_sync(const struct staged *staged, const struct artifact_progress *progress, struct error *err) {
    struct stat status;
    if (fstat(staged->fd, &status) < 0) {
        return error_set_errno(err, "%s in the staging folder", staged->file->name);
    }
    bool is_fine = true;
    for (uint64_t at = 0; at < (uint64_t)status.st_size && is_fine; at += SYNC_BYTES) {
        if (artifact_progress_check(progress, err) < 0) {
            return -1;
        }
        is_fine = is_written_back(staged->fd, at, SYNC_BYTES);
    }
    return is_fine && fsync(staged->fd) == 0 ? 0 : error_set_errno(err, "%s cannot be synced", staged->file->name);
}
