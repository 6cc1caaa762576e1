/* libFuzzer target: the gateway's body scan. Besides memory safety: what it accepts, a full parser reads the same way. */
#include "gateway/json_scan.h"

#include <jansson.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* jansson refuses some text that is well-formed: invalid UTF-8 outside of the name, lone surrogates, numbers too large, deep
 * nesting. */
static void compare(const char *bytes, size_t len, const struct json_scan *scan) {
    json_error_t where;
    json_t *value = json_loadb(bytes, len, JSON_ALLOW_NUL, &where);
    if (value == NULL) {
        return;
    }
    const json_t *model = json_object_get(value, "model");
    if (!json_is_object(value) || (json_string_value(model) == NULL) != (scan->model == NULL)) {
        abort();
    }
    if (scan->model != NULL && strcmp(scan->model, json_string_value(model)) != 0) {
        abort();
    }
    if (json_is_true(json_object_get(value, "stream")) != scan->stream) {
        abort();
    }
    json_decref(value);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct json_scan scan;
    struct error err;
    const char *bytes = (const char *)data;
    if (json_scan_body(bytes, size, &scan, &err) == 0) {
        if (scan.model != NULL && (scan.model_end > size || scan.model_begin + 2 > scan.model_end ||
                                   bytes[scan.model_begin] != '"' || bytes[scan.model_end - 1] != '"')) {
            abort();
        }
        compare(bytes, size, &scan);
        json_scan_release(&scan);
    }
    return 0;
}
