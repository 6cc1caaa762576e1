/* libcurl's multi interface on the loop.
 *
 * libcurl must not be entered again from its own callbacks. So a transfer joins it at the next turn of the loop, and one that is
 * cancelled while libcurl runs (from on_data) is only marked and removed afterwards. on_done is called when libcurl is not running.
 */
#include "io/transfer.h"

#include "io/url.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <curl/curl.h>
#include <event2/event.h>
#include <netinet/in.h>
#include <pthread.h>
#include <string.h>
#include <strings.h>
#include <sys/queue.h>

#define CONNECT_TIMEOUT_MS_DEFAULT 10000
#define BODY_BYTES_MAX_DEFAULT (64 * 1024 * 1024)
#define KEPT_CONNECTIONS_MAX 1024 /* more than any client has peers and calls in flight: what one call leaves, the next takes */
#define SPARE_HANDLES_MAX 64
#define UPLOAD_BUFFER_BYTES 16384 /* the least that libcurl allows; its 64 KiB a transfer were half of the controller's memory */
#define KEEPALIVE_SECONDS 30
/* A connection that was idle for longer is not used again: servers close theirs after 60 s and more (Davit 75, Go 90), engines
 * behind uvicorn after 5. */
#define IDLE_SECONDS_MAX 50
#define IDLE_SECONDS_MAX_CLEAR 4
#define CA_CACHE_SECONDS 60

enum transfer_failure { FAILURE_NONE, FAILURE_LIMIT, FAILURE_FIELDS, FAILURE_REFUSED, FAILURE_NOT_SENT, FAILURE_STALLED };

struct transfer {
    TAILQ_ENTRY(transfer) link;
    struct transfers *pool;
    CURL *easy;
    struct curl_slist *headers;
    struct curl_slist *connect_to; /* NULL = the URL's host */
    char *label;                   /* "GET https://host/path", for messages */
    struct buffer body;
    size_t body_bytes_max;
    bool (*may_send)(void *arg);
    void *may_send_arg;
    bool (*may_connect)(void *arg, const struct sockaddr *address);
    void *may_connect_arg;
    char denied_address[INET6_ADDRSTRLEN]; /* the last that may_connect refused */
    bool wants_fields;
    size_t field_bytes; /* received */
    struct buffer fields;
    struct timer stall;
    int64_t stall_ms;
    int64_t last_byte_ms;
    int (*on_head)(void *arg, const struct transfer_response *head);
    int (*on_data)(void *arg, const char *bytes, size_t len);
    void (*on_done)(void *arg, const struct transfer_response *response, const struct error *err);
    void *arg;
    bool has_head;   /* on_head was called */
    bool has_joined; /* libcurl's multi handle */
    bool is_cancelled;
    enum transfer_failure failure;
    CURLcode early_result; /* of preparing it */
    char message[CURL_ERROR_SIZE];
};

TAILQ_HEAD(transfer_list, transfer);

struct transfers {
    struct loop *loop;
    CURLM *multi;                 /* NULL = nothing was asked for yet */
    struct transfer_list waiting; /* to join at the next turn */
    struct transfer_list running;
    CURL *spare[SPARE_HANDLES_MAX]; /* handles are dear to make and cheap to reset */
    size_t spare_count;
    struct timer turn;
    struct timer timeout; /* libcurl's */
    char *no_proxy;
    bool is_inside; /* libcurl is running */
    bool has_cancelled;
};

static void initialise_curl(void) {
    (void)curl_global_init(CURL_GLOBAL_DEFAULT);
}

/* The environment's proxies hold for other machines only: a proxy does not reach our loopback. */
static char *no_proxy_list(void) {
    const char *env = getenv("no_proxy");
    env = env != NULL ? env : getenv("NO_PROXY");
    if (env != NULL && strcmp(env, "*") == 0) {
        return xstrdup("*");
    }
    return xasprintf("localhost,127.0.0.0/8,::1%s%s", env != NULL && *env != '\0' ? "," : "", env != NULL ? env : "");
}

static CURL *take_handle(struct transfers *pool) {
    CURL *easy = pool->spare_count > 0 ? pool->spare[--pool->spare_count] : curl_easy_init();
    if (easy == NULL) {
        abort();
    }
    return easy;
}

