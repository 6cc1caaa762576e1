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

/* The reference's CRD has no rules, so objects that break these may be stored. An API server evaluates CEL again when only the
 * status is written (Kubernetes 1.31), and the status is where such an object is told what is wrong with it: hence "or as it was".
 */
#define OR_AS_IT_WAS " || (oldSelf.hasValue() && oldSelf.value() == self)"

#define RULE_SCHEME "self.matches('^(/|file:///|(s3|gs|gcs|tos|huggingface|hf|http|https)://.)')" OR_AS_IT_WAS
bool rule_has_scheme(const json_t *url);

#define RULE_SELECTS                                                                                                               \
    "(has(self.matchLabels) && size(self.matchLabels) > 0) || (has(self.matchExpressions) && size(self.matchExpressions) > "       \
    "0)" OR_AS_IT_WAS
bool rule_selects_something(const json_t *selector);

#define RULE_LABEL_KEYS "!has(self.matchLabels) || self.matchLabels.all(key, key.matches('" SYNTAX_LABEL_KEY "'))" OR_AS_IT_WAS
bool rule_has_label_keys(const json_t *selector);

#define RULE_VALUES                                                                                                                \
    "!has(self.matchExpressions) || self.matchExpressions.all(e, (e.operator in ['In', 'NotIn']) == (has(e.values) && "            \
    "size(e.values) > 0))" OR_AS_IT_WAS
bool rule_values_fit_operators(const json_t *selector);

#define RULE_COUNT_OR_PERCENT "type(self) == int ? self >= 1 : self.matches('^([1-9]|[1-9][0-9]|100)%$')"
bool rule_is_count_or_percent(const json_t *value);

#endif
