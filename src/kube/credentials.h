/* Who we are towards the API, kept current: a token of the kubeconfig, a token file that is replaced now and then, client
 * certificates, or what an exec plugin prints. */
#ifndef DAVIT_KUBE_CREDENTIALS_H
#define DAVIT_KUBE_CREDENTIALS_H

#include "io/loop.h"
#include "kube/config.h"

struct credentials;

/* What a request presents; borrowed until the loop's next turn. NULL members = none. */
struct presented {
    const char *token;
    const char *client_cert_file;
    const char *client_cert_pem;
    const char *client_key_file;
    const char *client_key_pem;
    uint64_t generation; /* changes when anything else here does */
};

/* `config` is borrowed. on_change is called on the loop when what was awaited is there, or failed (err, ERROR_UNAUTHORIZED): then
 * everybody who waits is told, and the next one to ask tries again. */
struct credentials *credentials_new(struct loop *loop, const struct kube_config *config,
                                    void (*on_change)(void *arg, const struct error *err), void *arg);
void credentials_free(struct credentials *credentials);

/* false: they are being fetched, on_change will be called. */
bool credentials_peek(struct credentials *credentials, struct presented *ret_presented);
/* The API answered 401 to what was presented. true: others are there or can be had, it is worth asking again. */
bool credentials_refused(struct credentials *credentials, uint64_t generation);

#endif
