/* One instance on this machine: its state directory and what davit.json in it says of the supervisor and its roles. */
#ifndef DAVIT_CLUSTER_UP_INSTANCE_H
#define DAVIT_CLUSTER_UP_INSTANCE_H

#include "base/buffer.h"
#include "base/error.h"
#include "base/process.h"

#define INSTANCE_ROLES_MAX 8

struct instance_role {
    char name[32];
    struct process_id process;
    int restarts;
    bool is_ready; /* when this was written */
    int64_t started_wall_ms;
};

struct instance {
    struct process_id supervisor; /* pid 0 = stopped */
    int api_port;                 /* kept while stopped, so that the next start takes the same */
    int gateway_port;
    int controller_port;
    char version[32];
    struct instance_role roles[INSTANCE_ROLES_MAX];
    size_t role_count;
};

/* --dir, else $XDG_STATE_HOME/davit, else ~/.local/state/davit; absolute, of the caller's. */
int instance_directory(const char *given, char **ret_path, struct error *err) DAVIT_MUST_USE;
/* ERROR_NOT_FOUND when there is no davit.json. */
int instance_read(const char *directory, struct instance *ret_instance, struct error *err) DAVIT_MUST_USE;
/* Writes davit.json (0600). */
int instance_write(const char *directory, const struct instance *instance, struct error *err) DAVIT_MUST_USE;
bool instance_is_running(const struct instance *instance);
bool instance_any_role_runs(const struct instance *instance); /* also without a supervisor, which was killed then */
/* This process, as it is written there. */
struct process_id instance_own_process(void);
/* Waits until the process is gone, at most timeout_ms; false when it is not. Blocks. */
bool instance_wait_gone(const struct process_id *process, int64_t timeout_ms);
/* Stops roles that outlived their supervisor (it was killed). ERROR_TIMEOUT names one that cannot be stopped. Blocks. */
int instance_stop_roles(const struct instance *instance, struct error *err) DAVIT_MUST_USE;

char *instance_kubeconfig(const char *directory);            /* of the caller's */
char *instance_log(const char *directory, const char *role); /* of the caller's */
/* Appends the last lines of a role's log, each indented. */
void instance_log_tail(const char *directory, const char *role, int lines, struct buffer *out);

#endif
