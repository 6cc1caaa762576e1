/* Label selectors: metav1.LabelSelector objects (matchLabels and matchExpressions) and the string form of query parameters
 * ("a=b,c!=d,e in (f,g),h,!i"). */
#ifndef DAVIT_ADAPTER_SELECTOR_H
#define DAVIT_ADAPTER_SELECTOR_H

#include "base/error.h"
#include "base/json.h"

struct selector;

/* ERROR_INVALID names the operator, key or position that is wrong. An object or string without terms gives a selector that matches
 * everything: see selector_is_empty. */
int selector_parse_object(const json_t *label_selector, struct selector **ret_selector, struct error *err) DAVIT_MUST_USE;
int selector_parse_string(const char *text, struct selector **ret_selector, struct error *err) DAVIT_MUST_USE;
void selector_free(struct selector *selector);
bool selector_is_empty(const struct selector *selector);
/* `labels`: an object of strings, NULL = no labels. */
bool selector_matches(const struct selector *selector, const json_t *labels);

#endif
