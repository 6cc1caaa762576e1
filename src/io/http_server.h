/* An HTTP/1.1 server on a loop: whole requests in (bounded), whole or streamed responses out, keep-alive, optional TLS.
 *
 * For each request whose head and body arrived, on_request is called once. The handler answers with http_reply or with
 * http_stream_*, at once or later. The request lives until its answer is complete, or until the client goes away: then on_gone (if
 * set) is called, once, and the request must not be touched afterwards. Protocol errors are answered by the server itself, in the
 * caller's dialect through `on_error`. */
#ifndef DAVIT_IO_HTTP_SERVER_H
#define DAVIT_IO_HTTP_SERVER_H

#include "io/http.h"
#include "io/loop.h"

struct http_server;
struct http_request;
struct ssl_ctx_st;

struct http_server_options {
    struct loop *loop;
    struct ssl_ctx_st *tls;  /* NULL = clear text; borrowed, outlives the server */
    size_t body_bytes_max;   /* larger request bodies get 413, by Content-Length before any of it is read */
    size_t bodies_bytes_max; /* of all request bodies that are held at a time, arriving and being answered; what does not fit gets
                                503. 0 = no bound but connections_max * body_bytes_max */
    size_t out_bytes_max;    /* of unsent output per connection before http_stream_write says BACKLOG; 0 = 1 MiB */
    int connections_max;     /* further connections wait in the kernel's queue */
    int64_t idle_timeout_ms; /* between requests; 0 = 75 s */
    int64_t read_timeout_ms; /* for a head or a body to arrive in full; 0 = 60 s */
    void (*on_request)(void *arg, struct http_request *request);
    /* The body of an error answer; NULL = text/plain. Appends to *body and returns its content type. */
    const char *(*on_error)(void *arg, const struct error *err, struct buffer *body);
    void *arg;
};

struct http_server *http_server_new(const struct http_server_options *options);
/* Listens on a numeric address (IPv4 or IPv6); port 0 takes a free one. May be called for several addresses. *ret_port is what was
 * bound. ERROR_IO names address, port and, for a port in use, that. */
int http_server_listen(struct http_server *server, const char *address, int port, int *ret_port, struct error *err) DAVIT_MUST_USE;
/* Accepts from the listeners of `other` too: N loops of one process serve one port, each with a server of its own. Whoever is awake
 * first accepts. Call it before the other's loop runs. */
int http_server_listen_like(struct http_server *server, const struct http_server *other, struct error *err) DAVIT_MUST_USE;
/* Stops accepting; open requests may finish, idle connections close, further requests on kept connections are answered and then
 * closed. */
void http_server_drain(struct http_server *server);
int http_server_open_requests(const struct http_server *server);
void http_server_free(struct http_server *server); /* cuts what is open, calling on_gone */

/* ---- a request ---- */
const struct http_head *http_request_head(const struct http_request *request);
const char *http_request_body(const struct http_request *request, size_t *ret_len); /* NUL-terminated */
const char *http_request_peer(const struct http_request *request);                  /* "127.0.0.1:40000" */
void http_request_on_gone(struct http_request *request, void (*on_gone)(void *arg), void *arg);

/* Extra fields for the answer that follows; Content-Length, Transfer-Encoding, Connection and Date are the server's own. */
void http_reply_field(struct http_request *request, const char *name, const char *value);
/* A whole answer. content_type NULL = no Content-Type field. The request is gone afterwards. */
void http_reply(struct http_request *request, int status, const char *content_type, const void *body, size_t len);

enum http_stream_state { HTTP_STREAM_OK, HTTP_STREAM_BACKLOG };
/* A streamed answer, chunked (or until close for HTTP/1.0). */
void http_stream_begin(struct http_request *request, int status, const char *content_type);
/* The bytes are taken in any case. BACKLOG: more than out_bytes_max are unsent; stop until on_drained is called. */
enum http_stream_state http_stream_write(struct http_request *request, const void *bytes, size_t len);
void http_stream_on_drained(struct http_request *request, void (*on_drained)(void *arg), void *arg);
void http_stream_end(struct http_request *request); /* the request is gone afterwards */
void http_stream_abort(
    struct http_request *request); /* cuts the connection so that the client sees that it is incomplete; the request is gone */

#endif
