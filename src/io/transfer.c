/* libcurl's multi interface on the loop.
 *
 * libcurl must not be entered again from its own callbacks. So a transfer joins it at the next turn of the loop, and one that is
 * cancelled while libcurl runs (from on_data) is only marked and removed afterwards. on_done is called when libcurl is not running.
 */
#include "io/transfer_parts.h"

#include "io/url.h"

#include <arpa/inet.h>
#include <event2/event.h>
#include <netinet/in.h>
#include <pthread.h>
#include <string.h>

#define BODY_BYTES_MAX_DEFAULT (64 * 1024 * 1024)
#define KEPT_CONNECTIONS_MAX 1024 /* more than any client has peers and calls in flight: what one call leaves, the next takes */

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
    buffer_release(&transfer->arrived);
    buffer_release(&transfer->fields);
    free(transfer->label);
    free(transfer);
}

/* ---- the end of a transfer ---- */

static void finish(struct transfer *transfer, CURLcode result) {
    void (*on_done)(void *, const struct transfer_response *, const struct error *) = transfer->on_done;
    if (result != CURLE_OK || transfer->failure != FAILURE_NONE) {
        struct error err;
        transfer_describe_failure(transfer, result, &err);
        void *arg = transfer->arg;
        transfer_free(transfer);
        on_done(arg, NULL, &err);
        return;
    }
    struct transfer_response response;
    transfer_describe_head(transfer, &response);
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

static bool hand_on(struct transfer *transfer, const char *bytes, size_t len);

static void hand_on_arrived(struct transfers *pool) {
    struct transfer *at = NULL;
    TAILQ_FOREACH(at, &pool->running, link) {
        if (at->arrived.len != 0 && !at->is_cancelled && at->failure == FAILURE_NONE) {
            at->failure = hand_on(at, at->arrived.data, at->arrived.len) ? FAILURE_NONE : FAILURE_REFUSED;
            pool->has_refused |= at->failure != FAILURE_NONE;
        }
        buffer_clear(&at->arrived);
    }
}

/* Those that refused what libcurl believes to be taken; on_done may do anything with the others. */
static void end_refused(struct transfers *pool) {
    struct transfer *at = TAILQ_FIRST(&pool->running);
    pool->has_refused = false;
    while (at != NULL) {
        bool is_refused = at->failure == FAILURE_REFUSED;
        if (is_refused) {
            leave(at);
            finish(at, CURLE_WRITE_ERROR);
        }
        at = is_refused ? TAILQ_FIRST(&pool->running) : TAILQ_NEXT(at, link);
    }
}

static void act(struct transfers *pool, curl_socket_t fd, int what) {
    int running = 0;
    pool->is_inside = true;
    (void)curl_multi_socket_action(pool->multi, fd, what, &running);
    hand_on_arrived(pool);
    pool->is_inside = false;
    reap(pool);
    if (pool->has_refused) {
        end_refused(pool);
    }
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
        transfer_describe_head(transfer, &head);
        transfer->has_head = true;
        if (transfer->on_head(transfer->arg, &head) < 0) {
            return false;
        }
    }
    return transfer->is_cancelled || transfer->on_data(transfer->arg, bytes, len) == 0;
}

/* libcurl hands out 16 KiB at a time, whatever it received. */
static bool collect(struct transfer *transfer, const char *bytes, size_t len) {
    struct buffer *arrived = &transfer->arrived;
    if (transfer->arrived_bytes_max == 0) {
        return hand_on(transfer, bytes, len);
    }
    bool is_fine = true;
    if (arrived->len != 0 && arrived->len + len > transfer->arrived_bytes_max) {
        is_fine = hand_on(transfer, arrived->data, arrived->len);
        buffer_clear(arrived);
    }
    buffer_append(arrived, bytes, len);
    return is_fine;
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
        if (!collect(transfer, bytes, len)) {
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

static CURLcode set_callbacks(struct transfer *transfer, const struct transfer_request *request) {
    CURL *easy = transfer->easy;
    TRANSFER_SET(CURLOPT_ERRORBUFFER, transfer->message);
    TRANSFER_SET(CURLOPT_PRIVATE, transfer);
    TRANSFER_SET(CURLOPT_WRITEFUNCTION, on_bytes);
    TRANSFER_SET(CURLOPT_WRITEDATA, transfer);
    if (request->may_send != NULL) {
        TRANSFER_SET(CURLOPT_PREREQFUNCTION, on_about_to_send);
        TRANSFER_SET(CURLOPT_PREREQDATA, transfer);
    }
    if (request->may_connect != NULL) {
        TRANSFER_SET(CURLOPT_OPENSOCKETFUNCTION, on_socket_to_open);
        TRANSFER_SET(CURLOPT_OPENSOCKETDATA, transfer);
    }
    TRANSFER_SET(CURLOPT_HEADERFUNCTION, on_field);
    TRANSFER_SET(CURLOPT_HEADERDATA, transfer);
    return CURLE_OK;
}

static CURLcode set_up(struct transfer *transfer, const struct transfer_request *request) {
    CURLcode result = set_callbacks(transfer, request);
    return result == CURLE_OK ? transfer_set_options(transfer, request) : result;
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
    transfer->arrived_bytes_max = request->on_data != NULL ? request->receive_bytes : 0;
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
