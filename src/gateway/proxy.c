#include "gateway/proxy.h"

#include "base/json.h"
#include "base/log.h"
#include "gateway/balance.h"
#include "gateway/error_reply.h"
#include "gateway/json_scan.h"
#include "gateway/model_rename.h"
#include "gateway/proxy_fields.h"
#include "gateway/sse_gate.h"
#include "gateway/stale_answer.h"

#include <string.h>

#define REFUSAL_BYTES_MAX (64 * 1024) /* of an answer that is looked at before it is passed on */

struct proxy {
    struct worker *worker;
    struct http_request *request;
    struct route_snapshot *snapshot;
    const struct route_model *model; /* of the snapshot */
    struct json_scan scan;
    struct http_fields fields; /* to the engine */
    int64_t begun_ms;
    uint64_t rotation; /* one a request, so that retries do not shift who comes first next time */
    LIST_ENTRY(proxy) in_worker;

    /* the try under way */
    struct upstream_exchange *exchange;
    struct route_endpoint *endpoint; /* of the snapshot; NULL between tries */
    const struct route_endpoint *tried[BALANCE_TRIES_MAX];
    size_t tries;
    char *engine_name;          /* what the engine calls the model; NULL = as the client does */
    struct buffer engine_value; /* the same as JSON */

    /* its answer */
    int status;
    struct http_fields answer;
    bool is_collecting; /* the answer may be a reason to try another endpoint */
    bool is_unread;     /* ... and it is the first event of a stream that says so */
    struct buffer collected;
    bool has_begun; /* the client has got the head */
    bool is_sse;
    struct sse_gate gate;
    bool is_renaming; /* the engine's name in the answer becomes the client's */
    struct model_rename rename;
};

static void start_try(struct proxy *proxy);

/* ---- the end ---- */

static void end_try(struct proxy *proxy) {
    if (proxy->endpoint != NULL) {
        atomic_fetch_sub_explicit(&proxy->endpoint->load->outstanding, 1, memory_order_relaxed);
        proxy->endpoint = NULL;
    }
    proxy->exchange = NULL;
    http_fields_release(&proxy->answer);
    buffer_clear(&proxy->collected);
    proxy->is_collecting = false;
    proxy->is_unread = false;
}

/* `code`: what the client got. The request was answered or is gone. */
static void finish(struct proxy *proxy, int code) {
    struct worker *worker = proxy->worker;
    end_try(proxy);
    gateway_metrics_note(worker->metrics, proxy->model->name, code, (double)(loop_now_ms(worker->loop) - proxy->begun_ms) / 1000.0);
    metric_add(worker->metrics->in_flight, NULL, -1);
    LIST_REMOVE(proxy, in_worker);
    json_scan_release(&proxy->scan);
    http_fields_release(&proxy->fields);
    free(proxy->engine_name);
    buffer_release(&proxy->engine_value);
    model_rename_release(&proxy->rename);
    buffer_release(&proxy->collected);
    sse_gate_release(&proxy->gate);
    route_snapshot_unref(proxy->snapshot);
    free(proxy);
}

static void on_client_gone(void *arg) {
    struct proxy *proxy = arg;
    if (proxy->exchange != NULL) {
        upstream_cancel(proxy->exchange);
    }
    finish(proxy, STATUS_CLIENT_GONE);
}

void proxy_release_all(struct worker *worker) {
    struct proxy *proxy;
    while ((proxy = LIST_FIRST(&worker->proxies)) != NULL) {
        http_request_on_gone(proxy->request, NULL, NULL);
        on_client_gone(proxy);
    }
}

/* ---- the answer to the client ---- */

static void begin_answer(struct proxy *proxy) {
    for (size_t i = 0; i < proxy->answer.count; i++) {
        const struct http_field *field = &proxy->answer.items[i];
        if (strcasecmp(field->name, "Content-Type") != 0 && strcasecmp(field->name, REQUEST_ID_FIELD) != 0) {
            http_reply_field(proxy->request, field->name, field->value);
        }
    }
    http_reply_field(proxy->request, REQUEST_ID_FIELD, http_fields_get(&proxy->fields, REQUEST_ID_FIELD));
    if (proxy->endpoint->pod[0] != '\0') {
        http_reply_field(proxy->request, "target-pod", proxy->endpoint->pod);
    }
}

