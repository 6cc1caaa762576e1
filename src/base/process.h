/* Processes that may outlive us: spawned in sessions of their own, known by (pid, start time), watched by pidfd.
 *
 * A pid alone is not an identity, since the kernel reuses pids: before a signal is sent, field 22 of /proc/PID/stat (start time,
 * proc(5)) is compared. */
#ifndef DAVIT_BASE_PROCESS_H
#define DAVIT_BASE_PROCESS_H

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct process_id {
    pid_t pid;            /* 0 = none */
    uint64_t start_ticks; /* since boot */
};

struct process_spec {
    const char *program;      /* absolute path */
    char *const *arguments;   /* argv, NULL at the end */
    char *const *environment; /* "NAME=value", NULL at the end */
    const char *folder;       /* to start in; NULL = ours */
    const char *output_file;  /* stdout and stderr are appended to it; made with mode 0600 */
};

/* Starts it as the leader of a new session, with default signals, no descriptor of ours and /dev/null as input. */
int process_spawn(const struct process_spec *spec, struct process_id *ret_id, struct error *err) DAVIT_MUST_USE;
/* The identity of the live process that has this pid now; -1 when there is none. */
int process_identify(pid_t pid, struct process_id *ret_id) DAVIT_MUST_USE;
/* Runs and is no zombie. */
bool process_is_alive(const struct process_id *id);
/* A pidfd (close-on-exec), readable once the process has ended; -1 when it is not alive. */
int process_open(const struct process_id *id);
/* To the process and its group, if it is still the one we mean. */
void process_signal(const struct process_id *id, int signal_number);
/* To the process alone: it may be in a group of somebody else's. */
void process_signal_alone(const struct process_id *id, int signal_number);
/* What its group left behind after the leader ended: killed. To be called before process_reap, while a dead child still holds its
 * pid. Of a process that was not our child the pid may be somebody else's by now: then its group is empty (as long as it has
 * members the kernel gives its number to nobody) and nothing is done. */
void process_kill_leftovers(const struct process_id *id);

enum process_end { PROCESS_END_UNKNOWN, PROCESS_END_EXITED, PROCESS_END_SIGNALED };
/* How an ended process ended: *ret_code is the exit code or the signal. Only children tell; of others it is UNKNOWN. */
enum process_end process_reap(int pidfd, int *ret_code);

/* The absolute path of an executable file: `name` as it stands (relative to `folder`) if it has a slash, else looked for in
 * `path_list`
 * ("/bin:/usr/bin"). NULL when there is none. The caller's. */
char *process_find_program(const char *name, const char *path_list, const char *folder);

#endif
