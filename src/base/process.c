#include "base/process.h"

#include "base/buffer.h"
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define FIELD_STATE 3
#define FIELD_START_TIME 22

/* Reads /proc/PID/stat by hand: its second field is a name in parentheses that may hold anything. */
static int read_stat(pid_t pid, char *ret_state, uint64_t *ret_start_ticks) {
    char path[64];
    char text[1024];
    (void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t len = fd >= 0 ? read(fd, text, sizeof(text) - 1) : -1;
    if (len <= 0) {
        return -1;
    }
    text[len] = '\0';
    const char *at = strrchr(text, ')');
    if (at == NULL || at[1] != ' ' || at[2] == '\0') {
        return -1;
    }
    at += 2;
    *ret_state = *at;
    for (int field = FIELD_STATE; field < FIELD_START_TIME; field++) {
        at = strchr(at, ' ');
        if (at == NULL) {
            return -1;
        }
        at++;
    }
    *ret_start_ticks = strtoull(at, NULL, 10);
    return 0;
}

static int set_up_files(posix_spawn_file_actions_t *actions, const struct process_spec *spec) {
    posix_spawn_file_actions_init(actions);
    int result = posix_spawn_file_actions_addopen(actions, 0, "/dev/null", O_RDONLY, 0);
    result =
        result != 0 ? result : posix_spawn_file_actions_addopen(actions, 1, spec->output_file, O_WRONLY | O_CREAT | O_APPEND, 0600);
    result = result != 0 ? result : posix_spawn_file_actions_adddup2(actions, 1, 2);
    result = result != 0 ? result : posix_spawn_file_actions_addclosefrom_np(actions, 3);
    if (result == 0 && spec->folder != NULL) {
        result = posix_spawn_file_actions_addchdir_np(actions, spec->folder);
    }
    return result;
}

static void set_up_attributes(posix_spawnattr_t *attributes) {
    sigset_t none;
    sigset_t all;
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawnattr_init(attributes);
    posix_spawnattr_setsigmask(attributes, &none);
    posix_spawnattr_setsigdefault(attributes, &all);
    posix_spawnattr_setflags(attributes, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
}

int process_spawn(const struct process_spec *spec, struct process_id *ret_id, struct error *err) {
    struct stat info;
    if (spec->folder != NULL && (stat(spec->folder, &info) < 0 || !S_ISDIR(info.st_mode))) {
        return error_set(err, ERROR_NOT_FOUND, "folder \"%s\" to start in does not exist on this machine", spec->folder);
    }
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    set_up_attributes(&attributes);
    pid_t pid = 0;
    int failure = set_up_files(&actions, spec);
    if (failure == 0) {
        failure = posix_spawn(&pid, spec->program, &actions, &attributes, spec->arguments, spec->environment);
    }
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    if (failure != 0) {
        errno = failure;
        return error_set_errno(err, "start \"%s\"", spec->program);
    }
    struct process_id id = {.pid = pid};
    char state = '?';
    (void)read_stat(pid, &state, &id.start_ticks); /* our child: it has an entry until it is reaped */
    *ret_id = id;
    return 0;
}

static bool is_same_process(const struct process_id *id, bool zombies_count) {
    char state = '?';
    uint64_t start_ticks = 0;
    return id->pid > 0 && read_stat(id->pid, &state, &start_ticks) == 0 && start_ticks == id->start_ticks &&
           (zombies_count || (state != 'Z' && state != 'X'));
}

int process_identify(pid_t pid, struct process_id *ret_id) {
    struct process_id id = {.pid = pid};
    char state = '?';
    if (read_stat(pid, &state, &id.start_ticks) < 0 || state == 'Z' || state == 'X') {
        return -1;
    }
    *ret_id = id;
    return 0;
}

bool process_is_alive(const struct process_id *id) {
    return is_same_process(id, false);
}

int process_open(const struct process_id *id) {
    if (id->pid <= 0) {
        return -1;
    }
    int fd = pidfd_open(id->pid, 0);
    /* Compared after opening: what the descriptor names cannot change any more. A zombie child is fine, it tells its exit code. */
    if (fd >= 0 && !is_same_process(id, true)) {
        close(fd);
        return -1;
    }
    return fd;
}

void process_signal(const struct process_id *id, int signal_number) {
    if (is_same_process(id, true)) {
        (void)kill(-id->pid, signal_number); /* the leader of a session cannot leave its group */
    }
}

void process_signal_alone(const struct process_id *id, int signal_number) {
    cleanup_close int fd = process_open(id);
    if (fd >= 0) {
        (void)pidfd_send_signal(fd, signal_number, NULL, 0);
    }
}

void process_kill_leftovers(const struct process_id *id) {
    char state = '?';
    uint64_t start_ticks = 0;
    bool is_reused = id->pid > 0 && read_stat(id->pid, &state, &start_ticks) == 0 && start_ticks != id->start_ticks;
    if (id->pid > 0 && !is_reused) {
        (void)kill(-id->pid, SIGKILL);
    }
}

enum process_end process_reap(int pidfd, int *ret_code) {
    siginfo_t info = {0};
    *ret_code = 0;
    if (waitid(P_PIDFD, (id_t)pidfd, &info, WEXITED | WNOHANG) < 0 || info.si_pid == 0) {
        return PROCESS_END_UNKNOWN;
    }
    *ret_code = info.si_status;
    return info.si_code == CLD_EXITED ? PROCESS_END_EXITED : PROCESS_END_SIGNALED;
}

static bool is_executable_file(const char *path) {
    struct stat info;
    return stat(path, &info) == 0 && S_ISREG(info.st_mode) && access(path, X_OK) == 0;
}

char *process_find_program(const char *name, const char *path_list, const char *folder) {
    if (strchr(name, '/') != NULL) {
        char *path = name[0] == '/' || folder == NULL ? xstrdup(name) : path_join(folder, name);
        if (!is_executable_file(path)) {
            free(path);
            return NULL;
        }
        return path;
    }
    for (const char *at = path_list; name[0] != '\0' && at != NULL && *at != '\0';) {
        size_t len = strcspn(at, ":");
        cleanup_free char *entry = xstrndup(at, len);
        cleanup_free char *path = path_join(entry, name);
        if (len > 0 && is_executable_file(path)) {
            return take_pointer(path);
        }
        at += len + (at[len] == ':');
    }
    return NULL;
}
