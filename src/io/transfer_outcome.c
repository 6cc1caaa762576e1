/* What became of a transfer, in the words of transfer.h. */
#include "io/transfer_parts.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

/* What is no better the next time. */
static const struct {
    CURLcode result;
    enum error_code code;
} final_results[] = {
    {CURLE_URL_MALFORMAT, ERROR_INVALID},          {CURLE_UNSUPPORTED_PROTOCOL, ERROR_INVALID},
    {CURLE_BAD_FUNCTION_ARGUMENT, ERROR_INVALID},  {CURLE_PEER_FAILED_VERIFICATION, ERROR_UNAVAILABLE},
    {CURLE_SSL_ISSUER_ERROR, ERROR_UNAVAILABLE},   {CURLE_SSL_INVALIDCERTSTATUS, ERROR_UNAVAILABLE},
    {CURLE_SSL_CACERT_BADFILE, ERROR_UNAVAILABLE}, {CURLE_SSL_CERTPROBLEM, ERROR_UNAVAILABLE},
    {CURLE_SSL_CLIENTCERT, ERROR_UNAVAILABLE},     {CURLE_SSL_CIPHER, ERROR_UNAVAILABLE},
};

void transfer_describe_failure(const struct transfer *transfer, CURLcode result, struct error *err) {
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
    bool is_final = false;
    for (size_t i = 0; i < ARRAY_LEN(final_results) && !is_final; i++) {
        is_final = final_results[i].result == result;
        code = is_final ? final_results[i].code : code;
    }
    error_set(err, code, "%s: %s", transfer->label, reason);
    err->is_final = is_final;
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

void transfer_describe_head(struct transfer *transfer, struct transfer_response *ret) {
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
