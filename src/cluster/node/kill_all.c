/* Ending all pods of a state folder without an API: what `davit down` does last. */
#include "cluster/node/node.h"

#include "base/clock.h"
#include "cluster/node/marks.h"
#include "cluster/node/records.h"

#include <errno.h>
#include <signal.h>
#include <time.h>

#define POLL_MS 20
#define KILL_WAIT_MS 1000

struct ending {
    const char *folder;
    int signal_number; /* 0 = only count */
    int count;
};

static void end_process(void *arg, const struct process_id *process) {
    struct ending *ending = arg;
    ending->count++;
    if (ending->signal_number != 0) {
        process_signal(process, ending->signal_number);
    }
}

static void end_pod(void *arg, const char *pod_folder, const json_t *record) {
    (void)pod_folder;
    records_for_each_process(record, end_process, arg);
}

static void end_marked(void *arg, const struct marked_process *process) {
    struct ending *ending = arg;
    if (!process->is_orphan) {
        end_process(ending, &process->process);
        return;
    }
    ending->count++; /* the group that it is in has no leader that could be told from a stranger */
    if (ending->signal_number != 0) {
        process_signal_alone(&process->process, ending->signal_number);
    }
}

/* Marks tell of processes that were started but not recorded; those that are both get one signal only. */
static int signal_all(const char *folder, int signal_number) {
    struct ending marked = {.folder = folder, .signal_number = signal_number};
    marks_for_each(folder, end_marked, &marked);
    if (marked.count > 0) {
        return marked.count;
    }
    struct ending recorded = {.folder = folder, .signal_number = signal_number};
    records_for_each(folder, end_pod, &recorded);
    return recorded.count;
}

static bool wait_for_end(const char *folder, int64_t wait_ms) {
    int64_t deadline_ms = clock_now_ms() + wait_ms;
    while (signal_all(folder, 0) > 0) {
        if (clock_now_ms() >= deadline_ms) {
            return false;
        }
        (void)nanosleep(&(struct timespec){.tv_nsec = POLL_MS * 1000000L}, NULL);
    }
    return true;
}

int node_kill_all(const char *folder, int64_t grace_ms, int *ret_count, struct error *err) {
    cleanup_free char *absolute = realpath(folder, NULL);
    if (absolute == NULL && errno == ENOENT) { /* no node ever started there */
        if (ret_count != NULL) {
            *ret_count = 0;
        }
        return 0;
    }
    if (absolute == NULL) {
        return error_set_errno(err, "%s", folder);
    }
    int count = signal_all(absolute, SIGTERM);
    bool has_ended = count == 0 || wait_for_end(absolute, grace_ms);
    if (!has_ended) {
        (void)signal_all(absolute, SIGKILL);
        has_ended = wait_for_end(absolute, KILL_WAIT_MS);
    }
    if (!has_ended) {
        return error_set(err, ERROR_TIMEOUT, "%d processes of pods in %s do not end", signal_all(absolute, 0), folder);
    }
    if (ret_count != NULL) {
        *ret_count = count;
    }
    return 0;
}
