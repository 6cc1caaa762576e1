/* Actions on engines: load, prove, unload. A few at a time on a pod (each of another adapter), many pods at once, each with a
 * deadline. What comes back is noted in the hold, and the adapter is looked at again. */
#include "adapter/artifact_url.h"
#include "base/clock.h"
#include "base/log.h"
#include "controller/operation.h"
#include "controller/redact.h"
#include "kube/lease.h"

#include <string.h>

#define CONNECT_TIMEOUT_MS 3000
#define LOAD_TIMEOUT_MS 120000
#define LOAD_PATIENCE_S 5 /* then a sidecar that knows how says how far it is */
#define UNLOAD_TIMEOUT_MS 20000
#define BODY_BYTES_MAX (4u << 20)

char *act_url(const struct pod *pod, int port, const char *path) {
    bool is_ipv6 = strchr(pod->facts.ip, ':') != NULL;
    return xasprintf("http://%s%s%s:%d%s", is_ipv6 ? "[" : "", pod->facts.ip, is_ipv6 ? "]" : "", port, path);
}

static void free_operation(struct operation *operation) {
    json_decref(operation->credentials);
    free(operation->api_key);
    free(operation->proof);
    free(operation->prompt);
    free(operation->base_model);
    free(operation->adapter_key);
    free(operation->adapter_uid);
    free(operation->engine_name);
    free(operation->start);
    free(operation);
}

/* The binding, if it still is what the operation was begun for. */
static struct binding *find_binding(const struct operation *operation) {
    struct adapter *adapter = world_adapter(operation->controller, operation->adapter_key);
    if (adapter == NULL || strcmp(adapter->spec.uid, operation->adapter_uid) != 0) {
        return NULL;
    }
    return world_binding(adapter, operation->pod);
}

/* The pod is free for another. */
void operation_end(struct operation *operation) {
    struct pod *pod = operation->pod;
    struct binding *binding = find_binding(operation);
    if (binding != NULL) {
        binding->hold->running = HOLD_IDLE;
        controller_wake(operation->controller, operation->adapter_key, 0);
    }
    pod->has_changed = true;
    LIST_REMOVE(operation, in_pod);
    pod->operation_count--;
    operation->controller->operations--;
    free_operation(operation);
    controller_pod_is_free(pod->controller, pod);
}

void act_release(struct pod *pod) {
    struct operation *operation = NULL;
    while ((operation = LIST_FIRST(&pod->operations)) != NULL) {
        if (operation->wait != NULL) {
            secrets_cancel(operation->wait);
        }
        if (operation->transfer != NULL) {
            transfer_cancel(operation->transfer);
        }
        operation_end(operation);
    }
}

/* A peer that quotes what it was sent must not bring a secret into a status or a log: a copy without them, of the caller's. */
static char *without_secrets(const struct operation *operation, const struct adapter *adapter, const char *body, size_t len) {
    char *text = xstrndup(body, len);
    size_t kept = strlen(text);
    redact_text(text, kept, operation->api_key);
    redact_values(text, kept, operation->credentials);
    redact_values(text, kept, adapter->spec.additional_config);
    return text;
}

void operation_fail(struct operation *operation, enum dialect_outcome outcome, const char *reason, const char *message) {
    struct binding *binding = find_binding(operation);
    struct dialect_answer answer = {.outcome = outcome};
    snprintf(answer.message, sizeof(answer.message), "%s", message);
    if (binding != NULL && operation->kind == HOLD_UNLOADING) { /* whatever the cause: unloads have their own clock */
        hold_note_unload(binding->hold, &answer, clock_now_ms());
    } else if (binding != NULL && operation->kind == HOLD_CLEARING) {
        hold_note_clear(binding->hold, &answer, clock_now_ms());
    } else if (binding != NULL) {
        hold_note_failure(binding->hold, operation->revision, &answer, reason, clock_now_ms());
    }
    operation_end(operation);
}

/* ---- sending ---- */

static void on_answer(void *arg, const struct transfer_response *response, const struct error *err);

