/* libFuzzer target: what a hub answers, as the two pages of its API and as a Link field, and the same bytes as an adapter's URL. */
#include "artifact/hub/api.h"
#include "artifact/hub/url.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_refusal(const struct error *err) {
    if (err->code == ERROR_NONE || err->message[0] == '\0') {
        abort(); /* a refusal says why */
    }
}

static void check_listing(struct artifact_listing *listing, const char *folder) {
    for (size_t i = 0; i < listing->count; i++) {
        const struct artifact_file *file = &listing->files[i];
        size_t len = strlen(folder);
        if (strstr(file->name, "..") != NULL || strncmp(file->key, folder, len) != 0 || strlen(file->sha256) % 64 != 0 ||
            strlen(file->git_sha1) % 40 != 0) {
            abort();
        }
    }
    artifact_listing_release(listing);
}

static void check_answers(const char *text, size_t len, const char *folder) {
    struct hub_place place = {.repo = (char *)"o/r", .revision = (char *)"main", .folder = (char *)folder};
    for (int is_tree = 0; is_tree < 2; is_tree++) {
        struct artifact_listing listing = {0};
        struct hub_reading reading = {.place = &place, .filter = {.is_pickle_allowed = true}, .listing = &listing};
        struct error err = {0};
        if ((is_tree ? hub_tree_read(&reading, text, len, &err) : hub_info_read(&reading, text, len, true, &err)) < 0) {
            check_refusal(&err);
        } else if (!is_tree && !hub_is_commit(reading.commit)) {
            abort();
        }
        check_listing(&listing, folder);
        free(reading.elsewhere);
    }
}

/* Whatever a URL names fits into the URLs that are asked for. */
static void check_url(const char *url) {
    struct hub_place place;
    struct error err = {0};
    if (hub_place_parse(url, "", &place, &err) < 0) {
        check_refusal(&err);
        return;
    }
    if (!hub_is_repo(place.repo) || strstr(place.folder, "/../") != NULL || *place.revision == '\0' || *place.revision == '/') {
        abort();
    }
    cleanup_free char *asked = hub_info_url("http://h", &place, "");
    if (strpbrk(asked, " ?#\\\r\n") != NULL) {
        abort();
    }
    hub_place_release(&place);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    cleanup_free char *text = xstrndup((const char *)data, size);
    cleanup_free char *next = hub_next_page(text, "http://h");
    check_answers((const char *)data, size, "");
    check_answers((const char *)data, size, "a/b");
    check_url(text);
    return 0;
}
