/* Which committed objects name an owner: an index over ownerReferences, so that the end of an owner costs its dependents and not
 * all objects. Pure. */
#ifndef DAVIT_CLUSTER_API_DEPENDENTS_H
#define DAVIT_CLUSTER_API_DEPENDENTS_H

#include "base/json.h"
#include "base/map.h"
#include "cluster/api/resources.h"

struct dependent {
    const struct resource *resource;
    char *key;
};

struct dependents {
    struct map by_owner; /* uid -> its list */
};

/* An object changed; either of the two may be NULL. */
void dependents_note(struct dependents *dependents, const struct resource *resource, const char *key, const json_t *old_object,
                     const json_t *new_object);
/* The dependents of an owner in no order; *ret_items is valid until the next change. Returns their number. */
size_t dependents_of(const struct dependents *dependents, const char *owner_uid, const struct dependent **ret_items);
void dependents_release(struct dependents *dependents);

#endif
