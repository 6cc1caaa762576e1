/* The rules of ModelAdapter that a type, a pattern or a bound cannot say: their CEL text, and the same in C. Pure. They are called
 * with values of their row's type only.
 *
 * No field of a ModelAdapter is immutable, since every change can be carried out on what is running:
 *   artifactURL, revision, digest      are the weights: rolled pod by pod, endpoint out first;
 *   credentialsSecretRef               matters to the next download only;
 *   apiKeySecretRef, additionalConfig  are read for each call: the next one has the new key;
 *   podSelector, replicas, placement   say where: what is held too much is drained and unloaded, what is missing is loaded;
 *   baseModel                          is a name: the Service is relabelled, the next proof asks the new one;
 *   rollout, drainSeconds, schedulerName  say how the next change is made.
 * What identifies the adapter to engines and clients, its name, is immutable in Kubernetes already. */
#ifndef DAVIT_ADAPTER_MODEL_ADAPTER_RULES_H
#define DAVIT_ADAPTER_MODEL_ADAPTER_RULES_H

#include "adapter/schema.h"
#include "adapter/syntax.h"

/* The whole object, as rows (model_adapter_schema.c). */
extern const struct schema_field model_adapter_schema;

#define RULE_SCHEME "self.matches('^(/|file:///|(s3|gs|gcs|tos|huggingface|hf|http|https)://.)')"
bool rule_has_scheme(const json_t *url);

#define RULE_SELECTS                                                                                                               \
    "(has(self.matchLabels) && size(self.matchLabels) > 0) || (has(self.matchExpressions) && size(self.matchExpressions) > 0)"
bool rule_selects_something(const json_t *selector);

#define RULE_LABEL_KEYS "self.all(key, key.matches('" SYNTAX_LABEL_KEY "'))"
bool rule_has_label_keys(const json_t *labels);

#define RULE_VALUES                                                                                                                \
    "self.operator in ['In', 'NotIn'] ? has(self.values) && size(self.values) > 0 : !has(self.values) || size(self.values) == 0"
bool rule_values_fit_operator(const json_t *requirement);

#define RULE_COUNT_OR_PERCENT "type(self) == int ? self >= 1 : self.matches('^([1-9]|[1-9][0-9]|100)%$')"
bool rule_is_count_or_percent(const json_t *value);

#endif
