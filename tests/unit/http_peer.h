/* For tests of HTTP services: a loop on a thread of its own, and a blocking client on raw sockets. */
#ifndef DAVIT_TESTS_HTTP_PEER_H
#define DAVIT_TESTS_HTTP_PEER_H

#include "base/buffer.h"
#include "base/clock.h"
#include "io/http.h"
#include "io/loop.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define PEER_TIMEOUT_S 20

/* ---- a loop on a thread ---- */

struct loop_thread {
    struct loop *loop;
    pthread_t thread;
};

static void *loop_thread_main(void *arg) {
    loop_run(arg);
    return NULL;
}

static inline void loop_thread_start(struct loop_thread *thread) {
    assert_int_equal(pthread_create(&thread->thread, NULL, loop_thread_main, thread->loop), 0);
}

static inline void loop_thread_stop(struct loop_thread *thread) {
    loop_stop(thread->loop);
    pthread_join(thread->thread, NULL);
}

/* Runs fn(arg) on the loop's thread and waits for it. */
struct loop_errand {
    void (*fn)(void *arg);
    void *arg;
    atomic_bool done;
};

static void loop_errand_run(void *arg) {
    struct loop_errand *errand = arg;
    errand->fn(errand->arg);
    atomic_store(&errand->done, true);
}

#define wait_until(condition)                                                                                                      \
    do {                                                                                                                           \
        int64_t until_ms_ = clock_now_ms() + PEER_TIMEOUT_S * 1000;                                                                \
        while (!(condition)) {                                                                                                     \
            if (clock_now_ms() > until_ms_) {                                                                                      \
                fail_msg("waited in vain for %s", #condition);                                                                     \
            }                                                                                                                      \
            usleep(500);                                                                                                           \
        }                                                                                                                          \
    } while (0)

static inline void loop_thread_do(struct loop_thread *thread, void (*fn)(void *arg), void *arg) {
    struct loop_errand errand = {.fn = fn, .arg = arg};
    loop_post(thread->loop, loop_errand_run, &errand);
    wait_until(atomic_load(&errand.done));
}

/* ---- a client ---- */

struct client {
    int fd;
    struct buffer in; /* received, not yet taken */
    struct http_head head;
    struct http_body_decoder decoder;
};

static inline void client_open(struct client *client, int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    struct timeval timeout = {.tv_sec = PEER_TIMEOUT_S};
    *client = (struct client){.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    setsockopt(client->fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
    setsockopt(client->fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
    assert_int_equal(connect(client->fd, (struct sockaddr *)&address, sizeof(address)), 0);
}

static inline void client_close(struct client *client) {
    if (client->fd >= 0) {
        close(client->fd);
    }
    buffer_release(&client->in);
    http_head_release(&client->head);
    *client = (struct client){.fd = -1};
}

static inline void client_send(struct client *client, const char *bytes, size_t len) {
    while (len > 0) {
        ssize_t sent = send(client->fd, bytes, len, MSG_NOSIGNAL);
        if (sent <= 0) {
            return; /* the peer has had enough; its answer tells */
        }
        bytes += sent;
        len -= (size_t)sent;
    }
}

static inline void client_post(struct client *client, const char *path, const char *fields, const char *body) {
    cleanup_free char *text =
        xasprintf("POST %s HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n%sContent-Length: %zu\r\n\r\n%s", path,
                  fields, strlen(body), body);
    client_send(client, text, strlen(text));
}

static inline void client_get_with(struct client *client, const char *path, const char *fields) {
    cleanup_free char *text = xasprintf("GET %s HTTP/1.1\r\nHost: test\r\n%s\r\n", path, fields);
    client_send(client, text, strlen(text));
}

static inline void client_get(struct client *client, const char *path) {
    client_get_with(client, path, "");
}

/* More bytes; false at the end of the connection. */
static inline bool client_receive(struct client *client) {
    char bytes[65536];
    ssize_t got = recv(client->fd, bytes, sizeof(bytes), 0);
    if (got > 0) {
        buffer_append(&client->in, bytes, (size_t)got);
    }
    return got > 0;
}

/* The head of the next response; its status, or 0 when the connection ended before. */
static inline int client_read_head(struct client *client) {
    struct error err = {0};
    http_head_release(&client->head);
    client->head = (struct http_head){0};
    for (;;) {
        size_t used = 0;
        enum http_step step = HTTP_STEP_AGAIN;
        if (client->in.len > 0) {
            step = http_parse_response(client->in.data, client->in.len, false, &client->head, &used, &err);
        }
        if (step == HTTP_STEP_FAILED) {
            fail_msg("bad response: %s", err.message);
        }
        if (step == HTTP_STEP_DONE) {
            buffer_consume(&client->in, used);
            http_body_decoder_init(&client->decoder, &client->head);
            return client->head.status;
        }
        if (!client_receive(client)) {
            return 0;
        }
    }
}

/* Appends what comes next of the body. 1: the body is whole. 0: there may be more. -1: it was cut. */
static inline int client_read_body_some(struct client *client, struct buffer *body) {
    struct error err = {0};
    for (;;) {
        const char *piece = NULL;
        size_t piece_len = 0;
        size_t used = 0;
        enum http_step step =
            http_body_decode(&client->decoder, buffer_text(&client->in), client->in.len, &piece, &piece_len, &used, &err);
        assert_int_not_equal(step, HTTP_STEP_FAILED);
        buffer_append(body, piece, piece_len);
        buffer_consume(&client->in, used);
        if (step == HTTP_STEP_DONE) {
            return 1;
        }
        if (piece_len > 0) {
            return 0;
        }
        if (used == 0 && !client_receive(client)) {
            return http_body_may_end_here(&client->decoder) ? 1 : -1;
        }
    }
}

/* The rest of the body: 1 whole, -1 cut. */
static inline int client_read_body(struct client *client, struct buffer *body) {
    int state;
    while ((state = client_read_body_some(client, body)) == 0) {
    }
    return state;
}

/* Reads until `text` is in what came of the body. */
static inline void client_read_until(struct client *client, struct buffer *body, const char *text) {
    while (strstr(buffer_text(body), text) == NULL) {
        if (client_read_body_some(client, body) != 0) {
            assert_non_null(strstr(buffer_text(body), text));
            return;
        }
    }
}

/* One request on a connection of its own. Returns the status; the body goes to `body` (emptied first). */
static inline int exchange(int port, const char *path, const char *fields, const char *request_body, struct buffer *body) {
    struct client client;
    buffer_clear(body);
    client_open(&client, port);
    if (request_body != NULL) {
        client_post(&client, path, fields, request_body);
    } else {
        client_get_with(&client, path, fields != NULL ? fields : "");
    }
    int status = client_read_head(&client);
    if (status != 0) {
        assert_int_equal(client_read_body(&client, body), 1);
    }
    client_close(&client);
    return status;
}

/* A loopback port on which nobody listens. */
static inline int closed_port(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &len), 0);
    close(fd);
    return ntohs(address.sin_port);
}

#endif
