#include "artifact/exchange.h"

#include "artifact/address.h"
#include "base/clock.h"
#include "io/url.h"

#include <string.h>
#include <strings.h>
#include <sys/random.h>

#define REDIRECTS_MAX 5
#define TIMEOUT_MS_DEFAULT 30000
#define BODY_BYTES_MAX_DEFAULT (8u << 20)
#define ERROR_BODY_BYTES_MAX (64u << 10) /* of an answer that was to be streamed and is none of 2xx */
#define FETCH_TIMEOUT_MS_DEFAULT 3600000
#define CANCEL_PERIOD_MS 100
#define PAUSE_MS_FIRST 250
#define PAUSE_MS_MAX 8000
#define RETRY_AFTER_MS_MAX 60000

struct artifact_http {
    const struct artifact_options *options;
    struct artifact_progress *progress;
    struct loop *loop;
    struct timer tick;
    int64_t deadline_ms; /* of the fetch */
    int64_t limit_ms;    /* of what is done now; not after the deadline */
    const char *late;    /* what to say when it is reached; borrowed */
    /* Kept connections are not judged again, so what is the operator's has its own. Made when first needed. */
    struct transfers *transfers[2];
};

struct exchange {
    struct artifact_http *http;
    const struct artifact_request *request;
    struct exchange_sink sink;
    bool has_sink;
    bool was_elsewhere; /* a redirect left the origin: nothing secret goes out any more */
    char *origin;
    char *url;
    const char *method;
    bool has_body;
    int redirects;
    struct transfer *transfer;
    struct error *refusal; /* of the host, told by the timer; NULL = none */
    struct timer refused;
    exchange_done *on_done;
    void *arg;
};

/* ---- the loop ---- */

static void on_tick(void *arg) {
    struct artifact_http *http = arg;
    loop_stop(http->loop);
}

struct artifact_http *artifact_http_new(const struct artifact_options *options, struct artifact_progress *progress) {
    struct artifact_http *http = xcalloc(1, sizeof(*http));
    http->options = options;
    http->progress = progress;
    http->loop = loop_new();
    http->deadline_ms = clock_now_ms() + (options->timeout_ms > 0 ? options->timeout_ms : FETCH_TIMEOUT_MS_DEFAULT);
    exchange_limit(http, 0, NULL);
    timer_init(&http->tick, http->loop, on_tick, http);
    return http;
}

void artifact_http_free(struct artifact_http *http) {
    if (http == NULL) {
        return;
    }
    for (size_t i = 0; i < ARRAY_LEN(http->transfers); i++) {
        transfers_free(http->transfers[i]);
    }
    timer_release(&http->tick);
    loop_free(http->loop);
    free(http);
}

void exchange_limit(struct artifact_http *http, int64_t at_most_ms, const char *late) {
    int64_t limit_ms = clock_now_ms() + at_most_ms;
    bool is_limited = at_most_ms > 0 && limit_ms < http->deadline_ms;
    http->limit_ms = is_limited ? limit_ms : http->deadline_ms;
    http->late = is_limited ? late : "the time for the fetch is over";
}

static int check_still_wanted(const struct artifact_http *http, struct error *err) {
    if (artifact_progress_check(http->progress, err) < 0) {
        return -1;
    }
    if (clock_now_ms() >= http->limit_ms) {
        return error_set(err, ERROR_TIMEOUT, "%s", http->late);
    }
    return 0;
}

int exchange_run(struct artifact_http *http, const bool *is_done, int64_t at_most_ms, struct error *err) {
    int64_t until_ms = at_most_ms >= 0 ? clock_now_ms() + at_most_ms : INT64_MAX;
    for (;;) {
        int64_t now_ms = clock_now_ms();
        if (check_still_wanted(http, err) < 0) {
            return -1;
        }
        if (*is_done || now_ms >= until_ms) {
            return 0;
        }
        int64_t wait_ms = until_ms - now_ms < CANCEL_PERIOD_MS ? until_ms - now_ms : CANCEL_PERIOD_MS;
        timer_set(&http->tick, wait_ms);
        loop_run(http->loop);
    }
}

void exchange_wake(struct artifact_http *http) {
    loop_stop(http->loop);
}

/* ---- what is worth another try ---- */

bool exchange_is_worth_another(int status, const struct error *err) {
    static const int statuses[] = {408, 429, 500, 502, 503, 504};
    if (err != NULL) {
        return !err->is_final && (err->code == ERROR_UNAVAILABLE || err->code == ERROR_IO || err->code == ERROR_TIMEOUT);
    }
    for (size_t i = 0; i < ARRAY_LEN(statuses); i++) {
        if (status == statuses[i]) {
            return true;
        }
    }
    return false;
}