static void give_handle(struct transfers *pool, CURL *easy) {
    if (pool->spare_count == SPARE_HANDLES_MAX) {
        curl_easy_cleanup(easy);
        return;
    }
    curl_easy_reset(easy); /* nothing of the last request stays */
    pool->spare[pool->spare_count++] = easy;
}

static void transfer_free(struct transfer *transfer) {
    if (transfer->stall_ms > 0) {
        timer_release(&transfer->stall);
    }
    give_handle(transfer->pool, transfer->easy);
    curl_slist_free_all(transfer->headers);
    curl_slist_free_all(transfer->connect_to);
    buffer_release(&transfer->body);
    buffer_release(&transfer->fields);
    free(transfer->label);
    free(transfer);
}

/* ---- the end of a transfer ---- */

static void describe_failure(const struct transfer *transfer, CURLcode result, struct error *err) {
    long status = 0;
    (void)curl_easy_getinfo(transfer->easy, CURLINFO_RESPONSE_CODE, &status);
    const char *reason = transfer->message[0] != '\0' ? transfer->message : curl_easy_strerror(result);
    enum error_code code = ERROR_UNAVAILABLE;
    if (transfer->failure == FAILURE_LIMIT) {
        error_set(err, ERROR_LIMIT, "%s: the response is larger than %zu bytes", transfer->label, transfer->body_bytes_max);
        return;
    }
    if (transfer->failure == FAILURE_FIELDS) {
        error_set(err, ERROR_LIMIT, "%s: the head of the response is larger than %u bytes", transfer->label,
                  TRANSFER_FIELDS_BYTES_MAX);
        return;
    }
    if (transfer->failure == FAILURE_STALLED) {
        error_set(err, ERROR_TIMEOUT, "%s: no byte came for %lld ms", transfer->label, (long long)transfer->stall_ms);
        return;
    }
    if (transfer->denied_address[0] != '\0' && status == 0 && result == CURLE_COULDNT_CONNECT) {
        error_set(err, ERROR_DENIED, "%s: the address %s is not allowed", transfer->label, transfer->denied_address);
        return;
    }
    if (transfer->failure == FAILURE_REFUSED) {
        error_set(err, ERROR_IO, "%s: the response could not be taken", transfer->label);
        return;
    }
    if (transfer->failure == FAILURE_NOT_SENT) {
        error_set(err, ERROR_DENIED, "%s: not sent: the right to ask was lost meanwhile", transfer->label);
        return;
    }
    if (result == CURLE_OPERATION_TIMEDOUT) {
        code = ERROR_TIMEOUT;
    } else if (status >= 200) {
        code = ERROR_IO; /* cut after the head */
    }
    error_set(err, code, "%s: %s", transfer->label, reason);
}

char *transfer_field(const char *fields, const char *name) {
    size_t len = strlen(name);
    for (const char *line = fields; *line != '\0'; line += strcspn(line, "\n") + 1) {
        if (strncasecmp(line, name, len) == 0 && line[len] == ':') {
            const char *value = line + len + 1 + strspn(line + len + 1, " ");
            return xstrndup(value, strcspn(value, "\n"));
        }
    }
    return NULL;
}

static const char *collect_fields(struct transfer *transfer) {
    struct curl_header *at = NULL;
    buffer_clear(&transfer->fields);
    while (transfer->wants_fields && (at = curl_easy_nextheader(transfer->easy, CURLH_HEADER, -1, at)) != NULL) {
        for (const char *byte = at->name; *byte != '\0'; byte++) {
            buffer_append_char(&transfer->fields, (char)tolower((unsigned char)*byte));
        }
        buffer_printf(&transfer->fields, ": %s\n", at->value);
    }
    return buffer_text(&transfer->fields);
}

static void describe_head(struct transfer *transfer, struct transfer_response *ret) {
    long status = 0;
    curl_off_t retry_after_seconds = 0;
    char *content_type = NULL;
    char *redirect = NULL;
    (void)curl_easy_getinfo(transfer->easy, CURLINFO_RESPONSE_CODE, &status);
    (void)curl_easy_getinfo(transfer->easy, CURLINFO_CONTENT_TYPE, &content_type);
    (void)curl_easy_getinfo(transfer->easy, CURLINFO_RETRY_AFTER, &retry_after_seconds);
    (void)curl_easy_getinfo(transfer->easy, CURLINFO_REDIRECT_URL, &redirect);
    *ret = (struct transfer_response){
        .status = (int)status,
        .content_type = content_type != NULL ? content_type : "",
        .body = buffer_text(&transfer->body),
        .body_len = transfer->body.len,
        .retry_after_ms = (int64_t)retry_after_seconds * 1000,
        .fields = collect_fields(transfer),
        .redirect = redirect,
    };
}

