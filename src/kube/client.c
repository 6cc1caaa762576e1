/* Calls and streams are both an exchange: a request that is sent as often as it takes. It waits for credentials and, if it is a
 * call, for its turn; it is sent once more with other credentials after a 401, and again when Retry-After says so, as client-go
 * does. */
#include "kube/client.h"

#include "base/clock.h"
#include "base/log.h"
#include "kube/credentials.h"
#include "kube/status.h"

#include <stdio.h>
#include <string.h>
#include <sys/queue.h>

#define CALL_TIMEOUT_MS 30000
#define CALL_RECEIVE_BYTES 4096 /* at a time: most answers are one object, and many calls run at once */
#define RESENDS_MAX 10          /* on Retry-After */

TAILQ_HEAD(exchange_list, exchange);

struct exchange {
    TAILQ_ENTRY(exchange) link;
    struct kube_client *client;
    struct transfer *transfer;  /* NULL while it waits */
    struct exchange_list *list; /* of the client's, where it is */
    struct timer rest;          /* set: the API said when to come back; made when it is needed */
    bool is_call;               /* else a stream */
    bool takes_turns;           /* counts towards calls_max */
    bool is_guarded;
    bool has_new_credentials; /* a 401 was answered with others */
    int resends;
    int64_t deadline_ms; /* of a call, from its first sending; 0 = not sent yet */
    int64_t timeout_ms;
    uint64_t generation; /* of the credentials presented */
    unsigned round;      /* of waiting for credentials, see fail_waiting */
    const char *method;
    const char *content_type; /* of the body */
    char *url;
    char *what; /* "get pods default/x" */
    char *body; /* NULL = none */
    int (*on_data)(void *arg, const char *bytes, size_t len);
    /* Unlinked already; frees the exchange. */
    void (*on_end)(struct exchange *exchange, const struct transfer_response *response, struct error *err);
};

struct kube_client {
    struct loop *loop;
    struct transfers *transfers;
    const struct kube_config *config;
    struct credentials *credentials;
    char *user_agent;
    int calls_max;
    bool (*may_write)(void *arg); /* NULL = always */
    void *may_write_arg;
    int running;                  /* calls that are out */
    struct exchange_list waiting; /* to be sent: those that take no turns, then calls in order of starting */
    struct exchange_list others;  /* out, or resting */
    unsigned round;
};

struct kube_call {
    struct exchange exchange;
    bool (*is_known)(void *arg, const struct kube_glance *answer);
    void (*on_done)(void *arg, json_t *object, const struct error *err);
    void *arg;
};

struct kube_stream {
    struct exchange exchange;
    int (*on_data)(void *arg, const char *bytes, size_t len);
    void (*on_done)(void *arg, const struct error *err);
    void *arg;
    bool is_in_data;
    bool is_cancelled; /* inside of on_data: the transfer ends when we are out of it */
};

static const struct verb {
    const char *word;
    const char *method;
    const char *content_type;
} verbs[] = {
    [KUBE_GET] = {"get", "GET", NULL},
    [KUBE_LIST] = {"list", "GET", NULL},
    [KUBE_CREATE] = {"create", "POST", "application/json"},
    [KUBE_UPDATE] = {"update", "PUT", "application/json"},
    [KUBE_PATCH_MERGE] = {"patch", "PATCH", "application/merge-patch+json"},
    [KUBE_PATCH_JSON] = {"patch", "PATCH", "application/json-patch+json"},
    [KUBE_DELETE] = {"delete", "DELETE", "application/json"},
};

/* ---- sending ---- */

struct header_lines {
    char *lines[6];
    size_t count;
};

static void header_lines_init(struct header_lines *headers, const struct exchange *exchange, const char *token) {
    *headers = (struct header_lines){0};
    headers->lines[headers->count++] = xasprintf("User-Agent: %s", exchange->client->user_agent);
    headers->lines[headers->count++] = xstrdup("Accept: application/json");
    if (exchange->body != NULL) {
        headers->lines[headers->count++] = xasprintf("Content-Type: %s", exchange->content_type);
    }
    if (token != NULL && token[0] != '\0') {
        headers->lines[headers->count++] = xasprintf("Authorization: Bearer %s", token);
    }
}

static void header_lines_release(struct header_lines *headers) {
    for (size_t i = 0; i < headers->count; i++) {
        explicit_bzero(headers->lines[i], strlen(headers->lines[i]));
        free(headers->lines[i]);
    }
}

