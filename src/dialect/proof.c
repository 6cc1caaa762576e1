#include "dialect/dialect.h"

#include <math.h>
#include <string.h>

#define LOGPROB_TOLERANCE 1e-6

static void add_logprob(struct dialect_proof *proof, const char *token, const json_t *value) {
    if (proof->logprob_count == (int)ARRAY_LEN(proof->logprobs) || !json_is_number(value)) {
        return;
    }
    int at = proof->logprob_count++;
    snprintf(proof->logprobs[at].token, sizeof(proof->logprobs[at].token), "%s", token);
    proof->logprobs[at].logprob = json_number_value(value);
}

static bool has_token(const json_t *parsed, const json_t *choice) {
    return json_int_at(parsed, "usage.completion_tokens", 0) > 0 || json_string_at(choice, "text", "")[0] != '\0' ||
           json_array_size(json_at(choice, "logprobs.tokens")) > 0;
}

int dialect_parse_proof(const char *body, size_t len, struct dialect_proof *ret_proof, struct error *err) {
    /* Not json_parse: two tokens of one text make the same key twice in top_logprobs. */
    cleanup_json json_t *parsed = json_loadb(body, len, 0, NULL);
    if (parsed == NULL) {
        return error_set(err, ERROR_INVALID, "completion: the answer is not JSON");
    }
    const json_t *choice = json_array_get(json_at(parsed, "choices"), 0);
    if (!json_is_object(choice) || !has_token(parsed, choice)) {
        return error_set(err, ERROR_INVALID, "completion: no token was generated");
    }
    struct dialect_proof proof = {0};
    snprintf(proof.model, sizeof(proof.model), "%s", json_string_at(parsed, "model", ""));
    const char *token = NULL;
    json_t *value = NULL;
    json_object_foreach(json_array_get(json_at(choice, "logprobs.top_logprobs"), 0), token, value) {
        add_logprob(&proof, token, value);
    }
    if (proof.logprob_count == 0) {
        const json_t *first = json_array_get(json_at(choice, "logprobs.tokens"), 0);
        add_logprob(&proof, json_is_string(first) ? json_string_value(first) : "",
                    json_array_get(json_at(choice, "logprobs.token_logprobs"), 0));
    }
    *ret_proof = proof;
    return 0;
}

static const double *find_logprob(const struct dialect_proof *proof, const char *token) {
    for (int i = 0; i < proof->logprob_count; i++) {
        if (strcmp(proof->logprobs[i].token, token) == 0) {
            return &proof->logprobs[i].logprob;
        }
    }
    return NULL;
}

bool dialect_proofs_differ(const struct dialect_proof *a, const struct dialect_proof *b) {
    if (a->logprob_count == 0 || b->logprob_count == 0) {
        return false;
    }
    if (a->logprob_count != b->logprob_count) {
        return true;
    }
    for (int i = 0; i < a->logprob_count; i++) {
        const double *other = find_logprob(b, a->logprobs[i].token);
        if (other == NULL || !(fabs(*other - a->logprobs[i].logprob) <= LOGPROB_TOLERANCE)) {
            return true;
        }
    }
    return false;
}
