/* The API's core: what all requests share, one request, and how it is answered. One thread: the loop's.
 *
 * A verb (verbs.h) gets a call and returns NULL when it has answered or will, or a Status that is the answer. Reads answer at once
 * from committed state. Writes answer through call_submit: the reply leaves after the transaction is on disk (state.h). */
#ifndef DAVIT_CLUSTER_API_API_H
#define DAVIT_CLUSTER_API_API_H

#include "cluster/api/state.h"
#include "cluster/api/table.h"
#include "cluster/api/target.h"
#include "cluster/api/watch.h"
#include "io/http_server.h"

#define API_BODY_BYTES_MAX (3 * 1024 * 1024) /* as kube-apiserver */

struct discovery;
struct gc;
struct upstream;

struct api {
    struct loop *loop;
    struct state *state;
    struct watch_hub *watches;
    struct gc *gc;
    struct discovery *discovery;
    struct upstream *logs; /* to nodes, pod_log.h */
    char *token;           /* of every request but health checks */
    bool is_ready;         /* /readyz; false before the start is complete and while draining */
};

struct call {
    struct api *api;
    struct http_request *http; /* NULL once the client went away */
    struct target target;
    struct answer_options answer;
    bool is_dry_run;
    json_t *warnings; /* array of strings, sent as Warning fields */
};

/* The handler of the HTTP server: authenticates, routes, answers. arg: struct api. */
void api_on_request(void *arg, struct http_request *request);
/* A protocol error as a Status. */
const char *api_on_error(void *arg, const struct error *err, struct buffer *body);

/* ---- for verbs ---- */
char *call_query(const struct call *call, const char *name); /* decoded, of the caller's; NULL when absent */
/* The body as JSON. is_optional: *ret_body stays NULL when there is none. NULL, or a Status. */
json_t *call_read_body(const struct call *call, bool is_optional, json_t **ret_body) DAVIT_MUST_USE;
/* NULL, or 415 with what is accepted and, for protobuf, what to do instead. */
json_t *call_check_json(const struct call *call) DAVIT_MUST_USE;

/* Answers now; the call is gone afterwards. */
void call_reply(struct call *call, int code, const json_t *object);
void call_reply_text(struct call *call, int code, const char *text, size_t len);
/* Submits the transaction and answers with the object (taken) once it is on disk, or with 500 when that fails. The call is gone. */
void call_submit(struct call *call, struct transaction *transaction, int code, json_t *object);
/* Hands the HTTP request to somebody else (a watch); the call is gone. */
struct http_request *call_release_http(struct call *call);

#endif
