/* The controller's own HTTP page: /metrics, /healthz and /readyz on each of its addresses. */
#ifndef DAVIT_CONTROLLER_SERVE_H
#define DAVIT_CONTROLLER_SERVE_H

#include "base/buffer.h"
#include "base/error.h"
#include "io/loop.h"

#include <stdbool.h>

struct serve;

struct serve_options {
    struct loop *loop;
    const char *addresses[2]; /* "127.0.0.1:8080", "[::1]:8080", ":8080" (every IPv4 address); NULL, "" or "0" = none */
    void (*render_metrics)(void *arg, struct buffer *out);
    bool (*is_ready)(void *arg);
    void *arg;
};

/* ERROR_INVALID for an address that is none, ERROR_IO when it cannot be bound. */
int serve_new(const struct serve_options *options, struct serve **ret_serve, struct error *err) DAVIT_MUST_USE;
void serve_free(struct serve *serve); /* NULL is fine */

#endif
