/* HTTP as the sources need it: one exchange after another on the calling thread, over io/transfer.h on a loop of its own.
 *
 * Three rules hold for every exchange, so that no source can forget them:
 *   where to   addresses that are link-local or a cloud's metadata server are refused once the name was resolved, unless the
 *              request is marked as the operator's or the address was allowed;
 *   redirects  at most 5; what is secret stays with the origin (scheme, host, port) that it was given for, and https never leads to
 *              http;
 *   again      500, 502, 503, 504, 429 (Retry-After counts), 408, cut and refused connections: 4 tries, with growing pauses and
 * jitter. Not what is final: a certificate that nobody vouches for.
 */
#ifndef DAVIT_ARTIFACT_HTTP_H
#define DAVIT_ARTIFACT_HTTP_H

#include "artifact/artifact.h"
#include "base/buffer.h"

struct artifact_http; /* of one fetch, on one thread */

/* `progress` is looked at for is_cancelled; both are borrowed. */
struct artifact_http *artifact_http_new(const struct artifact_options *options, struct artifact_progress *progress);
void artifact_http_free(struct artifact_http *http);

#define ARTIFACT_HEADERS_MAX 16

struct artifact_request {
    char *method; /* NULL = GET */
    char *url;
    char *headers[ARTIFACT_HEADERS_MAX]; /* "Name: value" */
    size_t header_count;
    char *secret_headers[ARTIFACT_HEADERS_MAX]; /* the same; only for the origin of `url` */
    size_t secret_header_count;
    struct buffer body;
    bool is_operators;      /* the URL is the process's own configuration (a metadata server, STS), not an adapter's */
    bool is_redirect_final; /* a 3xx is an answer: signatures do not travel */
    bool is_one_try;
    int64_t timeout_ms;    /* 0 = 30 s */
    size_t body_bytes_max; /* of the answer; 0 = 8 MiB */
};
/* Takes a text of printf's form. Programs that add more than ARTIFACT_HEADERS_MAX end. */
void artifact_request_header(struct artifact_request *request, const char *format, ...) DAVIT_PRINTF(2, 3);
void artifact_request_secret_header(struct artifact_request *request, const char *format, ...) DAVIT_PRINTF(2, 3);
void artifact_request_release(struct artifact_request *request);

struct artifact_reply {
    int status;
    char *fields; /* "name: value\n" of the last answer, names in lower case; at most 64 KiB */
    char *url;    /* where it came from, after redirects */
    struct buffer body;
};
/* A field's value, NULL when absent; of a repeated one the first. The caller frees it. */
char *artifact_reply_field(const struct artifact_reply *reply, const char *name);
void artifact_reply_release(struct artifact_reply *reply);

/* 0 with an answer of any status, released by the caller; or an error without one (ERROR_UNAVAILABLE, ERROR_TIMEOUT, ERROR_LIMIT,
 * ERROR_DENIED for an address), whose message names the URL without query and user info. */
int artifact_http_ask(struct artifact_http *http, const struct artifact_request *request, struct artifact_reply *ret,
                      struct error *err) DAVIT_MUST_USE;

#endif
