#include "cluster/node/log_token.h"

#include "base/alloc.h"

#include <string.h>

void log_token_make(const char *token, char ret_text[HASH_HEX_BYTES]) {
    cleanup_free char *salted = xasprintf("davit node logs %s", token);
    struct hash hash = hash_bytes(salted, strlen(salted));
    hash_hex(&hash, ret_text);
    explicit_bzero(salted, strlen(salted));
}
