#include "cluster/node/log_server.h"

#include "base/clock.h"
#include "cluster/node/log_file.h"
#include "cluster/node/log_times.h"
#include "cluster/node/log_token.h"
#include "io/http_server.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define CONNECTIONS_MAX 64
#define PIECE_BYTES 32768
#define FOLLOW_PERIOD_MS 200

struct log_server {
    struct loop *loop;
    struct http_server *http;
    int port;
    char token[HASH_HEX_BYTES];
    const struct kubelet *kubelet;
};

/* One answer being written. */
struct reading {
    struct log_server *server;
    struct http_request *request;
    struct timer timer;
    char *namespace;
    char *pod;
    char *container;
    int fd;
    int64_t offset;
    int64_t bytes_left; /* INT64_MAX = no limit */
    bool is_following;
    bool tells_times;
    bool is_within_line;    /* its time was told */
    struct log_times times; /* as of the start; what comes later has the time at which it is read */
    bool was_over;          /* the container had ended before the last look at the file */
};

static void reading_free(struct reading *reading) {
    timer_release(&reading->timer);
    if (reading->fd >= 0) {
        close(reading->fd);
    }
    log_times_release(&reading->times);
    free(reading->namespace);
    free(reading->pod);
    free(reading->container);
    free(reading);
}

static void on_gone(void *arg) {
    reading_free(arg);
}

static void finish(struct reading *reading) {
    struct http_request *request = reading->request;
    http_request_on_gone(request, NULL, NULL);
    reading_free(reading);
    http_stream_end(request);
}

/* The piece of the file that ends at reading->offset, each line behind its time. */
static void add_times(struct reading *reading, const char *piece, size_t len, struct buffer *out) {
    int64_t now_ms = clock_wall_ms();
    for (size_t at = 0; at < len;) {
        const char *line_break = memchr(piece + at, '\n', len - at);
        size_t end = line_break != NULL ? (size_t)(line_break - piece) + 1 : len;
        if (!reading->is_within_line) {
            char time[CLOCK_RFC3339_BYTES];
            int64_t wall_ms = log_times_of(&reading->times, reading->offset - (int64_t)(len - end), now_ms);
            clock_format_rfc3339(wall_ms, time);
            buffer_printf(out, "%.19s.%03d000000Z ", time, (int)(wall_ms % 1000));
        }
        buffer_append(out, piece + at, end - at);
        reading->is_within_line = line_break == NULL;
        at = end;
    }
}

/* As much as the limit leaves; true when the client has a backlog. */
static bool send_bytes(struct reading *reading, const char *bytes, size_t len) {
    if (reading->bytes_left != INT64_MAX) {
        len = (int64_t)len < reading->bytes_left ? len : (size_t)reading->bytes_left;
        reading->bytes_left -= (int64_t)len;
    }
    return http_stream_write(reading->request, bytes, len) == HTTP_STREAM_BACKLOG;
}

/* The rest of the file, as far as the client takes it. Ends the answer unless it follows a container that still runs. */
static void pump(void *arg) {
    struct reading *reading = arg;
    struct stat info;
    if (fstat(reading->fd, &info) == 0 && info.st_size < reading->offset) {
        reading->offset = 0; /* it was rotated */
        log_times_release(&reading->times);
    }
    bool is_over = !kubelet_is_running(reading->server->kubelet, reading->namespace, reading->pod, reading->container);
    char piece[PIECE_BYTES];
    while (reading->bytes_left > 0) {
        ssize_t got = pread(reading->fd, piece, sizeof(piece), reading->offset);
        if (got <= 0) {
            break;
        }
        reading->offset += got;
        cleanup_buffer struct buffer timed = BUFFER_INIT;
        if (reading->tells_times) {
            add_times(reading, piece, (size_t)got, &timed);
        }
        if (send_bytes(reading, reading->tells_times ? timed.data : piece, reading->tells_times ? timed.len : (size_t)got)) {
            return; /* on_drained goes on */
        }
    }
    if (!reading->is_following || reading->was_over || reading->bytes_left == 0) {
        finish(reading);
        return;
    }
    reading->was_over = is_over; /* once more, for what it wrote last */
    timer_set(&reading->timer, FOLLOW_PERIOD_MS);
}

static void refuse(struct http_request *request, int status, const char *message) {
    cleanup_free char *body = xasprintf("%s\n", message);
    http_reply(request, status, "text/plain; charset=utf-8", body, strlen(body));
}

static int64_t number_parameter(const char *query, const char *name, int64_t fallback) {
    cleanup_free char *text = http_query_get(query, name);
    return text != NULL && text[0] >= '0' && text[0] <= '9' ? strtoll(text, NULL, 10) : fallback;
}

static bool flag_parameter(const char *query, const char *name) {
    cleanup_free char *text = http_query_get(query, name);
    return text != NULL && (strcmp(text, "true") == 0 || strcmp(text, "1") == 0);
}

