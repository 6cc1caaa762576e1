/* The one server that bench/artifact measures everybody against: files by sendfile(2), a thread a connection, so that it is never
 * what is waited for. What it serves is a table, made by store.py, so that it can be a web server, a store of objects, a hub and an
 * engine without knowing any of them:
 *
 *     STATUS <tab> PATH[?prefix=VALUE] <tab> FILE <tab> FIELD|FIELD|...
 *
 * GET, HEAD, ranges and keep-alive; of a query only `prefix` counts; the body of a POST is read and not looked at. Prints its port.
 */
#include "base/file.h"
#include "base/map.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <strings.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define TABLE_BYTES_MAX (64u << 20)
#define HEAD_BYTES_MAX 16384

struct row {
    int status;
    const char *file;
    const char *fields; /* each ends in '|' or is the last */
};

/* A connection: what came and was not answered yet lies at the beginning of `head`. */
struct peer {
    int fd;
    size_t len;
    char head[HEAD_BYTES_MAX + 1];
};

static struct map rows;

static char *next_column(char **at) {
    char *column = strsep(at, "\t");
    return column != NULL ? column : (char *)"";
}

static void read_table(char *text) {
    char *line = NULL;
    while ((line = strsep(&text, "\n")) != NULL) {
        if (*line != '\0') {
            struct row *row = xcalloc(1, sizeof(*row));
            row->status = (int)strtol(next_column(&line), NULL, 10);
            const char *key = next_column(&line);
            row->file = next_column(&line);
            row->fields = next_column(&line);
            free(map_set(&rows, key, row));
        }
    }
}

/* Of "GET /path?a=b&prefix=c HTTP/1.1": "/path?prefix=c". */
static const struct row *find_row(const char *head) {
    const char *target = head + strcspn(head, " ") + 1;
    size_t path_len = strcspn(target, "? ");
    size_t target_len = strcspn(target, " ");
    cleanup_free char *whole = xstrndup(target, target_len);
    const char *prefix = strstr(whole, "prefix=");
    cleanup_free char *key = prefix == NULL ? xasprintf("%.*s", (int)path_len, target)
                                            : xasprintf("%.*s?%.*s", (int)path_len, target, (int)strcspn(prefix, "&"), prefix);
    return map_get(&rows, key);
}

/* The value of a field of the head, NULL when it is not there. Not ended. */
static const char *find_field(const char *head, const char *name) {
    size_t len = strlen(name);
    for (const char *line = strchr(head, '\n'); line != NULL; line = strchr(line + 1, '\n')) {
        if (strncasecmp(line + 1, name, len) == 0 && line[1 + len] == ':') {
            return line + 1 + len + 1 + strspn(line + 1 + len + 1, " ");
        }
    }
    return NULL;
}

static int send_all(int fd, const char *bytes, size_t len, int flags) {
    while (len > 0) {
        ssize_t sent = send(fd, bytes, len, flags | MSG_NOSIGNAL);
        if (sent < 0) {
            return -1;
        }
        bytes += sent;
        len -= (size_t)sent;
    }
    return 0;
}

static int send_file(int to, int from, off_t at, off_t end) {
    while (at < end) {
        if (sendfile(to, from, &at, (size_t)(end - at)) <= 0) {
            return -1;
        }
    }
    return 0;
}

