/* Access tokens that are good for a while, of the whole process, so that each adapter of fifty does not ask for one. At most
 * GOOGLE_TOKENS_MAX; the one that ends soonest makes room. Any thread. */
#ifndef DAVIT_ARTIFACT_GCS_GOOGLE_TOKEN_CACHE_H
#define DAVIT_ARTIFACT_GCS_GOOGLE_TOKEN_CACHE_H

#include "artifact/gcs/google_credentials.h"

#define GOOGLE_TOKENS_MAX 64

/* Of the caller's; NULL = none that is good after now_ms (clock_boot_ms: a suspended machine's tokens age too). */
char *google_token_cached(const struct google_credentials *credentials, int64_t now_ms);
void google_token_keep(const struct google_credentials *credentials, const char *token, int64_t until_ms);
/* Drops the token, if it is that one. */
void google_token_drop(const struct google_credentials *credentials, const char *token);

#endif
