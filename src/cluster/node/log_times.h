/* When the bytes of a log file were written. The file holds what the process wrote and nothing else, so the node looks at its size
 * once a second while the container runs and notes (time, size) in <log>.times when it has grown: a byte's time is that of the
 * first look after it, at most a second late (later only when no node was there to look). */
#ifndef DAVIT_CLUSTER_NODE_LOG_TIMES_H
#define DAVIT_CLUSTER_NODE_LOG_TIMES_H

#include <stddef.h>
#include <stdint.h>

#define LOG_TIMES_PERIOD_MS 1000
#define LOG_TIMES_MAX 8192 /* beyond them every second one is dropped: the older a line, the coarser its time */

struct log_time {
    int64_t wall_ms;
    int64_t bytes; /* of the file then */
};

struct log_times {
    struct log_time *items; /* both members rise */
    size_t count;
};

/* One look at <log>. *size_bytes: what the last look saw, -1 at first; nothing is written when it is the same. */
void log_times_note(const char *log, int64_t wall_ms, int64_t *size_bytes);
/* What is noted of <log>; nothing noted is an empty list. */
void log_times_read(const char *log, struct log_times *ret_times);
void log_times_release(struct log_times *times);
/* When the byte before `end` was written; `now_ms` when no look has seen it yet. */
int64_t log_times_of(const struct log_times *times, int64_t end, int64_t now_ms);
/* The bytes that were there before a time. */
int64_t log_times_before(const struct log_times *times, int64_t wall_ms);
/* <log> is being cut to nothing. */
void log_times_forget(const char *log);

#endif
