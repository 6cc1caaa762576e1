/* One request and its answer on the loop of an artifact_http, with the rules of artifact/http.h but one: it is one try. What
 * artifact_http_ask and the downloader share, and whoever has to wait within a fetch. */
#ifndef DAVIT_ARTIFACT_EXCHANGE_H
#define DAVIT_ARTIFACT_EXCHANGE_H

#include "artifact/http.h"

#include "io/transfer.h"

struct exchange;

/* Where the body of a 2xx goes as it comes; other bodies are collected (at most 64 KiB of them). -1 ends the exchange with
 * ERROR_IO; the receiver knows why. */
struct exchange_sink {
    int (*on_head)(void *arg, const struct transfer_response *head);
    int (*on_data)(void *arg, const char *bytes, size_t len);
    size_t receive_bytes;
    int64_t stall_ms;
    void *arg;
};

/* err NULL: `response` has any status but a redirect that was followed; `url` is where it came from. */
typedef void exchange_done(void *arg, const struct transfer_response *response, const char *url, const struct error *err);

/* `request` is borrowed until on_done or cancel. sink NULL = collect the body, whatever the status. Never calls back before it
 * returns. */
struct exchange *exchange_start(struct artifact_http *http, const struct artifact_request *request,
                                const struct exchange_sink *sink, exchange_done *on_done, void *arg);
void exchange_cancel(struct exchange *exchange);

/* Runs the loop until *is_done, at most `at_most_ms` (-1 = without end). 0, also when the time is over; ERROR_TIMEOUT when the
 * fetch was cancelled or its deadline is past. Callbacks that make *is_done true call exchange_wake. */
int exchange_run(struct artifact_http *http, const bool *is_done, int64_t at_most_ms, struct error *err) DAVIT_MUST_USE;
void exchange_wake(struct artifact_http *http);

/* All requests from now on together: at most so long, and never longer than the fetch. What takes longer ends with ERROR_TIMEOUT
 * and `late`. 0 = as long as the fetch. */
void exchange_limit(struct artifact_http *http, int64_t at_most_ms, const char *late);

/* Whether a try that ended so is worth another, and the pause before it: `failures` so far (1 = the first). */
bool exchange_is_worth_another(int status, const struct error *err);
int64_t exchange_pause_ms(int failures, int64_t retry_after_ms);

#endif
