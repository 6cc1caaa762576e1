/* Actions on engines: load, prove, unload. A few at a time on a pod (each of another adapter), many pods at once, each with a
 * deadline. What comes back is noted in the hold, and the adapter is looked at again. */
#include "adapter/artifact_url.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "controller/world.h"
#include "kube/base64.h"

#include <string.h>

#define CONNECT_TIMEOUT_MS 3000
#define LOAD_TIMEOUT_MS 120000
#define PROVE_TIMEOUT_MS 60000
#define UNLOAD_TIMEOUT_MS 20000
#define BODY_BYTES_MAX (4u << 20)

enum step { STEP_SECRET, STEP_CALL, STEP_PROVE_BASE };

struct operation {
    LIST_ENTRY(operation) in_pod;
    struct controller *controller;
    struct pod *pod;
    char *adapter_key, *adapter_uid;
    char *start;
    char revision[REVISION_BYTES];
    enum hold_action kind;
    enum step step;
    int64_t started_ms;
    json_t *credentials;
    struct kube_call *call;
    struct transfer *transfer;
    struct dialect_proof proof; /* of the adapter, while the base is asked */
    char *prompt;
};

char *act_url(const struct pod *pod, int port, const char *path) {
    bool is_ipv6 = strchr(pod->facts.ip, ':') != NULL;
    return xasprintf("http://%s%s%s:%d%s", is_ipv6 ? "[" : "", pod->facts.ip, is_ipv6 ? "]" : "", port, path);
}

static void free_operation(struct operation *operation) {
    json_decref(operation->credentials);
    free(operation->adapter_key);
    free(operation->adapter_uid);
    free(operation->start);
    free(operation->prompt);
    free(operation);
}

/* The adapter and the hold, if they still are what the operation was begun for. */
static struct hold *find_hold(const struct operation *operation, struct adapter **ret_adapter) {
    struct adapter *adapter = world_adapter(operation->controller, operation->adapter_key);
    if (adapter == NULL || strcmp(adapter->spec.uid, operation->adapter_uid) != 0) {
        return NULL;
    }
    *ret_adapter = adapter;
    return world_hold(adapter, operation->pod);
}

/* The pod is free for another. */
static void end(struct operation *operation) {
    struct pod *pod = operation->pod;
    struct adapter *adapter = NULL;
    struct hold *hold = find_hold(operation, &adapter);
    if (hold != NULL) {
        hold->running = HOLD_IDLE;
        controller_wake(operation->controller, operation->adapter_key, 0);
    }
    LIST_REMOVE(operation, in_pod);
    pod->operation_count--;
    operation->controller->calls--;
    free_operation(operation);
    controller_pod_is_free(pod->controller, pod);
}

void act_release(struct pod *pod) {
    struct operation *operation = NULL;
    while ((operation = LIST_FIRST(&pod->operations)) != NULL) {
        if (operation->call != NULL) {
            kube_call_cancel(operation->call);
        }
        if (operation->transfer != NULL) {
            transfer_cancel(operation->transfer);
        }
        end(operation);
    }
}

static void fail(struct operation *operation, enum dialect_outcome outcome, const char *reason, const char *message) {
    struct adapter *adapter = NULL;
    struct hold *hold = find_hold(operation, &adapter);
    struct dialect_answer answer = {.outcome = outcome};
    snprintf(answer.message, sizeof(answer.message), "%s", message);
    if (hold != NULL) {
        hold_note_failure(hold, operation->revision, &answer, reason, clock_now_ms());
    }
    end(operation);
}

/* ---- sending ---- */

static void on_answer(void *arg, const struct transfer_response *response, const struct error *err);

