#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

char *path_join(const char *folder, const char *name) {
    size_t len = strlen(folder);
    return xasprintf("%s%s%s", folder, len != 0 && folder[len - 1] == '/' ? "" : "/", name);
}

int file_read(const char *path, size_t limit_bytes, struct buffer *out, struct error *err) {
    cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return error_set_errno(err, "%s", path);
    }
    struct stat info;
    if (fstat(fd, &info) < 0) {
        return error_set_errno(err, "%s", path);
    }
    if (!S_ISREG(info.st_mode)) {
        return error_set(err, ERROR_INVALID, "%s: not a regular file", path);
    }
    if ((uint64_t)info.st_size > limit_bytes) {
        return error_set(err, ERROR_LIMIT, "%s: %lld bytes exceed the limit of %zu", path, (long long)info.st_size, limit_bytes);
    }
    size_t start = out->len;
    buffer_reserve(out, (size_t)info.st_size + 1);
    for (;;) {
        size_t room = out->capacity - out->len - 1;
        if (room == 0) {
            if (out->len - start > limit_bytes) {
                return error_set(err, ERROR_LIMIT, "%s: grew beyond the limit of %zu bytes", path, limit_bytes);
            }
            buffer_reserve(out, 4096);
            continue;
        }
        ssize_t got = read(fd, out->data + out->len, room);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            return error_set_errno(err, "%s", path);
        }
        if (got == 0) {
            out->data[out->len] = '\0';
            return 0;
        }
        out->len += (size_t)got;
    }
}

int file_write_all(int fd, const void *bytes, size_t len) {
    const char *at = bytes;
    while (len > 0) {
        ssize_t written = write(fd, at, len);
        if (written < 0 && errno == EINTR) {
            continue;
        }
        if (written < 0) {
            return -1;
        }
        at += written;
        len -= (size_t)written;
    }
    return 0;
}

static int sync_folder_of(const char *path, struct error *err) {
    const char *slash = strrchr(path, '/');
    cleanup_free char *folder = slash == NULL   ? xstrdup(".")
                                : slash == path ? xstrdup("/")
                                                : xstrndup(path, (size_t)(slash - path));
    cleanup_close int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fsync(fd) < 0) {
        return error_set_errno(err, "%s", folder);
    }
    return 0;
}

int file_replace(const char *path, const void *bytes, size_t len, mode_t mode, struct error *err) {
    cleanup_free char *staged = xasprintf("%s.XXXXXX", path);
    cleanup_close int fd = mkostemp(staged, O_CLOEXEC);
    if (fd < 0) {
        return error_set_errno(err, "%s", staged);
    }
    if (fchmod(fd, mode) < 0 || file_write_all(fd, bytes, len) < 0 || fsync(fd) < 0 || rename(staged, path) < 0) {
        error_set_errno(err, "%s", path);
        (void)unlink(staged);
        return -1;
    }
    return sync_folder_of(path, err);
}

int file_make_dirs(const char *path, mode_t mode, struct error *err) {
    cleanup_free char *partial = xstrdup(path);
    for (char *at = partial + 1;; at++) {
        if (*at != '/' && *at != '\0') {
            continue;
        }
        char end = *at;
        *at = '\0';
        if (mkdir(partial, mode) < 0 && errno != EEXIST) {
            return error_set_errno(err, "%s", partial);
        }
        if (end == '\0') {
            return 0;
        }
        *at = end;
    }
}

int file_lock(const char *path, struct error *err) {
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) {
        return error_set_errno(err, "%s", path);
    }
    if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        if (errno == EWOULDBLOCK) {
            error_set(err, ERROR_BUSY, "%s: another process holds the lock", path);
        } else {
            error_set_errno(err, "%s", path);
        }
        close(fd);
        return -1;
    }
    return fd;
}
