#include "cluster/up/ports.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

/* Binds 127.0.0.1:port and lets go again. The port, or -1. */
static int try_port(int port) {
    cleanup_close int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -1;
    }
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
    return bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, 1) < 0 ? -1 : port;
}

/* The role binds the port later than we look at it, and again whenever it is started again. So it must not be one that the kernel
 * hands out to outgoing connections meanwhile: those come from 32768 and up (net.ipv4.ip_local_port_range). */
#define FREE_PORT_FIRST 20000
#define FREE_PORT_COUNT 12000
#define FREE_PORT_TRIES 200

static int find_free_port(void) {
    int port = -1;
    for (int tries = 0; tries < FREE_PORT_TRIES && port < 0; tries++) {
        port = try_port(FREE_PORT_FIRST + (int)arc4random_uniform(FREE_PORT_COUNT));
    }
    return port;
}

int ports_choose(const char *what, int asked, int last, int fallback, int *ret_port, struct error *err) {
    int port = -1;
    if (asked > 0) {
        port = try_port(asked);
        if (port < 0) {
            return error_set(err, ERROR_BUSY, "%s cannot have port %d of 127.0.0.1 (%s); give another, or 0 for a free one", what,
                             asked, strerror(errno));
        }
    } else if (asked == PORTS_ANY) {
        port = last > 0 ? try_port(last) : -1;
        port = port < 0 && fallback > 0 ? try_port(fallback) : port;
    }
    port = port < 0 ? find_free_port() : port;
    if (port < 0) {
        return error_set_errno(err, "%s: no free port on 127.0.0.1", what);
    }
    *ret_port = port;
    return 0;
}
