/* The names under which an engine may list an adapter: its own, and those with the tag of a revision that we load or may have
 * loaded. Which of them counts, where an engine lists several. Pure. */
#ifndef DAVIT_CONTROLLER_KNOWN_NAMES_H
#define DAVIT_CONTROLLER_KNOWN_NAMES_H

#include "controller/hold.h"
#include "controller/recall.h"

struct known_name {
    char tag[ENGINE_TAG_BYTES];
    char revision[REVISION_BYTES]; /* "" = the tag says none */
    char text[ENGINE_NAME_BYTES];  /* "" = the adapter's own name */
};

struct known_names {
    const char *adapter; /* its own name, borrowed */
    struct known_name rows[2 + RECALL_REVISIONS_MAX];
    size_t count;
};

/* `known` as in struct hold_target. An adapter whose own name has the form of one with a tag has none: what is listed so is of
 * the adapter whose name it begins with. */
void known_names_init(struct known_names *names, const char *adapter, const char *revision, const char *known);

/* The card with this id in a pod's list; NULL = there is none. */
typedef const struct dialect_model *known_names_find(const void *list, const char *id);

/* Fills in what the listing says of the adapter: is_listed, root, is_base, tag, revision, is_several, other. What serves comes
 * first, then those that are not wanted, what the hold has before others. `names` may be less than all that were ever loaded: the
 * hold's own is looked for in any case. */
void known_names_look(const struct known_names *names, const struct hold_target *target, const struct hold *hold,
                      known_names_find *find, const void *list, struct hold_listing *listing);

#endif
