#include "adapter/model_adapter_rules.h"

#define END                                                                                                                        \
    { 0 }

static const char *const operators[] = {"In", "NotIn", "Exists", "DoesNotExist", NULL};
static const char *const policies[] = {"random", "leastAdapters", "binPack", "spread", NULL};
static const char *const condition_statuses[] = {"True", "False", "Unknown", NULL};

/* ---- spec ---- */

static const struct schema_field requirement_fields[] = {
    {.name = "key",
     .type = SCHEMA_STRING,
     .description = "Label key.",
     .is_required = true,
     .max_length = 317,
     .pattern = SYNTAX_LABEL_KEY,
     .matches = syntax_is_label_key,
     .pattern_message = "not a label key"},
    {.name = "operator",
     .type = SCHEMA_STRING,
     .description = "In, NotIn, Exists or DoesNotExist.",
     .is_required = true,
     .values = operators},
    {.name = "values",
     .type = SCHEMA_STRINGS,
     .description = "Values of In and NotIn.",
     .max_items = 256,
     .max_length = 63,
     .pattern = SYNTAX_LABEL_VALUE,
     .matches = syntax_is_label_value,
     .pattern_message = "not a label value"},
    END,
};

static const struct schema_field selector_fields[] = {
    {.name = "matchLabels",
     .type = SCHEMA_STRING_MAP,
     .description = "Labels that pods must have.",
     .max_items = 128,
     .max_length = 63,
     .pattern = SYNTAX_LABEL_VALUE,
     .matches = syntax_is_label_value,
     .pattern_message = "not a label value"},
    {.name = "matchExpressions",
     .type = SCHEMA_OBJECTS,
     .description = "Requirements that pods must meet.",
     .children = requirement_fields,
     .max_items = 128},
    END,
};

static const struct schema_field credentials_fields[] = {
    {.name = "name", .type = SCHEMA_STRING, .description = "Name of the Secret, in the adapter's namespace.", .fallback = ""},
    END,
};

static const struct schema_field key_secret_fields[] = {
    {.name = "name",
     .type = SCHEMA_STRING,
     .description = "Name of the Secret, in the adapter's namespace.",
     .is_required = true,
     .max_length = 253,
     .pattern = SYNTAX_SUBDOMAIN,
     .matches = syntax_is_subdomain,
     .pattern_message = "not the name of a Secret"},
    {.name = "key",
     .type = SCHEMA_STRING,
     .description = "Member of the Secret's data that holds the key.",
     .fallback = "api-key",
     .max_length = 253,
     .pattern = SYNTAX_DATA_KEY,
     .matches = syntax_is_data_key,
     .pattern_message = "not a key of a Secret's data"},
    END,
};

static const struct schema_field placement_fields[] = {
    {.name = "policy",
     .type = SCHEMA_STRING,
     .description = "How pods are chosen when replicas is given; absent: as the controller is told.",
     .values = policies},
    {.name = "topologyKey",
     .type = SCHEMA_STRING,
     .description = "Label of nodes whose values spread keeps apart; absent: kubernetes.io/hostname.",
     .max_length = 317,
     .pattern = SYNTAX_LABEL_KEY,
     .matches = syntax_is_label_key,
     .pattern_message = "not a label key"},
    END,
};

static const struct schema_field rollout_fields[] = {
    {.name = "maxUnavailable",
     .type = SCHEMA_INT_OR_STRING,
     .description = "Pods that a change of the weights may take out at a time: a number, or a percentage of the desired pods, at "
                    "least one; absent: 1.",
     .rules = {{.cel = RULE_COUNT_OR_PERCENT,
                .message = "expected a number of at least 1, or \"1%\" to \"100%\"",
                .holds = rule_is_count_or_percent}}},
    END,
};

