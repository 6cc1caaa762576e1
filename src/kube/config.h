/* How to reach a Kubernetes API: from a kubeconfig file or from inside a pod. Keys that stand in the file itself stay in memory. */
#ifndef DAVIT_KUBE_CONFIG_H
#define DAVIT_KUBE_CONFIG_H

#include "base/json.h"

/* A program that prints credentials (client.authentication.k8s.io); kube/exec_plugin.h runs it. */
struct kube_exec {
    char *api_version;  /* "client.authentication.k8s.io/v1" or ".../v1beta1" */
    char *command;      /* a path, or a name to be found in PATH */
    char **arguments;   /* NULL at the end; without the command */
    char **environment; /* "NAME=value", beside ours; NULL at the end */
    char *install_hint; /* for the message when the program is not there; NULL = none */
    json_t *cluster;    /* for plugins that want it: spec.cluster of KUBERNETES_EXEC_INFO; NULL = not wanted */
};

struct kube_config {
    char *server;    /* "https://127.0.0.1:6443", no slash at the end */
    char *namespace; /* of the context; "default" when it says none */
    /* A PEM file or, where the kubeconfig holds it inline, PEM text; both NULL = the system's authorities, no client certificate.
     */
    char *ca_file;
    char *ca_pem;
    char *client_cert_file;
    char *client_cert_pem;
    char *client_key_file;
    char *client_key_pem;
    char *tls_server_name;  /* NULL = the server's host */
    bool is_unverified;     /* insecure-skip-tls-verify */
    char *proxy_url;        /* NULL = the environment's */
    char *token;            /* NULL = none */
    char *token_file;       /* re-read once a minute and after a 401; wins over token */
    struct kube_exec *exec; /* NULL = none */
};

/* `path`: a kubeconfig; NULL = $KUBECONFIG, else the service account of the pod we are in, else ~/.kube/config. The current context
 * is used. The message of an error names the file and what is missing in it. ERROR_UNSUPPORTED: auth-provider, password,
 * impersonation. */
int kube_config_load(const char *path, struct kube_config *ret_config, struct error *err) DAVIT_MUST_USE;
void kube_config_release(struct kube_config *config);
/* A file name in a kubeconfig is relative to that file; the caller's. */
char *kube_config_resolve(const char *config_path, const char *path);

#endif
