#include "cluster/up/ports.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

/* errno stays what the failure left. */
static void close_after_failure(int fd) {
    int reason = errno;
    (void)close(fd);
    errno = reason;
}

/* A name that only one process of this network can have at a time, and that goes with it. The descriptor that holds it, or -1. */
static int claim(int port) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int len = snprintf(address.sun_path + 1, sizeof(address.sun_path) - 1, "davit/127.0.0.1:%d", port);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 &&
        bind(fd, (struct sockaddr *)&address, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)len)) < 0) {
        close_after_failure(fd);
        fd = -1;
    }
    return fd;
}

/* Binds 127.0.0.1:port and lets go again. */
static bool is_free(int port) {
    cleanup_close int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return false;
    }
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
    return bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0 && listen(fd, 1) == 0;
}

/* Whether the port was free, and is ours now. */
static bool take(int port, struct port_claim *ret_claim) {
    int fd = port > 0 ? claim(port) : -1;
    if (fd >= 0 && !is_free(port)) {
        close_after_failure(fd);
        return false;
    }
    if (fd >= 0) {
        *ret_claim = (struct port_claim){.port = port, .fd = fd};
    }
    return fd >= 0;
}

/* It must not be one that the kernel hands out to outgoing connections before the role binds it: those come from 32768 and up
 * (net.ipv4.ip_local_port_range). */
#define FREE_PORT_FIRST 20000
#define FREE_PORT_COUNT 12000
#define FREE_PORT_TRIES 200

static bool take_any(struct port_claim *ret_claim) {
    for (int tries = 0; tries < FREE_PORT_TRIES; tries++) {
        if (take(FREE_PORT_FIRST + (int)arc4random_uniform(FREE_PORT_COUNT), ret_claim)) {
            return true;
        }
    }
    return false;
}

int ports_choose(const char *what, int asked, int last, int fallback, struct port_claim *ret_claim, struct error *err) {
    if (asked > 0) {
        return take(asked, ret_claim)
                   ? 0
                   : error_set(err, ERROR_BUSY, "%s cannot have port %d of 127.0.0.1 (%s); give another, or 0 for a free one", what,
                               asked, strerror(errno));
    }
    bool is_taken = asked == PORTS_ANY && (take(last, ret_claim) || take(fallback, ret_claim));
    return is_taken || take_any(ret_claim) ? 0 : error_set_errno(err, "%s: no free port on 127.0.0.1", what);
}

void port_claim_release(struct port_claim *claim) {
    if (claim->port != 0) {
        (void)close(claim->fd);
        *claim = (struct port_claim){0};
    }
}
