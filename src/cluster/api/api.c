#include "cluster/api/api.h"

#include "base/clock.h"
#include "cluster/api/discovery.h"
#include "cluster/api/object.h"
#include "cluster/api/pod_log.h"
#include "cluster/api/status.h"
#include "cluster/api/verbs.h"

#include <openssl/crypto.h>
#include <string.h>

#define JSON_TYPE "application/json"

/* ---- a call ---- */

static void call_free(struct call *call) {
    target_release(&call->target);
    json_decref(call->warnings);
    free(call);
}

static void on_client_gone(void *arg) {
    ((struct call *)arg)->http = NULL;
}

char *call_query(const struct call *call, const char *name) {
    return http_query_get(http_request_head(call->http)->query, name);
}

static bool query_is(const struct call *call, const char *name, const char *wanted) {
    cleanup_free char *value = call_query(call, name);
    return value != NULL && strcmp(value, wanted) == 0;
}

struct http_request *call_release_http(struct call *call) {
    struct http_request *request = call->http;
    call_free(call);
    return request;
}

static void send_warnings(const struct call *call) {
    size_t i = 0;
    const json_t *warning = NULL;
    json_array_foreach(call->warnings, i, warning) {
        cleanup_buffer struct buffer field = BUFFER_INIT;
        buffer_append_text(&field, "299 - ");
        json_append_string(&field, json_string_value(warning), json_string_length(warning));
        http_reply_field(call->http, "Warning", buffer_text(&field));
    }
}

void call_reply_text(struct call *call, int code, const char *text, size_t len) {
    if (call->http != NULL) {
        http_request_on_gone(call->http, NULL, NULL);
        send_warnings(call);
        http_reply(call->http, code, JSON_TYPE, text, len);
    }
    call_free(call);
}

static bool is_of_resource(const struct call *call, const json_t *object) {
    const struct resource *resource = call->target.resource;
    return resource != NULL && strcmp(json_string_at(object, "kind", ""), resource->kind) == 0;
}

void call_reply(struct call *call, int code, const json_t *object) {
    cleanup_buffer struct buffer body = BUFFER_INIT;
    if (is_of_resource(call, object)) {
        answer_object(&body, call->target.resource, object, &call->answer, clock_wall_ms());
    } else {
        json_append(&body, object);
    }
    buffer_append_char(&body, '\n');
    call_reply_text(call, code, body.data, body.len);
}

static void call_refuse(struct call *call, json_t *status) {
    if (json_at(status, "details.retryAfterSeconds") != NULL && call->http != NULL) {
        http_reply_field(call->http, "Retry-After", "1");
    }
    call_reply(call, status_code(status), status);
    json_decref(status);
}

struct pending_reply {
    struct call *call;
    const struct transaction *transaction;
    int code;
    json_t *object;
};

/* What was written is answered with the text that went to disk. */
static void reply_stored(struct pending_reply *pending) {
    size_t len = 0;
    const char *text =
        pending->call->answer.form == FORM_OBJECT ? transaction_text(pending->transaction, pending->object, &len) : NULL;
    if (text != NULL) {
        call_reply_text(pending->call, pending->code, text, len);
    } else {
        call_reply(pending->call, pending->code, pending->object);
    }
}

static void on_stored(void *arg, const struct error *err) {
    struct pending_reply *pending = arg;
    if (err == NULL) {
        reply_stored(pending);
    } else {
        call_refuse(pending->call,
                    status_error(500, "InternalError", "the write was not stored, nothing was changed: %s", err->message));
    }
    json_decref(pending->object);
    free(pending);
}

void call_submit(struct call *call, struct transaction *transaction, int code, json_t *object) {
    struct pending_reply *pending = xcalloc(1, sizeof(*pending));
    *pending = (struct pending_reply){.call = call, .transaction = transaction, .code = code, .object = object};
    transaction_submit(transaction, on_stored, pending);
}

/* ---- bodies ---- */

