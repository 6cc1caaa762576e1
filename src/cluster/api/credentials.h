/* The admin's token and kubeconfig. */
#ifndef DAVIT_CLUSTER_API_CREDENTIALS_H
#define DAVIT_CLUSTER_API_CREDENTIALS_H

#include "base/error.h"

/* Reads the token of a file, or makes a 0600 file with a random one. */
int credentials_load_token(const char *path, char **ret_token, struct error *err) DAVIT_MUST_USE;
/* Writes a 0600 kubeconfig with <pki>/ca.crt inline. An address that means "all" becomes 127.0.0.1. */
int credentials_write_kubeconfig(const char *path, const char *pki, const char *address, int port, const char *token,
                                 struct error *err) DAVIT_MUST_USE;

#endif
