/* A request as options of libcurl: whom to trust, which way to go, what to send. */
#include "io/transfer_parts.h"

#include <string.h>
#include <strings.h>

#define CONNECT_TIMEOUT_MS_DEFAULT 10000
#define UPLOAD_BUFFER_BYTES 16384 /* the least that libcurl allows; its 64 KiB a transfer were half of the controller's memory */
#define KEEPALIVE_SECONDS 30
/* A connection that was idle for longer is not used again: servers close theirs after 60 s and more (Davit 75, Go 90), engines
 * behind uvicorn after 5. */
#define IDLE_SECONDS_MAX 50
#define IDLE_SECONDS_MAX_CLEAR 4
#define CA_CACHE_SECONDS 60

/* ---- what is sent ---- */

static void add_header(struct transfer *transfer, const char *line) {
    struct curl_slist *longer = curl_slist_append(transfer->headers, line);
    transfer->headers = longer != NULL ? longer : transfer->headers;
}

static CURLcode set_body(struct transfer *transfer, const struct transfer_request *request) {
    CURL *easy = transfer->easy;
    bool wants_body =
        strcmp(request->method, "POST") == 0 || strcmp(request->method, "PUT") == 0 || strcmp(request->method, "PATCH") == 0;
    if (strcmp(request->method, "HEAD") == 0) {
        TRANSFER_SET(CURLOPT_NOBODY, 1L);
    } else if (wants_body || request->body_len != 0) {
        TRANSFER_SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)request->body_len);
        TRANSFER_SET(CURLOPT_COPYPOSTFIELDS, request->body_len != 0 ? request->body : "");
    }
    TRANSFER_SET(CURLOPT_CUSTOMREQUEST, request->method);
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
    TRANSFER_SET(CURLOPT_HTTPHEADER, transfer->headers);
    return CURLE_OK;
}

/* ---- TLS ---- */

static CURLcode set_pem(CURL *easy, CURLoption option, const char *pem) {
    struct curl_blob blob = {.data = (void *)pem, .len = strlen(pem), .flags = CURL_BLOB_COPY};
    return curl_easy_setopt(easy, option, &blob);
}

static CURLcode set_authority(CURL *easy, const struct transfer_request *request) {
    if (request->is_unverified) {
        TRANSFER_SET(CURLOPT_SSL_VERIFYPEER, 0L);
        TRANSFER_SET(CURLOPT_SSL_VERIFYHOST, 0L);
    } else if (request->ca_pem != NULL || request->ca_file != NULL) {
        if (!request->is_system_trusted_too) {
            TRANSFER_SET(CURLOPT_CAPATH, NULL); /* else the system's authorities would be trusted too */
        }
        TRANSFER_SET(CURLOPT_CAINFO, request->ca_pem == NULL ? request->ca_file : NULL);
    }
    TRANSFER_SET(CURLOPT_CA_CACHE_TIMEOUT, (long)CA_CACHE_SECONDS); /* a rotated file is seen soon */
    return request->ca_pem != NULL && !request->is_unverified ? set_pem(easy, CURLOPT_CAINFO_BLOB, request->ca_pem) : CURLE_OK;
}

static CURLcode set_identity(CURL *easy, const struct transfer_request *request) {
    CURLcode result = CURLE_OK;
    if (request->client_cert_pem != NULL) {
        result = set_pem(easy, CURLOPT_SSLCERT_BLOB, request->client_cert_pem);
    } else if (request->client_cert_file != NULL) {
        TRANSFER_SET(CURLOPT_SSLCERT, request->client_cert_file);
    }
    if (result == CURLE_OK && request->client_key_pem != NULL) {
        result = set_pem(easy, CURLOPT_SSLKEY_BLOB, request->client_key_pem);
    } else if (result == CURLE_OK && request->client_key_file != NULL) {
        TRANSFER_SET(CURLOPT_SSLKEY, request->client_key_file);
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

/* ---- the way ---- */

static CURLcode set_way(struct transfer *transfer, const struct transfer_request *request) {
    CURL *easy = transfer->easy;
    if (request->proxy_url != NULL) {
        TRANSFER_SET(CURLOPT_PROXY, request->proxy_url);
        TRANSFER_SET(CURLOPT_NOPROXY, "");
    } else {
        TRANSFER_SET(CURLOPT_NOPROXY, transfer->pool->no_proxy);
    }
    TRANSFER_SET(CURLOPT_URL, request->url);
    return request->tls_server_name != NULL ? set_server_name(transfer, request) : CURLE_OK;
}

/* ---- all of it ---- */

CURLcode transfer_set_options(struct transfer *transfer, const struct transfer_request *request) {
    CURL *easy = transfer->easy;
    if (request->receive_bytes != 0) {
        TRANSFER_SET(CURLOPT_BUFFERSIZE, (long)request->receive_bytes);
    }
    TRANSFER_SET(CURLOPT_NOSIGNAL, 1L);
    TRANSFER_SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    TRANSFER_SET(CURLOPT_FOLLOWLOCATION, 0L); /* credentials go nowhere but where they were meant to */
    TRANSFER_SET(CURLOPT_PROTOCOLS_STR, "http,https");
    TRANSFER_SET(CURLOPT_UPLOAD_BUFFERSIZE, (long)UPLOAD_BUFFER_BYTES);
    TRANSFER_SET(CURLOPT_TCP_KEEPALIVE, 1L); /* a watch on a machine that is gone ends */
    TRANSFER_SET(CURLOPT_MAXAGE_CONN,
                 (long)(strncasecmp(request->url, "https:", 6) == 0 ? IDLE_SECONDS_MAX : IDLE_SECONDS_MAX_CLEAR));
    TRANSFER_SET(CURLOPT_TCP_KEEPIDLE, (long)KEEPALIVE_SECONDS);
    TRANSFER_SET(CURLOPT_TCP_KEEPINTVL, (long)KEEPALIVE_SECONDS);
    TRANSFER_SET(CURLOPT_USERAGENT, "davit");
    TRANSFER_SET(CURLOPT_CONNECTTIMEOUT_MS,
                 (long)(request->connect_timeout_ms > 0 ? request->connect_timeout_ms : CONNECT_TIMEOUT_MS_DEFAULT));
    TRANSFER_SET(CURLOPT_TIMEOUT_MS, (long)(request->timeout_ms > 0 ? request->timeout_ms : 0));
    CURLcode result = set_way(transfer, request);
    result = result == CURLE_OK ? set_authority(easy, request) : result;
    result = result == CURLE_OK ? set_identity(easy, request) : result;
    result = result == CURLE_OK ? set_body(transfer, request) : result;
    return result == CURLE_OK ? set_headers(transfer, request) : result;
}
