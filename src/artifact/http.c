#include "artifact/exchange.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define TRIES_MAX 4

/* ---- requests and replies ---- */

static void add_header(char **headers, size_t *count, const char *format, va_list arguments) {
    char *text = NULL;
    if (*count == ARTIFACT_HEADERS_MAX || vasprintf(&text, format, arguments) < 0) {
        (void)fprintf(stderr, "davit: a request with more than %d headers\n", ARTIFACT_HEADERS_MAX);
        abort();
    }
    headers[(*count)++] = text;
}

void artifact_request_header(struct artifact_request *request, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    add_header(request->headers, &request->header_count, format, arguments);
    va_end(arguments);
}

void artifact_request_secret_header(struct artifact_request *request, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    add_header(request->secret_headers, &request->secret_header_count, format, arguments);
    va_end(arguments);
}

void artifact_request_release(struct artifact_request *request) {
    for (size_t i = 0; i < request->header_count; i++) {
        free(request->headers[i]);
    }
    for (size_t i = 0; i < request->secret_header_count; i++) {
        free(request->secret_headers[i]);
    }
    free(request->method);
    free(request->url);
    buffer_release(&request->body);
    *request = (struct artifact_request){0};
}

char *artifact_reply_field(const struct artifact_reply *reply, const char *name) {
    return transfer_field(reply->fields != NULL ? reply->fields : "", name);
}

void artifact_reply_release(struct artifact_reply *reply) {
    free(reply->fields);
    free(reply->url);
    buffer_release(&reply->body);
    *reply = (struct artifact_reply){0};
}

/* ---- asking ---- */

struct question {
    struct artifact_http *http;
    struct artifact_reply *reply;
    struct error *err;
    bool is_done;
    bool has_failed;
    int64_t retry_after_ms;
};

static void on_done(void *arg, const struct transfer_response *response, const char *url, const struct error *err) {
    struct question *question = arg;
    question->is_done = true;
    exchange_wake(question->http);
    if (err != NULL) {
        *question->err = *err;
        question->has_failed = true;
        return;
    }
    question->retry_after_ms = response->retry_after_ms;
    question->reply->status = response->status;
    question->reply->fields = xstrdup(response->fields);
    question->reply->url = xstrdup(url);
    buffer_append(&question->reply->body, response->body, response->body_len);
}

/* -1 when it need not be tried again: the fetch itself is over. 0: *question says how it went. */
static int try_once(struct artifact_http *http, const struct artifact_request *request, struct question *question,
                    struct error *err) {
    struct exchange *exchange = exchange_start(http, request, NULL, on_done, question);
    if (exchange_run(http, &question->is_done, -1, err) == 0) {
        return 0;
    }
    if (!question->is_done) {
        exchange_cancel(exchange);
    }
    artifact_reply_release(question->reply);
    return -1;
}

int artifact_http_ask(struct artifact_http *http, const struct artifact_request *request, struct artifact_reply *ret,
                      struct error *err) {
    int tries = request->is_one_try ? 1 : TRIES_MAX;
    const bool never = false;
    for (int failures = 1;; failures++) {
        struct artifact_reply reply = {0};
        struct error failure = {0};
        struct question question = {.http = http, .reply = &reply, .err = &failure};
        if (try_once(http, request, &question, err) < 0) {
            return -1;
        }
        bool is_worth_another = exchange_is_worth_another(reply.status, question.has_failed ? &failure : NULL);
        if (failures < tries && is_worth_another) {
            artifact_reply_release(&reply);
            if (exchange_run(http, &never, exchange_pause_ms(failures, question.retry_after_ms), err) < 0) {
                return -1;
            }
            continue;
        }
        if (!question.has_failed) {
            *ret = reply;
            return 0;
        }
        if (failure.code == ERROR_IO) { /* cut after the head */
            failure.code = ERROR_UNAVAILABLE;
            failure.http_status = error_code_http_status(ERROR_UNAVAILABLE);
        }
        if (err != NULL) {
            *err = failure;
        }
        return -1;
    }
}
