#include "base/hash.h"

#include <openssl/sha.h>
#include <stdio.h>

struct hash hash_bytes(const void *bytes, size_t len) {
    struct hash hash;
    SHA256(bytes, len, hash.bytes);
    return hash;
}

void hash_hex(const struct hash *hash, char out[HASH_HEX_BYTES]) {
    for (size_t i = 0; i < HASH_BYTES; i++) {
        (void)snprintf(out + 2 * i, 3, "%02x", hash->bytes[i]);
    }
}