static int answer(const struct peer *peer) {
    const struct row *row = find_row(peer->head);
    cleanup_close int file = row != NULL && row->file[0] != '\0' ? open(row->file, O_RDONLY | O_CLOEXEC) : -1;
    struct stat status = {0};
    if (file >= 0 && fstat(file, &status) < 0) {
        return -1;
    }
    off_t start = 0, end = status.st_size;
    const char *range = find_field(peer->head, "Range");
    bool is_part = row != NULL && range != NULL && strncmp(range, "bytes=", 6) == 0;
    if (is_part) {
        char *after = NULL;
        start = strtoll(range + 6, &after, 10);
        long long last = *after == '-' ? strtoll(after + 1, &after, 10) : 0;
        end = last > 0 && last < status.st_size ? last + 1 : status.st_size;
    }
    cleanup_buffer struct buffer head = BUFFER_INIT;
    buffer_printf(&head, "HTTP/1.1 %d -\r\nContent-Length: %lld\r\nAccept-Ranges: bytes\r\n",
                  row == NULL ? 404
                  : is_part   ? 206
                              : row->status,
                  (long long)(end - start));
    if (is_part) {
        buffer_printf(&head, "Content-Range: bytes %lld-%lld/%lld\r\n", (long long)start, (long long)end - 1,
                      (long long)status.st_size);
    }
    for (const char *field = row != NULL ? row->fields : ""; *field != '\0'; field += strcspn(field, "|"), field += *field == '|') {
        buffer_printf(&head, "%.*s\r\n", (int)strcspn(field, "|"), field);
    }
    buffer_append_text(&head, "\r\n");
    bool has_body = strncmp(peer->head, "HEAD ", 5) != 0 && end > start;
    if (send_all(peer->fd, head.data, head.len, has_body ? MSG_MORE : 0) < 0) {
        return -1;
    }
    return has_body ? send_file(peer->fd, file, start, end) : 0;
}

static int receive(struct peer *peer) {
    ssize_t got = recv(peer->fd, peer->head + peer->len, HEAD_BYTES_MAX - peer->len, 0);
    peer->len += got > 0 ? (size_t)got : 0;
    peer->head[peer->len] = '\0';
    return got > 0 ? 0 : -1;
}

/* One request from its first byte to the last of its body; a body that does not fit beside the head ends the connection. */
static int take_request(struct peer *peer) {
    char *end = NULL;
    while ((end = strstr(peer->head, "\r\n\r\n")) == NULL) {
        if (receive(peer) < 0) {
            return -1;
        }
    }
    const char *body_len = find_field(peer->head, "Content-Length");
    size_t whole = (size_t)(end + 4 - peer->head) + (body_len != NULL ? strtoul(body_len, NULL, 10) : 0);
    while (peer->len < whole) {
        if (receive(peer) < 0) {
            return -1;
        }
    }
    end[2] = '\0';
    if (answer(peer) < 0) {
        return -1;
    }
    memmove(peer->head, peer->head + whole, peer->len - whole + 1);
    peer->len -= whole;
    return 0;
}

static void *serve(void *arg) {
    struct peer *peer = arg;
    while (take_request(peer) == 0) {
    }
    close(peer->fd);
    free(peer);
    return NULL;
}

static void accept_all(int listener) {
    pthread_attr_t attributes;
    (void)pthread_attr_init(&attributes);
    (void)pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    (void)pthread_attr_setstacksize(&attributes, 256u << 10);
    for (;;) {
        pthread_t thread;
        int one = 1;
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0) {
            continue;
        }
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        struct peer *peer = xcalloc(1, sizeof(*peer));
        peer->fd = fd;
        if (pthread_create(&thread, &attributes, serve, peer) != 0) {
            close(fd);
            free(peer);
        }
    }
}

int main(int argc, char **argv) {
    struct error err;
    struct buffer text = BUFFER_INIT;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t address_len = sizeof(address);
    if (argc != 3 || file_read(argv[1], TABLE_BYTES_MAX, &text, &err) < 0) {
        (void)fprintf(stderr, "usage: bench_artifact_server TABLE PORT\n");
        return 2;
    }
    (void)buffer_text(&text);
    read_table(text.data);
    address.sin_port = htons((uint16_t)strtoul(argv[2], NULL, 10));
    int one = 1;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    (void)setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (bind(listener, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(listener, 512) < 0 ||
        getsockname(listener, (struct sockaddr *)&address, &address_len) < 0) {
        (void)fprintf(stderr, "bench_artifact_server: %s\n", strerror(errno));
        return 1;
    }
    (void)printf("%d\n", ntohs(address.sin_port));
    (void)fflush(stdout);
    accept_all(listener);
    return 0;
}
