/* The ModelAdapter object: its schema, its rules, and its spec as a struct. Pure. */
#ifndef DAVIT_ADAPTER_MODEL_ADAPTER_H
#define DAVIT_ADAPTER_MODEL_ADAPTER_H

#include "adapter/selector.h"
#include "base/error.h"
#include "base/json.h"

#define REPLICAS_ALL (-1) /* spec.replicas absent: every matching pod */

struct model_adapter {
    const char *name; /* all strings are borrowed from the object */
    const char *namespace;
    const char *uid;
    int64_t generation;
    bool is_deleting;
    const char *base_model; /* "" when absent */
    const char *artifact_url;
    int replicas;                    /* >= 0, or REPLICAS_ALL */
    const char *secret_name;         /* credentialsSecretRef.name, "" when none */
    const json_t *additional_config; /* object of strings, or NULL */
    const char *api_key;             /* additionalConfig["api-key"], NULL when none */
    const char *api_key_secret_name; /* apiKeySecretRef.name, "" when none; comes before api_key */
    const char *api_key_secret_key;  /* its key, "api-key" when not said; "" when there is no apiKeySecretRef */
    const char *source_revision;     /* branch, tag, commit or any word that pins the source; "" when none */
    const char *digest;              /* SHA-256 of the weights, 64 hexadecimal digits without prefix; "" when none */
    const char *placement_policy;    /* "" = the controller's default */
    const char *topology_key;        /* label of nodes to spread over; "" = the node itself (kubernetes.io/hostname) */
    const char *scheduler_name;      /* "" or "default" = none; a placement policy's name is honoured, anything else ignored */
    int max_unavailable;             /* >= 1: pods that a rollout may take out at a time */
    int max_unavailable_percent;     /* 1..100 of the desired pods, rounded down, at least 1; 0 = max_unavailable counts */
    int64_t drain_ms;                /* longest wait for running requests before an unload; -1 = the controller's default */
    struct selector *selector;       /* owned */
};

/* Reads an object that the API holds. ERROR_INVALID when it breaks a rule (it may have been stored where there were none): the
 * message names the field, and `ret` is filled as far as it goes (name, namespace, uid, generation, is_deleting). Release in either
 * case. */
int model_adapter_read(const json_t *object, struct model_adapter *ret_adapter, struct error *err) DAVIT_MUST_USE;
void model_adapter_release(struct model_adapter *adapter);

/* Paths of members that the schema does not know, such as "spec.baseModle", appended to `paths` (a JSON array of strings). */
void model_adapter_unknown_fields(const json_t *object, json_t *paths);
/* Removes them. */
void model_adapter_prune(json_t *object);
/* Fills in the schema's defaults. */
void model_adapter_default(json_t *object);
/* The rules of the schema (model_adapter_schema.c) and of CEL (model_adapter_rules.h), the same that deploy/crd/ gives to a
 * cluster. `old_object` is NULL on create; what an update leaves as it was is not looked at again. Appends
 * {"reason","message","field"} for each violation (as in Status.details.causes) and returns how many. */
int model_adapter_validate(const json_t *object, const json_t *old_object, json_t *causes) DAVIT_MUST_USE;

/* Where an artifact is. */
enum artifact_scheme {
    ARTIFACT_PATH,
    ARTIFACT_HUGGINGFACE,
    ARTIFACT_S3,
    ARTIFACT_GCS,
    ARTIFACT_TOS,
    ARTIFACT_HTTP,
    ARTIFACT_UNKNOWN
};
/* "/x" and "file:///x" are PATH; "huggingface://" and "hf://" HUGGINGFACE; "gs://" and "gcs://" GCS. */
enum artifact_scheme artifact_scheme_of(const char *url);
/* Schemes that the validator accepts, for messages: "s3://, gs://, ...". */
const char *artifact_schemes_text(void);
/* Names what determines the weights: the first 8 hexadecimal digits of SHA-256 over the URL, and 16 over that and over revision and
 * digest where they are given. */
#define MODEL_ADAPTER_REVISION_BYTES 25
#define MODEL_ADAPTER_REVISION_URL_LEN 8
void model_adapter_revision(const struct model_adapter *adapter, char ret_revision[MODEL_ADAPTER_REVISION_BYTES]);

#endif
