/* libFuzzer target: the public name put back into answers. The first byte chooses the form and where the bytes are split. Every
 * split gives the same; a JSON object comes out as it went in, but for the top-level model. */
#include "gateway/model_rename.h"

#include <jansson.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void rename_all(enum model_rename_form form, const char *bytes, size_t len, size_t step, struct buffer *out) {
    struct model_rename rename;
    model_rename_init(&rename, form, "m-1", "public \"m\"");
    for (size_t at = 0; at < len; at += step) {
        model_rename_push(&rename, bytes + at, len - at < step ? len - at : step, out);
        if (rename.held.len >= MODEL_RENAME_HELD_BYTES_MAX) {
            abort();
        }
    }
    model_rename_finish(&rename, out);
    model_rename_release(&rename);
}

/* Keys written with escapes are left alone on purpose, and a key that comes twice is no JSON that two parsers agree on. */
static void check_json(const char *bytes, size_t len, const struct buffer *out) {
    if (memmem(bytes, len, "\\u", 2) != NULL) {
        return;
    }
    json_t *before = json_loadb(bytes, len, JSON_REJECT_DUPLICATES, NULL);
    if (before == NULL) {
        return;
    }
    const char *model = json_string_value(json_object_get(before, "model"));
    if (model != NULL && strcmp(model, "m-1") == 0) {
        json_object_set_new(before, "model", json_string("public \"m\""));
    }
    json_t *after = json_loadb(buffer_text(out), out->len, JSON_REJECT_DUPLICATES, NULL);
    if (after == NULL || !json_equal(before, after)) {
        abort();
    }
    json_decref(before);
    json_decref(after);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0) {
        return 0;
    }
    enum model_rename_form form = (data[0] & 1) != 0 ? MODEL_RENAME_EVENTS : MODEL_RENAME_JSON;
    const char *bytes = (const char *)data + 1;
    cleanup_buffer struct buffer whole = BUFFER_INIT;
    cleanup_buffer struct buffer parts = BUFFER_INIT;
    rename_all(form, bytes, size - 1, size, &whole);
    rename_all(form, bytes, size - 1, (size_t)(data[0] >> 1) % 7 + 1, &parts);
    if (whole.len != parts.len || memcmp(buffer_text(&whole), buffer_text(&parts), whole.len) != 0) {
        abort();
    }
    if (memmem(bytes, size - 1, "model", 5) == NULL &&
        (whole.len != size - 1 || memcmp(buffer_text(&whole), bytes, whole.len) != 0)) {
        abort();
    }
    if (form == MODEL_RENAME_JSON) {
        check_json(bytes, size - 1, &whole);
    }
    return 0;
}