static void finish(struct transfer *transfer, CURLcode result) {
    void (*on_done)(void *, const struct transfer_response *, const struct error *) = transfer->on_done;
    if (result != CURLE_OK || transfer->failure != FAILURE_NONE) {
        struct error err;
        describe_failure(transfer, result, &err);
        void *arg = transfer->arg;
        transfer_free(transfer);
        on_done(arg, NULL, &err);
        return;
    }
    struct transfer_response response;
    describe_head(transfer, &response);
    on_done(transfer->arg, &response, NULL);
    transfer_free(transfer);
}

static void leave(struct transfer *transfer) {
    if (transfer->has_joined) {
        (void)curl_multi_remove_handle(transfer->pool->multi, transfer->easy);
        TAILQ_REMOVE(&transfer->pool->running, transfer, link);
    } else {
        TAILQ_REMOVE(&transfer->pool->waiting, transfer, link);
    }
}

static void sweep_cancelled(struct transfers *pool) {
    struct transfer *next = NULL;
    pool->has_cancelled = false;
    for (struct transfer *at = TAILQ_FIRST(&pool->running); at != NULL; at = next) {
        next = TAILQ_NEXT(at, link);
        if (at->is_cancelled) {
            leave(at);
            transfer_free(at);
        }
    }
}

static void reap(struct transfers *pool) {
    CURLMsg *message = NULL;
    int left = 0;
    if (pool->has_cancelled) {
        sweep_cancelled(pool);
    }
    while ((message = curl_multi_info_read(pool->multi, &left)) != NULL) {
        struct transfer *transfer = NULL;
        CURLcode result = message->data.result;
        if (message->msg != CURLMSG_DONE) {
            continue;
        }
        (void)curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&transfer);
        leave(transfer);
        finish(transfer, result);
    }
}

static void act(struct transfers *pool, curl_socket_t fd, int what) {
    int running = 0;
    pool->is_inside = true;
    (void)curl_multi_socket_action(pool->multi, fd, what, &running);
    pool->is_inside = false;
    reap(pool);
}

/* ---- libcurl's callbacks: sockets, time, bytes ---- */

struct socket_watch {
    struct transfers *pool;
    struct event *event;
};

static void on_socket_ready(evutil_socket_t fd, short what, void *arg) {
    struct socket_watch *watch = arg;
    act(watch->pool, fd, ((what & EV_READ) != 0 ? CURL_CSELECT_IN : 0) | ((what & EV_WRITE) != 0 ? CURL_CSELECT_OUT : 0));
}

static int on_socket_wanted(CURL *easy, curl_socket_t fd, int what, void *arg, void *socket_arg) {
    (void)easy;
    struct transfers *pool = arg;
    struct socket_watch *watch = socket_arg;
    if (watch != NULL && watch->event != NULL) {
        event_free(watch->event);
        watch->event = NULL;
    }
    if (what == CURL_POLL_REMOVE) {
        free(watch);
        (void)curl_multi_assign(pool->multi, fd, NULL);
        return 0;
    }
    if (watch == NULL) {
        watch = xcalloc(1, sizeof(*watch));
        watch->pool = pool;
        (void)curl_multi_assign(pool->multi, fd, watch);
    }
    short events = (short)(((what & CURL_POLL_IN) != 0 ? EV_READ : 0) | ((what & CURL_POLL_OUT) != 0 ? EV_WRITE : 0) | EV_PERSIST);
    watch->event = event_new(loop_event_base(pool->loop), fd, events, on_socket_ready, watch);
    (void)event_add(watch->event, NULL);
    return 0;
}

static int on_timeout_wanted(CURLM *multi, long timeout_ms, void *arg) {
    (void)multi;
    struct transfers *pool = arg;
    if (timeout_ms < 0) {
        timer_clear(&pool->timeout);
    } else {
        timer_set(&pool->timeout, timeout_ms);
    }
    return 0;
}

static void on_timeout(void *arg) {
    act(arg, CURL_SOCKET_TIMEOUT, 0);
}

