/* libFuzzer target: a key file, and the same bytes as an answer of token_uri. */
#include "artifact/gcs/google_credentials.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_file(const char *text, size_t len) {
    struct google_credentials credentials;
    struct error err = {0};
    if (google_credentials_parse(text, len, "f", &credentials, &err) < 0) {
        if (strncmp(err.message, "f", 1) != 0) {
            abort(); /* a refusal says of what */
        }
        return;
    }
    cleanup_buffer struct buffer form = BUFFER_INIT;
    if (strncasecmp(credentials.token_uri, "http", 4) != 0 ||
        (google_token_form(&credentials, 0, &form, &err) == 0 && form.len == 0)) {
        abort();
    }
    google_credentials_release(&credentials);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const struct google_credentials credentials = {.client_secret = (char *)"secret"};
    char *token = NULL;
    int64_t lifetime_s = 0;
    check_file((const char *)data, size);
    if (google_token_parse((const char *)data, size, &token, &lifetime_s, NULL) == 0) {
        if (*token == '\0' || strpbrk(token, "\r\n ") != NULL || lifetime_s < 0) {
            abort();
        }
        free(token);
    }
    cleanup_free char *words = google_token_refusal((const char *)data, size, &credentials);
    if (strstr(words, "secret") != NULL || strpbrk(words, "\r\n") != NULL) {
        abort();
    }
    return 0;
}
