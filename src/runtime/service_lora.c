/* POST /v1/lora_adapter/load and /unload. */
#include "adapter/artifact_url.h"
#include "base/log.h"
#include "runtime/service_call.h"

#include <string.h>
#include <strings.h>

#define REVISION_FIELD "X-Davit-Revision"
#define SOURCE_REVISION_FIELD "X-Davit-Source-Revision"
#define DIGEST_FIELD "X-Davit-Digest"
#define VERSION_FIELD "X-Davit-Version"
#define REQUEST_ID_FIELD "X-Request-Id"
#define PROGRESS_MS 10000
#define TOLD_BYTES_MAX 256

static const char *field(const struct service_call *call, const char *name) {
    return http_fields_get(&http_request_head(call->request)->fields, name);
}

/* A field of the request as the log shows it. */
static const char *told(const struct service_call *call, const char *name) {
    const char *value = field(call, name);
    return value != NULL ? value : "-";
}

static void end_with_answer(struct service_call *call, struct lora_answer *answer) {
    service_call_end_with(call, answer->status, answer->content_type, buffer_text(&answer->body), answer->body.len);
    lora_answer_release(answer);
}

static void refuse(struct service_call *call, const struct error *err, const char *reason, const char *type) {
    struct lora_answer answer;
    log_warn("%s refused: %s request_id=%.128s", call->endpoint, err->message, told(call, REQUEST_ID_FIELD));
    lora_answer_refusal(call->verb, &call->lora, err, reason, type, &answer);
    end_with_answer(call, &answer);
}

/* ---- the end ---- */

static void on_lora_done(void *arg, const struct loader_result *result) {
    struct service_call *call = arg;
    int64_t took_ms = loop_now_ms(call->service->loop) - call->begun_ms;
    const char *verb = call->verb == LORA_LOAD ? "load" : "unload";
    call->waiter = NULL;
    if (result->status == 200) {
        log_info("%s adapter \"%s\": done took_ms=%lld revision=%.64s request_id=%.128s", verb, call->lora.name, (long long)took_ms,
                 told(call, REVISION_FIELD), told(call, REQUEST_ID_FIELD));
    } else {
        log_warn("%s adapter \"%s\": %s: %s status=%d took_ms=%lld revision=%.64s request_id=%.128s", verb, call->lora.name,
                 result->reason, result->message, result->status, (long long)took_ms, told(call, REVISION_FIELD),
                 told(call, REQUEST_ID_FIELD));
    }
    if (call->verb == LORA_LOAD) {
        metric_observe(call->service->metrics.durations, (const char *[]){result->status == 200 ? "loaded" : result->reason},
                       (double)took_ms / 1000);
    }
    struct lora_answer answer;
    lora_answer_result(call->verb, &call->lora, result, &answer);
    end_with_answer(call, &answer);
}

/* The caller waited as long as it wanted to. */
static void on_patience_ended(void *arg) {
    struct service_call *call = arg;
    struct lora_answer answer;
    const char *state = NULL;
    cleanup_free char *words = xstrdup(loader_words(call->waiter, &state));
    log_info("load adapter \"%s\": %s request_id=%.128s", call->lora.name, words, told(call, REQUEST_ID_FIELD));
    loader_leave(call->waiter);
    call->waiter = NULL;
    lora_answer_progress(&call->lora, state, words, &answer);
    end_with_answer(call, &answer);
}

static void be_patient(struct service_call *call) {
    int64_t wait_ms = service_wanted_wait_ms(call->request);
    if (call->verb == LORA_LOAD && wait_ms >= 0) {
        timer_init(&call->patience, call->service->loop, on_patience_ended, call);
        call->has_patience = true;
        timer_set(&call->patience, wait_ms);
    }
}

/* ---- the beginning ---- */

static const char *revision_of(const struct service_call *call) {
    const char *revision = field(call, REVISION_FIELD);
    bool is_one = revision != NULL && strlen(revision) == LOADER_REVISION_BYTES &&
                  strspn(revision, "0123456789abcdef") == LOADER_REVISION_BYTES;
    return is_one ? revision : NULL;
}

/* What is wanted of the artifact beside its URL. "" = nothing. */
static int read_told(const struct service_call *call, const char *name, const char **ret_value, struct error *err) {
    const char *value = field(call, name);
    *ret_value = value != NULL ? value : "";
    for (const char *at = *ret_value; *at != '\0'; at++) {
        if (*at <= 0x20 || *at >= 0x7f || at - *ret_value >= TOLD_BYTES_MAX) {
            return error_set(err, ERROR_INVALID, "%s: expected at most %d printable characters", name, TOLD_BYTES_MAX);
        }
    }
    return 0;
}