/* Where to begin: behind what is older than asked for, and not before the last lines asked for. */
static int64_t first_offset(const struct reading *reading, const char *query) {
    int64_t tail_lines = number_parameter(query, "tailLines", -1);
    int64_t since_seconds = number_parameter(query, "sinceSeconds", -1);
    cleanup_free char *since_time = http_query_get(query, "sinceTime");
    int64_t since_ms = since_seconds >= 0 ? clock_wall_ms() - since_seconds * 1000 : -1;
    int64_t offset = tail_lines >= 0 ? log_file_tail_offset(reading->fd, tail_lines) : 0;
    if ((since_time != NULL && clock_parse_rfc3339(since_time, &since_ms) == 0) || since_seconds >= 0) {
        bool is_ahead = since_ms > clock_wall_ms(); /* what no look has seen yet was written before now, too */
        int64_t since = is_ahead ? log_file_tail_offset(reading->fd, 0)
                                 : log_file_line_start(reading->fd, log_times_before(&reading->times, since_ms));
        offset = since > offset ? since : offset;
    }
    return offset;
}

static void start_reading(struct log_server *server, struct http_request *request, const char *const parts[3]) {
    const char *query = http_request_head(request)->query;
    struct error err;
    cleanup_free char *path = NULL;
    if (kubelet_log_file(server->kubelet, parts[0], parts[1], parts[2], flag_parameter(query, "previous"), &path, &err) < 0) {
        refuse(request, err.http_status, err.message);
        return;
    }
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        refuse(request, 500, "the log file cannot be read");
        return;
    }
    struct reading *reading = xcalloc(1, sizeof(*reading));
    reading->server = server;
    reading->request = request;
    reading->namespace = xstrdup(parts[0]);
    reading->pod = xstrdup(parts[1]);
    reading->container = xstrdup(parts[2]);
    reading->fd = fd;
    log_times_read(path, &reading->times);
    reading->offset = first_offset(reading, query);
    reading->tells_times = flag_parameter(query, "timestamps");
    reading->bytes_left = number_parameter(query, "limitBytes", INT64_MAX);
    reading->is_following = flag_parameter(query, "follow");
    timer_init(&reading->timer, server->loop, pump, reading);
    http_request_on_gone(request, on_gone, reading);
    http_stream_begin(request, 200, "text/plain; charset=utf-8");
    http_stream_on_drained(request, pump, reading);
    timer_set(&reading->timer, 0);
}

/* In a time that does not depend on where they differ. */
static bool is_same_text(const char *have, const char *wanted) {
    size_t len = strlen(wanted);
    if (strlen(have) != len) {
        return false;
    }
    unsigned difference = 0;
    for (size_t i = 0; i < len; i++) {
        difference |= (unsigned)(have[i] ^ wanted[i]);
    }
    return difference == 0;
}

static bool is_authorized(const struct log_server *server, const struct http_head *head) {
    static const char scheme[] = "Bearer ";
    const char *value = http_fields_get(&head->fields, "Authorization");
    return value != NULL && strncmp(value, scheme, sizeof(scheme) - 1) == 0 &&
           is_same_text(value + sizeof(scheme) - 1, server->token);
}

static void on_request(void *arg, struct http_request *request) {
    struct log_server *server = arg;
    const struct http_head *head = http_request_head(request);
    if (!is_authorized(server, head)) {
        refuse(request, 401, "only the API server may read logs here: ask it, with kubectl logs");
        return;
    }
    cleanup_free char *path = xstrdup(head->path);
    static const char prefix[] = "/containerLogs/";
    const char *parts[4] = {NULL};
    size_t count = 0;
    char *at = strncmp(path, prefix, sizeof(prefix) - 1) == 0 ? path + sizeof(prefix) - 1 : NULL;
    for (char *part = NULL; count < ARRAY_LEN(parts) && (part = strsep(&at, "/")) != NULL;) {
        parts[count++] = part;
    }
    if (strcmp(head->method, "GET") != 0) {
        refuse(request, 405, "only GET is known here");
    } else if (count != 3 || server->kubelet == NULL) {
        refuse(request, 404, "expected /containerLogs/NAMESPACE/POD/CONTAINER");
    } else {
        start_reading(server, request, parts);
    }
}

struct log_server *log_server_new(struct loop *loop, const char *api_token, struct error *err) {
    struct log_server *server = xcalloc(1, sizeof(*server));
    log_token_make(api_token, server->token);
    server->loop = loop;
    server->http = http_server_new(&(struct http_server_options){
        .loop = loop, .body_bytes_max = 4096, .connections_max = CONNECTIONS_MAX, .on_request = on_request, .arg = server});
    if (http_server_listen(server->http, "127.0.0.1", 0, &server->port, err) < 0) {
        log_server_free(server);
        return NULL;
    }
    return server;
}

int log_server_port(const struct log_server *server) {
    return server->port;
}

void log_server_set_kubelet(struct log_server *server, const struct kubelet *kubelet) {
    server->kubelet = kubelet;
}

void log_server_free(struct log_server *server) {
    if (server == NULL) {
        return;
    }
    http_server_free(server->http);
    free(server);
}
