/* Processes of ours that no record knows: the node may be killed between starting a process and writing down its pid. Each process
 * carries DAVIT_POD_FOLDER, DAVIT_CONTAINER and DAVIT_RESTART in its environment, by which it is found again in /proc. */
#ifndef DAVIT_CLUSTER_NODE_MARKS_H
#define DAVIT_CLUSTER_NODE_MARKS_H

#include "base/process.h"

#define MARK_POD_FOLDER "DAVIT_POD_FOLDER"
#define MARK_CONTAINER "DAVIT_CONTAINER"
#define MARK_RESTART "DAVIT_RESTART"

struct marked_process {
    struct process_id process;
    bool is_orphan; /* a child of a container that has ended: not the container itself */
    char pod_folder[4096];
    char container[256];
    int restart;
};

/* Calls on_process for each live session leader whose pod folder lies under `folder`, and for each process that such a leader left
 * behind when it ended. Not for ourselves. Reads every readable /proc/PID/environ: milliseconds. */
void marks_for_each(const char *folder, void (*on_process)(void *arg, const struct marked_process *process), void *arg);

#endif
