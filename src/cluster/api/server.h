/* `davit apiserver`: Kubernetes-compatible HTTPS API on SQLite. Puts the parts of this folder together.
 *
 * What is in its folder: store.db (objects), pki/ (CA and server certificate), token (unless --token-file), apiserver.port, lock.
 */
#ifndef DAVIT_CLUSTER_API_SERVER_H
#define DAVIT_CLUSTER_API_SERVER_H

#include "base/error.h"

struct apiserver_options {
    const char *folder;
    const char *address;        /* numeric */
    int port;                   /* 0 = ephemeral */
    const char *kubeconfig_out; /* NULL = none */
    const char *token_file;     /* NULL = <folder>/token */
};

/* Serves until SIGTERM or SIGINT; open requests finish, queued writes reach the disk. */
int apiserver_run(const struct apiserver_options *options, struct error *err) DAVIT_MUST_USE;

#endif
