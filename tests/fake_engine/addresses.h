/* Lists of IPv4 addresses as a command line gives them: "127.9.0.1,127.9.1.1-127.9.1.10". */
#ifndef DAVIT_TESTS_FAKE_ENGINE_ADDRESSES_H
#define DAVIT_TESTS_FAKE_ENGINE_ADDRESSES_H

#include "base/error.h"

#define ADDRESSES_MAX 10000

/* Calls on_address for each, in order; ERROR_INVALID names the part that is not an address or a range, ERROR_LIMIT too many. */
int addresses_read(const char *text, int (*on_address)(void *arg, const char *address, struct error *err), void *arg,
                   struct error *err) DAVIT_MUST_USE;

#endif
