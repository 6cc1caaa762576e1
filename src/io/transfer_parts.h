/* What the files of transfer share; nobody else's. */
#ifndef DAVIT_IO_TRANSFER_PARTS_H
#define DAVIT_IO_TRANSFER_PARTS_H

#include "io/transfer.h"

#include <curl/curl.h>
#include <netinet/in.h>
#include <sys/queue.h>

#define SPARE_HANDLES_MAX 64

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
    struct buffer arrived;    /* in this turn of libcurl's, and not handed on yet */
    size_t arrived_bytes_max; /* 0 = each piece is handed on as libcurl has it */
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
    bool has_refused; /* on_data said no after libcurl had run */
};

/* ---- what a request wants of libcurl (transfer_options.c) ---- */

/* Sets an option of `easy`, and ends the function when libcurl does not take it. */
#define TRANSFER_SET(option, value)                                                                                                \
    do {                                                                                                                           \
        CURLcode result_ = curl_easy_setopt(easy, option, value);                                                                  \
        if (result_ != CURLE_OK) {                                                                                                 \
            return result_;                                                                                                        \
        }                                                                                                                          \
    } while (0)

CURLcode transfer_set_options(struct transfer *transfer, const struct transfer_request *request);

/* ---- what became of it (transfer_outcome.c) ---- */

/* With what is known so far. */
void transfer_describe_head(struct transfer *transfer, struct transfer_response *ret);
void transfer_describe_failure(const struct transfer *transfer, CURLcode result, struct error *err);

#endif