void operation_send(struct operation *operation, struct dialect_request *body, int port, int64_t timeout_ms) {
    cleanup_free char *url = act_url(operation->pod, port, body->path);
    const char *key = operation->api_key;
    cleanup_free char *authorization = key != NULL ? xasprintf("Authorization: Bearer %s", key) : NULL;
    const char *headers[DIALECT_FIELDS_MAX + 3] = {"Content-Type: application/json"};
    memcpy(headers + 1, body->fields, sizeof(body->fields));
    size_t count = 1;
    while (headers[count] != NULL) {
        count++;
    }
    headers[count] = authorization;
    struct transfer_request request = {.method = body->method,
                                       .url = url,
                                       .headers = headers,
                                       .body = body->body,
                                       .body_len = strlen(body->body),
                                       .connect_timeout_ms = CONNECT_TIMEOUT_MS,
                                       .timeout_ms = timeout_ms,
                                       .body_bytes_max = BODY_BYTES_MAX,
                                       .may_send = operation->controller->lease != NULL ? lease_may_send : NULL,
                                       .may_send_arg = operation->controller->lease,
                                       .on_done = on_answer,
                                       .arg = operation};
    operation->transfer = transfer_start(operation->controller->transfers, &request);
    dialect_request_release(body);
}

static void send_load(struct operation *operation, const struct adapter *adapter) {
    struct controller *controller = operation->controller;
    enum dialect dialect = world_dialect(controller, operation->pod);
    struct dialect_load load = {.name = operation->engine_name,
                                .artifact_url = adapter->spec.artifact_url,
                                .credentials = operation->credentials,
                                .additional_config = adapter->spec.additional_config,
                                .revision = operation->revision,
                                .source_revision = adapter->spec.source_revision,
                                .digest = adapter->spec.digest,
                                .version = adapter->version,
                                .wait_s = LOAD_PATIENCE_S};
    struct error err = {0};
    cleanup_free char *path = NULL;
    if (dialect != DIALECT_SIDECAR && artifact_engine_path(adapter->spec.artifact_url, adapter->spec.source_revision,
                                                           operation->pod->is_davit, &path, &err) < 0) {
        operation_fail(operation, DIALECT_PERMANENT, "UnsupportedArtifact", err.message);
        return;
    }
    load.path = path;
    struct dialect_request request;
    int port = dialect == DIALECT_SIDECAR ? operation->pod->facts.sidecar_port : operation->pod->facts.engine_port;
    dialect_load(dialect, &load, &request);
    operation_send(operation, &request, port, LOAD_TIMEOUT_MS);
}

static void send_unload(struct operation *operation) {
    enum dialect dialect = world_dialect(operation->controller, operation->pod);
    struct dialect_request request;
    int port = dialect == DIALECT_SIDECAR ? operation->pod->facts.sidecar_port : operation->pod->facts.engine_port;
    dialect_unload(dialect, operation->engine_name, &request);
    operation_send(operation, &request, port, UNLOAD_TIMEOUT_MS);
}

/* ---- answers ---- */

static void log_outcome(const struct operation *operation, const char *what, const struct dialect_answer *answer, int64_t took_ms) {
    if (answer->outcome == DIALECT_PENDING) {
        log_info("adapter %s %s pod=%s: %s", operation->adapter_key, what, operation->pod->facts.name, answer->message);
    } else if (answer->message[0] == '\0') {
        log_info("adapter %s %s pod=%s took_ms=%lld", operation->adapter_key, what, operation->pod->facts.name, (long long)took_ms);
    } else {
        log_warn("adapter %s %s pod=%s outcome=%s: %s", operation->adapter_key, what, operation->pod->facts.name, answer->reason,
                 answer->message);
    }
}

static void send_call(struct operation *operation, const struct adapter *adapter);

/* What the first pod found is what all are to have. Two that asked before either knew may have found two versions: false = the pod
 * has another than the one that counts. */
static bool settle_version(const struct operation *operation, struct adapter *adapter, const struct dialect_answer *answer) {
    bool is_about_it = strcmp(operation->revision, adapter->revision) == 0 && adapter->spec.digest[0] == '\0';
    if (answer->outcome != DIALECT_DONE || answer->version[0] == '\0' || !is_about_it) {
        return true;
    }
    if (adapter->version[0] == '\0') {
        memcpy(adapter->version, answer->version, VERSION_BYTES);
    }
    return strcmp(adapter->version, answer->version) == 0;
}

