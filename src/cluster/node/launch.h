/* What a container's spec comes to on this machine: program, arguments, environment, folder. Pure but for looking whether the
 * program exists.
 *
 * $(NAME) is expanded as a kubelet does: in `command`, `args` and, for names defined before it, in `env`; $$ is a literal $; an
 * unknown name stays. */
#ifndef DAVIT_CLUSTER_NODE_LAUNCH_H
#define DAVIT_CLUSTER_NODE_LAUNCH_H

#include "base/json.h"

struct launch {
    char *program;      /* absolute */
    char **arguments;   /* NULL at the end */
    char **environment; /* "NAME=value", NULL at the end */
    const char *folder; /* borrowed from the spec; NULL = the node's */
};

struct launch_input {
    const json_t *pod;       /* metadata and spec */
    const json_t *container; /* one of its containers */
    const char *pod_ip;
    const char *node_name;
    int cpus; /* of the machine: what limits.cpu means when there is none */
    /* Borrowed ConfigMap (`is_secret` false) or Secret of the pod's namespace. NULL with *ret_is_known false: not known yet, try
     * again. */
    const json_t *(*find_source)(void *arg, bool is_secret, const char *namespace, const char *name, bool *ret_is_known);
    void *arg;
};

/* How far it came: the reason that a kubelet would show while the container waits is in *ret_reason (static). */
enum launch_result { LAUNCH_READY, LAUNCH_NOT_YET, LAUNCH_FAILED };
enum launch_result launch_prepare(const struct launch_input *input, struct launch *ret_launch, const char **ret_reason,
                                  struct error *err);
void launch_release(struct launch *launch);

/* "500m" -> 500, "2" -> 2000; -1 when it is no quantity. */
int64_t quantity_milli(const char *text);

#endif