static const struct schema_field spec_fields[] = {
    {.name = "artifactURL",
     .type = SCHEMA_STRING,
     .description = "Where the adapter's weights are: an absolute path, huggingface://org/repo, s3://, gs://, tos:// or https://.",
     .is_required = true,
     .min_length = 1,
     .max_length = 4096,
     .pattern = SYNTAX_PRINTABLE,
     .matches = syntax_is_printable,
     .pattern_message = "control characters are not allowed",
     .rules = {{.cel = RULE_SCHEME,
                .message =
                    "unsupported schema: expected s3://, gs://, gcs://, tos://, huggingface://, hf://, http:// or https:// and "
                    "what follows it, file:///, or an absolute path",
                .holds = rule_has_scheme,
                .is_transition = true}}},
    {.name = "podSelector",
     .type = SCHEMA_OBJECT,
     .description = "Pods of the base model that may hold the adapter.",
     .children = selector_fields,
     .is_required = true,
     .is_atomic = true,
     .rules = {{.cel = RULE_SELECTS,
                .message = "an empty selector would match every pod of the namespace",
                .holds = rule_selects_something,
                .is_transition = true},
               {.cel = RULE_LABEL_KEYS,
                .message = "its members must be label keys",
                .holds = rule_has_label_keys,
                .member = "matchLabels",
                .is_transition = true},
               {.cel = RULE_VALUES,
                .message = "values belong to the operators In and NotIn, and only to them",
                .holds = rule_values_fit_operators,
                .member = "matchExpressions",
                .is_transition = true}}},
    {.name = "baseModel", .type = SCHEMA_STRING, .description = "The base model that the adapter was trained on."},
    {.name = "replicas",
     .type = SCHEMA_INT32,
     .description = "Number of pods that hold the adapter; absent: every pod that matches podSelector.",
     .has_minimum = true,
     .has_maximum = true,
     .maximum = INT32_MAX},
    {.name = "revision",
     .type = SCHEMA_STRING,
     .description = "Branch, tag, commit or any other word that pins the source. Another one loads the weights again.",
     .max_length = 255,
     .pattern = SYNTAX_VISIBLE,
     .matches = syntax_is_visible,
     .pattern_message = "expected visible ASCII without spaces"},
    {.name = "digest",
     .type = SCHEMA_STRING,
     .description = "SHA-256 of the weights file; other weights are refused.",
     .max_length = 71,
     .pattern = SYNTAX_DIGEST,
     .matches = syntax_is_digest,
     .pattern_message = "expected 64 hexadecimal digits in lower case, \"sha256:\" before them or not"},
    {.name = "credentialsSecretRef",
     .type = SCHEMA_OBJECT,
     .description = "Secret with the credentials for artifactURL.",
     .children = credentials_fields,
     .is_atomic = true},
    {.name = "apiKeySecretRef",
     .type = SCHEMA_OBJECT,
     .description = "Secret with the engines' API key; it comes before additionalConfig's.",
     .children = key_secret_fields,
     .is_atomic = true},
    {.name = "placement", .type = SCHEMA_OBJECT, .description = "Which of the matching pods.", .children = placement_fields},
    {.name = "rollout", .type = SCHEMA_OBJECT, .description = "How changed weights are brought out.", .children = rollout_fields},
    {.name = "drainSeconds",
     .type = SCHEMA_INT32,
     .description = "Longest wait for running requests between taking an endpoint out and unloading; absent: 1.",
     .has_minimum = true,
     .has_maximum = true,
     .maximum = 3600},
    {.name = "schedulerName",
     .type = SCHEMA_STRING,
     .description = "A placement policy's name is honoured where placement.policy is absent.",
     .fallback = "default"},
    {.name = "additionalConfig",
     .type = SCHEMA_STRING_MAP,
     .description = "Further settings, passed to the sidecar; api-key: the engines' key (better: apiKeySecretRef)."},
    END,
};

/* ---- status ---- */

static const struct schema_field condition_fields[] = {
    {.name = "type",
     .type = SCHEMA_STRING,
     .description = "Initialized, Scheduled, Bound, ResourceCreated, Ready, FullyLoaded, NoEffect, ...",
     .is_required = true,
     .max_length = 316,
     .pattern = SYNTAX_CONDITION_TYPE,
     .matches = syntax_is_condition_type},
    {.name = "status",
     .type = SCHEMA_STRING,
     .description = "True, False or Unknown.",
     .is_required = true,
     .values = condition_statuses},
    {.name = "reason",
     .type = SCHEMA_STRING,
     .description = "One word.",
     .is_required = true,
     .min_length = 1,
     .max_length = 1024,
     .pattern = SYNTAX_REASON,
     .matches = syntax_is_reason},
    {.name = "message", .type = SCHEMA_STRING, .description = "For people.", .is_required = true, .max_length = 32768},
    {.name = "lastTransitionTime", .type = SCHEMA_TIME, .description = "When status changed.", .is_required = true},
    {.name = "observedGeneration",
     .type = SCHEMA_INT64,
     .description = "The generation that the condition describes.",
     .has_minimum = true},
    END,
};