static int on_about_to_send(void *arg, char *peer_address, char *own_address, int peer_port, int own_port) {
    (void)peer_address, (void)own_address, (void)peer_port, (void)own_port;
    struct transfer *transfer = arg;
    if (transfer->may_send(transfer->may_send_arg)) {
        return CURL_PREREQFUNC_OK;
    }
    transfer->failure = FAILURE_NOT_SENT;
    return CURL_PREREQFUNC_ABORT;
}

static curl_socket_t on_socket_to_open(void *arg, curlsocktype purpose, struct curl_sockaddr *address) {
    struct transfer *transfer = arg;
    (void)purpose;
    if (!transfer->may_connect(transfer->may_connect_arg, &address->addr)) {
        const void *bytes = address->family == AF_INET6 ? (const void *)&((struct sockaddr_in6 *)&address->addr)->sin6_addr
                                                        : (const void *)&((struct sockaddr_in *)&address->addr)->sin_addr;
        (void)inet_ntop(address->family, bytes, transfer->denied_address, sizeof(transfer->denied_address));
        return CURL_SOCKET_BAD;
    }
    return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

static size_t on_field(char *bytes, size_t size, size_t count, void *arg) {
    (void)bytes;
    struct transfer *transfer = arg;
    size_t len = size * count;
    transfer->last_byte_ms = loop_now_ms(transfer->pool->loop);
    if (len > TRANSFER_FIELDS_BYTES_MAX - transfer->field_bytes) {
        transfer->failure = FAILURE_FIELDS;
        return 0;
    }
    transfer->field_bytes += len;
    return len;
}

/* Not while libcurl runs: the loop called. */
static void on_stall_due(void *arg) {
    struct transfer *transfer = arg;
    int64_t silent_ms = loop_now_ms(transfer->pool->loop) - transfer->last_byte_ms;
    if (silent_ms < transfer->stall_ms) {
        timer_set(&transfer->stall, transfer->stall_ms - silent_ms);
        return;
    }
    transfer->failure = FAILURE_STALLED;
    leave(transfer);
    finish(transfer, CURLE_OPERATION_TIMEDOUT);
}

static bool hand_on(struct transfer *transfer, const char *bytes, size_t len) {
    if (!transfer->has_head && transfer->on_head != NULL) {
        struct transfer_response head;
        describe_head(transfer, &head);
        transfer->has_head = true;
        if (transfer->on_head(transfer->arg, &head) < 0) {
            return false;
        }
    }
    return transfer->is_cancelled || transfer->on_data(transfer->arg, bytes, len) == 0;
}

static size_t on_bytes(char *bytes, size_t size, size_t count, void *arg) {
    struct transfer *transfer = arg;
    size_t len = size * count;
    long status = 0;
    transfer->last_byte_ms = loop_now_ms(transfer->pool->loop);
    if (transfer->is_cancelled) {
        return 0;
    }
    (void)curl_easy_getinfo(transfer->easy, CURLINFO_RESPONSE_CODE, &status);
    if (transfer->on_data != NULL && status >= 200 && status < 300) {
        if (!hand_on(transfer, bytes, len)) {
            transfer->failure = FAILURE_REFUSED;
            return 0;
        }
        return transfer->is_cancelled ? 0 : len;
    }
    if (len > transfer->body_bytes_max - transfer->body.len) {
        transfer->failure = FAILURE_LIMIT;
        return 0;
    }
    buffer_append(&transfer->body, bytes, len);
    return len;
}

/* ---- a new transfer ---- */

#define SET(option, value)                                                                                                         \
    do {                                                                                                                           \
        CURLcode result_ = curl_easy_setopt(easy, option, value);                                                                  \
        if (result_ != CURLE_OK) {                                                                                                 \
            return result_;                                                                                                        \
        }                                                                                                                          \
    } while (0)

static void add_header(struct transfer *transfer, const char *line) {
    struct curl_slist *longer = curl_slist_append(transfer->headers, line);
    transfer->headers = longer != NULL ? longer : transfer->headers;
}

static CURLcode set_body(struct transfer *transfer, const struct transfer_request *request) {
    CURL *easy = transfer->easy;
    bool wants_body =
        strcmp(request->method, "POST") == 0 || strcmp(request->method, "PUT") == 0 || strcmp(request->method, "PATCH") == 0;
    if (strcmp(request->method, "HEAD") == 0) {
        SET(CURLOPT_NOBODY, 1L);
    } else if (wants_body || request->body_len != 0) {
        SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)request->body_len);
        SET(CURLOPT_COPYPOSTFIELDS, request->body_len != 0 ? request->body : "");
    }
    SET(CURLOPT_CUSTOMREQUEST, request->method);
    return CURLE_OK;
}