static void on_transfer_done(void *arg, const struct transfer_response *response, const struct error *err);

/* A stream's time starts anew with each sending, a call's does not. */
static int64_t time_left_ms(struct exchange *exchange) {
    if (!exchange->is_call) {
        return exchange->timeout_ms;
    }
    int64_t now_ms = clock_now_ms();
    if (exchange->deadline_ms == 0) {
        exchange->deadline_ms = now_ms + exchange->timeout_ms;
    }
    return exchange->deadline_ms - now_ms > 1 ? exchange->deadline_ms - now_ms : 1;
}

static void send(struct exchange *exchange, const struct presented *presented) {
    struct kube_client *client = exchange->client;
    const struct kube_config *config = client->config;
    struct header_lines headers;
    header_lines_init(&headers, exchange, presented->token);
    struct transfer_request request = {
        .method = exchange->method,
        .url = exchange->url,
        .headers = (const char *const *)headers.lines,
        .body = exchange->body,
        .body_len = exchange->body != NULL ? strlen(exchange->body) : 0,
        .ca_file = config->ca_file,
        .ca_pem = config->ca_pem,
        .client_cert_file = presented->client_cert_file,
        .client_cert_pem = presented->client_cert_pem,
        .client_key_file = presented->client_key_file,
        .client_key_pem = presented->client_key_pem,
        .tls_server_name = config->tls_server_name,
        .is_unverified = config->is_unverified,
        .proxy_url = config->proxy_url,
        .timeout_ms = time_left_ms(exchange),
        .receive_bytes = exchange->is_call ? CALL_RECEIVE_BYTES : 0,
        .may_send = exchange->is_guarded ? client->may_write : NULL,
        .may_send_arg = client->may_write_arg,
        .on_data = exchange->on_data,
        .on_done = on_transfer_done,
        .arg = exchange,
    };
    exchange->generation = presented->generation;
    exchange->transfer = transfer_start(client->transfers, &request);
    client->running += exchange->takes_turns;
    header_lines_release(&headers);
}

static void put(struct exchange *exchange, struct exchange_list *list) {
    if (exchange->list != NULL) {
        TAILQ_REMOVE(exchange->list, exchange, link);
    }
    exchange->list = list;
    if (list == &exchange->client->waiting && !exchange->takes_turns) { /* streams and urgent calls wait for no other */
        TAILQ_INSERT_HEAD(list, exchange, link);
    } else if (list != NULL) {
        TAILQ_INSERT_TAIL(list, exchange, link);
    }
}

static void start_waiting(struct kube_client *client) {
    struct exchange *exchange = NULL;
    struct presented presented;
    bool is_known = false;
    while ((exchange = TAILQ_FIRST(&client->waiting)) != NULL && (!exchange->takes_turns || client->running < client->calls_max)) {
        if (!is_known && !credentials_peek(client->credentials, &presented)) {
            return;
        }
        is_known = true;
        put(exchange, &client->others);
        send(exchange, &presented);
    }
}

static void on_rested(void *arg) {
    struct exchange *exchange = arg;
    put(exchange, &exchange->client->waiting);
    start_waiting(exchange->client);
}

static void rest(struct exchange *exchange, int64_t for_ms) {
    if (exchange->rest.event == NULL) {
        timer_init(&exchange->rest, exchange->client->loop, on_rested, exchange);
    }
    timer_set(&exchange->rest, for_ms);
}

/* ---- the end ---- */

static void leave(struct exchange *exchange) {
    struct kube_client *client = exchange->client;
    put(exchange, NULL);
    client->running -= exchange->takes_turns && exchange->transfer != NULL;
    if (exchange->rest.event != NULL) {
        timer_release(&exchange->rest);
    }
}

static void exchange_release(struct exchange *exchange) {
    free(exchange->url);
    free(exchange->what);
    if (exchange->body != NULL) {
        explicit_bzero(exchange->body, strlen(exchange->body));
    }
    free(exchange->body);
}