static bool media_type_is(const char *content_type, const char *wanted) {
    size_t len = strlen(wanted);
    return strncasecmp(content_type, wanted, len) == 0 &&
           (content_type[len] == '\0' || content_type[len] == ';' || content_type[len] == ' ');
}

json_t *call_check_json(const struct call *call) {
    const char *type = http_fields_get(&http_request_head(call->http)->fields, "Content-Type");
    if (type == NULL || *type == '\0' || media_type_is(type, JSON_TYPE)) {
        return NULL;
    }
    if (media_type_is(type, "application/vnd.kubernetes.protobuf")) {
        return status_error(415, "UnsupportedMediaType",
                            "davit apiserver reads JSON, not protobuf. Instead of `kubectl create KIND NAME ...` write: kubectl "
                            "create KIND NAME ... "
                            "--dry-run=client -o yaml | kubectl apply -f -  (accepted media types include: application/json)");
    }
    return status_error(
        415, "UnsupportedMediaType",
        "the body of the request was in an unknown format (%.100s) - accepted media types include: application/json", type);
}

json_t *call_read_body(const struct call *call, bool is_optional, json_t **ret_body) {
    size_t len = 0;
    const char *text = http_request_body(call->http, &len);
    if (len == 0 && is_optional) {
        return NULL;
    }
    struct error err = {0};
    *ret_body = json_parse(text != NULL ? text : "", len, &err);
    return *ret_body != NULL ? NULL : status_error(400, "BadRequest", "the body of the request is %s", err.message);
}

/* ---- routing ---- */

static bool is_authorized(const struct api *api, const struct http_head *head) {
    static const char scheme[] = "Bearer ";
    const char *value = http_fields_get(&head->fields, "Authorization");
    if (value == NULL || strncasecmp(value, scheme, sizeof(scheme) - 1) != 0) {
        return false;
    }
    const char *token = value + sizeof(scheme) - 1;
    size_t len = strlen(token);
    return len == strlen(api->token) && CRYPTO_memcmp(token, api->token, len) == 0;
}

static json_t *refuse_method(const struct call *call) {
    return status_error_on(call->target.resource, call->target.name, 405, "MethodNotAllowed",
                           "the server does not allow %s on the requested resource", http_request_head(call->http)->method);
}

static json_t *check_subresource(const struct call *call) {
    const struct resource *resource = call->target.resource;
    const char *sub = call->target.subresource;
    if (sub == NULL || (strcmp(sub, "status") == 0 && resource->has_status) || (strcmp(sub, "scale") == 0 && resource->has_scale)) {
        return NULL;
    }
    if (resource->has_log && strcmp(sub, "log") == 0) {
        return strcmp(http_request_head(call->http)->method, "GET") == 0 ? NULL : refuse_method(call);
    }
    if (resource->has_log && (strcmp(sub, "exec") == 0 || strcmp(sub, "attach") == 0 || strcmp(sub, "portforward") == 0)) {
        return status_error(405, "MethodNotAllowed",
                            "davit apiserver does not do %s: pods are processes of this machine, reach them directly", sub);
    }
    return status_error(404, "NotFound", "the server could not find the requested resource: %s have no subresource \"%s\"",
                        resource->plural, sub);
}

static json_t *run_verb(struct call *call) {
    const char *method = http_request_head(call->http)->method;
    bool is_collection = call->target.name == NULL;
    json_t *status = check_subresource(call);
    if (status != NULL) {
        return status;
    }
    bool is_get = strcmp(method, "GET") == 0;
    if (!is_get && !state_is_writable(call->api->state)) {
        return status_error(503, "ServiceUnavailable", "the store failed and is being recovered, try again");
    }
    if (is_get && call->target.subresource != NULL && strcmp(call->target.subresource, "log") == 0) {
        return pod_log_serve(call);
    }
    if (is_get) {
        return is_collection                                                     ? verb_list(call)
               : query_is(call, "watch", "true") || query_is(call, "watch", "1") ? verb_list(call)
                                                                                 : verb_get(call);
    }
    if (strcmp(method, "POST") == 0 && is_collection) {
        return verb_create(call);
    }
    if (strcmp(method, "PUT") == 0 && !is_collection) {
        return verb_update(call);
    }
    if (strcmp(method, "PATCH") == 0 && !is_collection) {
        return verb_patch(call);
    }
    if (strcmp(method, "DELETE") == 0 && call->target.subresource == NULL) {
        return is_collection ? verb_delete_collection(call) : verb_delete(call);
    }
    return refuse_method(call);
}

