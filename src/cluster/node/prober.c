#include "cluster/node/prober.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#define ANSWER_BYTES_MAX (1024 * 1024)
#define HEADERS_MAX 20
#define CONNECT_WAIT_MS 5 /* within one machine a connection is made or refused at once */

struct prober_call {
    struct transfer *transfer; /* httpGet */
    struct timer timer;        /* others: tells the result at the next turn of the loop */
    bool has_timer;
    bool is_success;
    char problem[256];
    void (*on_done)(void *arg, bool is_success, const char *problem);
    void *arg;
};

static void call_free(struct prober_call *call) {
    if (call->has_timer) {
        timer_release(&call->timer);
    }
    free(call);
}

static void finish(struct prober_call *call, bool is_success, const char *problem) {
    void (*on_done)(void *, bool, const char *) = call->on_done;
    void *arg = call->arg;
    cleanup_free char *text = xstrdup(problem);
    call_free(call);
    on_done(arg, is_success, text);
}

static void on_timer(void *arg) {
    struct prober_call *call = arg;
    finish(call, call->is_success, call->problem);
}

static void finish_later(struct prober_call *call, struct loop *loop, bool is_success) {
    call->is_success = is_success;
    call->has_timer = true;
    timer_init(&call->timer, loop, on_timer, call);
    timer_set(&call->timer, 0);
}

/* A number, or the name of one of the container's ports; 0 when it is neither. */
static int find_port(const json_t *port, const json_t *container) {
    if (json_is_integer(port)) {
        return (int)json_integer_value(port);
    }
    const char *name = json_is_string(port) ? json_string_value(port) : "";
    size_t index = 0;
    json_t *declared = NULL;
    json_array_foreach(json_object_get(container, "ports"), index, declared) {
        if (strcmp(json_string_at(declared, "name", ""), name) == 0) {
            return (int)json_int_at(declared, "containerPort", 0);
        }
    }
    return (int)strtol(name, NULL, 10);
}

/* ---- httpGet ---- */

static int drop_data(void *arg, const char *bytes, size_t len) {
    (void)arg;
    (void)bytes;
    (void)len;
    return 0;
}

static void on_answer(void *arg, const struct transfer_response *response, const struct error *err) {
    struct prober_call *call = arg;
    char problem[ERROR_MESSAGE_BYTES] = "";
    bool is_success = err == NULL && response->status >= 200 && response->status < 400;
    if (err != NULL) {
        (void)snprintf(problem, sizeof(problem), "%s", err->message);
    } else if (!is_success) {
        (void)snprintf(problem, sizeof(problem), "HTTP probe failed with statuscode: %d", response->status);
    }
    call->transfer = NULL;
    finish(call, is_success, problem);
}

static void start_http(struct prober_call *call, const struct prober_request *request, const json_t *get, int port) {
    const char *host = json_string_at(get, "host", "");
    const char *path = json_string_at(get, "path", "/");
    bool is_https = strcmp(json_string_at(get, "scheme", "HTTP"), "HTTPS") == 0;
    cleanup_free char *url = xasprintf("%s://%s:%d%s%s", is_https ? "https" : "http", host[0] != '\0' ? host : request->address,
                                       port, path[0] == '/' ? "" : "/", path);
    /* A connection that is kept would look like a client that stays while the pod wants to end. */
    char *headers[HEADERS_MAX + 3] = {xstrdup("User-Agent: kube-probe/1.37 davit"), xstrdup("Connection: close")};
    size_t count = 2;
    size_t index = 0;
    json_t *header = NULL;
    json_array_foreach(json_object_get(get, "httpHeaders"), index, header) {
        const char *name = json_string_at(header, "name", "");
        const char *value = json_string_at(header, "value", "");
        if (count < HEADERS_MAX + 2 && strpbrk(name, "\r\n:") == NULL && strpbrk(value, "\r\n") == NULL) {
            headers[count++] = xasprintf("%s: %s", name, value);
        }
    }
    call->transfer = transfer_start(request->transfers, &(struct transfer_request){.method = "GET",
                                                                                   .url = url,
                                                                                   .headers = (const char *const *)headers,
                                                                                   .timeout_ms = request->timeout_ms,
                                                                                   .body_bytes_max = ANSWER_BYTES_MAX,
                                                                                   .on_data = drop_data,
                                                                                   .on_done = on_answer,
                                                                                   .arg = call});
    for (size_t i = 0; i < count; i++) {
        free(headers[i]);
    }
}

/* ---- tcpSocket ---- */

static bool can_connect(const char *address, int port) {
    struct sockaddr_in target = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    cleanup_close int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || inet_pton(AF_INET, address, &target.sin_addr) != 1) {
        return false;
    }
    if (connect(fd, (struct sockaddr *)&target, sizeof(target)) == 0) {
        return true;
    }
    struct pollfd waiting = {.fd = fd, .events = POLLOUT};
    int failure = 0;
    socklen_t size = sizeof(failure);
    return errno == EINPROGRESS && poll(&waiting, 1, CONNECT_WAIT_MS) == 1 &&
           getsockopt(fd, SOL_SOCKET, SO_ERROR, &failure, &size) == 0 && failure == 0;
}

struct prober_call *prober_start(struct loop *loop, const struct prober_request *request) {
    struct prober_call *call = xcalloc(1, sizeof(*call));
    call->on_done = request->on_done;
    call->arg = request->arg;
    const json_t *get = json_object_get(request->probe, "httpGet");
    const json_t *tcp = json_object_get(request->probe, "tcpSocket");
    int port = find_port(json_object_get(get != NULL ? get : tcp, "port"), request->container);
    if (get == NULL && tcp == NULL) {
        (void)snprintf(call->problem, sizeof(call->problem), "only httpGet and tcpSocket probes are known to davit node");
        finish_later(call, loop, false);
    } else if (port <= 0 || port > 65535) {
        (void)snprintf(call->problem, sizeof(call->problem),
                       "the probe's port is neither a number nor the name of a port of the container");
        finish_later(call, loop, false);
    } else if (get != NULL) {
        start_http(call, request, get, port);
    } else {
        bool is_success = can_connect(request->address, port);
        if (!is_success) {
            (void)snprintf(call->problem, sizeof(call->problem), "dial tcp %s:%d: no connection", request->address, port);
        }
        finish_later(call, loop, is_success);
    }
    return call;
}

void prober_cancel(struct prober_call *call) {
    if (call == NULL) {
        return;
    }
    if (call->transfer != NULL) {
        transfer_cancel(call->transfer);
    }
    call_free(call);
}