static bool begins_with(const char *text, const char *beginning) {
    return text != NULL && strncasecmp(text, beginning, strlen(beginning)) == 0;
}

static bool is_plain(const struct proxy *proxy) {
    return http_fields_get(&proxy->answer, "Content-Encoding") == NULL;
}

static bool is_event_stream(const struct proxy *proxy) {
    return is_plain(proxy) && begins_with(http_fields_get(&proxy->answer, "Content-Type"), "text/event-stream");
}

static void begin_stream(struct proxy *proxy) {
    const char *content_type = http_fields_get(&proxy->answer, "Content-Type");
    begin_answer(proxy);
    proxy->has_begun = true;
    proxy->is_sse = is_event_stream(proxy);
    proxy->is_renaming =
        proxy->engine_name != NULL && (proxy->is_sse || (is_plain(proxy) && begins_with(content_type, "application/json")));
    if (proxy->is_renaming) {
        model_rename_init(&proxy->rename, proxy->is_sse ? MODEL_RENAME_EVENTS : MODEL_RENAME_JSON, proxy->engine_name,
                          proxy->model->name);
    }
    http_stream_begin(proxy->request, proxy->status, content_type);
}

static void write_bytes(struct proxy *proxy, const char *bytes, size_t len) {
    if (len > 0 && http_stream_write(proxy->request, bytes, len) == HTTP_STREAM_BACKLOG && proxy->exchange != NULL) {
        upstream_pause(proxy->exchange);
    }
}

static void write_renamed(struct proxy *proxy, const char *bytes, size_t len) {
    if (!proxy->is_renaming) {
        write_bytes(proxy, bytes, len);
        return;
    }
    cleanup_buffer struct buffer renamed = BUFFER_INIT;
    model_rename_push(&proxy->rename, bytes, len, &renamed);
    write_bytes(proxy, renamed.data, renamed.len);
}

static void on_client_drained(void *arg) {
    struct proxy *proxy = arg;
    if (proxy->exchange != NULL) {
        upstream_resume(proxy->exchange);
    }
}

static void pass_on(struct proxy *proxy, const char *bytes, size_t len) {
    if (!proxy->is_sse) {
        write_renamed(proxy, bytes, len);
        return;
    }
    cleanup_buffer struct buffer whole = BUFFER_INIT;
    sse_gate_push(&proxy->gate, bytes, len, &whole);
    write_renamed(proxy, whole.data, whole.len);
}

/* The answer is whole: nothing is held back any more. */
static void pass_rest_on(struct proxy *proxy) {
    cleanup_buffer struct buffer rest = BUFFER_INIT;
    sse_gate_finish(&proxy->gate, &rest);
    write_renamed(proxy, rest.data, rest.len);
    if (proxy->is_renaming) {
        buffer_clear(&rest);
        model_rename_finish(&proxy->rename, &rest);
        write_bytes(proxy, rest.data, rest.len);
    }
}

/* The collected answer was no reason to try again. */
static void reply_collected(struct proxy *proxy) {
    int status = proxy->status;
    begin_answer(proxy);
    http_reply(proxy->request, status, http_fields_get(&proxy->answer, "Content-Type"), proxy->collected.data,
               proxy->collected.len);
    finish(proxy, status);
}

static void reply_error(struct proxy *proxy, int status, const char *message) {
    struct error_reply reply = {
        .status = status, .code = "service_unavailable", .header = "x-error-no-model-backends", .header_value = "true"};
    if (status == 503) {
        reply.retry_after_s = 1;
    } else {
        reply.code = NULL;
    }
    http_reply_field(proxy->request, REQUEST_ID_FIELD, http_fields_get(&proxy->fields, REQUEST_ID_FIELD));
    error_reply_send(proxy->request, &reply, "%s", message);
    finish(proxy, status);
}

/* After the first byte: the client must see that the answer is not whole. */
static void break_off(struct proxy *proxy, const struct error *err) {
    log_warn("model \"%s\": the engine's answer was cut: %s pod=%s", proxy->model->name, err->message, proxy->endpoint->pod);
    metric_add(proxy->worker->metrics->cut, NULL, 1);
    if (!proxy->is_sse) {
        http_stream_abort(proxy->request);
        finish(proxy, proxy->status);
        return;
    }
    cleanup_buffer struct buffer event = BUFFER_INIT;
    buffer_append_text(&event, "data: ");
    error_reply_body(&event, 502, "upstream_cut", NULL, "the engine went away before its answer was complete");
    buffer_append_text(&event, "\n\n");
    (void)http_stream_write(proxy->request, event.data, event.len);
    http_stream_end(proxy->request);
    finish(proxy, proxy->status);
}