static CURLcode set_headers(struct transfer *transfer, const struct transfer_request *request) {
    CURL *easy = transfer->easy;
    bool has_content_type = false;
    for (const char *const *line = request->headers; line != NULL && *line != NULL; line++) {
        if (strpbrk(*line, "\r\n") != NULL) {
            (void)snprintf(transfer->message, sizeof(transfer->message), "a header holds a line break");
            return CURLE_BAD_FUNCTION_ARGUMENT;
        }
        has_content_type |= strncasecmp(*line, "Content-Type:", 13) == 0;
        add_header(transfer, *line);
    }
    /* libcurl's own guesses: a form's type, and a wait of a second for "100 Continue" before bodies over 1 MiB. */
    if (!has_content_type) {
        add_header(transfer, "Content-Type:");
    }
    add_header(transfer, "Expect:");
    SET(CURLOPT_HTTPHEADER, transfer->headers);
    return CURLE_OK;
}

static CURLcode set_pem(CURL *easy, CURLoption option, const char *pem) {
    struct curl_blob blob = {.data = (void *)pem, .len = strlen(pem), .flags = CURL_BLOB_COPY};
    return curl_easy_setopt(easy, option, &blob);
}

static CURLcode set_authority(CURL *easy, const struct transfer_request *request) {
    if (request->is_unverified) {
        SET(CURLOPT_SSL_VERIFYPEER, 0L);
        SET(CURLOPT_SSL_VERIFYHOST, 0L);
    } else if (request->ca_pem != NULL || request->ca_file != NULL) {
        if (!request->is_system_trusted_too) {
            SET(CURLOPT_CAPATH, NULL); /* else the system's authorities would be trusted too */
        }
        SET(CURLOPT_CAINFO, request->ca_pem == NULL ? request->ca_file : NULL);
    }
    SET(CURLOPT_CA_CACHE_TIMEOUT, (long)CA_CACHE_SECONDS); /* a rotated file is seen soon */
    return request->ca_pem != NULL && !request->is_unverified ? set_pem(easy, CURLOPT_CAINFO_BLOB, request->ca_pem) : CURLE_OK;
}

static CURLcode set_identity(CURL *easy, const struct transfer_request *request) {
    CURLcode result = CURLE_OK;
    if (request->client_cert_pem != NULL) {
        result = set_pem(easy, CURLOPT_SSLCERT_BLOB, request->client_cert_pem);
    } else if (request->client_cert_file != NULL) {
        SET(CURLOPT_SSLCERT, request->client_cert_file);
    }
    if (result == CURLE_OK && request->client_key_pem != NULL) {
        result = set_pem(easy, CURLOPT_SSLKEY_BLOB, request->client_key_pem);
    } else if (result == CURLE_OK && request->client_key_file != NULL) {
        SET(CURLOPT_SSLKEY, request->client_key_file);
    }
    return result;
}

/* libcurl proves the name in the URL. So the URL gets the name that is to be proved, CONNECT_TO says where to connect, and the Host
 * field stays what it was. */
static CURLcode set_server_name(struct transfer *transfer, const struct transfer_request *request) {
    CURL *easy = transfer->easy;
    CURLU *url = curl_url();
    char *host = NULL, *port = NULL, *renamed = NULL;
    bool is_ok = url != NULL && curl_url_set(url, CURLUPART_URL, request->url, 0) == CURLUE_OK &&
                 curl_url_get(url, CURLUPART_HOST, &host, 0) == CURLUE_OK &&
                 curl_url_get(url, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) == CURLUE_OK &&
                 curl_url_set(url, CURLUPART_HOST, request->tls_server_name, 0) == CURLUE_OK &&
                 curl_url_get(url, CURLUPART_URL, &renamed, 0) == CURLUE_OK;
    if (is_ok) {
        cleanup_free char *connect_to = xasprintf("::%s:%s", host, port);
        cleanup_free char *field = xasprintf("Host: %s:%s", host, port);
        transfer->connect_to = curl_slist_append(NULL, connect_to);
        add_header(transfer, field);
        is_ok = curl_easy_setopt(easy, CURLOPT_CONNECT_TO, transfer->connect_to) == CURLE_OK &&
                curl_easy_setopt(easy, CURLOPT_URL, renamed) == CURLE_OK;
    }
    curl_free(host);
    curl_free(port);
    curl_free(renamed);
    curl_url_cleanup(url);
    return is_ok ? CURLE_OK : CURLE_URL_MALFORMAT;
}

