#include "cluster/node/log_times.h"

#include "base/file.h"

#include <fcntl.h>
#include <stdbool.h>
#include <sys/stat.h>

static char *times_file(const char *log) {
    return xasprintf("%s.times", log);
}

/* Drops every second one; the last one stays. */
static void thin_out(const char *log) {
    struct log_times times;
    log_times_read(log, &times);
    size_t kept = 0;
    for (size_t i = times.count % 2 == 0 ? 1 : 0; i < times.count; i += 2) {
        times.items[kept++] = times.items[i];
    }
    cleanup_free char *path = times_file(log);
    (void)!file_replace(path, times.items, kept * sizeof(struct log_time), 0600, NULL);
    log_times_release(&times);
}

/* Appends one look to the open file. Returns how many it holds then, or less than 0 when what it holds is not of this log. */
static int64_t append(int fd, int64_t wall_ms, int64_t bytes, bool is_first_look) {
    struct stat info;
    struct log_time last = {.wall_ms = wall_ms};
    if (fstat(fd, &info) < 0 || info.st_size % (off_t)sizeof(last) != 0) {
        return -1;
    }
    if (info.st_size > 0 && pread(fd, &last, sizeof(last), info.st_size - (off_t)sizeof(last)) != (ssize_t)sizeof(last)) {
        return -1;
    }
    if (bytes < last.bytes) {
        return -1;
    }
    if (bytes > last.bytes || !is_first_look) {
        last = (struct log_time){.wall_ms = last.wall_ms > wall_ms ? last.wall_ms : wall_ms, .bytes = bytes};
        (void)!write(fd, &last, sizeof(last)); /* best effort: without it lines have a later time */
    }
    return info.st_size / (off_t)sizeof(last) + 1;
}

void log_times_note(const char *log, int64_t wall_ms, int64_t *size_bytes) {
    struct stat info;
    if (stat(log, &info) < 0 || info.st_size == *size_bytes) {
        return;
    }
    bool is_first_look = *size_bytes < 0;
    *size_bytes = info.st_size;
    cleanup_free char *path = times_file(log);
    cleanup_close int fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    int64_t count = fd >= 0 ? append(fd, wall_ms, info.st_size, is_first_look) : 0;
    if (count < 0) {
        (void)!ftruncate(fd, 0);
    } else if (count > LOG_TIMES_MAX) {
        thin_out(log);
    }
}

void log_times_read(const char *log, struct log_times *ret_times) {
    cleanup_free char *path = times_file(log);
    struct buffer text = BUFFER_INIT;
    *ret_times = (struct log_times){0};
    if (file_read(path, (LOG_TIMES_MAX + 2) * sizeof(struct log_time), &text, NULL) < 0) {
        buffer_release(&text);
        return;
    }
    ret_times->count = text.len / sizeof(struct log_time);
    ret_times->items = (struct log_time *)(void *)buffer_take(&text);
}

void log_times_release(struct log_times *times) {
    free(times->items);
    *times = (struct log_times){0};
}

int64_t log_times_of(const struct log_times *times, int64_t end, int64_t now_ms) {
    size_t low = 0;
    size_t high = times->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (times->items[middle].bytes < end) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < times->count ? times->items[low].wall_ms : now_ms;
}

int64_t log_times_before(const struct log_times *times, int64_t wall_ms) {
    int64_t bytes = 0;
    for (size_t i = 0; i < times->count && times->items[i].wall_ms < wall_ms; i++) {
        bytes = times->items[i].bytes;
    }
    return bytes;
}

void log_times_forget(const char *log) {
    cleanup_free char *path = times_file(log);
    (void)unlink(path);
}
