/* libFuzzer target: a page of a listing, and the same bytes as a refusal and as a place. */
#include "artifact/gcs/api.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_page(const char *text, size_t len) {
    const struct gcs_place place = {.bucket = (char *)"models", .prefix = (char *)"a/"};
    const struct source_filter filter = {.is_pickle_allowed = true};
    struct artifact_listing listing = {0};
    struct error err = {0};
    char *next = NULL;
    if (gcs_page_read(text, len, &place, &filter, &listing, &next, &err) < 0 && err.message[0] == '\0') {
        abort(); /* a refusal says why */
    }
    for (size_t i = 0; err.code == ERROR_NONE && i < listing.count; i++) {
        const struct artifact_file *file = &listing.files[i];
        if (strchr(file->name, '/') != NULL || file->etag[strspn(file->etag, "0123456789")] != '\0' ||
            strncmp(file->key, "a/", 2) != 0) {
            abort();
        }
    }
    free(next);
    artifact_listing_release(&listing);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    cleanup_free char *text = xstrndup((const char *)data, size);
    struct gcs_place place;
    struct error err = {0};
    check_page(text, strlen(text));
    gcs_explain(400, text, strlen(text), "x", NULL, &err);
    for (const char *at = err.message; *at != '\0'; at++) {
        if (*at < 0x20 || *at >= 0x7f) {
            abort(); /* somebody else's words are printable when they are shown */
        }
    }
    if (gcs_place_parse(text, &place, &err) == 0) {
        size_t len = strlen(place.prefix);
        if (len > 0 && place.prefix[len - 1] != '/') {
            abort();
        }
        gcs_place_release(&place);
    }
    return 0;
}