static void send_request(struct operation *operation, const struct adapter *adapter, struct dialect_request *body, int port,
                         int64_t timeout_ms) {
    cleanup_free char *url = act_url(operation->pod, port, body->path);
    const char *key = adapter->spec.api_key;
    cleanup_free char *authorization = key != NULL && key[0] != '\0' ? xasprintf("Authorization: Bearer %s", key) : NULL;
    const char *headers[] = {"Content-Type: application/json", authorization, NULL};
    struct transfer_request request = {.method = body->method,
                                       .url = url,
                                       .headers = headers,
                                       .body = body->body,
                                       .body_len = strlen(body->body),
                                       .connect_timeout_ms = CONNECT_TIMEOUT_MS,
                                       .timeout_ms = timeout_ms,
                                       .body_bytes_max = BODY_BYTES_MAX,
                                       .on_done = on_answer,
                                       .arg = operation};
    operation->transfer = transfer_start(operation->controller->transfers, &request);
    dialect_request_release(body);
}

static void send_load(struct operation *operation, const struct adapter *adapter) {
    struct controller *controller = operation->controller;
    enum dialect dialect = world_dialect(controller, operation->pod);
    struct dialect_load load = {.name = adapter->spec.name,
                                .artifact_url = adapter->spec.artifact_url,
                                .credentials = operation->credentials,
                                .additional_config = adapter->spec.additional_config};
    struct error err = {0};
    if (dialect != DIALECT_SIDECAR && artifact_engine_path(adapter->spec.artifact_url, &load.path, &err) < 0) {
        fail(operation, DIALECT_PERMANENT, "UnsupportedArtifact", err.message);
        return;
    }
    struct dialect_request request;
    int port = dialect == DIALECT_SIDECAR ? operation->pod->facts.sidecar_port : operation->pod->facts.engine_port;
    dialect_load(dialect, &load, &request);
    operation->step = STEP_CALL;
    operation->started_ms = clock_now_ms();
    send_request(operation, adapter, &request, port, LOAD_TIMEOUT_MS);
}

static const char *base_model_of(const struct operation *operation, const struct adapter *adapter) {
    const struct pod *pod = operation->pod;
    const struct dialect_model *card = map_get(&pod->listed, adapter->spec.name);
    if (card != NULL && card->parent != NULL && card->parent[0] != '\0') {
        return card->parent;
    }
    for (size_t i = 0; i < pod->models.count; i++) {
        if (pod->models.items[i].parent == NULL && strcmp(pod->models.items[i].id, adapter->spec.name) != 0) {
            return pod->models.items[i].id;
        }
    }
    return adapter->spec.base_model;
}

/* Proofs go to the engine itself: the sidecar does not generate. */
static void send_proof(struct operation *operation, const struct adapter *adapter, const char *name) {
    struct dialect_request request;
    dialect_prove(operation->pod->facts.engine, base_model_of(operation, adapter), name, operation->prompt, &request);
    send_request(operation, adapter, &request, operation->pod->facts.engine_port, PROVE_TIMEOUT_MS);
}

static void send_unload(struct operation *operation, const struct adapter *adapter) {
    enum dialect dialect = world_dialect(operation->controller, operation->pod);
    struct dialect_request request;
    int port = dialect == DIALECT_SIDECAR ? operation->pod->facts.sidecar_port : operation->pod->facts.engine_port;
    dialect_unload(dialect, adapter->spec.name, &request);
    send_request(operation, adapter, &request, port, UNLOAD_TIMEOUT_MS);
}

/* ---- answers ---- */

static void log_outcome(const struct operation *operation, const char *what, const struct dialect_answer *answer, int64_t took_ms) {
    if (answer->message[0] == '\0') {
        log_info("adapter %s %s pod=%s took_ms=%lld", operation->adapter_key, what, operation->pod->facts.name, (long long)took_ms);
    } else {
        log_warn("adapter %s %s pod=%s outcome=%s: %s", operation->adapter_key, what, operation->pod->facts.name,
                 dialect_outcome_name(answer->outcome), answer->message);
    }
}

/* A peer that quotes what it was sent must not bring a secret into the status. */
static void redact(char *message, const json_t *secrets) {
    const char *key = NULL;
    json_t *value = NULL;
    json_object_foreach((json_t *)secrets, key, value) {
        size_t len = json_string_length(value);
        char *at = message;
        while (len >= 4 && (at = strstr(at, json_string_value(value))) != NULL) {
            memset(at, '*', len);
            at += len;
        }
    }
}

