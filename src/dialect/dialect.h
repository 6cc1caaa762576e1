/* How engines and the sidecar talk: requests out, answers classified. Pure: who sends the bytes is somebody else's job.
 *
 * Sources: vLLM 0.6 to 0.32 (entrypoints/serve/lora, recorded answers), SGLang (http_server, io_struct), aibrix_runtime 0.8. Exact
 * statuses differ between versions, so answers are classified by status class and by the constant parts of messages. */
#ifndef DAVIT_DIALECT_DIALECT_H
#define DAVIT_DIALECT_DIALECT_H

#include "base/buffer.h"
#include "base/error.h"
#include "base/json.h"

enum dialect {
    DIALECT_VLLM, /* also Davit's engine, and any engine that is not known */
    DIALECT_SGLANG,
    DIALECT_SIDECAR, /* aibrix_runtime's API, ours or the reference's */
};

#define DIALECT_FIELDS_MAX 5

struct dialect_request {
    const char *method;                   /* "GET" or "POST" */
    const char *path;                     /* static */
    char *body;                           /* JSON, NULL for GET; the caller frees it with dialect_request_release */
    char *fields[DIALECT_FIELDS_MAX + 1]; /* "Name: value" of the head, beside Content-Type; NULL at the end; released likewise */
};
void dialect_request_release(struct dialect_request *request);

struct dialect_load {
    const char *name;
    const char *path;                /* vLLM, SGLang: what the engine is to open */
    const char *artifact_url;        /* sidecar */
    const json_t *credentials;       /* sidecar; object of strings or NULL */
    const json_t *additional_config; /* sidecar; object of strings or NULL */
    /* Header fields of the sidecar, which refuses members that it does not know; the reference's passes over them. NULL or "" = not
     * said. */
    const char *revision;        /* ours */
    const char *source_revision; /* the artifact's: branch, tag, commit */
    const char *digest;          /* of the weights */
    const char *version;         /* `version` of an earlier answer: just that is wanted */
    int wait_s;                  /* a load that takes longer is to be answered DIALECT_PENDING; 0 = it never is */
};

void dialect_list(enum dialect dialect, struct dialect_request *ret_request);
void dialect_load(enum dialect dialect, const struct dialect_load *load, struct dialect_request *ret_request);
void dialect_unload(enum dialect dialect, const char *name, struct dialect_request *ret_request);

enum dialect_outcome {
    DIALECT_DONE,           /* loaded, or unloaded */
    DIALECT_PENDING,        /* load: the sidecar fetches the artifact; asked again it is joined. The message says how far it is */
    DIALECT_ALREADY_LOADED, /* load: the name is taken; look at the list to see by what */
    DIALECT_NOT_LOADED,     /* unload: there is no such adapter, which is what was wanted */
    DIALECT_BUSY,           /* not now: 429, 503 with Retry-After, capacity that may come free */
    DIALECT_UNREACHABLE,    /* 502, 503, 504 or no answer: state unknown, look at the list */
    DIALECT_UNAUTHORIZED,   /* 401, 403: the key is missing or wrong */
    DIALECT_DISABLED,       /* the engine does not do run-time LoRA as it was started */
    DIALECT_PERMANENT,      /* will not work until the object or the artifact changes */
    DIALECT_FAILED,         /* anything else: try again later */
};

struct dialect_answer {
    enum dialect_outcome outcome;
    const char *reason; /* static, CamelCase: what the sidecar says of an artifact, else dialect_outcome_name */
    char message[512];  /* the engine's own words, extracted from any of its error shapes; "" when it succeeded */
    char version[256];  /* load, of the sidecar: which content of the source it is; "" = it does not say */
};

void dialect_classify_load(enum dialect dialect, int status, const char *body, size_t len, struct dialect_answer *ret_answer);
void dialect_classify_unload(enum dialect dialect, int status, const char *body, size_t len, struct dialect_answer *ret_answer);
const char *dialect_outcome_name(enum dialect_outcome outcome); /* CamelCase, for reasons: "EngineUnreachable", ... */

struct dialect_model {
    const char *id;     /* owned; the other texts are behind it */
    const char *root;   /* "" when absent */
    const char *parent; /* NULL for a base model */
    bool is_davit;      /* owned_by says that Davit's engine lists it */
};
struct dialect_models {
    struct dialect_model *items;
    size_t count; /* at most 100,000 */
};
/* Reads the answer of a list. ERROR_INVALID when it is not one. */
int dialect_parse_models(const char *body, size_t len, struct dialect_models *ret_models, struct error *err) DAVIT_MUST_USE;
/* A digest of what dialect_parse_models reads of a body, without parsing it: other members (vLLM makes up `created` and
 * `permission` anew for each answer) do not change it. 0 = this body has to be parsed. */
uint64_t dialect_models_digest(const char *body, size_t len);
void dialect_models_release(struct dialect_models *models);

/* The message in any error body: {"error":{"message"}}, {"error":"..."}, {"message"}, {"detail"}, {"error_message"}, or the raw
 * text (cut). */
void dialect_error_message(const char *body, size_t len, char *ret_message, size_t room);

/* ---- the proof: a one-token completion with logprobs ---- */

/* `model`: the adapter's name, or a base model's. For SGLang an adapter is asked for as base:adapter. `prompt` is the caller's. */
void dialect_prove(enum dialect dialect, const char *base_model, const char *adapter, const char *prompt,
                   struct dialect_request *ret_request);

struct dialect_proof {
    char model[256];   /* what the answer says answered */
    int logprob_count; /* 0 when the engine gave none */
    struct {
        char token[64];
        double logprob;
    } logprobs[20]; /* the first token's alternatives, as given */
};
/* Reads a 200 answer; ERROR_INVALID when no token was generated. */
int dialect_parse_proof(const char *body, size_t len, struct dialect_proof *ret_proof, struct error *err) DAVIT_MUST_USE;
/* Whether two proofs show different distributions: another set of tokens, or a logprob that differs by more than 1e-6. False when
 * either has none. */
bool dialect_proofs_differ(const struct dialect_proof *a, const struct dialect_proof *b);

/* ---- the gauge: of which adapters an engine has requests ---- */

#define DIALECT_GAUGE_PATH "/metrics"

/* Names in vllm:lora_requests_info, as vLLM's and Davit's engines show it. */
struct dialect_gauge {
    char *names; /* of adapters with running or waiting requests, between commas: ",a,b,"; the caller frees it */
};
/* Reads a page of metrics. False when it does not say what is in flight: the gauge is not there (SGLang, or nothing was asked of an
 * adapter yet), cannot be read, or is of several engines at once, which do not show each other's requests. */
bool dialect_read_gauge(const char *page, size_t len, struct dialect_gauge *ret_gauge) DAVIT_MUST_USE;
bool dialect_gauge_names(const struct dialect_gauge *gauge, const char *adapter);
void dialect_gauge_release(struct dialect_gauge *gauge);

#endif