/* Whether it is sent again, now or after a rest. */
static bool goes_on(struct exchange *exchange, const struct transfer_response *response) {
    if (response->status == 401 && !exchange->has_new_credentials) {
        exchange->has_new_credentials = true;
        if (!credentials_refused(exchange->client->credentials, exchange->generation)) {
            return false;
        }
        put(exchange, &exchange->client->waiting);
        return true;
    }
    bool is_asked_back = (response->status == 429 || response->status >= 500) && response->retry_after_ms > 0;
    bool has_time = !exchange->is_call || clock_now_ms() + response->retry_after_ms < exchange->deadline_ms;
    if (!is_asked_back || !has_time || exchange->resends >= RESENDS_MAX) {
        return false;
    }
    exchange->resends++;
    rest(exchange, response->retry_after_ms);
    return true;
}

static void on_transfer_done(void *arg, const struct transfer_response *response, const struct error *transport_err) {
    struct exchange *exchange = arg;
    struct kube_client *client = exchange->client;
    struct error err = {0};
    exchange->transfer = NULL;
    client->running -= exchange->takes_turns;
    if (transport_err == NULL && goes_on(exchange, response)) {
        start_waiting(client);
        return;
    }
    if (transport_err != NULL) {
        err = *transport_err;
        (void)error_wrap(&err, "%s", exchange->what);
    } else if (response->status >= 400) {
        kube_status_error(response->status, response->body, response->body_len, exchange->what, &err);
    } else if (response->status < 200 || response->status >= 300) {
        error_set(&err, ERROR_UNAVAILABLE, "%s: unexpected HTTP status %d", exchange->what, response->status);
    }
    leave(exchange);
    start_waiting(client);
    exchange->on_end(exchange, response, &err);
}

/* There are no credentials: everybody who waits for them is told. Those who start again while they are told wait for the next try.
 */
static void fail_waiting(struct kube_client *client, const struct error *cause) {
    client->round++;
    struct exchange *exchange = TAILQ_FIRST(&client->waiting);
    while (exchange != NULL) {
        if (exchange->round == client->round) {
            exchange = TAILQ_NEXT(exchange, link);
            continue;
        }
        struct error err = *cause;
        (void)error_wrap(&err, "%s", exchange->what);
        leave(exchange);
        exchange->on_end(exchange, NULL, &err);
        exchange = TAILQ_FIRST(&client->waiting); /* it may have cancelled any other */
    }
}

static void on_credentials(void *arg, const struct error *err) {
    struct kube_client *client = arg;
    if (err != NULL) {
        log_warn("%s", err->message);
        fail_waiting(client, err);
    } else {
        start_waiting(client);
    }
}

static void exchange_start(struct kube_client *client, struct exchange *exchange) {
    exchange->client = client;
    exchange->round = client->round;
    put(exchange, &client->waiting);
    start_waiting(client);
}

/* ---- calls ---- */

static json_t *read_answer(const struct kube_call *call, const struct transfer_response *response, struct error *err) {
    struct kube_glance glance;
    bool is_object = kube_glance_object(response->body, response->body_len, &glance);
    if (is_object && call->is_known != NULL && call->is_known(call->arg, &glance)) {
        return kube_glance_identity(&glance);
    }
    json_t *object = kube_glance_parse(&glance, response->body, response->body_len, err);
    if (object == NULL) {
        (void)error_wrap(err, "%s: answer", call->exchange.what);
    }
    return object;
}

static void on_call_end(struct exchange *exchange, const struct transfer_response *response, struct error *err) {
    struct kube_call *call = (struct kube_call *)exchange;
    cleanup_json json_t *object = err->code == ERROR_NONE ? read_answer(call, response, err) : NULL;
    call->on_done(call->arg, object, object == NULL ? err : NULL);
    exchange_release(exchange);
    free(call);
}

static char *describe(const struct kube_request *request) {
    struct buffer what = BUFFER_INIT;
    buffer_printf(&what, "%s %s", verbs[request->verb].word, request->resource->plural);
    if (request->subresource != NULL) {
        buffer_printf(&what, "/%s", request->subresource);
    }
    const char *name = request->name != NULL ? request->name : json_string_at(request->body, "metadata.name", NULL);
    if (name != NULL) {
        buffer_append_char(&what, ' ');
        if (request->namespace != NULL) {
            buffer_printf(&what, "%s/", request->namespace);
        }
        buffer_append_text(&what, name);
    }
    return buffer_take(&what);
}

