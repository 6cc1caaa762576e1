#include "addresses.h"

#include <arpa/inet.h>
#include <string.h>

static int read_range(const char *part, uint32_t *ret_first, uint32_t *ret_last, struct error *err) {
    char first[32], last[32];
    size_t len = strcspn(part, "-");
    struct in_addr low, high;
    snprintf(first, sizeof(first), "%.*s", (int)(len < sizeof(first) ? len : sizeof(first) - 1), part);
    snprintf(last, sizeof(last), "%s", part[len] == '-' ? part + len + 1 : first);
    if (inet_pton(AF_INET, first, &low) != 1 || inet_pton(AF_INET, last, &high) != 1 || ntohl(low.s_addr) > ntohl(high.s_addr)) {
        return error_set(err, ERROR_INVALID, "addresses: \"%s\" is neither an IPv4 address nor a range A-B", part);
    }
    *ret_first = ntohl(low.s_addr);
    *ret_last = ntohl(high.s_addr);
    return 0;
}

int addresses_read(const char *text, int (*on_address)(void *arg, const char *address, struct error *err), void *arg,
                   struct error *err) {
    cleanup_free char *copy = xstrdup(text);
    char *rest = copy, *part = NULL;
    int count = 0;
    while ((part = strsep(&rest, ",")) != NULL) {
        uint32_t at = 0, last = 0;
        if (read_range(part, &at, &last, err) < 0) {
            return -1;
        }
        for (;; at++) {
            struct in_addr number = {.s_addr = htonl(at)};
            char address[INET_ADDRSTRLEN];
            if (count++ == ADDRESSES_MAX) {
                return error_set(err, ERROR_LIMIT, "addresses: more than %d", ADDRESSES_MAX);
            }
            if (on_address(arg, inet_ntop(AF_INET, &number, address, sizeof(address)), err) < 0) {
                return -1;
            }
            if (at == last) {
                break;
            }
        }
    }
    return 0;
}
