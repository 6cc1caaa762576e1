/* What commands that look at a Kubernetes API have in common: which one, and whole lists of its objects. */
#ifndef DAVIT_CLI_API_LIST_H
#define DAVIT_CLI_API_LIST_H

#include "kube/client.h"

/* A list of one resource, read page by page. */
struct api_list {
    struct kube_client *client;
    const struct kube_resource *resource;
    const char *namespace; /* NULL = all, or of no namespace; borrowed */
    void (*on_end)(void *arg);
    void *arg;
    json_t *items; /* what was read; the caller's to release */
    struct error err;
    bool has_failed;
};

/* Fills in the rest and starts; on_end is called once, when all is read or the API refused. */
void api_list_start(struct api_list *list);

/* The kubeconfig: `path`, the instance in `dir`, $KUBECONFIG, the instance that $DAVIT_DIR or the default names, else (NULL) as any
 * Kubernetes client finds one. The result is the caller's. */
int api_find_kubeconfig(const char *path, const char *dir, char **ret_path, struct error *err) DAVIT_MUST_USE;
/* What to do next about an error of the API: "" or a line that begins with a line feed. */
const char *api_advice(const char *kubeconfig, enum error_code code);

#endif