int64_t exchange_pause_ms(int failures, int64_t retry_after_ms) {
    uint32_t random = 0;
    int64_t most_ms = PAUSE_MS_FIRST;
    for (int i = 1; i < failures && most_ms < PAUSE_MS_MAX; i++) {
        most_ms *= 2;
    }
    if (getrandom(&random, sizeof(random), GRND_NONBLOCK) < 0) {
        random = (uint32_t)clock_now_ns();
    }
    int64_t pause_ms =
        most_ms / 2 + (int64_t)(random % (uint32_t)(most_ms / 2 + 1)); /* so that a crowd does not come back at once */
    int64_t told_ms = retry_after_ms < RETRY_AFTER_MS_MAX ? retry_after_ms : RETRY_AFTER_MS_MAX;
    return told_ms > pause_ms ? told_ms : pause_ms;
}

/* ---- one exchange ---- */

static void exchange_free(struct exchange *exchange) {
    if (exchange->refusal != NULL) {
        timer_release(&exchange->refused);
        free(exchange->refusal);
    }
    free(exchange->url);
    free(exchange->origin);
    free(exchange);
}

static void finish(struct exchange *exchange, const struct transfer_response *response, const struct error *err) {
    exchange->on_done(exchange->arg, response, exchange->url, err);
    exchange_free(exchange);
}

static void send_to(struct exchange *exchange);

