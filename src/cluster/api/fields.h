/* Field selectors: "metadata.name=x,status.phase!=Running". Pure. */
#ifndef DAVIT_CLUSTER_API_FIELDS_H
#define DAVIT_CLUSTER_API_FIELDS_H

#include "base/json.h"
#include "cluster/api/resources.h"

#define FIELD_TERMS_MAX 16

struct field_term {
    char *path;
    char *value;
    bool is_negated;
};

struct field_selector {
    struct field_term terms[FIELD_TERMS_MAX];
    size_t count;
};

/* NULL, or a Status: 400 `field label not supported: x`. `text` NULL or "" = no terms. Release in either case. */
json_t *field_selector_parse(const struct resource *resource, const char *text, struct field_selector *ret_selector) DAVIT_MUST_USE;
void field_selector_release(struct field_selector *selector);
bool field_selector_matches(const struct field_selector *selector, const json_t *object);
/* The name that metadata.name must equal, NULL when there is no such term. Borrowed. */
const char *field_selector_name(const struct field_selector *selector);

#endif
