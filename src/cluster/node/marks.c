#include "cluster/node/marks.h"

#include "base/buffer.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#define ENVIRONMENT_BYTES_MAX (256 * 1024)

/* The start of an environment, NUL-separated. Files in /proc have no size, so they are read to their end. */
static int read_environment(pid_t pid, struct buffer *out) {
    char path[64];
    (void)snprintf(path, sizeof(path), "/proc/%d/environ", (int)pid);
    cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return -1;
    }
    char piece[8192];
    ssize_t got = 0;
    while (out->len < ENVIRONMENT_BYTES_MAX && (got = read(fd, piece, sizeof(piece))) > 0) {
        buffer_append(out, piece, (size_t)got);
    }
    return 0;
}

static const char *find_variable(const struct buffer *environment, const char *name) {
    size_t name_len = strlen(name);
    for (size_t at = 0; at < environment->len; at += strlen(environment->data + at) + 1) {
        const char *entry = environment->data + at;
        if (strncmp(entry, name, name_len) == 0 && entry[name_len] == '=') {
            return entry + name_len + 1;
        }
    }
    return NULL;
}

static bool is_live_leader(pid_t session) {
    struct process_id leader;
    return session > 0 && getsid(session) == session && process_identify(session, &leader) == 0;
}

/* Children of a container inherit its marks: the leader of the session is the container, and while it lives it stands for them. */
static bool read_marks(pid_t pid, const char *folder, struct marked_process *ret_process) {
    cleanup_buffer struct buffer environment = BUFFER_INIT;
    pid_t session = getsid(pid);
    ret_process->is_orphan = session != pid;
    if (pid == getpid() || (session != pid && is_live_leader(session)) || read_environment(pid, &environment) < 0) {
        return false;
    }
    const char *pod_folder = find_variable(&environment, MARK_POD_FOLDER);
    const char *container = find_variable(&environment, MARK_CONTAINER);
    const char *restart = find_variable(&environment, MARK_RESTART);
    size_t folder_len = strlen(folder);
    if (pod_folder == NULL || container == NULL || restart == NULL || strncmp(pod_folder, folder, folder_len) != 0 ||
        pod_folder[folder_len] != '/') {
        return false;
    }
    (void)snprintf(ret_process->pod_folder, sizeof(ret_process->pod_folder), "%s", pod_folder);
    (void)snprintf(ret_process->container, sizeof(ret_process->container), "%s", container);
    ret_process->restart = (int)strtol(restart, NULL, 10);
    return process_identify(pid, &ret_process->process) == 0;
}

void marks_for_each(const char *folder, void (*on_process)(void *arg, const struct marked_process *process), void *arg) {
    DIR *directory = opendir("/proc");
    if (directory == NULL) {
        return;
    }
    struct marked_process *process = xcalloc(1, sizeof(*process));
    for (struct dirent *entry = NULL; (entry = readdir(directory)) != NULL;) {
        long pid = strtol(entry->d_name, NULL, 10);
        if (pid > 1 && read_marks((pid_t)pid, folder, process)) {
            on_process(arg, process);
        }
    }
    free(process);
    closedir(directory);
}
