#include "io/url.h"

#include "base/alloc.h"

#include <ctype.h>
#include <curl/curl.h>
#include <stdbool.h>
#include <string.h>

struct parts {
    char *scheme;
    char *host;
    char *port;
};

static void parts_release(struct parts *parts) {
    curl_free(parts->scheme);
    curl_free(parts->host);
    curl_free(parts->port);
}

static bool take_apart(const char *text, struct parts *ret) {
    CURLU *url = curl_url();
    *ret = (struct parts){0};
    bool is_ok = url != NULL && curl_url_set(url, CURLUPART_URL, text, 0) == CURLUE_OK &&
                 curl_url_get(url, CURLUPART_SCHEME, &ret->scheme, 0) == CURLUE_OK &&
                 curl_url_get(url, CURLUPART_HOST, &ret->host, 0) == CURLUE_OK &&
                 curl_url_get(url, CURLUPART_PORT, &ret->port, CURLU_DEFAULT_PORT) == CURLUE_OK &&
                 (strcmp(ret->scheme, "http") == 0 || strcmp(ret->scheme, "https") == 0);
    curl_url_cleanup(url);
    for (char *at = ret->host; at != NULL && *at != '\0'; at++) {
        *at = (char)tolower((unsigned char)*at);
    }
    return is_ok;
}

char *url_origin(const char *url) {
    struct parts parts;
    char *origin = take_apart(url, &parts) ? xasprintf("%s://%s:%s", parts.scheme, parts.host, parts.port) : NULL;
    parts_release(&parts);
    return origin;
}

char *url_host(const char *url) {
    struct parts parts;
    char *host = NULL;
    if (take_apart(url, &parts)) {
        size_t len = strlen(parts.host);
        bool is_bracketed = parts.host[0] == '[' && len > 2;
        host = is_bracketed ? xstrndup(parts.host + 1, len - 2) : xstrdup(parts.host);
    }
    parts_release(&parts);
    return host;
}

/* `before`: what stands before an '@'. */
static bool is_revision_after(const char *url, const char *before, size_t len) {
    static const char *const schemes[] = {"hf://", "huggingface://"};
    for (size_t i = 0; i < ARRAY_LEN(schemes); i++) {
        if (strncmp(url, schemes[i], strlen(schemes[i])) == 0) {
            return memchr(before, ':', len) == NULL && strncmp(before, "hf_", 3) != 0;
        }
    }
    return false;
}

char *url_for_people(const char *url) {
    const char *scheme_end = strstr(url, "://");
    const char *authority = scheme_end != NULL ? scheme_end + 3 : url;
    size_t authority_len = strcspn(authority, "/?#");
    const char *host = authority;
    for (size_t i = 0; i < authority_len; i++) {
        if (authority[i] == '@' && !is_revision_after(url, host, (size_t)(authority + i - host))) {
            host = authority + i + 1;
        }
    }
    return xasprintf("%.*s%.*s", (int)(authority - url), url, (int)strcspn(host, "?#"), host);
}
