#include "cli/chat_client.h"

#include "base/clock.h"
#include "io/loop.h"
#include "io/transfer.h"

#include <signal.h>
#include <string.h>

#define MODELS_TIMEOUT_MS 10000
#define MODELS_BYTES_MAX (16 * 1024 * 1024)
#define ERROR_BODY_BYTES_MAX (1024 * 1024)

void chat_client_init(struct chat_client *client, const char *url, const char *api_key) {
    client->url = xstrdup(url);
    client->api_key = api_key;
    for (int i = 0; i < 2; i++) {
        size_t len = strlen(client->url);
        while (len > 0 && client->url[len - 1] == '/') {
            client->url[--len] = '\0';
        }
        if (len > 3 && strcmp(client->url + len - 3, "/v1") == 0) {
            client->url[len - 3] = '\0';
        }
    }
}

void chat_client_release(struct chat_client *client) {
    free(client->url);
    client->url = NULL;
}

/* One exchange. */
struct exchange {
    struct loop *loop;
    struct chat_answer *answer; /* NULL = the body is collected */
    size_t given;               /* of the answer's text */
    void (*on_text)(void *arg, const char *text, size_t len);
    void *arg;
    json_t *document;
    struct error err;
    bool has_failed;
    bool was_interrupted;
};

static int on_data(void *arg, const char *bytes, size_t len) {
    struct exchange *exchange = arg;
    struct chat_answer *answer = exchange->answer;
    int result = chat_answer_read(answer, bytes, len, clock_now_ns(), &exchange->err);
    if (answer->text.len > exchange->given) {
        exchange->on_text(exchange->arg, answer->text.data + exchange->given, answer->text.len - exchange->given);
        exchange->given = answer->text.len;
    }
    exchange->has_failed = result < 0;
    return result;
}

static int take_response(struct exchange *exchange, const struct transfer_response *response) {
    if (response->status < 200 || response->status > 299) {
        cleanup_buffer struct buffer message = BUFFER_INIT;
        chat_error_message(response->body, response->body_len, &message);
        error_set(&exchange->err, error_code_from_http_status(response->status), "%s (HTTP %d)",
                  message.len > 0 ? message.data : "the server gives no reason", response->status);
        exchange->err.http_status = response->status;
        return -1;
    }
    if (exchange->answer == NULL) {
        exchange->document = json_parse(response->body, response->body_len, &exchange->err);
        return exchange->document != NULL ? 0 : -1;
    }
    return exchange->answer->is_done ? 0 : error_set(&exchange->err, ERROR_IO, "the answer ended before its end");
}

static void on_done(void *arg, const struct transfer_response *response, const struct error *err) {
    struct exchange *exchange = arg;
    if (err != NULL && !exchange->has_failed) {
        exchange->err = *err;
        exchange->err.http_status = 0;
        exchange->has_failed = true;
    } else if (err == NULL) {
        exchange->has_failed = take_response(exchange, response) < 0;
    }
    loop_stop(exchange->loop);
}

static void on_interrupt(void *arg, int number) {
    (void)number;
    struct exchange *exchange = arg;
    exchange->was_interrupted = true;
    loop_stop(exchange->loop);
}

static void run(const struct chat_client *client, struct exchange *exchange, struct transfer_request *request, const char *path) {
    static const int signals[] = {SIGINT, 0};
    const char *headers[3] = {"Content-Type: application/json", NULL, NULL};
    cleanup_free char *url = xasprintf("%s%s", client->url, path);
    cleanup_free char *authorization = client->api_key != NULL ? xasprintf("Authorization: Bearer %s", client->api_key) : NULL;
    headers[1] = authorization;
    request->url = url;
    request->headers = headers;
    request->on_done = on_done;
    request->arg = exchange;
    exchange->loop = loop_new();
    loop_on_signals(exchange->loop, signals, on_interrupt, exchange);
    struct transfers *transfers = transfers_new(exchange->loop);
    (void)transfer_start(transfers, request);
    loop_run(exchange->loop);
    transfers_free(transfers);
    loop_free(exchange->loop);
}

int chat_client_ask(const struct chat_client *client, const char *body, struct chat_answer *answer,
                    void (*on_text)(void *arg, const char *text, size_t len), void *arg, struct error *err) {
    struct exchange exchange = {.answer = answer, .on_text = on_text, .arg = arg};
    struct transfer_request request = {
        .method = "POST",
        .body = body,
        .body_len = strlen(body),
        .body_bytes_max = ERROR_BODY_BYTES_MAX,
        .on_data = on_data,
    };
    run(client, &exchange, &request, "/v1/chat/completions");
    if (exchange.was_interrupted) {
        return 1;
    }
    if (exchange.has_failed) {
        *err = exchange.err;
        return -1;
    }
    return 0;
}

int chat_client_models(const struct chat_client *client, json_t **ret_models, struct error *err) {
    struct exchange exchange = {0};
    struct transfer_request request = {.method = "GET", .timeout_ms = MODELS_TIMEOUT_MS, .body_bytes_max = MODELS_BYTES_MAX};
    run(client, &exchange, &request, "/v1/models");
    if (exchange.was_interrupted) {
        json_decref(exchange.document);
        return error_set(err, ERROR_TIMEOUT, "interrupted");
    }
    if (exchange.has_failed) {
        *err = exchange.err;
        return -1;
    }
    *ret_models = exchange.document;
    return 0;
}
