/* TLS contexts and the certificates of one machine, by OpenSSL. */
#ifndef DAVIT_IO_TLS_H
#define DAVIT_IO_TLS_H

#include "base/error.h"

struct ssl_ctx_st;

/* A server context: TLS 1.2 and up, ALPN "http/1.1" only. Free with SSL_CTX_free through tls_context_free. */
struct ssl_ctx_st *tls_server_context(const char *cert_file, const char *key_file, struct error *err) DAVIT_MUST_USE;
void tls_context_free(struct ssl_ctx_st *context);

/* Makes <folder>/ca.crt, ca.key, server.crt, server.key (ECDSA P-256, PEM, keys 0600) unless all are there and valid for another 30
 * days and the names match. `names`: DNS names and numeric addresses for the server certificate, NULL at the end. CA valid 10
 * years, server 1 year. */
int tls_make_certificates(const char *folder, const char *const *names, struct error *err) DAVIT_MUST_USE;

#endif
