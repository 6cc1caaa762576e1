#include "cluster/node/log_file.h"

#include "base/alloc.h"
#include "cluster/node/log_times.h"

#include <fcntl.h>
#include <stdbool.h>
#include <sys/sendfile.h>
#include <sys/stat.h>

void log_file_rotate(const char *path) {
    struct stat info;
    if (stat(path, &info) < 0 || info.st_size <= LOG_FILE_BYTES_MAX) {
        return;
    }
    cleanup_free char *aside = xasprintf("%s.1", path);
    cleanup_close int from = open(path, O_RDWR | O_CLOEXEC);
    cleanup_close int to = open(aside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (from < 0 || to < 0) {
        return;
    }
    off_t offset = info.st_size > 2 * LOG_FILE_BYTES_MAX ? info.st_size - 2 * LOG_FILE_BYTES_MAX
                                                         : 0; /* what one minute can make is not bounded */
    while (offset < info.st_size && sendfile(to, from, &offset, (size_t)(info.st_size - offset)) > 0) {
    }
    (void)!ftruncate(from, 0);
    log_times_forget(path);
}

int64_t log_file_tail_offset(int fd, int64_t lines) {
    struct stat info;
    char piece[16384];
    if (fstat(fd, &info) < 0) {
        return 0;
    }
    if (lines == 0) {
        return info.st_size;
    }
    int64_t found = 0;
    for (int64_t end = info.st_size; end > 0;) {
        int64_t start = end > (int64_t)sizeof(piece) ? end - (int64_t)sizeof(piece) : 0;
        ssize_t got = pread(fd, piece, (size_t)(end - start), start);
        for (ssize_t i = got - 1; i >= 0; i--) {
            bool is_last_byte = start + i == info.st_size - 1; /* the line break that ends the last line starts no further one */
            if (piece[i] == '\n' && !is_last_byte && ++found == lines) {
                return start + i + 1;
            }
        }
        end = start;
    }
    return 0;
}

int64_t log_file_line_start(int fd, int64_t offset) {
    char piece[4096];
    for (int64_t end = offset; end > 0;) {
        int64_t start = end > (int64_t)sizeof(piece) ? end - (int64_t)sizeof(piece) : 0;
        ssize_t got = pread(fd, piece, (size_t)(end - start), start);
        for (ssize_t i = got - 1; i >= 0; i--) {
            if (piece[i] == '\n') {
                return start + i + 1;
            }
        }
        end = start;
    }
    return 0;
}
