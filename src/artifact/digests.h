/* The hashes of a file: SHA-256 always, and those by which its source knows it. At the end, on its way, or on a thread of its own
 * while the file still grows. */
#ifndef DAVIT_ARTIFACT_DIGESTS_H
#define DAVIT_ARTIFACT_DIGESTS_H

#include "artifact/source.h"

/* Reads the whole file. `expected` (NULL = nothing) says what the source promised: ERROR_INVALID names the hash, what was expected
 * and what was found. `progress` is looked at for is_cancelled (NULL = it is not): ERROR_TIMEOUT. */
int digests_of_file(int fd, const struct artifact_file *expected, const struct artifact_progress *progress,
                    char ret_sha256[HASH_HEX_BYTES], struct error *err) DAVIT_MUST_USE;

/* Of bytes that come in order: what is hashed on its way need not be read again. */
struct digester;
struct digester *digester_start(const struct artifact_file *expected); /* borrowed; its size is known */
void digester_add(struct digester *digester, const void *bytes, size_t len);
/* After the last byte. As digests_of_file. The digester is gone. */
int digester_finish(struct digester *digester, char ret_sha256[HASH_HEX_BYTES], struct error *err) DAVIT_MUST_USE;
void digester_abandon(struct digester *digester); /* NULL is fine */

/* Follows a file from its beginning as far as it is there, reading what was just written. */
struct follower;
/* All are borrowed. NULL = no thread to be had. */
struct follower *follower_start(int fd, const struct artifact_file *expected, const struct artifact_progress *progress);
void follower_advance(struct follower *follower, uint64_t bytes); /* so many from the beginning are there */
/* The file is whole: waits for the rest. As digests_of_file. The follower is gone. */
int follower_finish(struct follower *follower, char ret_sha256[HASH_HEX_BYTES], struct error *err) DAVIT_MUST_USE;
void follower_abandon(struct follower *follower);

#endif
