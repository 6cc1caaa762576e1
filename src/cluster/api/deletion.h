/* What deleting an object means: remove it now, mark it and wait (finalizers, a pod's kubelet, a namespace's contents), or nothing
 * new. Pure but for the clock. */
#ifndef DAVIT_CLUSTER_API_DELETION_H
#define DAVIT_CLUSTER_API_DELETION_H

#include "cluster/api/state.h"

#define FINALIZER_FOREGROUND "foregroundDeletion"

struct deletion {
    int64_t grace_seconds; /* -1 = not given: the pod's own */
    bool is_foreground;    /* dependents first */
    bool is_orphaning;     /* dependents stay, without their reference */
    const char *uid;       /* preconditions; NULL = none */
    const char *revision;
};

#define DELETION_BACKGROUND ((struct deletion){.grace_seconds = -1})

/* DeleteOptions of a body (may be NULL) and of the query (grace and policy, may be NULL). Borrows from body. NULL, or a Status. */
json_t *deletion_parse(const json_t *body, const char *grace_query, const char *policy_query,
                       struct deletion *ret_deletion) DAVIT_MUST_USE;
/* NULL, or 409. */
json_t *deletion_check(const struct deletion *deletion, const struct resource *resource, const json_t *object) DAVIT_MUST_USE;

/* Whether an object that is marked as deleted is done with waiting (no finalizers, no grace left). Namespaces are never: garbage
 * collection decides. */
bool deletion_is_complete(const struct resource *resource, const json_t *object);

enum deletion_outcome { DELETION_REMOVED, DELETION_MARKED, DELETION_UNCHANGED };
/* Adds what is needed to the transaction. *ret_object: a new reference to the object as marked, to the tombstone, or as it is. The
 * object exists. */
enum deletion_outcome deletion_run(struct transaction *transaction, const struct state *state, const struct resource *resource,
                                   const char *key, const struct deletion *deletion, json_t **ret_object);

#endif
