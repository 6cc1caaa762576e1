/* Runs an exec plugin (client.authentication.k8s.io: a program that prints an ExecCredential) as a child process off the loop. It
 * gets KUBERNETES_EXEC_INFO, no input, our standard error, and a minute. */
#ifndef DAVIT_KUBE_EXEC_PLUGIN_H
#define DAVIT_KUBE_EXEC_PLUGIN_H

#include "io/loop.h"
#include "kube/config.h"

struct exec_credential {
    char *token;           /* NULL = none */
    char *client_cert_pem; /* with client_key_pem; NULL = none */
    char *client_key_pem;
    int64_t expires_wall_ms; /* INT64_MAX = with the process */
};

/* What a plugin printed. The message of an error holds nothing of it. */
int exec_credential_parse(const char *text, size_t len, const char *api_version, struct exec_credential *ret_credential,
                          struct error *err) DAVIT_MUST_USE;
void exec_credential_release(struct exec_credential *credential);

struct exec_run;

/* Calls on_done once at a later turn, unless cancelled: with what was printed (the callee's), or with an error that names the
 * program. The run is gone afterwards. `plugin` is borrowed. */
struct exec_run *exec_run_start(struct loop *loop, const struct kube_exec *plugin,
                                void (*on_done)(void *arg, struct exec_credential *credential, const struct error *err), void *arg);
void exec_run_cancel(struct exec_run *run); /* kills it */

#endif
