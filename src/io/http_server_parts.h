/* What the files of the HTTP server share: http_server.c (the server), http_listener.c (accepting), http_connection.c (requests in)
 * and http_reply.c (answers out). For these four only. */
#ifndef DAVIT_IO_HTTP_SERVER_PARTS_H
#define DAVIT_IO_HTTP_SERVER_PARTS_H

#include "io/http_server.h"

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <sys/queue.h>

#define HTTP_DATE_BYTES 40
#define HTTP_PEER_BYTES 64

struct http_listener {
    LIST_ENTRY(http_listener) link;
    struct http_server *server;
    int fd;
    struct event *acceptable;
};

struct http_server {
    struct http_server_options options; /* with the defaults filled in */
    LIST_HEAD(listener_list, http_listener) listeners;
    LIST_HEAD(connection_list, http_connection) connections;
    int connection_count;
    size_t bodies_bytes;
    bool is_draining;
    bool is_accepting;
    struct timer accept_again; /* after the process ran out of descriptors */
    int64_t date_second;
    char date[HTTP_DATE_BYTES];
};

enum connection_state {
    CONNECTION_READS_HEAD, /* idle when nothing of a head is there */
    CONNECTION_READS_BODY,
    CONNECTION_ANSWERS, /* the handler has the request */
    CONNECTION_FLUSHES, /* what is unsent goes out, then it closes */
    CONNECTION_LINGERS, /* our side is closed; what the peer still sends is dropped until it has read our answer */
};

struct http_request {
    struct http_connection *connection;
    struct http_head head;
    struct buffer body;
    struct buffer reply_fields; /* lines */
    void (*on_gone)(void *arg);
    void *gone_arg;
    void (*on_drained)(void *arg);
    void *drained_arg;
    bool is_streaming;
    bool is_chunked;
    bool has_no_body; /* the answer to HEAD, or a status without one */
    bool has_backlog;
};

struct http_connection {
    LIST_ENTRY(http_connection) link;
    struct http_server *server;
    struct bufferevent *bev;
    enum connection_state state;
    struct http_request *request; /* being read or being answered */
    struct http_body_decoder decoder;
    struct timer deadline; /* of what is being waited for from the peer */
    struct timer turn;     /* goes on with pipelined requests, outside of the handler that ended the one before */
    bool has_head_deadline;
    bool lingers_after_flush;
    int depth; /* of calls that still use the connection; it is freed when the last returns */
    bool is_dead;
    size_t lingered_bytes;
    char peer[HTTP_PEER_BYTES];
};

/* http_listener.c */
void listeners_resume(struct http_server *server); /* accepts again when there is room */
void listeners_free(struct http_server *server);

/* http_connection.c */
void connection_new(struct http_server *server, int fd, const char *peer);
void connection_close(struct http_connection *connection); /* now; calls on_gone when a request is with the handler */
void connection_flush_and_close(struct http_connection *connection, bool lingers);
void connection_request_ended(struct http_connection *connection, bool keep_alive);
bool connection_is_idle(const struct http_connection *connection);
size_t connection_unsent(const struct http_connection *connection);
void request_free(struct http_request *request);

/* http_reply.c */
void reply_error(struct http_connection *connection, const struct error *err);

#endif