struct kube_call *kube_start(struct kube_client *client, const struct kube_request *request) {
    const struct verb *verb = &verbs[request->verb];
    cleanup_free char *path = kube_path(request->resource, request->namespace, request->name, request->subresource);
    struct kube_call *call = xcalloc(1, sizeof(*call));
    call->is_known = request->is_known;
    call->on_done = request->on_done;
    call->arg = request->arg;
    call->exchange = (struct exchange){
        .is_call = true,
        .takes_turns = !request->is_urgent,
        .is_guarded = !request->is_urgent && request->verb != KUBE_GET && request->verb != KUBE_LIST,
        .timeout_ms = request->timeout_ms > 0 ? request->timeout_ms : CALL_TIMEOUT_MS,
        .method = verb->method,
        .content_type = verb->content_type,
        .url = xasprintf("%s%s%s%s", client->config->server, path, request->query != NULL ? "?" : "",
                         request->query != NULL ? request->query : ""),
        .what = describe(request),
        .body = request->body_text != NULL ? xstrdup(request->body_text)
                : request->body != NULL    ? json_text(request->body)
                                           : NULL,
        .on_end = on_call_end,
    };
    exchange_start(client, &call->exchange);
    return call;
}

void kube_call_cancel(struct kube_call *call) {
    if (call == NULL) {
        return;
    }
    struct kube_client *client = call->exchange.client;
    leave(&call->exchange);
    transfer_cancel(call->exchange.transfer);
    exchange_release(&call->exchange);
    free(call);
    start_waiting(client);
}

/* ---- streams ---- */

static int on_stream_data(void *arg, const char *bytes, size_t len) {
    struct kube_stream *stream = arg; /* its first member is the exchange */
    stream->is_in_data = true;
    int result = stream->on_data(stream->arg, bytes, len);
    stream->is_in_data = false;
    return stream->is_cancelled ? -1 : result;
}

static void on_stream_end(struct exchange *exchange, const struct transfer_response *response, struct error *err) {
    (void)response;
    struct kube_stream *stream = (struct kube_stream *)exchange;
    if (!stream->is_cancelled) {
        stream->on_done(stream->arg, err->code != ERROR_NONE ? err : NULL);
    }
    exchange_release(exchange);
    free(stream);
}

struct kube_stream *kube_stream_start(struct kube_client *client, const struct kube_stream_request *request) {
    struct kube_stream *stream = xcalloc(1, sizeof(*stream));
    stream->on_data = request->on_data;
    stream->on_done = request->on_done;
    stream->arg = request->arg;
    stream->exchange = (struct exchange){
        .timeout_ms = request->timeout_ms,
        .method = "GET",
        .url = xasprintf("%s%s", client->config->server, request->path_and_query),
        .what = xstrdup(request->what),
        .on_data = on_stream_data,
        .on_end = on_stream_end,
    };
    exchange_start(client, &stream->exchange);
    return stream;
}

void kube_stream_cancel(struct kube_stream *stream) {
    if (stream == NULL) {
        return;
    }
    if (stream->is_in_data) {
        stream->is_cancelled = true; /* curl may not be re-entered from its own callback */
        return;
    }
    leave(&stream->exchange);
    transfer_cancel(stream->exchange.transfer);
    exchange_release(&stream->exchange);
    free(stream);
}

/* ---- the client ---- */

struct kube_client *kube_client_new(struct loop *loop, struct transfers *transfers, const struct kube_config *config,
                                    const char *user_agent, int calls_max) {
    struct kube_client *client = xcalloc(1, sizeof(*client));
    client->loop = loop;
    client->transfers = transfers;
    client->config = config;
    client->credentials = credentials_new(loop, config, on_credentials, client);
    client->user_agent = xstrdup(user_agent);
    client->calls_max = calls_max;
    TAILQ_INIT(&client->waiting);
    TAILQ_INIT(&client->others);
    return client;
}

void kube_client_guard_writes(struct kube_client *client, bool (*may_send)(void *arg), void *arg) {
    client->may_write = may_send;
    client->may_write_arg = arg;
}

struct loop *kube_client_loop(struct kube_client *client) {
    return client->loop;
}

void kube_client_free(struct kube_client *client) {
    if (client == NULL) {
        return;
    }
    struct exchange *exchange = NULL;
    while ((exchange = TAILQ_FIRST(&client->others)) != NULL || (exchange = TAILQ_FIRST(&client->waiting)) != NULL) {
        leave(exchange);
        transfer_cancel(exchange->transfer);
        exchange_release(exchange);
        free(exchange); /* a call or a stream: the exchange is its first member */
    }
    credentials_free(client->credentials);
    free(client->user_agent);
    free(client);
}