static const struct schema_field load_fields[] = {
    {.name = "pod", .type = SCHEMA_STRING, .description = "Name of the pod.", .is_required = true},
    {.name = "state", .type = SCHEMA_STRING, .description = "What the adapter is doing there.", .is_required = true},
    {.name = "revision", .type = SCHEMA_STRING, .description = "Revision of the weights."},
    {.name = "engineName",
     .type = SCHEMA_STRING,
     .description = "What the pod's engine calls it, where that is not the adapter's own name."},
    {.name = "replaces",
     .type = SCHEMA_STRING,
     .description = "Revision that was taken away for it, until it answers; ? = one not known."},
    {.name = "loadMillis", .type = SCHEMA_INT64, .description = "How long loading took."},
    {.name = "reason", .type = SCHEMA_STRING, .description = "One word."},
    {.name = "message", .type = SCHEMA_STRING, .description = "For people."},
    {.name = "since", .type = SCHEMA_TIME, .description = "When it came into this state."},
    END,
};

static const struct schema_field status_fields[] = {
    {.name = "phase", .type = SCHEMA_STRING, .description = "Pending, Scheduled, Bound, ResourceCreated, Running, Failed, Scaled."},
    {.name = "observedGeneration", .type = SCHEMA_INT64, .description = "The generation that this status describes."},
    {.name = "revision", .type = SCHEMA_STRING, .description = "Digits of the SHA-256 of what spec says of the weights."},
    {.name = "earlierRevisions",
     .type = SCHEMA_STRINGS,
     .description = "Older revisions that some pod has or may have yet, at most 8.",
     .max_items = 8},
    {.name = "version",
     .type = SCHEMA_STRING,
     .description =
         "What the source of that revision was found to be: a commit, or what tells its files apart. Every pod gets just that."},
    {.name = "candidates", .type = SCHEMA_INT32, .description = "Ready pods that match podSelector."},
    {.name = "desiredReplicas", .type = SCHEMA_INT32, .description = "Pods that are to hold the adapter."},
    {.name = "readyReplicas", .type = SCHEMA_INT32, .description = "Pods that hold it and answered with it."},
    {.name = "instances", .type = SCHEMA_STRINGS, .description = "Names of the pods that hold it and answered with it."},
    {.name = "conditions", .type = SCHEMA_OBJECTS, .description = "What is so, and why.", .children = condition_fields},
    {.name = "loads",
     .type = SCHEMA_OBJECTS,
     .description = "The adapter on each pod, at most 100.",
     .children = load_fields,
     .max_items = 100},
    END,
};

/* ---- the object ---- */

static const struct schema_field metadata_fields[] = {
    {.name = "name",
     .type = SCHEMA_STRING,
     .max_length = 63,
     .pattern = SYNTAX_SERVICE_NAME,
     .matches = syntax_is_service_name,
     .pattern_message =
         "the name becomes a Service's, so at most 63 of a-z, 0-9 and '-', beginning with a letter and not ending in "
         "'-'"},
    END,
};

static const struct schema_field object_fields[] = {
    {.name = "apiVersion", .type = SCHEMA_STRING, .description = "model.aibrix.ai/v1alpha1"},
    {.name = "kind", .type = SCHEMA_STRING, .description = "ModelAdapter"},
    {.name = "metadata", .type = SCHEMA_OBJECT, .children = metadata_fields, .is_open = true},
    {.name = "spec", .type = SCHEMA_OBJECT, .description = "What is wanted.", .children = spec_fields, .is_required = true},
    {.name = "status", .type = SCHEMA_OBJECT, .description = "What was observed.", .children = status_fields},
    END,
};

const struct schema_field model_adapter_schema = {
    .type = SCHEMA_OBJECT,
    .description = "ModelAdapter is a LoRA adapter that is loaded into the pods of its base model and requested by its name.",
    .children = object_fields,
};
