/* What the tests of io/ share: a loop that is run until something holds, a raw client, and a server whose handlers the test writes.
 * Nothing sleeps: a condition that never holds ends in SIGALRM. */
#ifndef DAVIT_TESTS_IO_SUPPORT_H
#define DAVIT_TESTS_IO_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "io/http_server.h"
#include "io/loop.h"

#include <arpa/inet.h>
#include <errno.h>
#include <event2/event.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#define RUN_UNTIL(loop, condition)                                                                                                 \
    do {                                                                                                                           \
        alarm(30);                                                                                                                 \
        while (!(condition)) {                                                                                                     \
            (void)event_base_loop(loop_event_base(loop), EVLOOP_ONCE);                                                             \
        }                                                                                                                          \
        alarm(0);                                                                                                                  \
    } while (0)

/* Lets everything happen that is ready to happen. */
static inline void run_what_is_ready(struct loop *loop) {
    for (int i = 0; i < 20; i++) {
        (void)event_base_loop(loop_event_base(loop), EVLOOP_NONBLOCK);
    }
}

/* ---- a client that shows every byte ---- */

struct client {
    int fd;
    struct watch *watch;
    struct buffer in;
    bool is_closed; /* by the peer */
    bool is_reset;
};

static inline void client_on_ready(void *arg) {
    struct client *client = arg;
    char bytes[65536];
    ssize_t got = recv(client->fd, bytes, sizeof(bytes), MSG_DONTWAIT);
    if (got > 0) {
        buffer_append(&client->in, bytes, (size_t)got);
    } else if (got == 0 || (errno != EAGAIN && errno != EINTR)) {
        client->is_closed = true;
        client->is_reset = got < 0;
        watch_free(client->watch);
        client->watch = NULL;
    }
}

static inline int connect_loopback(int port) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    return fd;
}

static inline void client_open(struct client *client, struct loop *loop, int port) {
    *client = (struct client){.fd = connect_loopback(port)};
    client->watch = watch_new(loop, client->fd, client_on_ready, client);
}

static inline void client_send_bytes(struct client *client, const void *bytes, size_t len) {
    assert_int_equal(send(client->fd, bytes, len, MSG_NOSIGNAL), (ssize_t)len);
}

static inline void client_send(struct client *client, const char *text) {
    client_send_bytes(client, text, strlen(text));
}

static inline bool client_has(const struct client *client, const char *text) {
    return strstr(buffer_text(&client->in), text) != NULL;
}

static inline void client_close(struct client *client) {
    watch_free(client->watch);
    close(client->fd);
    buffer_release(&client->in);
    *client = (struct client){.fd = -1};
}

static inline int count_of(const char *text, const char *part) {
    int count = 0;
    for (const char *at = strstr(text, part); at != NULL; at = strstr(at + 1, part)) {
        count++;
    }
    return count;
}

/* A port on which nothing listens. */
static inline int free_port(void) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, len), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &len), 0);
    close(fd);
    return ntohs(address.sin_port);
}

static inline int start_server(struct http_server *server) {
    struct error err;
    int port = 0;
    assert_int_equal(http_server_listen(server, "127.0.0.1", 0, &port, &err), 0);
    return port;
}

#endif