static bool is_redirect(int status) {
    return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

static int check_redirect(const struct exchange *exchange, const char *to, struct error *err) {
    cleanup_free char *from_words = url_for_people(exchange->url);
    cleanup_free char *to_words = url_for_people(to);
    if (exchange->redirects == REDIRECTS_MAX) {
        return error_set(err, ERROR_LIMIT, "%s: more than %d redirects", from_words, REDIRECTS_MAX);
    }
    cleanup_free char *origin = url_origin(to);
    if (origin == NULL) {
        return error_set(err, ERROR_DENIED, "%s: redirects to %s, which is neither http nor https", from_words, to_words);
    }
    if (strncasecmp(exchange->url, "https:", 6) == 0 && strncasecmp(to, "https:", 6) != 0) {
        return error_set(err, ERROR_DENIED, "%s: redirects from https to %s, which is not followed", from_words, to_words);
    }
    return 0;
}

static void on_done(void *arg, const struct transfer_response *response, const struct error *err) {
    struct exchange *exchange = arg;
    struct error refusal = {0};
    exchange->transfer = NULL;
    bool is_followed =
        err == NULL && response->redirect != NULL && is_redirect(response->status) && !exchange->request->is_redirect_final;
    if (!is_followed) {
        finish(exchange, response, err);
        return;
    }
    if (check_redirect(exchange, response->redirect, &refusal) < 0) {
        finish(exchange, NULL, &refusal);
        return;
    }
    cleanup_free char *origin = url_origin(response->redirect);
    bool leaves = origin == NULL || strcmp(origin, exchange->origin) != 0;
    if (leaves && exchange->has_body && response->status >= 307) { /* a body is not shown to another origin: the answer is final */
        finish(exchange, response, NULL);
        return;
    }
    if (response->status == 303 || (exchange->has_body && response->status < 303)) {
        exchange->has_body = false;
        exchange->method = strcmp(exchange->method, "HEAD") == 0 ? "HEAD" : "GET";
    }
    exchange->was_elsewhere |= leaves;
    exchange->redirects++;
    free(exchange->url);
    exchange->url = xstrdup(response->redirect);
    send_to(exchange);
}

static bool may_connect(void *arg, const struct sockaddr *address) {
    const struct artifact_http *http = arg;
    return address_is_allowed(address, http->options->addresses);
}

/* What the operator configured may be anywhere; where it is redirected to is a stranger's word again. */
static bool is_operators(const struct exchange *exchange) {
    return exchange->request->is_operators && !exchange->was_elsewhere;
}

static int check_host(const struct exchange *exchange, struct error *err) {
    cleanup_free char *host = url_host(exchange->url);
    if (host == NULL || is_operators(exchange) || address_host_is_allowed(host, exchange->http->options->addresses)) {
        return 0;
    }
    cleanup_free char *words = url_for_people(exchange->url);
    return error_set(err, ERROR_DENIED, "%s: the address %s is not allowed", words, host);
}

static void on_refused(void *arg) {
    struct exchange *exchange = arg;
    finish(exchange, NULL, exchange->refusal);
}

/* Whoever started it has no exchange yet. */
static void refuse_later(struct exchange *exchange, const struct error *err) {
    exchange->refusal = xmalloc(sizeof(*exchange->refusal));
    *exchange->refusal = *err;
    timer_init(&exchange->refused, exchange->http->loop, on_refused, exchange);
    timer_set(&exchange->refused, 0);
}

static int64_t time_left(const struct exchange *exchange) {
    const struct artifact_request *request = exchange->request;
    int64_t left_ms = exchange->http->limit_ms - clock_now_ms();
    int64_t own_ms = exchange->has_sink ? left_ms : request->timeout_ms > 0 ? request->timeout_ms : TIMEOUT_MS_DEFAULT;
    left_ms = own_ms < left_ms ? own_ms : left_ms;
    return left_ms > 1 ? left_ms : 1;
}

static size_t body_limit(const struct exchange *exchange) {
    size_t own = exchange->request->body_bytes_max != 0 ? exchange->request->body_bytes_max : BODY_BYTES_MAX_DEFAULT;
    return exchange->has_sink ? ERROR_BODY_BYTES_MAX : own;
}

static struct transfers *transfers_for(struct artifact_http *http, bool is_operators_own) {
    if (http->transfers[is_operators_own] == NULL) {
        http->transfers[is_operators_own] = transfers_new(http->loop);
    }
    return http->transfers[is_operators_own];
}

static int on_sink_head(void *arg, const struct transfer_response *head) {
    const struct exchange *exchange = arg;
    return exchange->sink.on_head(exchange->sink.arg, head);
}

static int on_sink_data(void *arg, const char *bytes, size_t len) {
    const struct exchange *exchange = arg;
    return exchange->sink.on_data(exchange->sink.arg, bytes, len);
}

static void send_to(struct exchange *exchange) {
    const struct artifact_request *request = exchange->request;
    struct artifact_http *http = exchange->http;
    const char *headers[2 * ARTIFACT_HEADERS_MAX + 1];
    size_t count = 0;
    struct error err = {0};
    if (check_host(exchange, &err) < 0) {
        refuse_later(exchange, &err);
        return;
    }
    for (size_t i = 0; i < request->header_count; i++) {
        headers[count++] = request->headers[i];
    }
    for (size_t i = 0; i < request->secret_header_count && !exchange->was_elsewhere; i++) {
        headers[count++] = request->secret_headers[i];
    }
    headers[count] = NULL;
    const struct transfer_request transfer = {
        .method = exchange->method,
        .url = exchange->url,
        .headers = headers,
        .body = exchange->has_body ? request->body.data : NULL,
        .body_len = exchange->has_body ? request->body.len : 0,
        .ca_file = http->options->ca_file,
        .is_system_trusted_too = true,
        .timeout_ms = time_left(exchange),
        .stall_ms = exchange->sink.stall_ms,
        .body_bytes_max = body_limit(exchange),
        .receive_bytes = exchange->sink.receive_bytes,
        .wants_fields = true,
        .may_connect = is_operators(exchange) ? NULL : may_connect,
        .may_connect_arg = http,
        .on_data = exchange->has_sink ? on_sink_data : NULL,
        .on_head = exchange->has_sink ? on_sink_head : NULL,
        .on_done = on_done,
        .arg = exchange,
    };
    exchange->transfer = transfer_start(transfers_for(http, is_operators(exchange)), &transfer);
}

struct exchange *exchange_start(struct artifact_http *http, const struct artifact_request *request,
                                const struct exchange_sink *sink, exchange_done *done, void *arg) {
    struct exchange *exchange = xcalloc(1, sizeof(*exchange));
    exchange->http = http;
    exchange->request = request;
    exchange->has_sink = sink != NULL;
    if (sink != NULL) {
        exchange->sink = *sink;
    }
    exchange->url = xstrdup(request->url);
    exchange->origin = url_origin(request->url);
    exchange->origin = exchange->origin != NULL ? exchange->origin : xstrdup("");
    exchange->method = request->method != NULL ? request->method : "GET";
    exchange->has_body = request->body.len != 0;
    exchange->on_done = done;
    exchange->arg = arg;
    send_to(exchange);
    return exchange;
}

void exchange_cancel(struct exchange *exchange) {
    if (exchange != NULL) {
        transfer_cancel(exchange->transfer);
        exchange_free(exchange);
    }
}
