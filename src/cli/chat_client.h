/* Sends the questions of `davit chat` and waits for the answers. A loop of its own for each, so that between two of them Ctrl-C and
 * the terminal are as usual. */
#ifndef DAVIT_CLI_CHAT_CLIENT_H
#define DAVIT_CLI_CHAT_CLIENT_H

#include "cli/chat_answer.h"

struct chat_client {
    char *url;           /* of the server, without "/v1" and without a slash at the end; owned */
    const char *api_key; /* NULL = none */
};

/* Takes "http://host:port", with or without "/v1". */
void chat_client_init(struct chat_client *client, const char *url, const char *api_key);
void chat_client_release(struct chat_client *client);

/* Asks, hands every new piece of the answer to on_text, and returns when the answer is whole. 1: Ctrl-C came first, `answer` holds
 * what had come. Failure: the server's message with its HTTP status in err->http_status, which is 0 when no answer came at all. */
int chat_client_ask(const struct chat_client *client, const char *body, struct chat_answer *answer,
                    void (*on_text)(void *arg, const char *text, size_t len), void *arg, struct error *err) DAVIT_MUST_USE;
/* GET /v1/models; the caller's reference. */
int chat_client_models(const struct chat_client *client, json_t **ret_models, struct error *err) DAVIT_MUST_USE;

#endif
