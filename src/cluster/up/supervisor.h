/* Runs the roles as child processes: starts them in order, starts again what dies, keeps their logs bounded, records all of it in
 * davit.json, and stops them in order. One loop, one thread; the shell around restart.h and roles.h. */
#ifndef DAVIT_CLUSTER_UP_SUPERVISOR_H
#define DAVIT_CLUSTER_UP_SUPERVISOR_H

#include "base/error.h"
#include "cluster/up/roles.h"

#include <stdbool.h>

struct supervisor_options {
    struct role_context context; /* borrowed texts */
    const char *version;
    /* A line for a person while the roles start. */
    void (*on_progress)(void *arg, const char *line);
    /* Once, when all roles are ready. */
    void (*on_ready)(void *arg);
    void *arg;
};

/* Blocks until SIGTERM or SIGINT, or until the start has failed. The caller holds the lock on the directory. Afterwards no role
 * runs; pods do. -1: the start failed; the message holds the role's last lines of log. */
int supervisor_run(const struct supervisor_options *options, struct error *err) DAVIT_MUST_USE;

#endif
