#include "cluster/api/pod_log.h"

#include "base/clock.h"
#include "cluster/api/object.h"
#include "cluster/api/status.h"
#include "cluster/node/log_token.h"
#include "io/upstream.h"

#include <string.h>

#define ERROR_BYTES_MAX 1024 /* of what a node says when it refuses */

struct log_stream {
    struct http_request *http;
    struct upstream_exchange *exchange;
    bool is_streaming;
    int refused_status; /* 0 = not refused */
    struct buffer refusal;
};

struct upstream *pod_log_upstream_new(struct loop *loop) {
    const struct upstream_options options = {
        .loop = loop, .connections_per_address_max = 2, .connect_timeout_ms = 2000, .first_byte_timeout_ms = 10000};
    return upstream_new(&options);
}

static void stream_free(struct log_stream *stream) {
    buffer_release(&stream->refusal);
    free(stream);
}

static void on_head(void *arg, const struct http_head *head) {
    struct log_stream *stream = arg;
    if (head->status == 200) {
        stream->is_streaming = true;
        http_stream_begin(stream->http, 200, "text/plain; charset=utf-8");
    } else {
        stream->refused_status = head->status;
    }
}

static void on_data(void *arg, const char *bytes, size_t len) {
    struct log_stream *stream = arg;
    if (!stream->is_streaming) {
        size_t room = ERROR_BYTES_MAX - stream->refusal.len;
        buffer_append(&stream->refusal, bytes, len < room ? len : room);
    } else if (http_stream_write(stream->http, bytes, len) == HTTP_STREAM_BACKLOG) {
        upstream_pause(stream->exchange);
    }
}

static void on_drained(void *arg) {
    upstream_resume(((struct log_stream *)arg)->exchange);
}

static void reply_status(struct http_request *http, json_t *status) {
    cleanup_free char *text = json_text(status);
    http_reply(http, status_code(status), "application/json", text, strlen(text));
    json_decref(status);
}

static void on_end(void *arg, const struct error *err) {
    struct log_stream *stream = arg;
    struct http_request *http = stream->http;
    http_request_on_gone(http, NULL, NULL);
    if (stream->is_streaming && err != NULL) {
        http_stream_abort(http);
    } else if (stream->is_streaming) {
        http_stream_end(http);
    } else if (err != NULL) {
        reply_status(http, status_error(503, "ServiceUnavailable", "the pod's node cannot be asked for its log: %s", err->message));
    } else {
        bool is_client_error = stream->refused_status >= 400 && stream->refused_status < 500;
        reply_status(http, status_error(is_client_error ? stream->refused_status : 502,
                                        stream->refused_status == 404 ? "NotFound"
                                        : is_client_error             ? "BadRequest"
                                                                      : "InternalError",
                                        "%s", buffer_text(&stream->refusal)));
    }
    stream_free(stream);
}

static void on_gone(void *arg) {
    struct log_stream *stream = arg;
    upstream_cancel(stream->exchange);
    stream_free(stream);
}

/* The container asked for, or the only one; of the caller's. */
static json_t *choose_container(const struct call *call, const json_t *pod, char **ret_container) {
    cleanup_free char *asked = call_query(call, "container");
    cleanup_buffer struct buffer names = BUFFER_INIT;
    static const char *const lists[] = {"spec.containers", "spec.initContainers"};
    const char *found = NULL;
    for (size_t l = 0; l < ARRAY_LEN(lists); l++) {
        size_t i = 0;
        const json_t *container = NULL;
        json_array_foreach(json_at(pod, lists[l]), i, container) {
            const char *name = json_string_at(container, "name", "");
            buffer_printf(&names, "%s%s", names.len > 0 ? " " : "", name);
            if (asked != NULL && strcmp(asked, name) == 0) {
                found = name;
            }
        }
    }
    const json_t *containers = json_at(pod, lists[0]);
    bool is_asked = asked != NULL && *asked != '\0';
    if (!is_asked && json_array_size(containers) == 1) {
        found = json_string_at(json_array_get(containers, 0), "name", "");
    }
    if (found == NULL) {
        return is_asked ? status_error(400, "BadRequest", "container %s is not valid for pod %s", asked, object_name(pod))
                        : status_error(400, "BadRequest", "a container name must be specified for pod %s, choose one of: [%s]",
                                       object_name(pod), buffer_text(&names));
    }
    *ret_container = xstrdup(found);
    return NULL;
}

