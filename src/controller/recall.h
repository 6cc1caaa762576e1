/* What an earlier run of the controller wrote into a ModelAdapter's status, read again. Pure. */
#ifndef DAVIT_CONTROLLER_RECALL_H
#define DAVIT_CONTROLLER_RECALL_H

#include "controller/hold.h"

#define RECALL_REVISIONS_MAX 8 /* of one adapter: a roll has two, one upon another three */

/* A row of status.loads; NULL reads as one that says nothing. Borrows from both. */
void recall_load(const json_t *status, const json_t *row, struct hold_record *ret_record);
/* The revisions that some pod may have, status.revision first, with spaces between them; "" = none. The caller frees it. */
char *recall_revisions(const json_t *status);
/* Puts a revision into such a list, unless it is "", in it already, or the list is full. */
void recall_add_revision(struct buffer *list, const char *revision);
/* The first revision of the rest of such a list, and what is left after it; NULL when there is none. `at` may be NULL. */
const char *recall_next(const char *at, char ret_revision[REVISION_BYTES]);
/* Such a list, the caller's, with the revision in front; what was the last may have to go. */
void recall_remember(char **list, const char *revision);

#endif
