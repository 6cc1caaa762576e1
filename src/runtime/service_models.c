/* POST /v1/model/download and GET /v1/model/list: base models.
 *
 * The answer to a download comes when its source has said what there is (so "no such model" is a 404), or after a few seconds; with
 * "Prefer: wait=N" when the model is there, or after N seconds. Cards have what the reference's have, and more beside it. */
#include "base/file.h"
#include "base/log.h"
#include "runtime/models.h"
#include "runtime/service_call.h"

#define ANSWER_MS 5000
#define LOOK_MS 25

/* ---- cards ---- */

static json_t *card_of(const struct model_status *status) {
    cleanup_free char *root = status->root != NULL ? xstrdup(status->root) : path_join(status->folder, status->name);
    json_t *card = json_pack("{s:s,s:s,s:s,s:s}", "model_name", status->name, "model_root_path", root, "source", status->source,
                             "model_status", model_state_name(status->state));
    json_t *words = status->words[0] != '\0' ? json_string(status->words) : NULL;
    if (words != NULL) {
        json_object_set_new(card, "message", words);
    }
    if (status->bytes_total > 0) {
        json_object_set_new(card, "bytes_done", json_integer((json_int_t)status->bytes_done));
        json_object_set_new(card, "bytes_total", json_integer((json_int_t)status->bytes_total));
    }
    return card;
}

static void end_with_card(struct service_call *call, const struct model_status *status) {
    cleanup_json json_t *card = card_of(status);
    cleanup_free char *text = json_text(card);
    service_call_end_with_json(call, 200, text);
}

/* ---- refusals ---- */

static void refusal_of(const struct error *err, int *ret_status, struct buffer *body) {
    static const struct {
        enum error_code code;
        int status;
        const char *type;
    } rows[] = {
        {ERROR_INVALID, 422, "InvalidArgumentError"},    {ERROR_UNSUPPORTED, 422, "InvalidArgumentError"},
        {ERROR_LIMIT, 413, "InvalidArgumentError"},      {ERROR_NOT_FOUND, 404, "ModelNotFoundError"},
        {ERROR_UNAUTHORIZED, 404, "ModelNotFoundError"}, /* as the reference has it: the message tells them apart */
        {ERROR_DENIED, 404, "ModelNotFoundError"},       {ERROR_EXISTS, 409, "ConflictError"},
        {ERROR_CONFLICT, 409, "ConflictError"},          {ERROR_BUSY, 429, "BusyError"},
        {ERROR_UNAVAILABLE, 503, "UnavailableError"},    {ERROR_TIMEOUT, 504, "TimeoutError"},
    };
    const char *type = "InternalError";
    *ret_status = 500;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if (rows[i].code == err->code) {
            *ret_status = rows[i].status;
            type = rows[i].type;
        }
    }
    lora_error_object(body, *ret_status, type, err->message);
}

static void end_with_refusal(struct service_call *call, const struct error *err) {
    cleanup_buffer struct buffer body = BUFFER_INIT;
    int status = 0;
    refusal_of(err, &status, &body);
    log_warn("%s refused: %s", call->endpoint, err->message);
    service_call_end_with_json(call, status, buffer_text(&body));
}

/* ---- download ---- */

static void look(void *arg) {
    struct service_call *call = arg;
    struct model_status status;
    struct error err = {0};
    if (!models_look(call->service->models, call->model.folder, call->model.name, &status)) {
        error_set(&err, ERROR_BUSY, "model \"%s\": too many others were asked for meanwhile", call->model.name);
        end_with_refusal(call, &err);
        return;
    }
    bool is_open = status.state == MODEL_DOWNLOADING && (status.is_beginning || call->model.waits_for_all);
    if (is_open && loop_now_ms(call->service->loop) < call->model.until_ms) {
        timer_set(&call->patience, LOOK_MS);
    } else if (status.err != NULL && status.state != MODEL_DOWNLOADED) {
        err = *status.err;
        end_with_refusal(call, &err);
    } else {
        end_with_card(call, &status);
    }
}

void service_on_model_change(void *arg) {
    struct service *service = arg;
    struct service_call *call = NULL;
    LIST_FOREACH(call, &service->calls, next) {
        if (call->model.name != NULL) {
            timer_set(&call->patience, 0);
        }
    }
}

/* Takes what is in the request. */
static void wait_for(struct service_call *call, struct model_request *wanted) {
    struct error err = {0};
    int64_t wait_ms = service_wanted_wait_ms(call->request);
    call->model.folder = xstrdup(wanted->folder);
    call->model.name = xstrdup(wanted->name);
    call->model.waits_for_all = wait_ms >= 0;
    call->model.until_ms = call->begun_ms + (wait_ms >= 0 ? wait_ms : ANSWER_MS);
    timer_init(&call->patience, call->service->loop, look, call);
    call->has_patience = true;
    if (models_download(call->service->models, wanted, &err) < 0) {
        end_with_refusal(call, &err);
    } else {
        look(call);
    }
}

void service_model_download(struct service *service, struct http_request *request, const char *endpoint,
                            const char *authorization) {
    size_t len = 0;
    const char *text = http_request_body(request, &len);
    cleanup_buffer struct buffer refusal = BUFFER_INIT;
    struct model_request wanted;
    if (model_request_parse(text, len, &service->options.models, &wanted, &refusal) < 0) {
        service_reply_json(service, request, endpoint, 422, buffer_text(&refusal));
        return;
    }
    struct service_call *call = service_call_begin(service, request, endpoint, authorization);
    wait_for(call, &wanted);
}

/* ---- list ---- */

static void add_card(void *arg, const struct model_status *status) {
    struct service_call *call = arg;
    if (status != NULL) {
        json_array_append_new(call->model.cards, card_of(status));
        return;
    }
    call->model.listing = NULL;
    cleanup_json json_t *list = json_pack("{s:s,s:O}", "object", "list", "data", call->model.cards);
    cleanup_free char *text = json_text(list);
    service_call_end_with_json(call, 200, text);
}

void service_model_list(struct service *service, struct http_request *request, const char *endpoint, const char *authorization) {
    size_t len = 0;
    const char *body = http_request_body(request, &len);
    cleanup_buffer struct buffer refusal = BUFFER_INIT;
    cleanup_free char *folder = NULL;
    struct error err = {0};
    if (model_list_parse(body, len, &service->options.models, &folder, &refusal) < 0) {
        service_reply_json(service, request, endpoint, 422, buffer_text(&refusal));
        return;
    }
    struct service_call *call = service_call_begin(service, request, endpoint, authorization);
    call->model.cards = json_array();
    call->model.listing = models_list(service->models, folder, add_card, call, &err);
    if (call->model.listing == NULL) {
        end_with_refusal(call, &err);
    }
}
