/* What of a pod must survive the node process: DIR/pods/<namespace>_<name>_<uid>/pod.json with the address and, for each container,
 * the process by (pid, start time), restarts and how it ended. Log files lie beside it: <container>/<restart>.log. */
#ifndef DAVIT_CLUSTER_NODE_RECORDS_H
#define DAVIT_CLUSTER_NODE_RECORDS_H

#include "cluster/node/pod.h"

char *records_pod_folder(const char *folder, const char *namespace, const char *name, const char *uid); /* of the caller's */
char *records_log_file(const char *pod_folder, const char *container, int restart);                     /* of the caller's */
/* Makes the folder of a container's logs and removes those older than the run before `restart`. */
int records_prepare_log(const char *pod_folder, const char *container, int restart, struct error *err) DAVIT_MUST_USE;

int records_write(const char *pod_folder, const struct pod *pod, struct error *err) DAVIT_MUST_USE;
/* The record as it was written, NULL when there is none that can be read. The caller's. */
json_t *records_read(const char *pod_folder);
/* Puts a record back into a new pod, as of the monotonic and wall clock now. Containers whose process lives are RUNNING; whether it
 * lives is asked here. */
void records_restore(const json_t *record, struct pod *pod, int64_t now_ms, int64_t wall_ms);
/* Calls on_pod for each recorded pod; `record` is borrowed. */
void records_for_each(const char *folder, void (*on_pod)(void *arg, const char *pod_folder, const json_t *record), void *arg);
/* Calls on_process for each live process of a record. */
void records_for_each_process(const json_t *record, void (*on_process)(void *arg, const struct process_id *process), void *arg);
bool records_any_alive(const char *folder);
void records_remove(const char *pod_folder); /* the folder with all that is in it */

#endif