static CURLcode set_way(struct transfer *transfer, const struct transfer_request *request) {
    CURL *easy = transfer->easy;
    if (request->proxy_url != NULL) {
        SET(CURLOPT_PROXY, request->proxy_url);
        SET(CURLOPT_NOPROXY, "");
    } else {
        SET(CURLOPT_NOPROXY, transfer->pool->no_proxy);
    }
    SET(CURLOPT_URL, request->url);
    return request->tls_server_name != NULL ? set_server_name(transfer, request) : CURLE_OK;
}

static CURLcode set_up(struct transfer *transfer, const struct transfer_request *request) {
    CURL *easy = transfer->easy;
    SET(CURLOPT_ERRORBUFFER, transfer->message);
    SET(CURLOPT_PRIVATE, transfer);
    SET(CURLOPT_WRITEFUNCTION, on_bytes);
    SET(CURLOPT_WRITEDATA, transfer);
    if (request->may_send != NULL) {
        SET(CURLOPT_PREREQFUNCTION, on_about_to_send);
        SET(CURLOPT_PREREQDATA, transfer);
    }
    if (request->may_connect != NULL) {
        SET(CURLOPT_OPENSOCKETFUNCTION, on_socket_to_open);
        SET(CURLOPT_OPENSOCKETDATA, transfer);
    }
    SET(CURLOPT_HEADERFUNCTION, on_field);
    SET(CURLOPT_HEADERDATA, transfer);
    if (request->receive_bytes != 0) {
        SET(CURLOPT_BUFFERSIZE, (long)request->receive_bytes);
    }
    SET(CURLOPT_NOSIGNAL, 1L);
    SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    SET(CURLOPT_FOLLOWLOCATION, 0L); /* credentials go nowhere but where they were meant to */
    SET(CURLOPT_PROTOCOLS_STR, "http,https");
    SET(CURLOPT_UPLOAD_BUFFERSIZE, (long)UPLOAD_BUFFER_BYTES);
    SET(CURLOPT_TCP_KEEPALIVE, 1L); /* a watch on a machine that is gone ends */
    SET(CURLOPT_MAXAGE_CONN, (long)(strncasecmp(request->url, "https:", 6) == 0 ? IDLE_SECONDS_MAX : IDLE_SECONDS_MAX_CLEAR));
    SET(CURLOPT_TCP_KEEPIDLE, (long)KEEPALIVE_SECONDS);
    SET(CURLOPT_TCP_KEEPINTVL, (long)KEEPALIVE_SECONDS);
    SET(CURLOPT_USERAGENT, "davit");
    SET(CURLOPT_CONNECTTIMEOUT_MS,
        (long)(request->connect_timeout_ms > 0 ? request->connect_timeout_ms : CONNECT_TIMEOUT_MS_DEFAULT));
    SET(CURLOPT_TIMEOUT_MS, (long)(request->timeout_ms > 0 ? request->timeout_ms : 0));
    CURLcode result = set_way(transfer, request);
    result = result == CURLE_OK ? set_authority(easy, request) : result;
    result = result == CURLE_OK ? set_identity(easy, request) : result;
    result = result == CURLE_OK ? set_body(transfer, request) : result;
    return result == CURLE_OK ? set_headers(transfer, request) : result;
}

static void join(struct transfers *pool, struct transfer *transfer) {
    if (transfer->early_result != CURLE_OK || curl_multi_add_handle(pool->multi, transfer->easy) != CURLM_OK) {
        CURLcode result = transfer->early_result != CURLE_OK ? transfer->early_result : CURLE_FAILED_INIT;
        leave(transfer);
        finish(transfer, result);
        return;
    }
    TAILQ_REMOVE(&pool->waiting, transfer, link);
    TAILQ_INSERT_TAIL(&pool->running, transfer, link);
    transfer->has_joined = true;
    if (transfer->stall_ms > 0) {
        transfer->last_byte_ms = loop_now_ms(pool->loop);
        timer_set(&transfer->stall, transfer->stall_ms);
    }
}

