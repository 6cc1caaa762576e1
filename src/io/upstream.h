/* The data path's HTTP/1.1 client: clear text to engines, connections kept per address, bytes handed on as they come.
 *
 * Callbacks come on the loop in this order: on_head once, on_data any number of times, then on_end once; or on_end with an error at
 * any point. After on_end the exchange is gone. upstream_cancel ends it without a further callback and closes its connection, which
 * is how an engine learns that nobody waits. */
#ifndef DAVIT_IO_UPSTREAM_H
#define DAVIT_IO_UPSTREAM_H

#include "io/http.h"
#include "io/loop.h"

struct upstream;
struct upstream_exchange;

struct upstream_options {
    struct loop *loop;
    int connections_per_address_max; /* idle ones that are kept */
    int64_t connect_timeout_ms;
    int64_t first_byte_timeout_ms; /* from request sent to head; 0 = none */
    int64_t idle_timeout_ms;       /* between bytes of a response; 0 = none */
};

struct upstream *upstream_new(const struct upstream_options *options);
void upstream_free(struct upstream *upstream); /* cancels what runs */

#define UPSTREAM_PIECES_MAX 3

struct upstream_piece {
    const void *bytes;
    size_t len;
};

struct upstream_request {
    const char *host; /* numeric address */
    int port;
    const char *method;
    const char *target;
    const struct http_fields *fields; /* sent as they are; Host, Content-Length and Connection are the client's own */
    struct upstream_piece body[UPSTREAM_PIECES_MAX]; /* sent one after the other, not copied; borrowed until on_end or cancel */
    void (*on_head)(void *arg, const struct http_head *head); /* interim 1xx are not shown */
    void (*on_data)(void *arg, const char *bytes, size_t len);
    /* err NULL: the response is whole. ERROR_UNAVAILABLE: nothing of a response came (connect refused, reset, or a kept connection
     * that had died, which is retried once by itself); ERROR_TIMEOUT; ERROR_IO: cut after the head. */
    void (*on_end)(void *arg, const struct error *err);
    void *arg;
};

/* Never calls back before it returns. */
struct upstream_exchange *upstream_start(struct upstream *upstream, const struct upstream_request *request);
void upstream_cancel(struct upstream_exchange *exchange);
/* Flow control: stop and go on reading the response. */
void upstream_pause(struct upstream_exchange *exchange);
void upstream_resume(struct upstream_exchange *exchange);

#endif
