#include "kube/client.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "io/http.h"

#include <stdio.h>
#include <string.h>

#define TOKEN_BYTES_MAX (64 * 1024)
#define TOKEN_REREAD_MS 60000
#define CALL_TIMEOUT_MS 30000

struct kube_client {
    struct loop *loop;
    struct transfers *transfers;
    const struct kube_config *config;
    char *user_agent;
    int calls_max;
    bool (*may_write)(void *arg); /* NULL = always */
    void *may_write_arg;
    int running;
    struct kube_call *first; /* every call, running ones and waiting ones, in order of starting */
    struct kube_call *last;
    struct kube_stream *streams;
    char *file_token; /* of config->token_file */
    int64_t token_read_ms;
};

struct kube_call {
    struct kube_client *client;
    struct kube_call *previous;
    struct kube_call *next;
    struct transfer *transfer; /* NULL while it waits */
    const char *method;
    const char *content_type;
    char *url;
    char *what; /* "get pods default/x" */
    char *body; /* NULL = none */
    int64_t timeout_ms;
    bool is_guarded;
    void (*on_done)(void *arg, json_t *object, const struct error *err);
    void *arg;
};

struct kube_stream {
    struct kube_client *client;
    struct kube_stream *previous;
    struct kube_stream *next;
    struct transfer *transfer;
    char *what;
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

struct kube_client *kube_client_new(struct loop *loop, struct transfers *transfers, const struct kube_config *config,
                                    const char *user_agent, int calls_max) {
    struct kube_client *client = xcalloc(1, sizeof(*client));
    client->loop = loop;
    client->transfers = transfers;
    client->config = config;
    client->user_agent = xstrdup(user_agent);
    client->calls_max = calls_max;
    return client;
}

void kube_client_guard_writes(struct kube_client *client, bool (*may_send)(void *arg), void *arg) {
    client->may_write = may_send;
    client->may_write_arg = arg;
}

struct loop *kube_client_loop(struct kube_client *client) {
    return client->loop;
}

/* ---- credentials ---- */

/* A file that cannot be read keeps the token that was read before: rotation replaces the file, and for a moment it may be missing.
 */
static const char *current_token(struct kube_client *client) {
    const struct kube_config *config = client->config;
    if (config->token_file == NULL) {
        return config->token;
    }
    int64_t now_ms = clock_now_ms();
    if (client->file_token != NULL && now_ms - client->token_read_ms < TOKEN_REREAD_MS) {
        return client->file_token;
    }
    cleanup_buffer struct buffer text = BUFFER_INIT;
    struct error err;
    if (file_read(config->token_file, TOKEN_BYTES_MAX, &text, &err) < 0) {
        log_debug("token file: %s", err.message);
    } else {
        free(client->file_token);
        client->file_token = xstrndup(buffer_text(&text), strcspn(buffer_text(&text), " \r\n"));
        client->token_read_ms = now_ms;
    }
    return client->file_token;
}

struct header_lines {
    char *lines[6];
    size_t count;
};

static void header_lines_init(struct header_lines *headers, struct kube_client *client, const char *content_type) {
    *headers = (struct header_lines){0};
    headers->lines[headers->count++] = xasprintf("User-Agent: %s", client->user_agent);
    headers->lines[headers->count++] = xstrdup("Accept: application/json");
    if (content_type != NULL) {
        headers->lines[headers->count++] = xasprintf("Content-Type: %s", content_type);
    }
    const char *token = current_token(client);
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

/* ---- errors ---- */

static const struct reason_code {
    const char *reason; /* metav1.StatusReason */
    enum error_code code;
} reason_codes[] = {
    {"NotFound", ERROR_NOT_FOUND},
    {"AlreadyExists", ERROR_EXISTS},
    {"Conflict", ERROR_CONFLICT},
    {"Invalid", ERROR_INVALID},
    {"BadRequest", ERROR_INVALID},
    {"Unauthorized", ERROR_UNAUTHORIZED},
    {"Forbidden", ERROR_DENIED},
    {"TooManyRequests", ERROR_BUSY},
    {"Timeout", ERROR_TIMEOUT},
    {"ServerTimeout", ERROR_TIMEOUT},
    {"ServiceUnavailable", ERROR_UNAVAILABLE},
    {"UnsupportedMediaType", ERROR_UNSUPPORTED},
    {"RequestEntityTooLarge", ERROR_LIMIT},
};

/* What an answer with a status of 400 and more says. */
static void error_from_answer(int http_status, const char *body, size_t len, const char *what, struct error *err) {
    cleanup_json json_t *status = len > 0 ? json_parse(body, len, NULL) : NULL;
    const char *reason = json_string_at(status, "reason", "");
    enum error_code code = error_code_from_http_status(http_status);
    for (size_t i = 0; i < ARRAY_LEN(reason_codes); i++) {
        if (strcmp(reason_codes[i].reason, reason) == 0) {
            code = reason_codes[i].code;
        }
    }
    const char *message = json_string_at(status, "message", NULL);
    if (message != NULL && message[0] != '\0') {
        error_set(err, code, "%s: %s", what, message);
    } else {
        error_set(err, code, "%s: HTTP %d %s", what, http_status, http_reason_phrase(http_status));
    }
    err->http_status = http_status;
}

/* ---- calls ---- */

static void call_unlink(struct kube_call *call) {
    struct kube_client *client = call->client;
    if (call->previous != NULL) {
        call->previous->next = call->next;
    } else {
        client->first = call->next;
    }
    if (call->next != NULL) {
        call->next->previous = call->previous;
    } else {
        client->last = call->previous;
    }
    client->running -= call->transfer != NULL;
}

static void call_free(struct kube_call *call) {
    free(call->url);
    free(call->what);
    free(call->body);
    free(call);
}

static void start_waiting(struct kube_client *client);

static void on_call_done(void *arg, const struct transfer_response *response, const struct error *transport_err) {
    struct kube_call *call = arg;
    struct error err = {0};
    json_t *object = NULL;
    if (transport_err != NULL) {
        err = *transport_err;
        (void)error_wrap(&err, "%s", call->what);
    } else if (response->status >= 400) {
        error_from_answer(response->status, response->body, response->body_len, call->what, &err);
    } else if (response->status < 200 || response->status >= 300) {
        error_set(&err, ERROR_UNAVAILABLE, "%s: unexpected HTTP status %d", call->what, response->status);
    } else {
        object = json_parse(response->body, response->body_len, &err);
        if (object == NULL) {
            (void)error_wrap(&err, "%s: answer", call->what);
        }
    }
    call_unlink(call);
    start_waiting(call->client);
    call->on_done(call->arg, object, object == NULL ? &err : NULL);
    json_decref(object);
    call_free(call);
}

static void call_send(struct kube_call *call) {
    struct kube_client *client = call->client;
    struct header_lines headers;
    header_lines_init(&headers, client, call->body != NULL ? call->content_type : NULL);
    struct transfer_request request = {
        .method = call->method,
        .url = call->url,
        .headers = (const char *const *)headers.lines,
        .body = call->body,
        .body_len = call->body != NULL ? strlen(call->body) : 0,
        .ca_file = client->config->ca_file,
        .client_cert_file = client->config->client_cert_file,
        .client_key_file = client->config->client_key_file,
        .timeout_ms = call->timeout_ms,
        .may_send = call->is_guarded ? client->may_write : NULL,
        .may_send_arg = client->may_write_arg,
        .on_done = on_call_done,
        .arg = call,
    };
    call->transfer = transfer_start(client->transfers, &request);
    client->running++;
    header_lines_release(&headers);
}

static void start_waiting(struct kube_client *client) {
    for (struct kube_call *call = client->first; call != NULL && client->running < client->calls_max; call = call->next) {
        if (call->transfer == NULL) {
            call_send(call);
        }
    }
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
    call->client = client;
    call->method = verb->method;
    call->content_type = verb->content_type;
    call->url = xasprintf("%s%s%s%s", client->config->server, path, request->query != NULL ? "?" : "",
                          request->query != NULL ? request->query : "");
    call->what = describe(request);
    call->body = request->body != NULL ? json_text(request->body) : NULL;
    call->timeout_ms = request->timeout_ms > 0 ? request->timeout_ms : CALL_TIMEOUT_MS;
    call->is_guarded = !request->is_unguarded && request->verb != KUBE_GET && request->verb != KUBE_LIST;
    call->on_done = request->on_done;
    call->arg = request->arg;
    call->previous = client->last;
    if (client->last != NULL) {
        client->last->next = call;
    } else {
        client->first = call;
    }
    client->last = call;
    start_waiting(client);
    return call;
}

void kube_call_cancel(struct kube_call *call) {
    if (call == NULL) {
        return;
    }
    struct kube_client *client = call->client;
    call_unlink(call);
    if (call->transfer != NULL) {
        transfer_cancel(call->transfer);
    }
    call_free(call);
    start_waiting(client);
}

/* ---- streams ---- */

static void stream_unlink(struct kube_stream *stream) {
    if (stream->previous != NULL) {
        stream->previous->next = stream->next;
    } else {
        stream->client->streams = stream->next;
    }
    if (stream->next != NULL) {
        stream->next->previous = stream->previous;
    }
}

static void stream_free(struct kube_stream *stream) {
    free(stream->what);
    free(stream);
}

static int on_stream_data(void *arg, const char *bytes, size_t len) {
    struct kube_stream *stream = arg;
    stream->is_in_data = true;
    int result = stream->on_data(stream->arg, bytes, len);
    stream->is_in_data = false;
    return stream->is_cancelled ? -1 : result;
}

static void on_stream_done(void *arg, const struct transfer_response *response, const struct error *transport_err) {
    struct kube_stream *stream = arg;
    struct error err = {0};
    if (transport_err != NULL) {
        err = *transport_err;
        (void)error_wrap(&err, "%s", stream->what);
    } else if (response->status >= 300) {
        error_from_answer(response->status, response->body, response->body_len, stream->what, &err);
    }
    stream_unlink(stream);
    if (!stream->is_cancelled) {
        stream->on_done(stream->arg, err.code != ERROR_NONE ? &err : NULL);
    }
    stream_free(stream);
}

struct kube_stream *kube_stream_start(struct kube_client *client, const struct kube_stream_request *request) {
    struct kube_stream *stream = xcalloc(1, sizeof(*stream));
    stream->client = client;
    stream->what = xstrdup(request->what);
    stream->on_data = request->on_data;
    stream->on_done = request->on_done;
    stream->arg = request->arg;
    stream->next = client->streams;
    if (stream->next != NULL) {
        stream->next->previous = stream;
    }
    client->streams = stream;
    struct header_lines headers;
    header_lines_init(&headers, client, NULL);
    cleanup_free char *url = xasprintf("%s%s", client->config->server, request->path_and_query);
    struct transfer_request transfer = {
        .method = "GET",
        .url = url,
        .headers = (const char *const *)headers.lines,
        .ca_file = client->config->ca_file,
        .client_cert_file = client->config->client_cert_file,
        .client_key_file = client->config->client_key_file,
        .timeout_ms = request->timeout_ms,
        .on_data = on_stream_data,
        .on_done = on_stream_done,
        .arg = stream,
    };
    stream->transfer = transfer_start(client->transfers, &transfer);
    header_lines_release(&headers);
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
    stream_unlink(stream);
    transfer_cancel(stream->transfer);
    stream_free(stream);
}

void kube_client_free(struct kube_client *client) {
    if (client == NULL) {
        return;
    }
    client->calls_max = 0; /* cancelling starts nothing new */
    while (client->first != NULL) {
        kube_call_cancel(client->first);
    }
    while (client->streams != NULL) {
        kube_stream_cancel(client->streams);
    }
    if (client->file_token != NULL) {
        explicit_bzero(client->file_token, strlen(client->file_token));
        free(client->file_token);
    }
    free(client->user_agent);
    free(client);
}