/* ---- trying ---- */

static struct route_endpoint *choose(struct proxy *proxy) {
    struct balance_question question = {
        .model = proxy->model,
        .excluded_count = proxy->tries,
        .rotation = proxy->rotation,
    };
    memcpy(question.excluded, proxy->tried, sizeof(question.excluded));
    return proxy->tries < BALANCE_TRIES_MAX ? balance_choose(&question) : NULL;
}

/* Goes to another endpoint; false when there is none to go to, and then nothing has changed. */
static bool try_again(struct proxy *proxy, const char *reason) {
    struct route_endpoint *next = choose(proxy);
    if (next == NULL) {
        return false;
    }
    log_debug("model \"%s\": trying pod %s after %s (%s)", proxy->model->name, next->pod, proxy->endpoint->pod, reason);
    metric_add(proxy->worker->metrics->retries, (const char *[]){reason}, 1);
    end_try(proxy);
    proxy->endpoint = next;
    start_try(proxy);
    return true;
}

static void on_head(void *arg, const struct http_head *head) {
    struct proxy *proxy = arg;
    proxy->status = head->status;
    for (size_t i = 0; i < head->fields.count; i++) {
        const struct http_field *field = &head->fields.items[i];
        if (proxy_field_passes(&head->fields, field->name)) {
            int added = http_fields_add(&proxy->answer, field->name, field->value, NULL);
            (void)added; /* they fit: they came in a head of the same limits */
        }
    }
    bool has_no_body = head->status == 204 || head->status == 304;
    bool may_be_stale = proxy->model->is_adapter && stale_answer_may_be(head->status);
    proxy->is_unread = proxy->model->is_adapter && proxy->endpoint->is_sglang && head->status == 200 && is_event_stream(proxy);
    proxy->is_collecting = has_no_body || head->status == 503 || head->status == 404 || may_be_stale || proxy->is_unread;
    if (!proxy->is_collecting) {
        begin_stream(proxy);
    }
}

/* What was collected is nothing to look at: it goes to the client, and so does what comes. */
static void stop_collecting(struct proxy *proxy) {
    proxy->is_collecting = false;
    proxy->is_unread = false;
    begin_stream(proxy);
    pass_on(proxy, proxy->collected.data, proxy->collected.len);
    buffer_clear(&proxy->collected);
}

static void leave_stale_route(struct proxy *proxy) {
    if (!try_again(proxy, "stale_route")) {
        cleanup_free char *message =
            xasprintf("model %s: none of the endpoints asked has it loaded at the moment", proxy->model->name);
        reply_error(proxy, 503, message);
    }
}

static void on_data(void *arg, const char *bytes, size_t len) {
    struct proxy *proxy = arg;
    if (!proxy->is_collecting) {
        pass_on(proxy, bytes, len);
        return;
    }
    buffer_append(&proxy->collected, bytes, len);
    enum stale_event first =
        proxy->is_unread ? stale_answer_in_events(proxy->collected.data, proxy->collected.len) : STALE_EVENT_INCOMPLETE;
    if (first == STALE_EVENT_YES) {
        upstream_cancel(take_pointer(proxy->exchange));
        leave_stale_route(proxy);
    } else if (first == STALE_EVENT_NO || proxy->collected.len > REFUSAL_BYTES_MAX) {
        stop_collecting(proxy);
    }
}

/* The try ended without anything for the client: the endpoint failed. */
static void on_failed_try(struct proxy *proxy, const struct error *err) {
    log_info("model \"%s\": no answer: %s pod=%s", proxy->model->name, err->message, proxy->endpoint->pod);
    /* A deadline passed: the engine may be at work on it, so the request is not doubled. */
    if (err->code != ERROR_TIMEOUT && try_again(proxy, "no_answer")) {
        return;
    }
    cleanup_free char *message =
        xasprintf("model %s: no answer from %zu of its endpoints: %s", proxy->model->name, proxy->tries, err->message);
    reply_error(proxy, err->code == ERROR_TIMEOUT ? 504 : 503, message);
}