static int read_wanted(const struct service_call *call, struct artifact_wanted *ret, struct error *err) {
    *ret = (struct artifact_wanted){.url = call->lora.source, .max_rank = call->service->options.max_rank};
    if (read_told(call, SOURCE_REVISION_FIELD, &ret->revision, err) < 0 || read_told(call, DIGEST_FIELD, &ret->digest, err) < 0 ||
        read_told(call, VERSION_FIELD, &ret->version, err) < 0) {
        return -1;
    }
    size_t digits = strspn(ret->digest, "0123456789abcdefABCDEF");
    if (ret->digest[0] != '\0' && (digits != HASH_HEX_BYTES - 1 || ret->digest[digits] != '\0')) {
        return error_set(err, ERROR_INVALID, DIGEST_FIELD ": expected 64 hexadecimal digits");
    }
    return 0;
}

/* What an engine is given as it is: in the direct form, what any can fetch itself ("org/repo"). Of the caller's; NULL = it is
 * fetched here. */
static char *engines_path(const struct lora_request *lora) {
    char *path = NULL;
    bool has_scheme = strstr(lora->source, "://") != NULL;
    if (!lora->is_direct || lora->source[0] == '\0' || artifact_local_path(lora->source) != NULL) {
        return NULL;
    }
    if (has_scheme) {
        return artifact_engine_path(lora->source, "", false, &path, NULL) == 0 ? path : NULL;
    }
    return xstrdup(lora->source);
}

static int check_scheme(const struct lora_request *lora, struct error *err) {
    if (artifact_scheme_of(lora->source) != ARTIFACT_UNKNOWN) {
        return 0;
    }
    const char *end = strstr(lora->source, "://");
    return error_set(err, ERROR_INVALID, "Unsupported URL scheme: %.*s. Supported schemes: %s",
                     end != NULL ? (int)(end - lora->source) : 0, lora->source, artifact_schemes_text());
}

static void log_progress(void *arg, const char *name, const char *words) {
    (void)arg;
    log_info("load adapter \"%s\": %s", name, words);
}

void service_on_progress(void *arg) {
    struct service *service = arg;
    loader_show_fetches(service->loader, log_progress, NULL);
    if (loader_running(service->loader) > 0) {
        timer_set(&service->progress, PROGRESS_MS);
    }
}

static void submit(struct service_call *call, const struct loader_job *job) {
    struct service *service = call->service;
    struct error err = {0};
    call->waiter = loader_submit(service->loader, job, on_lora_done, call, &err);
    if (call->waiter == NULL) {
        refuse(call, &err, "Busy", "ServerError");
        return;
    }
    be_patient(call);
    if (!timer_is_set(&service->progress)) {
        timer_set(&service->progress, PROGRESS_MS);
    }
}

static void start_load(struct service_call *call) {
    struct error err = {0};
    struct artifact_wanted wanted;
    struct load_secrets secrets;
    cleanup_free char *path = engines_path(&call->lora);
    struct loader_job job = {
        .name = call->lora.name, .path = path, .authorization = call->authorization, .revision = revision_of(call)};
    if (job.path != NULL) {
        submit(call, &job);
        return;
    }
    if (check_scheme(&call->lora, &err) < 0) {
        refuse(call, &err, "UnsupportedScheme", "ValidationError");
    } else if (read_wanted(call, &wanted, &err) < 0) {
        refuse(call, &err, "InvalidRequest", "ValidationError");
    } else if (load_secrets_read(call->lora.body, call->service->options.secrets_root, &secrets, &err) < 0) {
        refuse(call, &err, err.code == ERROR_NOT_FOUND ? "SecretNotFound" : "InvalidCredentials", "ValidationError");
    } else {
        wanted.secrets = &secrets.list;
        job.wanted = &wanted;
        submit(call, &job);
        load_secrets_release(&secrets);
    }
}

static void start_lora(struct service_call *call) {
    struct error err = {0};
    if (!is_lora_name(call->lora.name)) {
        error_set(&err, ERROR_INVALID, "Invalid lora_name: must match %s", LORA_NAME_RULE);
        refuse(call, &err, "InvalidName", "ValidationError");
    } else if (call->verb == LORA_LOAD) {
        start_load(call);
    } else {
        submit(call, &(struct loader_job){.is_unload = true,
                                          .name = call->lora.name,
                                          .keeps_files = !json_bool_at(call->lora.body, "cleanup_local", true),
                                          .authorization = call->authorization});
    }
}

static void serve_lora(struct service *service, struct http_request *request, const char *endpoint, const char *authorization,
                       enum lora_verb verb) {
    size_t len = 0;
    const char *body = http_request_body(request, &len);
    struct lora_request lora;
    cleanup_buffer struct buffer detail = BUFFER_INIT;
    if (lora_request_parse(verb, body, len, &lora, &detail) < 0) {
        service_reply(service, request, endpoint, 422, "application/json", detail.data, detail.len);
        return;
    }
    struct service_call *call = service_call_begin(service, request, endpoint, authorization);
    call->verb = verb;
    call->lora = lora;
    start_lora(call);
}

void service_load(struct service *service, struct http_request *request, const char *endpoint, const char *authorization) {
    serve_lora(service, request, endpoint, authorization, LORA_LOAD);
}

void service_unload(struct service *service, struct http_request *request, const char *endpoint, const char *authorization) {
    serve_lora(service, request, endpoint, authorization, LORA_UNLOAD);
}
