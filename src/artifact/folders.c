#include "artifact/folders.h"

#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>

#define DEPTH_MAX 4

/* Of an open that failed. */
static int not_opened(struct error *err, const char *name) {
    if (errno == ELOOP || errno == ENOTDIR || errno == ENXIO) {
        return error_set(err, ERROR_INVALID, "%s is a link, or not of the kind that is expected there", name);
    }
    return error_set_errno(err, "%s", name);
}

int folder_open(int at, const char *name, mode_t mode, struct error *err) {
    if (mode != 0 && mkdirat(at, name, mode) < 0 && errno != EEXIST) {
        return error_set_errno(err, "%s", name);
    }
    int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return fd >= 0 ? fd : not_opened(err, name);
}

int folder_open_file(int at, const char *name, uint64_t *ret_bytes, struct error *err) {
    struct stat status;
    cleanup_close int fd = openat(at, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC); /* a FIFO must not hold the thread */
    if (fd < 0 || fstat(fd, &status) < 0) {
        return not_opened(err, name);
    }
    if (!S_ISREG(status.st_mode)) {
        return error_set(err, ERROR_INVALID, "%s is not a regular file", name);
    }
    *ret_bytes = (uint64_t)status.st_size;
    int taken = fd;
    fd = -1;
    return taken;
}

int folder_read(int at, const char *name, size_t limit_bytes, struct buffer *out, struct error *err) {
    uint64_t bytes = 0;
    cleanup_close int fd = folder_open_file(at, name, &bytes, err);
    if (fd < 0) {
        return -1;
    }
    if (bytes > limit_bytes) {
        return error_set(err, ERROR_LIMIT, "%s: %llu bytes exceed the limit of %zu", name, (unsigned long long)bytes, limit_bytes);
    }
    buffer_reserve(out, (size_t)bytes + 1);
    for (uint64_t done = 0; done < bytes;) {
        char piece[4096];
        ssize_t got = read(fd, piece, sizeof(piece) < bytes - done ? sizeof(piece) : (size_t)(bytes - done));
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            return got < 0 ? error_set_errno(err, "%s", name) : error_set(err, ERROR_INVALID, "%s was cut meanwhile", name);
        }
        buffer_append(out, piece, (size_t)got);
        done += (uint64_t)got;
    }
    return 0;
}

char *folder_new_name(const char *prefix) {
    uint64_t random = 0;
    if (getrandom(&random, sizeof(random), 0) != (ssize_t)sizeof(random)) {
        abort();
    }
    return xasprintf("%s%016llx", prefix, (unsigned long long)random);
}

int folder_replace(int at, const char *name, const struct buffer *text, mode_t mode, bool is_durable, struct error *err) {
    cleanup_free char *staged = folder_new_name(FOLDER_NEW_PREFIX);
    cleanup_close int fd = openat(at, staged, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
    if (fd < 0) {
        return error_set_errno(err, "%s", name);
    }
    if (file_write_all(fd, text->data, text->len) < 0 || (is_durable && fsync(fd) < 0) || renameat(at, staged, at, name) < 0 ||
        (is_durable && fsync(at) < 0)) {
        error_set_errno(err, "%s", name);
        (void)unlinkat(at, staged, 0);
        return -1;
    }
    return 0;
}

int folder_each(int at, int (*visit)(void *arg, const char *name), void *arg) {
    int own = openat(at, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC); /* a place in the list of its own */
    DIR *folder = own >= 0 ? fdopendir(own) : NULL;
    const struct dirent *entry = NULL;
    int result = 0;
    if (folder == NULL) {
        if (own >= 0) {
            close(own);
        }
        return 0;
    }
    while (result == 0 && (entry = readdir(folder)) != NULL) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            result = visit(arg, entry->d_name);
        }
    }
    (void)closedir(folder);
    return result;
}

struct removal {
    int at;
    int depth;
    struct error *err;
};

static int remove_entry(void *arg, const char *name) {
    const struct removal *parent = arg;
    if (unlinkat(parent->at, name, 0) == 0 || errno == ENOENT) {
        return 0;
    }
    if (errno != EISDIR && errno != EPERM) {
        return error_set_errno(parent->err, "%s", name);
    }
    cleanup_close int fd = folder_open(parent->at, name, 0, parent->err);
    struct removal below = {.at = fd, .depth = parent->depth + 1, .err = parent->err};
    if (fd < 0) {
        return -1;
    }
    if (below.depth > DEPTH_MAX) {
        return error_set(parent->err, ERROR_LIMIT, "%s lies too deep for this cache", name);
    }
    if (folder_each(fd, remove_entry, &below) < 0) {
        return -1;
    }
    return unlinkat(parent->at, name, AT_REMOVEDIR) == 0 || errno == ENOENT ? 0 : error_set_errno(parent->err, "%s", name);
}

int folder_remove(int at, const char *name, struct error *err) {
    struct removal removal = {.at = at, .err = err};
    return remove_entry(&removal, name);
}

struct sum {
    int at;
    int depth;
    uint64_t bytes;
};

static int add_bytes(void *arg, const char *name) {
    struct sum *sum = arg;
    struct stat status;
    if (fstatat(sum->at, name, &status, AT_SYMLINK_NOFOLLOW) < 0) {
        return 0;
    }
    if (S_ISREG(status.st_mode)) {
        sum->bytes += (uint64_t)status.st_blocks * 512;
    } else if (S_ISDIR(status.st_mode) && sum->depth < DEPTH_MAX) {
        cleanup_close int fd = folder_open(sum->at, name, 0, NULL);
        struct sum below = {.at = fd, .depth = sum->depth + 1};
        (void)(fd >= 0 && folder_each(fd, add_bytes, &below));
        sum->bytes += below.bytes;
    }
    return 0;
}

uint64_t folder_bytes(int at, const char *name) {
    struct sum sum = {.at = at};
    (void)add_bytes(&sum, name);
    return sum.bytes;
}