static void loaded(struct operation *operation, const struct adapter *adapter, struct hold *hold, int status, const char *body,
                   size_t len) {
    struct controller *controller = operation->controller;
    const char *engine[] = {operation->pod->facts.engine == DIALECT_SGLANG ? "sglang" : "vllm", NULL};
    int64_t now_ms = clock_now_ms();
    int64_t took_ms = now_ms - operation->started_ms;
    struct dialect_answer answer;
    dialect_classify_load(world_dialect(controller, operation->pod), status, body, len, &answer);
    redact(answer.message, operation->credentials);
    redact(answer.message, adapter->spec.additional_config);
    if (answer.outcome == DIALECT_DONE) {
        metric_add(controller->count.loads, engine, 1);
        metric_observe(controller->count.load_seconds, engine, (double)took_ms / 1000);
    } else {
        const char *labels[] = {dialect_outcome_name(answer.outcome), NULL};
        metric_add(controller->count.load_failures, labels, 1);
    }
    log_outcome(operation, "load", &answer, took_ms);
    hold_note_load(hold, operation->revision, &answer, took_ms, now_ms);
    end(operation);
}

static void unloaded(struct operation *operation, struct hold *hold, int status, const char *body, size_t len) {
    int64_t now_ms = clock_now_ms();
    struct dialect_answer answer;
    dialect_classify_unload(world_dialect(operation->controller, operation->pod), status, body, len, &answer);
    metric_add(operation->controller->count.unloads, NULL, 1);
    log_outcome(operation, "unload", &answer, now_ms - operation->started_ms);
    hold_note_unload(hold, &answer, now_ms);
    end(operation);
}

static void proof_failed(struct operation *operation, int status, const char *body, size_t len) {
    struct dialect_answer answer;
    dialect_classify_load(operation->pod->facts.engine, status, body, len, &answer);
    bool is_patient =
        answer.outcome == DIALECT_BUSY || answer.outcome == DIALECT_UNREACHABLE || answer.outcome == DIALECT_UNAUTHORIZED;
    char message[600];
    snprintf(message, sizeof(message), "a one-token request was answered with %d: %s", status, answer.message);
    log_warn("adapter %s proof failed pod=%s: %s", operation->adapter_key, operation->pod->facts.name, message);
    operation->pod->is_awaited = true; /* it may not have the adapter any more: its list says so */
    observe_soon(operation->pod, 0);
    fail(operation, is_patient ? answer.outcome : DIALECT_FAILED,
         answer.outcome == DIALECT_BUSY ? dialect_outcome_name(answer.outcome) : "ProofFailed",
         status > 0 ? message : answer.message);
}

static void proved(struct operation *operation, struct adapter *adapter, struct hold *hold, int status, const char *body,
                   size_t len) {
    struct dialect_proof proof;
    struct error err = {0};
    bool is_read = status == 200 && dialect_parse_proof(body, len, &proof, &err) == 0;
    if (operation->step == STEP_PROVE_BASE) {
        enum hold_effect effect = EFFECT_UNKNOWN; /* a base that does not answer says nothing of the adapter */
        if (is_read && proof.logprob_count > 0 && operation->proof.logprob_count > 0) {
            effect = dialect_proofs_differ(&operation->proof, &proof) ? EFFECT_SEEN : EFFECT_NONE;
        }
        hold_note_proof(hold, effect);
        end(operation);
    } else if (status == 200 && !is_read) {
        fail(operation, DIALECT_FAILED, "ProofFailed", err.message);
    } else if (!is_read) {
        proof_failed(operation, status, body, len);
    } else if (operation->controller->options->proof == PROOF_EFFECT) {
        operation->proof = proof;
        operation->step = STEP_PROVE_BASE;
        send_proof(operation, adapter, NULL);
    } else {
        hold_note_proof(hold, EFFECT_UNKNOWN);
        end(operation);
    }
}

