/* Secrets, read one at a time by name when they are needed and kept for a moment. Values live here and in what is being sent,
 * nowhere else. */
#ifndef DAVIT_CONTROLLER_SECRETS_H
#define DAVIT_CONTROLLER_SECRETS_H

#include "kube/client.h"

#define SECRETS_KEPT_MS 30000
#define SECRETS_MAX 1024 /* kept at once */

struct secrets;
struct secret_wait;

struct secrets *secrets_new(struct kube_client *kube);
void secrets_free(struct secrets *secrets);

/* Text values by key as far as it is kept, borrowed until the loop's next turn; NULL when it is not. */
const json_t *secrets_peek(struct secrets *secrets, const char *namespace, const char *name);
/* What it last held, however long ago and although it was deleted: for what has to be undone with it. NULL when that is not known;
 * borrowed as above. */
const json_t *secrets_peek_last(struct secrets *secrets, const char *namespace, const char *name);
/* Reads it from the API unless it is kept or being read. on_done: once, at a later turn, unless cancelled; `values` is borrowed,
 * err has the code of the API (ERROR_NOT_FOUND, ...). */
struct secret_wait *secrets_fetch(struct secrets *secrets, const char *namespace, const char *name,
                                  void (*on_done)(void *arg, const json_t *values, const struct error *err), void *arg);
void secrets_cancel(struct secret_wait *wait);
/* It was read, or could not be, a moment ago: asking again tells nothing new. */
bool secrets_was_asked(struct secrets *secrets, const char *namespace, const char *name);
/* What it holds was refused somewhere: the next fetch asks the API, once half a second has passed since it was read. */
void secrets_forget(struct secrets *secrets, const char *namespace, const char *name);

#endif