static void loaded(struct operation *operation, struct binding *binding, int status, const char *body, size_t len) {
    struct hold *hold = binding->hold;
    struct controller *controller = operation->controller;
    const char *engine[] = {operation->pod->facts.engine == DIALECT_SGLANG ? "sglang" : "vllm", NULL};
    int64_t now_ms = clock_now_ms();
    int64_t took_ms = now_ms - operation->started_ms;
    struct dialect_answer answer;
    dialect_classify_load(world_dialect(controller, operation->pod), status, body, len, &answer);
    if (answer.outcome == DIALECT_DONE) {
        metric_add(controller->count.loads, engine, 1);
        metric_observe(controller->count.load_seconds, engine, (double)took_ms / 1000);
    } else if (answer.outcome != DIALECT_PENDING) {
        const char *labels[] = {answer.reason, NULL};
        metric_add(controller->count.load_failures, labels, 1);
    }
    log_outcome(operation, "load", &answer, took_ms);
    struct adapter *adapter = binding->adapter;
    bool is_it = settle_version(operation, adapter, &answer);
    hold_note_load(hold, is_it ? operation->revision : "", &answer, took_ms, now_ms); /* "" is loaded again */
    bool is_still_wanted =
        is_it && hold->is_wanted && !adapter->spec.is_deleting && strcmp(operation->revision, adapter->revision) == 0;
    if (answer.outcome == DIALECT_DONE && is_still_wanted && controller->options->proof != PROOF_LIST) {
        prove_prepare(operation, binding);
        send_call(operation, adapter);
    } else {
        operation_end(operation);
    }
}

static void unloaded(struct operation *operation, struct binding *binding, int status, const char *body, size_t len) {
    struct pod *pod = operation->pod;
    int64_t now_ms = clock_now_ms();
    struct dialect_answer answer;
    dialect_classify_unload(world_dialect(operation->controller, pod), status, body, len, &answer);
    metric_add(operation->controller->count.unloads, NULL, 1);
    log_outcome(operation, "unload", &answer, now_ms - operation->started_ms);
    hold_note_unload(binding->hold, &answer, now_ms);
    if (answer.outcome == DIALECT_DONE || answer.outcome == DIALECT_NOT_LOADED) {
        /* What was listed before is of the past, also for an adapter made anew. */
        map_remove(&pod->listed, operation->engine_name);
        pod->list_digest = 0;
    }
    operation_end(operation);
}

static void cleared(struct operation *operation, struct binding *binding, int status, const char *body, size_t len) {
    struct pod *pod = operation->pod;
    int64_t now_ms = clock_now_ms();
    struct dialect_answer answer;
    dialect_classify_unload(world_dialect(operation->controller, pod), status, body, len, &answer);
    log_outcome(operation, "unload", &answer, now_ms - operation->started_ms);
    hold_note_clear(binding->hold, &answer, now_ms);
    operation_end(operation);
}

static void take_answer(struct operation *operation, struct binding *binding, int status, const char *body, size_t len) {
    const struct model_adapter *spec = &binding->adapter->spec;
    if (status == 401 || status == 403) { /* the key may have been changed since it was read */
        secrets_forget(operation->controller->secrets, spec->namespace, spec->api_key_secret_name);
    }
    if (status != 200 && status != 202 &&
        operation->credentials != NULL) { /* sidecars say in their own ways that a store refused them */
        secrets_forget(operation->controller->secrets, spec->namespace, spec->secret_name);
    }
    if (operation->kind == HOLD_LOADING) {
        loaded(operation, binding, status, body, len);
    } else if (operation->kind == HOLD_UNLOADING) {
        unloaded(operation, binding, status, body, len);
    } else if (operation->kind == HOLD_CLEARING) {
        cleared(operation, binding, status, body, len);
    } else {
        metric_add(operation->controller->count.proofs, NULL, 1);
        prove_take_answer(operation, binding, status, body, len);
    }
}

static void on_answer(void *arg, const struct transfer_response *response, const struct error *err) {
    struct operation *operation = arg;
    struct binding *binding = find_binding(operation);
    operation->transfer = NULL;
    if (binding == NULL) {
        operation_end(operation);
    } else if (response != NULL && response->status == 200) {
        take_answer(operation, binding, response->status, response->body, response->body_len);
    } else {
        const char *words = response != NULL ? response->body : err->message;
        cleanup_free char *text =
            without_secrets(operation, binding->adapter, words, response != NULL ? response->body_len : strlen(words));
        take_answer(operation, binding, response != NULL ? response->status : 0, text, strlen(text));
    }
}

/* ---- what has to be read first ---- */

static void go_on(struct operation *operation, struct binding *binding);

