/* The gateway's own errors, in the OpenAI API's shape, with the reference's types by status. */
#ifndef DAVIT_GATEWAY_ERROR_REPLY_H
#define DAVIT_GATEWAY_ERROR_REPLY_H

#include "base/buffer.h"
#include "base/error.h"

struct http_request;

struct error_reply {
    int status;
    const char *code;   /* "model_not_found", NULL = null */
    const char *param;  /* NULL = null */
    const char *header; /* a field that tells the case ("x-error-no-model-backends"), NULL = none */
    const char *header_value;
    int retry_after_s; /* 0 = no Retry-After */
};

/* {"error":{"message","type","param","code"}} */
void error_reply_body(struct buffer *out, int status, const char *code, const char *param, const char *message);
/* Answers; the request is gone afterwards. */
void error_reply_send(struct http_request *request, const struct error_reply *reply, const char *format, ...) DAVIT_PRINTF(3, 4);
/* For http_server_options.on_error. */
const char *error_reply_on_error(void *arg, const struct error *err, struct buffer *body);

#endif
