/* SHA-256, by OpenSSL. */
#ifndef DAVIT_BASE_HASH_H
#define DAVIT_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

#define HASH_BYTES 32
#define HASH_HEX_BYTES 65

struct hash {
    uint8_t bytes[HASH_BYTES];
};

struct hash hash_bytes(const void *bytes, size_t len);
/* 64 lower-case hexadecimal digits and a NUL. */
void hash_hex(const struct hash *hash, char out[HASH_HEX_BYTES]);

#endif
