#include "cli/cpu_count.h"

#include "base/buffer.h"
#include "base/file.h"

#include <sched.h>
#include <string.h>

#define CGROUP_FILE_BYTES_MAX (64 * 1024)
#define CPUS_MAX 1024

static int round_up(long long quota, long long period) {
    if (quota <= 0 || period <= 0) {
        return 0;
    }
    long long count = (quota + period - 1) / period;
    return count > CPUS_MAX ? CPUS_MAX : (int)count;
}

int cpu_count_parse_max(const char *text) {
    char *end = NULL;
    long long quota = strtoll(text, &end, 10);
    if (end == text || *end != ' ') {
        return 0;
    }
    return round_up(quota, strtoll(end, NULL, 10));
}

static int read_limit(const char *path, struct buffer *out) {
    buffer_clear(out);
    return file_read(path, CGROUP_FILE_BYTES_MAX, out, NULL);
}

/* cgroup v2: the tightest limit from our own group up to the root of what we can see. */
static int limit_v2(void) {
    cleanup_buffer struct buffer text = BUFFER_INIT;
    if (read_limit("/proc/self/cgroup", &text) < 0) {
        return 0;
    }
    const char *line = strstr(buffer_text(&text), "0::/");
    if (line == NULL) {
        return 0;
    }
    cleanup_free char *group = xstrndup(line + strlen("0::"), strcspn(line + strlen("0::"), "\n"));
    int least = 0;
    for (;;) {
        cleanup_free char *path = xasprintf("/sys/fs/cgroup%s/cpu.max", strcmp(group, "/") == 0 ? "" : group);
        int limit = read_limit(path, &text) < 0 ? 0 : cpu_count_parse_max(buffer_text(&text));
        if (limit > 0 && (least == 0 || limit < least)) {
            least = limit;
        }
        char *slash = strrchr(group, '/');
        if (slash == NULL || group[0] == '\0') {
            return least;
        }
        *slash = '\0';
    }
}

static int limit_v1(void) {
    cleanup_buffer struct buffer quota = BUFFER_INIT;
    cleanup_buffer struct buffer period = BUFFER_INIT;
    if (read_limit("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", &quota) < 0 ||
        read_limit("/sys/fs/cgroup/cpu/cpu.cfs_period_us", &period) < 0) {
        return 0;
    }
    return round_up(strtoll(buffer_text(&quota), NULL, 10), strtoll(buffer_text(&period), NULL, 10));
}

int cpu_count(void) {
    cpu_set_t set;
    int count = sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : (int)sysconf(_SC_NPROCESSORS_ONLN);
    int limit = limit_v2();
    if (limit == 0) {
        limit = limit_v1();
    }
    if (limit > 0 && limit < count) {
        count = limit;
    }
    return count > 0 ? count : 1;
}
