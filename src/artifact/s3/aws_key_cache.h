/* The temporary keys that this process has: of at most so many identities, for all threads. */
#ifndef DAVIT_ARTIFACT_S3_AWS_KEY_CACHE_H
#define DAVIT_ARTIFACT_S3_AWS_KEY_CACHE_H

#include "artifact/s3/aws_credentials.h"

#define AWS_KEYS_MAX 16

/* Times are of clock_boot_ms. False when there are none that are good for longer; the caller releases *ret. */
bool aws_key_cache_get(const struct aws_identity *identity, int64_t now_ms, struct aws_keys *ret);
void aws_key_cache_put(const struct aws_identity *identity, const struct aws_keys *keys, int64_t until_ms);
/* Unless they have been replaced meanwhile. */
void aws_key_cache_drop(const struct aws_identity *identity, const struct aws_keys *keys);

#endif