static void on_secret(void *arg, const json_t *values, const struct error *err) {
    struct operation *operation = arg;
    struct binding *binding = find_binding(operation);
    operation->wait = NULL;
    if (binding == NULL || strcmp(operation->revision, binding->adapter->revision) != 0) {
        operation_end(operation); /* what is wanted has changed meanwhile: planned anew */
        return;
    }
    const struct model_adapter *spec = &binding->adapter->spec;
    /* The Secret may have been deleted with the adapter: what is loaded goes all the same, by the last key or without one. */
    bool is_going = operation->kind == HOLD_UNLOADING || operation->kind == HOLD_CLEARING;
    values = err != NULL && is_going ? secrets_peek_last(operation->controller->secrets, spec->namespace, spec->api_key_secret_name)
                                     : values;
    const char *key = json_string_value(json_object_get(values, spec->api_key_secret_key));
    if (is_going) {
        operation->api_key = key != NULL ? xstrdup(key) : NULL;
        operation->step++;
        go_on(operation, binding);
    } else if (err != NULL) {
        operation_fail(operation, DIALECT_FAILED, err->code == ERROR_NOT_FOUND ? "SecretNotFound" : "SecretUnreadable",
                       err->message);
    } else if (operation->step == STEP_KEY && key == NULL) {
        char message[512];
        snprintf(message, sizeof(message), "Secret %.200s has no text under the key \"%.100s\"", spec->api_key_secret_name,
                 spec->api_key_secret_key);
        operation_fail(operation, DIALECT_FAILED, "SecretUnreadable", message);
    } else {
        if (operation->step == STEP_KEY) {
            operation->api_key = xstrdup(key);
        } else {
            operation->credentials = json_incref((json_t *)values);
        }
        operation->step++;
        go_on(operation, binding);
    }
}

static void send_call(struct operation *operation, const struct adapter *adapter) {
    operation->started_ms = clock_now_ms();
    if (operation->kind == HOLD_UNLOADING || operation->kind == HOLD_CLEARING) {
        send_unload(operation);
    } else if (operation->kind == HOLD_PROVING) {
        prove_send(operation, operation->engine_name);
    } else {
        send_load(operation, adapter);
    }
}

/* From the operation's step on: reads the secret that comes next, or sends the call. */
static void go_on(struct operation *operation, struct binding *binding) {
    struct controller *controller = operation->controller;
    const struct model_adapter *spec = &binding->adapter->spec;
    bool needs_credentials =
        operation->kind == HOLD_LOADING && spec->secret_name[0] != '\0' && world_uses_sidecar(controller, operation->pod);
    if (operation->step == STEP_KEY && spec->api_key_secret_name[0] != '\0') {
        operation->wait = secrets_fetch(controller->secrets, spec->namespace, spec->api_key_secret_name, on_secret, operation);
    } else if (operation->step <= STEP_CREDENTIALS && needs_credentials) {
        operation->step = STEP_CREDENTIALS;
        operation->wait = secrets_fetch(controller->secrets, spec->namespace, spec->secret_name, on_secret, operation);
    } else {
        operation->step = STEP_CALL;
        send_call(operation, binding->adapter);
    }
}

void act_start(struct controller *controller, struct binding *binding, enum hold_action kind, const char *tag) {
    struct adapter *adapter = binding->adapter;
    struct pod *pod = binding->pod;
    struct operation *operation = xcalloc(1, sizeof(*operation));
    *operation = (struct operation){.controller = controller,
                                    .pod = pod,
                                    .adapter_key = xstrdup(adapter->key),
                                    .adapter_uid = xstrdup(adapter->spec.uid),
                                    .start = xstrdup(pod->start),
                                    .kind = kind,
                                    .step = STEP_KEY};
    memcpy(operation->revision, adapter->revision, REVISION_BYTES);
    if (adapter->spec.api_key_secret_name[0] == '\0' && adapter->spec.api_key != NULL && adapter->spec.api_key[0] != '\0') {
        operation->api_key = xstrdup(adapter->spec.api_key);
    }
    hold_begin(binding->hold, kind, adapter->revision, tag);
    const char *has = kind == HOLD_CLEARING ? binding->hold->other : binding->hold->tag;
    operation->engine_name = engine_name_of(adapter->spec.name, has);
    if (kind == HOLD_PROVING) {
        prove_prepare(operation, binding);
    }
    LIST_INSERT_HEAD(&pod->operations, operation, in_pod);
    pod->operation_count++;
    controller->operations++;
    go_on(operation, binding);
}
