/* A custom resource's fields as rows, and what follows from them: unknown fields, pruning, defaults and validation as a Kubernetes
 * API server does them with a structural schema and CEL rules. Pure.
 *
 * A row is the only place that says what a field may be: the validator here, `kubectl explain` of the embedded API and the CRD in
 * deploy/crd/ come from it or are tested to be equal to it. So patterns and rules stand there twice: as a regular expression or
 * CEL, for others to read, and as a C function.
 *
 * As in Kubernetes, what an update leaves as it was is not looked at again ("ratcheting"): an object that was stored before a rule
 * existed can still be labelled, finalized and deleted. */
#ifndef DAVIT_ADAPTER_SCHEMA_H
#define DAVIT_ADAPTER_SCHEMA_H

#include "base/json.h"

enum schema_type {
    SCHEMA_STRING,
    SCHEMA_TIME, /* a string, RFC 3339 */
    SCHEMA_INT32,
    SCHEMA_INT64,
    SCHEMA_INT_OR_STRING,
    SCHEMA_OBJECT,
    SCHEMA_STRING_MAP,
    SCHEMA_OBJECTS, /* a list of objects */
    SCHEMA_STRINGS, /* a list of strings */
};

#define SCHEMA_RULES_MAX 3

struct schema_rule {
    const char *cel;
    const char *message;
    bool (*holds)(const json_t *value); /* of a value that has the type of its row */
    const char *member;                 /* what it is about, "matchLabels"; NULL = the value as a whole */
    bool is_transition;                 /* the text speaks of oldSelf, which there need not be */
};

struct schema_field {
    const char *name; /* NULL ends a list */
    enum schema_type type;
    const char *description;
    const struct schema_field *children; /* of an object, or of a list's objects; ends with a row without a name */
    const char *fallback;                /* default of a string, NULL when it has none */
    bool is_required;
    bool is_open;   /* an object that may have other members too */
    bool is_atomic; /* an object that has one owner as a whole in server-side apply */
    /* Of a string, and of each string in a map or a list. 0 and NULL: no limit. */
    int min_length;
    int max_length;              /* characters */
    const char *pattern;         /* RE2 */
    const char *pattern_message; /* what the pattern means, for people; NULL: the pattern itself is shown */
    bool (*matches)(const char *text);
    const char *const *values; /* the only ones allowed; ends with NULL */
    int max_items;             /* of a list or a map; 0 = no limit */
    bool has_minimum;
    bool has_maximum;
    int64_t minimum;
    int64_t maximum;
    struct schema_rule rules[SCHEMA_RULES_MAX];
};

/* The root row's name is not used. Paths look like "spec.podSelector.matchExpressions[0].key". */

/* Appends the paths of members without a row to `paths` (a JSON array of strings). */
void schema_unknown_fields(const struct schema_field *root, const json_t *object, json_t *paths);
void schema_prune(const struct schema_field *root, json_t *object);
/* Removes members that are null, which means the same as leaving them out, and fills in defaults. */
void schema_default(const struct schema_field *root, json_t *object);
/* `old_object` is NULL on create. Appends {"reason","message","field"} for each violation (as in Status.details.causes) and returns
 * how many. */
int schema_validate(const struct schema_field *root, const json_t *object, const json_t *old_object, json_t *causes) DAVIT_MUST_USE;

/* "string", "integer", ...: OpenAPI's name; NULL for SCHEMA_INT_OR_STRING, which has none. */
const char *schema_type_name(enum schema_type type);

#endif
