/* Outbound HTTP(S) of the control plane, by libcurl on the loop: the Kubernetes API, sidecars, engines' adapter calls, hubs, object
 * stores. HTTP/1.1 only. Connections are kept. A transfer either collects its whole response (bounded) or streams it. */
#ifndef DAVIT_IO_TRANSFER_H
#define DAVIT_IO_TRANSFER_H

#include "base/buffer.h"
#include "base/error.h"
#include "io/loop.h"

#include <stddef.h>
#include <stdint.h>

struct sockaddr;
struct transfers; /* a pool of connections on one loop */
struct transfer;

struct transfers *transfers_new(struct loop *loop);
void transfers_free(struct transfers *transfers); /* cancels what runs, without callbacks */

struct transfer_response {
    int status;
    const char *content_type; /* "" when absent */
    const char *body;         /* NUL-terminated; "" when streamed */
    size_t body_len;
    int64_t retry_after_ms; /* what Retry-After says, 0 = nothing */
    const char *fields;     /* with wants_fields: "name: value\n" each, names in lower case; "" otherwise */
    const char *redirect;   /* where a 3xx leads, absolute; NULL = nowhere */
};
/* A field's value out of `fields`, NULL when absent; of a repeated one the first. The caller frees it. */
char *transfer_field(const char *fields, const char *name);

#define TRANSFER_FIELDS_BYTES_MAX (64u * 1024) /* of a response's head; more is ERROR_LIMIT */

struct transfer_request {
    const char *method; /* "GET", "POST", "PUT", "PATCH", "DELETE" */
    const char *url;
    const char *const *headers; /* "Name: value", NULL at the end; NULL = none */
    const void *body;           /* copied */
    size_t body_len;
    /* Whom to trust and who we are, each as a PEM file or as PEM text (copied; wins). No authority = the system's; no certificate =
     * none. */
    const char *ca_file;
    const char *ca_pem;
    bool is_system_trusted_too; /* ca_file is beside the system's authorities */
    const char *client_cert_file;
    const char *client_cert_pem;
    const char *client_key_file;
    const char *client_key_pem;
    const char *tls_server_name; /* the name that the server must prove, where it is not the URL's host; NULL = the URL's */
    bool is_unverified;          /* anybody may answer */
    const char *proxy_url;       /* http, https or socks5, for every host; NULL = the environment's */
    int64_t connect_timeout_ms;  /* 0 = 10 s */
    int64_t timeout_ms;          /* the whole transfer; 0 = none */
    int64_t stall_ms;            /* without a byte of the response: ERROR_TIMEOUT; 0 = for ever */
    size_t body_bytes_max;       /* of a collected response; 0 = 64 MiB; more is ERROR_LIMIT */
    size_t receive_bytes;        /* read at a time, and of a piece for on_data; 0 = 16 KiB, larger for large bodies */
    bool wants_fields;           /* of the response */
    /* Asked with each address that the host's name resolved to, before anything is sent to it; NULL = all are fine. When none is
     * left: ERROR_DENIED, which names the address. Not asked for a kept connection, so calls of one pool have one policy. Behind a
     * proxy the address is the proxy's: what the name means there is not seen here. */
    bool (*may_connect)(void *arg, const struct sockaddr *address);
    void *may_connect_arg;
    /* Asked when the connection is there and the request is about to go out on it; NULL = yes. No: ERROR_DENIED, nothing was sent.
     * For those who may have lost the right to ask while they waited. */
    bool (*may_send)(void *arg);
    void *may_send_arg;
    /* Set: 2xx bodies are streamed here instead of being collected. Others are collected. Returning -1 ends the transfer with
     * ERROR_IO. */
    int (*on_data)(void *arg, const char *bytes, size_t len);
    /* Before the first on_data, with status, content type and fields; a body that is empty has none. -1 as of on_data. */
    int (*on_head)(void *arg, const struct transfer_response *head);
    /* Once, unless cancelled. err NULL: `response` holds a status of any value. err: no response (ERROR_UNAVAILABLE, ERROR_TIMEOUT,
     * ERROR_LIMIT, ERROR_DENIED, ERROR_IO; ERROR_INVALID for a URL or a header that is none), the message names the URL without
     * query and user info. It is final where the peer cannot prove its name or will not take ours. The transfer is gone afterwards.
     */
    void (*on_done)(void *arg, const struct transfer_response *response, const struct error *err);
    void *arg;
};

/* Never calls back before it returns. */
struct transfer *transfer_start(struct transfers *transfers, const struct transfer_request *request);
void transfer_cancel(struct transfer *transfer);

#endif