static void on_turn(void *arg) {
    struct transfers *pool = arg;
    struct transfer *at = NULL;
    size_t count = 0;
    TAILQ_FOREACH(at, &pool->waiting, link) {
        count++;
    }
    /* What on_done of a failed one starts waits for the next turn, so that the loop stays alive. */
    for (; count > 0 && !TAILQ_EMPTY(&pool->waiting); count--) {
        join(pool, TAILQ_FIRST(&pool->waiting));
    }
    if (!TAILQ_EMPTY(&pool->waiting)) {
        timer_set(&pool->turn, 0);
    }
}

/* When something is asked for at last: a program that serves is there some milliseconds sooner. */
static void start_curl(struct transfers *pool) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    (void)pthread_once(&once, initialise_curl);
    pool->multi = curl_multi_init();
    if (pool->multi == NULL) {
        abort();
    }
    (void)curl_multi_setopt(pool->multi, CURLMOPT_SOCKETFUNCTION, on_socket_wanted);
    (void)curl_multi_setopt(pool->multi, CURLMOPT_SOCKETDATA, pool);
    (void)curl_multi_setopt(pool->multi, CURLMOPT_TIMERFUNCTION, on_timeout_wanted);
    (void)curl_multi_setopt(pool->multi, CURLMOPT_TIMERDATA, pool);
    (void)curl_multi_setopt(pool->multi, CURLMOPT_MAXCONNECTS, (long)KEPT_CONNECTIONS_MAX);
}

struct transfer *transfer_start(struct transfers *transfers, const struct transfer_request *request) {
    struct transfer *transfer = xcalloc(1, sizeof(*transfer));
    if (transfers->multi == NULL) {
        start_curl(transfers);
    }
    transfer->pool = transfers;
    transfer->easy = take_handle(transfers);
    transfer->body_bytes_max = request->body_bytes_max != 0 ? request->body_bytes_max : BODY_BYTES_MAX_DEFAULT;
    transfer->may_send = request->may_send;
    transfer->may_send_arg = request->may_send_arg;
    transfer->may_connect = request->may_connect;
    transfer->may_connect_arg = request->may_connect_arg;
    transfer->wants_fields = request->wants_fields;
    transfer->stall_ms = request->stall_ms;
    if (request->stall_ms > 0) {
        timer_init(&transfer->stall, transfers->loop, on_stall_due, transfer);
    }
    transfer->on_head = request->on_head;
    transfer->on_data = request->on_data;
    transfer->on_done = request->on_done;
    transfer->arg = request->arg;
    cleanup_free char *url = url_for_people(request->url);
    transfer->label = xasprintf("%s %s", request->method, url);
    transfer->early_result = set_up(transfer, request);
    TAILQ_INSERT_TAIL(&transfers->waiting, transfer, link);
    if (!timer_is_set(&transfers->turn)) {
        timer_set(&transfers->turn, 0);
    }
    return transfer;
}

void transfer_cancel(struct transfer *transfer) {
    if (transfer == NULL) {
        return;
    }
    if (transfer->has_joined && transfer->pool->is_inside) {
        transfer->is_cancelled = true;
        transfer->pool->has_cancelled = true;
        return;
    }
    leave(transfer);
    transfer_free(transfer);
}

/* ---- the pool ---- */

struct transfers *transfers_new(struct loop *loop) {
    struct transfers *pool = xcalloc(1, sizeof(*pool));
    pool->loop = loop;
    pool->no_proxy = no_proxy_list();
    TAILQ_INIT(&pool->waiting);
    TAILQ_INIT(&pool->running);
    timer_init(&pool->turn, loop, on_turn, pool);
    timer_init(&pool->timeout, loop, on_timeout, pool);
    return pool;
}

static void cancel_all(struct transfer_list *list) {
    while (!TAILQ_EMPTY(list)) {
        transfer_cancel(TAILQ_FIRST(list));
    }
}

void transfers_free(struct transfers *transfers) {
    if (transfers == NULL) {
        return;
    }
    cancel_all(&transfers->waiting);
    cancel_all(&transfers->running);
    while (transfers->spare_count > 0) {
        curl_easy_cleanup(transfers->spare[--transfers->spare_count]);
    }
    (void)curl_multi_cleanup(transfers->multi); /* closes kept connections, through on_socket_wanted */
    timer_release(&transfers->turn);
    timer_release(&transfers->timeout);
    free(transfers->no_proxy);
    free(transfers);
}
