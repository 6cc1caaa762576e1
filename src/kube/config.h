/* How to reach a Kubernetes API: from a kubeconfig file or from inside a pod. */
#ifndef DAVIT_KUBE_CONFIG_H
#define DAVIT_KUBE_CONFIG_H

#include "base/error.h"

struct kube_config {
    char *server;    /* "https://127.0.0.1:6443", no slash at the end */
    char *namespace; /* of the context; "default" when it says none */
    char *ca_file;   /* PEM; NULL = the system's. Inline data is written to a 0600 temporary file that is removed with the config */
    char *client_cert_file;
    char *client_key_file;
    char *token;            /* NULL = none */
    char *token_file;       /* re-read once a minute; wins over token */
    char *temporary_folder; /* where inline data went; NULL = none */
};

/* `path`: a kubeconfig; NULL = $KUBECONFIG, else the service account of the pod we are in, else ~/.kube/config. The current context
 * is used. The message of an error names the file and what is missing in it. exec plugins are ERROR_UNSUPPORTED. */
int kube_config_load(const char *path, struct kube_config *ret_config, struct error *err) DAVIT_MUST_USE;
void kube_config_release(struct kube_config *config);

#endif