static json_t *find_port(const struct call *call, const json_t *pod, int *ret_port) {
    const struct resource *nodes = resource_find("", "v1", "nodes");
    const char *node_name = json_string_at(pod, "spec.nodeName", "");
    const json_t *node = *node_name != '\0' ? state_get(call->api->state, nodes, node_name) : NULL;
    int64_t port = json_int_at(node, "status.daemonEndpoints.kubeletEndpoint.Port", 0);
    if (*node_name == '\0') {
        return status_error(400, "BadRequest", "pod %s does not have a host assigned", object_name(pod));
    }
    if (port < 1 || port > 65535) {
        return status_error(503, "ServiceUnavailable", "node \"%s\" of pod %s does not say where it serves logs", node_name,
                            object_name(pod));
    }
    *ret_port = (int)port;
    return NULL;
}

/* PodLogOptions as kube-apiserver checks them. */
static json_t *check_options(const struct call *call) {
    static const struct {
        const char *name;
        int minimum;
        const char *why;
    } numbers[] = {
        {"tailLines", 0, "must be greater than or equal to 0"},
        {"limitBytes", 1, "must be greater than 0"},
        {"sinceSeconds", 1, "must be greater than 0"},
    };
    const char *name = call->target.name;
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
        cleanup_free char *text = call_query(call, numbers[i].name);
        char *end = NULL;
        long long value = text != NULL ? strtoll(text, &end, 10) : 0;
        if (text != NULL && (*text == '\0' || *end != '\0')) {
            return status_error(400, "BadRequest", "%s: Invalid value: \"%.64s\": must be a number", numbers[i].name, text);
        }
        if (text != NULL && value < numbers[i].minimum) {
            return status_error(422, "Invalid", "PodLogOptions \"%s\" is invalid: %s: Invalid value: %lld: %s", name,
                                numbers[i].name, value, numbers[i].why);
        }
    }
    cleanup_free char *seconds = call_query(call, "sinceSeconds");
    cleanup_free char *since = call_query(call, "sinceTime");
    int64_t ignored_ms = 0;
    if (since != NULL && seconds != NULL) {
        return status_error(422, "Invalid",
                            "PodLogOptions \"%s\" is invalid: sinceSeconds: Forbidden: at most one of `sinceTime` or "
                            "`sinceSeconds` may be specified",
                            name);
    }
    if (since != NULL && clock_parse_rfc3339(since, &ignored_ms) < 0) {
        return status_error(400, "BadRequest", "sinceTime: Invalid value: \"%.64s\": must be a time such as 2026-01-02T03:04:05Z",
                            since);
    }
    return NULL;
}

/* The query's parameters that the node knows, as they came. */
static char *make_target(const struct call *call, const char *container) {
    static const char *const names[] = {"follow", "tailLines", "previous", "limitBytes", "sinceSeconds", "sinceTime", "timestamps"};
    struct buffer target = BUFFER_INIT;
    buffer_append_text(&target, "/containerLogs/");
    http_append_percent_encoded(&target, call->target.namespace);
    buffer_append_char(&target, '/');
    http_append_percent_encoded(&target, call->target.name);
    buffer_append_char(&target, '/');
    http_append_percent_encoded(&target, container);
    char separator = '?';
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        cleanup_free char *value = call_query(call, names[i]);
        if (value != NULL) {
            buffer_printf(&target, "%c%s=", separator, names[i]);
            http_append_percent_encoded(&target, value);
            separator = '&';
        }
    }
    return buffer_take(&target);
}

json_t *pod_log_serve(struct call *call) {
    cleanup_free char *key = object_key(call->target.namespace, call->target.name);
    const json_t *pod = state_get(call->api->state, call->target.resource, key);
    cleanup_free char *container = NULL;
    int port = 0;
    json_t *status =
        pod == NULL ? status_not_found(call->target.resource, call->target.name) : choose_container(call, pod, &container);
    status = status != NULL ? status : check_options(call);
    status = status != NULL ? status : find_port(call, pod, &port);
    if (status != NULL) {
        return status;
    }
    cleanup_free char *target = make_target(call, container);
    struct http_fields *fields = xcalloc(1, sizeof(*fields));
    char token[HASH_HEX_BYTES];
    log_token_make(call->api->token, token);
    cleanup_free char *authorization = xasprintf("Bearer %s", token);
    (void)!http_fields_add(fields, "Authorization", authorization, NULL);
    struct log_stream *stream = xcalloc(1, sizeof(*stream));
    struct upstream *upstream = call->api->logs;
    stream->http = call_release_http(call);
    const struct upstream_request request = {.host = "127.0.0.1",
                                             .port = port,
                                             .method = "GET",
                                             .target = target,
                                             .fields = fields,
                                             .on_head = on_head,
                                             .on_data = on_data,
                                             .on_end = on_end,
                                             .arg = stream};
    stream->exchange = upstream_start(upstream, &request);
    http_request_on_gone(stream->http, on_gone, stream);
    http_stream_on_drained(stream->http, on_drained, stream);
    http_fields_release(fields);
    free(fields);
    return NULL;
}