static void on_answer(void *arg, const struct transfer_response *response, const struct error *err) {
    struct operation *operation = arg;
    struct adapter *adapter = NULL;
    struct hold *hold = find_hold(operation, &adapter);
    int status = response != NULL ? response->status : 0;
    const char *body = response != NULL ? response->body : err->message;
    size_t len = response != NULL ? response->body_len : strlen(err->message);
    operation->transfer = NULL;
    if (hold == NULL) {
        end(operation);
    } else if (operation->kind == HOLD_LOADING) {
        loaded(operation, adapter, hold, status, body, len);
    } else if (operation->kind == HOLD_UNLOADING) {
        unloaded(operation, hold, status, body, len);
    } else {
        metric_add(operation->controller->count.proofs, NULL, 1);
        proved(operation, adapter, hold, status, body, len);
    }
}

/* ---- the secret ---- */

static json_t *read_secret(const json_t *secret) {
    json_t *credentials = json_object();
    const char *key = NULL;
    json_t *value = NULL;
    json_object_foreach(json_at(secret, "data"), key, value) {
        cleanup_buffer struct buffer decoded = BUFFER_INIT;
        json_t *text = NULL;
        if (json_is_string(value) && base64_decode(json_string_value(value), &decoded, NULL) == 0) {
            text = json_stringn(buffer_text(&decoded), decoded.len);
        }
        if (text != NULL) { /* what is not text cannot be carried in JSON */
            json_object_set_new(credentials, key, text);
        }
    }
    return credentials;
}

static void on_secret(void *arg, json_t *object, const struct error *err) {
    struct operation *operation = arg;
    struct adapter *adapter = NULL;
    operation->call = NULL;
    if (find_hold(operation, &adapter) == NULL || strcmp(operation->revision, adapter->revision) != 0) {
        end(operation); /* what is wanted has changed meanwhile: planned anew */
    } else if (err != NULL) {
        fail(operation, DIALECT_FAILED, err->code == ERROR_NOT_FOUND ? "SecretNotFound" : "SecretUnreadable", err->message);
    } else {
        operation->credentials = read_secret(object);
        send_load(operation, adapter);
    }
}

static void get_secret(struct operation *operation, const struct adapter *adapter) {
    struct kube_request request = {.verb = KUBE_GET,
                                   .resource = &kube_secrets,
                                   .namespace = adapter->spec.namespace,
                                   .name = adapter->spec.secret_name,
                                   .on_done = on_secret,
                                   .arg = operation};
    operation->call = kube_start(operation->controller->kube, &request);
}

/* A prompt of its own for this name, start of the pod and revision, so that nothing that was computed before can answer it. Short:
 * a dozen tokens, twice for each adapter, are between a restarted engine and its first request. */
static char *proof_prompt(const struct adapter *adapter, const struct pod *pod) {
    cleanup_free char *text = xasprintf("%s %s %s", adapter->key, pod->start, adapter->revision);
    struct hash hash = hash_bytes(text, strlen(text));
    char digits[HASH_HEX_BYTES];
    hash_hex(&hash, digits);
    return xasprintf("The answer to %.8s is", digits);
}

void act_start(struct controller *controller, struct adapter *adapter, struct pod *pod, enum hold_action kind) {
    struct operation *operation = xcalloc(1, sizeof(*operation));
    *operation = (struct operation){.controller = controller,
                                    .pod = pod,
                                    .adapter_key = xstrdup(adapter->key),
                                    .adapter_uid = xstrdup(adapter->spec.uid),
                                    .start = xstrdup(pod->start),
                                    .kind = kind,
                                    .step = STEP_CALL,
                                    .started_ms = clock_now_ms()};
    memcpy(operation->revision, adapter->revision, REVISION_BYTES);
    world_hold(adapter, pod)->running = kind;
    LIST_INSERT_HEAD(&pod->operations, operation, in_pod);
    pod->operation_count++;
    controller->calls++;
    if (kind == HOLD_UNLOADING) {
        send_unload(operation, adapter);
    } else if (kind == HOLD_PROVING) {
        operation->prompt = proof_prompt(adapter, pod);
        send_proof(operation, adapter, adapter->spec.name);
    } else if (adapter->spec.secret_name[0] != '\0' && world_uses_sidecar(controller, pod)) {
        operation->step = STEP_SECRET;
        get_secret(operation, adapter);
    } else {
        send_load(operation, adapter);
    }
}
