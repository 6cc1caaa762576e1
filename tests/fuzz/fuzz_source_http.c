/* libFuzzer target: the URL of an adapter on a web server, and the same bytes as a Secret's "headers". */
#include "artifact/web/headers.h"
#include "artifact/web/url.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_url(const char *text) {
    struct source_http_url url;
    struct error err = {0};
    if (source_http_url_parse(text, &url, &err) < 0) {
        if (err.message[0] == '\0') {
            abort(); /* a refusal says why */
        }
        return;
    }
    cleanup_free char *file = source_http_url_file(&url, "x");
    size_t authority = strcspn(strstr(url.folder, "//") + 2, "/");
    if (strpbrk(file, "\r\n #") != NULL || strchr(url.folder, '?') != NULL || url.folder[strlen(url.folder) - 1] != '/' ||
        memchr(strstr(url.folder, "//") + 2, '@', authority) != NULL) {
        abort(); /* what may be secret is shown, or a line ends */
    }
    source_http_url_release(&url);
}

static void check_headers(const char *text) {
    const struct artifact_secrets secrets = {.items = {{"headers", text}}, .count = 1};
    struct source_http_headers headers;
    if (source_http_headers_read(&secrets, NULL, &headers, NULL) == 0) {
        for (size_t i = 0; i < headers.count; i++) {
            if (strpbrk(headers.fields[i], "\r\n") != NULL || strchr(headers.fields[i], ':') == NULL) {
                abort();
            }
        }
    }
    source_http_headers_release(&headers);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    cleanup_free char *text = xstrndup((const char *)data, size);
    check_url(text);
    check_headers(text);
    return 0;
}
