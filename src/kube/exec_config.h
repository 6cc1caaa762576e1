/* The "exec" section of a kubeconfig's user; for kube/config.c. */
#ifndef DAVIT_KUBE_EXEC_CONFIG_H
#define DAVIT_KUBE_EXEC_CONFIG_H

#include "kube/config.h"

/* Fills config->exec when the user has such a section; `path` is the kubeconfig's, server and authority of the cluster are in
 * *config. */
int exec_config_read(const char *path, const json_t *user, const json_t *cluster, struct kube_config *config,
                     struct error *err) DAVIT_MUST_USE;
void exec_config_free(struct kube_exec *exec);

#endif