static json_t *serve_resource(struct call *call) {
    call->answer.form = accept_parse(http_fields_get(&http_request_head(call->http)->fields, "Accept"));
    if (call->answer.form == FORM_NOT_ACCEPTABLE) {
        call->answer.form = FORM_OBJECT;
        return status_error(406, "NotAcceptable", "only the following media types are accepted: application/json");
    }
    call->answer.include = query_is(call, "includeObject", "Object") ? INCLUDE_OBJECT
                           : query_is(call, "includeObject", "None") ? INCLUDE_NONE
                                                                     : INCLUDE_METADATA;
    cleanup_free char *dry_run = call_query(call, "dryRun");
    call->is_dry_run = dry_run != NULL && *dry_run != '\0';
    if (call->is_dry_run && strcmp(dry_run, "All") != 0) {
        return status_error(400, "BadRequest", "dryRun: Unsupported value: \"%s\": supported values: \"All\"", dry_run);
    }
    return run_verb(call);
}

/* `kubectl auth can-i` in JSON: whoever holds the token may do everything. */
static json_t *serve_access_review(struct call *call) {
    cleanup_json json_t *review = NULL;
    json_t *status = call_check_json(call);
    status = status != NULL ? status : call_read_body(call, false, &review);
    if (status != NULL) {
        return status;
    }
    json_object_set_new(review, "status", json_pack("{s:b}", "allowed", 1));
    call_reply(call, 201, review);
    return NULL;
}

static bool is_health_path(const char *path) {
    return strcmp(path, "/healthz") == 0 || strcmp(path, "/livez") == 0 || strcmp(path, "/readyz") == 0;
}

static void serve_health(struct api *api, struct http_request *request, const char *path) {
    bool is_ok = strcmp(path, "/livez") == 0 || (api->is_ready && state_is_writable(api->state));
    http_reply(request, is_ok ? 200 : 503, "text/plain; charset=utf-8", is_ok ? "ok" : "not ready", is_ok ? 2 : 9);
}

void api_on_request(void *arg, struct http_request *request) {
    struct api *api = arg;
    const struct http_head *head = http_request_head(request);
    if (is_health_path(head->path)) {
        serve_health(api, request, head->path);
        return;
    }
    struct call *call = xcalloc(1, sizeof(*call));
    call->api = api;
    call->http = request;
    call->warnings = json_array();
    http_request_on_gone(request, on_client_gone, call);
    json_t *status = NULL;
    if (!is_authorized(api, head)) {
        http_reply_field(request, "WWW-Authenticate", "Bearer");
        status = status_error(401, "Unauthorized", "Unauthorized");
    } else if (discovery_serve(api->discovery, request)) {
        call_free(call);
        return;
    } else if (strcmp(head->path, "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews") == 0 &&
               strcmp(head->method, "POST") == 0) {
        status = serve_access_review(call);
    } else if (target_parse(head->path, &call->target)) {
        status = serve_resource(call);
    } else {
        status = status_error(404, "NotFound", "the server could not find the requested resource");
    }
    if (status != NULL) {
        call_refuse(call, status);
    }
}

const char *api_on_error(void *arg, const struct error *err, struct buffer *body) {
    (void)arg;
    const char *reason = err->http_status == 413 ? "RequestEntityTooLarge" : "BadRequest";
    cleanup_json json_t *status = status_error(err->http_status, reason, "%s", err->message);
    json_append(body, status);
    return JSON_TYPE;
}
