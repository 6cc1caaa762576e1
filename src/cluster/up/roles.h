/* The roles that `davit up` runs: their command lines, and how one sees that they are ready. A table. */
#ifndef DAVIT_CLUSTER_UP_ROLES_H
#define DAVIT_CLUSTER_UP_ROLES_H

#include <stddef.h>

enum role_probe {
    ROLE_PROBE_API,        /* GET https://127.0.0.1:<api port>/readyz with the kubeconfig's CA and token */
    ROLE_PROBE_GATEWAY,    /* GET http://127.0.0.1:<gateway port>/readyz */
    ROLE_PROBE_CONTROLLER, /* the same on the controller's port */
    ROLE_PROBE_ALIVE,      /* has run for ROLE_SETTLE_MS */
};
#define ROLE_SETTLE_MS 300

#define ROLE_ARGUMENTS_MAX 24

struct role_arguments {
    char *items[ROLE_ARGUMENTS_MAX + 1]; /* owned; NULL at the end */
    size_t count;
};
void role_arguments_release(struct role_arguments *arguments);

struct role_context {
    const char *program; /* this binary */
    const char *directory;
    const char *kubeconfig;
    int api_port;
    int gateway_port;
    int controller_port;   /* /metrics, /healthz, /readyz */
    const char *log_level; /* NULL = the roles' default */
};

struct role_spec {
    const char *name;  /* the subcommand, and the log's name */
    const char *label; /* for people */
    enum role_probe probe;
    void (*add_arguments)(const struct role_context *context, struct role_arguments *arguments);
};

/* The first is the API server, which the others wait for. */
extern const struct role_spec role_specs[];
extern const size_t role_spec_count;

/* argv of a role. */
void role_arguments_build(const struct role_spec *spec, const struct role_context *context, struct role_arguments *ret_arguments);

#endif
