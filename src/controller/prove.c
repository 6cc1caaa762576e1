/* Proofs: a one-token completion by the adapter's name, whose log-probabilities are compared with the base model's. */
#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "controller/operation.h"

#include <string.h>

#define PROVE_TIMEOUT_MS 60000

static const char *base_model_of(const struct pod *pod, const struct adapter *adapter, const char *engine_name) {
    const struct dialect_model *card = map_get(&pod->listed, engine_name);
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
void prove_send(struct operation *operation, const char *name) {
    struct dialect_request request;
    dialect_prove(operation->pod->facts.engine, operation->base_model, name, operation->prompt, &request);
    operation_send(operation, &request, operation->pod->facts.engine_port, PROVE_TIMEOUT_MS);
}

/* One that nothing computed before can answer: of this start of the engine, this run of ours, and as many loads of the name as
 * there were. The same for all adapters of a pod, so that the base model is asked once. Short: a dozen tokens are between a
 * restarted engine and its first request. */
static char *proof_prompt(const struct controller *controller, const struct pod *pod, int loads) {
    cleanup_free char *text = xasprintf("%s %s %d", pod->start, controller->nonce, loads);
    struct hash hash = hash_bytes(text, strlen(text));
    char digits[HASH_HEX_BYTES];
    hash_hex(&hash, digits);
    return xasprintf("The answer to %.8s is", digits);
}

/* Proofs follow the load at once, in the same turn at the pod. */
void prove_prepare(struct operation *operation, struct binding *binding) {
    struct hold *hold = binding->hold;
    operation->kind = HOLD_PROVING;
    operation->prompt = proof_prompt(operation->controller, operation->pod, hold->loads);
    operation->base_model = xstrdup(base_model_of(operation->pod, binding->adapter, operation->engine_name));
    operation->is_first = hold->loads == 1;
    hold->running = HOLD_PROVING;
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
    operation_fail(operation, is_patient ? answer.outcome : DIALECT_FAILED,
                   answer.outcome == DIALECT_BUSY ? dialect_outcome_name(answer.outcome) : "ProofFailed",
                   status > 0 ? message : answer.message);
}

/* Whether what the answer names as its model is the adapter: "sql", or "base:sql" where it was asked for so. */
static bool is_answered_by(const struct dialect_proof *proof, const char *name) {
    const char *colon = strrchr(proof->model, ':');
    return proof->model[0] == '\0' || strcmp(proof->model, name) == 0 || (colon != NULL && strcmp(colon + 1, name) == 0);
}

static void conclude(struct operation *operation, struct hold *hold, const struct dialect_proof *base) {
    enum hold_effect effect = EFFECT_UNKNOWN; /* a base that does not answer says nothing of the adapter */
    if (base != NULL && base->logprob_count > 0 && operation->proof->logprob_count > 0) {
        effect = dialect_proofs_differ(operation->proof, base) ? EFFECT_SEEN : EFFECT_NONE;
    }
    hold_note_proof(hold, effect);
    operation_end(operation);
}

static void base_answered(struct operation *operation, struct hold *hold, const struct dialect_proof *base) {
    struct pod *pod = operation->pod;
    if (base != NULL && operation->is_first) {
        act_release_base_proof(pod->base_proof);
        pod->base_proof = xmalloc(sizeof(*pod->base_proof));
        *pod->base_proof = (struct base_proof){.model = xstrdup(operation->base_model), .proof = *base};
    }
    conclude(operation, hold, base);
}

static void adapter_answered(struct operation *operation, struct binding *binding, const struct dialect_proof *proof) {
    const struct base_proof *known = operation->pod->base_proof;
    const char *name = operation->engine_name;
    if (!is_answered_by(proof, name)) {
        char message[600];
        snprintf(message, sizeof(message), "asked for \"%s\", the engine answered as \"%s\"", name, proof->model);
        operation_fail(operation, DIALECT_FAILED, "ProofFailed", message);
    } else if (operation->controller->options->proof != PROOF_EFFECT) {
        hold_note_proof(binding->hold, EFFECT_UNKNOWN);
        operation_end(operation);
    } else {
        operation->proof = xmalloc(sizeof(*operation->proof));
        *operation->proof = *proof;
        if (operation->is_first && known != NULL && strcmp(known->model, operation->base_model) == 0) {
            conclude(operation, binding->hold, &known->proof);
        } else {
            operation->step = STEP_PROVE_BASE;
            prove_send(operation, NULL);
        }
    }
}

void prove_take_answer(struct operation *operation, struct binding *binding, int status, const char *body, size_t len) {
    struct dialect_proof proof;
    struct error err = {0};
    bool is_read = status == 200 && dialect_parse_proof(body, len, &proof, &err) == 0;
    if (operation->step == STEP_PROVE_BASE) {
        base_answered(operation, binding->hold, is_read ? &proof : NULL);
    } else if (status == 200 && !is_read) {
        operation_fail(operation, DIALECT_FAILED, "ProofFailed", err.message);
    } else if (!is_read) {
        proof_failed(operation, status, body, len);
    } else {
        adapter_answered(operation, binding, &proof);
    }
}

void act_release_base_proof(struct base_proof *proof) {
    if (proof != NULL) {
        free(proof->model);
        free(proof);
    }
}
