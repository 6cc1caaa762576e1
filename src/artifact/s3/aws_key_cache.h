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

/* Of all who need keys of an identity at a time one asks for them. *ticket is 0 at the first call and belongs to the next ones. */
enum aws_key_turn {
    AWS_KEY_ASK,    /* it is this caller; aws_key_turn_end follows */
    AWS_KEY_WAIT,   /* another asks: look into the cache and call again in a while */
    AWS_KEY_FAILED, /* who was waited for was refused: *err says how */
};
enum aws_key_turn aws_key_turn_begin(const struct aws_identity *identity, uint64_t *ticket, struct error *err);
/* `failure` is what those who wait end with too; NULL = none, or one of this caller's alone. */
void aws_key_turn_end(const struct aws_identity *identity, const struct error *failure);

#endif
