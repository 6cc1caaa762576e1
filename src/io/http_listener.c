/* Listening and accepting, within the limits on connections and descriptors. */
#include "io/http_server_parts.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>

#define BACKLOG 1024
#define ACCEPTS_A_WAKE_UP 16
#define ACCEPT_AGAIN_MS 100

union address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    struct sockaddr_storage storage;
};

static void listeners_pause(struct http_server *server) {
    struct http_listener *at = NULL;
    server->is_accepting = false;
    LIST_FOREACH(at, &server->listeners, link) {
        (void)event_del(at->acceptable);
    }
}

void listeners_resume(struct http_server *server) {
    if (server->is_accepting || server->connection_count >= server->options.connections_max ||
        timer_is_set(&server->accept_again)) {
        return;
    }
    struct http_listener *at = NULL;
    server->is_accepting = true;
    LIST_FOREACH(at, &server->listeners, link) {
        (void)event_add(at->acceptable, NULL);
    }
}

static void format_peer(const union address *address, char out[HTTP_PEER_BYTES]) {
    char text[INET6_ADDRSTRLEN] = "?";
    bool is_v6 = address->any.sa_family == AF_INET6;
    const void *number = is_v6 ? (const void *)&address->v6.sin6_addr : (const void *)&address->v4.sin_addr;
    (void)inet_ntop(address->any.sa_family, number, text, sizeof(text));
    (void)snprintf(out, HTTP_PEER_BYTES, is_v6 ? "[%s]:%u" : "%s:%u", text,
                   (unsigned)ntohs(is_v6 ? address->v6.sin6_port : address->v4.sin_port));
}

/* false: nothing more can be accepted now. */
static bool accept_one(struct http_listener *listener) {
    struct http_server *server = listener->server;
    union address peer;
    socklen_t len = sizeof(peer);
    int fd = accept4(listener->fd, &peer.any, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
        bool is_out_of_resources = errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM;
        if (is_out_of_resources) {
            /* The connection stays in the kernel's queue, and the listener readable: waiting spares a busy loop. */
            listeners_pause(server);
            timer_set(&server->accept_again, ACCEPT_AGAIN_MS);
        }
        return errno == EINTR || errno == ECONNABORTED;
    }
    int on = 1;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    char text[HTTP_PEER_BYTES];
    format_peer(&peer, text);
    connection_new(server, fd, text);
    if (server->connection_count >= server->options.connections_max) {
        listeners_pause(server);
        return false;
    }
    return true;
}

static void on_acceptable(evutil_socket_t fd, short what, void *arg) {
    (void)fd;
    (void)what;
    for (int i = 0; i < ACCEPTS_A_WAKE_UP && accept_one(arg); i++) {
    }
}

static int parse_address(const char *text, int port, union address *ret_address, socklen_t *ret_len, struct error *err) {
    union address address;
    memset(&address, 0, sizeof(address));
    if (inet_pton(AF_INET, text, &address.v4.sin_addr) == 1) {
        address.v4.sin_family = AF_INET;
        address.v4.sin_port = htons((uint16_t)port);
        *ret_len = sizeof(address.v4);
    } else {
        size_t len = strlen(text);
        bool has_brackets = len > 2 && text[0] == '[' && text[len - 1] == ']';
        cleanup_free char *bare = has_brackets ? xstrndup(text + 1, len - 2) : xstrdup(text);
        if (inet_pton(AF_INET6, bare, &address.v6.sin6_addr) != 1) {
            return error_set(err, ERROR_INVALID, "cannot listen on \"%s\": not a numeric address", text);
        }
        address.v6.sin6_family = AF_INET6;
        address.v6.sin6_port = htons((uint16_t)port);
        *ret_len = sizeof(address.v6);
    }
    *ret_address = address;
    return 0;
}

static void listener_add(struct http_server *server, int fd) {
    struct http_listener *listener = xcalloc(1, sizeof(*listener));
    listener->server = server;
    listener->fd = fd;
    listener->acceptable = event_new(loop_event_base(server->options.loop), fd, EV_READ | EV_PERSIST, on_acceptable, listener);
    LIST_INSERT_HEAD(&server->listeners, listener, link);
    if (server->is_accepting) {
        (void)event_add(listener->acceptable, NULL);
    }
}

static int open_listener(const union address *address, socklen_t len) {
    int fd = socket(address->any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int on = 1;
    if (fd < 0) {
        return -1;
    }
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 || bind(fd, &address->any, len) < 0 ||
        listen(fd, BACKLOG) < 0) {
        int number = errno;
        close(fd);
        errno = number;
        return -1;
    }
    return fd;
}

int http_server_listen(struct http_server *server, const char *address, int port, int *ret_port, struct error *err) {
    union address wanted;
    socklen_t len = 0;
    if (port < 0 || port > 65535) {
        return error_set(err, ERROR_INVALID, "cannot listen on %s port %d: a port is between 0 and 65535", address, port);
    }
    if (parse_address(address, port, &wanted, &len, err) < 0) {
        return -1;
    }
    int fd = open_listener(&wanted, len);
    if (fd < 0) {
        bool is_taken = errno == EADDRINUSE;
        return error_set(err, ERROR_IO, "cannot listen on %s port %d: %s", address, port,
                         is_taken ? "the port is in use by another program" : strerror(errno));
    }
    union address bound;
    socklen_t bound_len = sizeof(bound);
    if (ret_port != NULL && getsockname(fd, &bound.any, &bound_len) == 0) {
        *ret_port = ntohs(bound.any.sa_family == AF_INET6 ? bound.v6.sin6_port : bound.v4.sin_port);
    }
    listener_add(server, fd);
    return 0;
}

int http_server_listen_like(struct http_server *server, const struct http_server *other, struct error *err) {
    const struct http_listener *at = NULL;
    LIST_FOREACH(at, &other->listeners, link) {
        int fd = fcntl(at->fd, F_DUPFD_CLOEXEC, 0);
        if (fd < 0) {
            return error_set(err, ERROR_IO, "cannot share a listener: %s", strerror(errno));
        }
        listener_add(server, fd);
    }
    return 0;
}

void listeners_free(struct http_server *server) {
    timer_clear(&server->accept_again);
    while (!LIST_EMPTY(&server->listeners)) {
        struct http_listener *listener = LIST_FIRST(&server->listeners);
        LIST_REMOVE(listener, link);
        event_free(listener->acceptable);
        close(listener->fd);
        free(listener);
    }
}
