#include "cluster/up/log_bound.h"

#include <fcntl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>

int log_bound(const char *path, int64_t limit_bytes, struct error *err) {
    struct stat status;
    if (stat(path, &status) < 0 || status.st_size <= limit_bytes) {
        return 0;
    }
    cleanup_free char *old_path = xasprintf("%s.1", path);
    cleanup_close int from = open(path, O_RDWR | O_CLOEXEC);
    cleanup_close int to = open(old_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (from < 0 || to < 0) {
        return error_set_errno(err, "cannot rotate the log %s", path);
    }
    ssize_t copied = 0;
    do {
        copied = sendfile(to, from, NULL, (size_t)limit_bytes);
    } while (copied > 0);
    if (ftruncate(from, 0) < 0) {
        return error_set_errno(err, "cannot empty the log %s", path);
    }
    return 0;
}