/* FastAPI's words for a path that the engine does not serve, which no OpenAI client understands. */
static bool is_unknown_path(const struct proxy *proxy) {
    static const char words[] = "{\"detail\":\"Not Found\"}";
    return proxy->status == 404 && strcmp(buffer_text(&proxy->collected), words) == 0;
}

static void reply_unknown_path(struct proxy *proxy) {
    begin_answer(proxy);
    error_reply_send(proxy->request, &(struct error_reply){.status = 404},
                     "unknown request path %.200s: the engine of model %s does not serve it",
                     http_request_head(proxy->request)->path, proxy->model->name);
    finish(proxy, 404);
}

static void on_whole_refusal(struct proxy *proxy) {
    if (is_unknown_path(proxy)) {
        reply_unknown_path(proxy);
    } else if (proxy->model->is_adapter && stale_answer_is(proxy->status, buffer_text(&proxy->collected), proxy->collected.len)) {
        leave_stale_route(proxy);
    } else if (proxy->status != 503 || !try_again(proxy, "unavailable")) {
        reply_collected(proxy);
    }
}

static void on_end(void *arg, const struct error *err) {
    struct proxy *proxy = arg;
    proxy->exchange = NULL;
    if (proxy->is_unread && err == NULL) { /* it ended before its first event did */
        stop_collecting(proxy);
    }
    if (proxy->has_begun && err != NULL) {
        break_off(proxy, err);
    } else if (proxy->has_begun) {
        pass_rest_on(proxy);
        http_stream_end(proxy->request);
        finish(proxy, proxy->status);
    } else if (err != NULL) {
        on_failed_try(proxy, err);
    } else {
        on_whole_refusal(proxy);
    }
}

/* What the endpoint's engine is asked for. SGLang takes a bare adapter name for the base model and answers with the base's weights,
 * so it gets base:adapter. */
static char *name_for_engine(const struct proxy *proxy) {
    const struct route_endpoint *endpoint = proxy->endpoint;
    const char *name = route_engine_name(proxy->model, endpoint);
    if (!endpoint->is_sglang || !proxy->model->is_adapter) {
        return xstrdup(name);
    }
    return xasprintf("%s:%s", endpoint->base[0] != '\0' ? endpoint->base : proxy->model->parent, name);
}

/* The body as it came, but for the value of `model` when the engine knows it under another name. The answer then has that name,
 * too, and is to be read on its way: no encodings. */
static void prepare_body(struct proxy *proxy, struct upstream_request *request) {
    size_t len = 0;
    const char *body = http_request_body(proxy->request, &len);
    const struct json_scan *scan = &proxy->scan;
    free(proxy->engine_name);
    proxy->engine_name = name_for_engine(proxy);
    if (strcmp(proxy->engine_name, proxy->model->name) == 0) {
        free(take_pointer(proxy->engine_name));
        request->body[0] = (struct upstream_piece){body, len};
        return;
    }
    http_fields_remove(&proxy->fields, "Accept-Encoding");
    buffer_clear(&proxy->engine_value);
    json_append_string(&proxy->engine_value, proxy->engine_name, strlen(proxy->engine_name));
    request->body[0] = (struct upstream_piece){body, scan->model_begin};
    request->body[1] = (struct upstream_piece){proxy->engine_value.data, proxy->engine_value.len};
    request->body[2] = (struct upstream_piece){body + scan->model_end, len - scan->model_end};
}

static void start_try(struct proxy *proxy) {
    const struct http_head *head = http_request_head(proxy->request);
    struct upstream_request request = {
        .host = proxy->endpoint->host,
        .port = proxy->endpoint->port,
        .method = head->method,
        .target = head->target,
        .fields = &proxy->fields,
        .on_head = on_head,
        .on_data = on_data,
        .on_end = on_end,
        .arg = proxy,
    };
    prepare_body(proxy, &request);
    proxy->tried[proxy->tries++] = proxy->endpoint;
    atomic_fetch_add_explicit(&proxy->endpoint->load->outstanding, 1, memory_order_relaxed);
    proxy->exchange = upstream_start(proxy->worker->upstream, &request);
}

/* ---- the beginning ---- */

static void refuse(struct worker *worker, struct http_request *request, const char *model, const struct error_reply *reply,
                   const char *message) {
    const char *id = http_fields_get(&http_request_head(request)->fields, REQUEST_ID_FIELD);
    if (id != NULL) {
        http_reply_field(request, REQUEST_ID_FIELD, id);
    }
    gateway_metrics_note(worker->metrics, model, reply->status, 0);
    error_reply_send(request, reply, "%s", message);
}

static void refuse_body(struct worker *worker, struct http_request *request, const struct error *err) {
    const char *type = http_fields_get(&http_request_head(request)->fields, "Content-Type");
    bool is_form = begins_with(type, "multipart/");
    cleanup_free char *message =
        xasprintf("error processing request body: %s",
                  is_form ? "it is a form (multipart); only JSON is routed, by its \"model\"" : err->message);
    refuse(worker, request, NULL,
           &(struct error_reply){.status = 400, .header = "x-error-request-body-processing", .header_value = "true"}, message);
}

static void refuse_unknown(struct worker *worker, struct http_request *request, const char *name) {
    cleanup_free char *message = xasprintf("model %s does not exist", name);
    refuse(worker, request, NULL,
           &(struct error_reply){.status = 400,
                                 .code = "model_not_found",
                                 .param = "model",
                                 .header = "x-error-no-model-backends",
                                 .header_value = name},
           message);
}

static void refuse_for_now(struct worker *worker, struct http_request *request, const char *name, const char *message) {
    refuse(worker, request, name,
           &(struct error_reply){.status = 503,
                                 .code = "service_unavailable",
                                 .header = "x-error-no-model-backends",
                                 .header_value = "true",
                                 .retry_after_s = 1},
           message);
}

/* The model that the body names; NULL when the request was answered with the reason why not. */
static const struct route_model *find_model(struct worker *worker, struct http_request *request, const struct json_scan *scan) {
    if (scan->model == NULL || scan->model[0] == '\0') {
        refuse(worker, request, NULL, &(struct error_reply){.status = 400, .param = "model"}, "'model' is a required property");
        return NULL;
    }
    if (worker->snapshot == NULL) {
        refuse_for_now(worker, request, NULL, "the gateway is starting: it has not read the cluster's routes yet");
        return NULL;
    }
    const struct route_model *model = route_find(worker->snapshot, scan->model);
    if (model == NULL) {
        refuse_unknown(worker, request, scan->model);
        return NULL;
    }
    if (model->endpoint_count == 0) {
        cleanup_free char *message = xasprintf("error on getting pods for model %s: no endpoint of it is ready", model->name);
        refuse_for_now(worker, request, model->name, message);
        return NULL;
    }
    return model;
}

void proxy_start(struct worker *worker, struct http_request *request) {
    struct error err = {0};
    size_t len = 0;
    const char *body = http_request_body(request, &len);
    struct json_scan scan;
    if (json_scan_body(body, len, &scan, &err) < 0) {
        refuse_body(worker, request, &err);
        return;
    }
    struct http_fields fields = {.count = 0};
    const struct route_model *model = find_model(worker, request, &scan);
    if (model == NULL) {
        json_scan_release(&scan);
        return;
    }
    if (proxy_fields_for_upstream(&http_request_head(request)->fields, &fields, &err) < 0) {
        refuse(worker, request, model->name, &(struct error_reply){.status = 431}, err.message);
        json_scan_release(&scan);
        http_fields_release(&fields);
        return;
    }
    struct proxy *proxy = xcalloc(1, sizeof(*proxy));
    proxy->worker = worker;
    proxy->request = request;
    proxy->snapshot = route_snapshot_ref(worker->snapshot);
    proxy->model = model;
    proxy->scan = scan;
    proxy->fields = fields;
    proxy->begun_ms = loop_now_ms(worker->loop);
    proxy->rotation = worker->rotation++;
    LIST_INSERT_HEAD(&worker->proxies, proxy, in_worker);
    metric_add(worker->metrics->in_flight, NULL, 1);
    http_request_on_gone(request, on_client_gone, proxy);
    http_stream_on_drained(request, on_client_drained, proxy);
    proxy->endpoint = choose(proxy);
    start_try(proxy);
}
