/* Reads what routing needs from a request body, without parsing the body: the top-level members "model" and "stream". Pure.
 *
 * The whole text is checked against RFC 8259, because authorisation hangs on `model` and it may come last. Keys are decoded
 * before they are compared ("mod\u0065l" is "model"), and a second "model" is refused: two parsers may each take another one.
 * One pass, nothing is allocated but the decoded name. */
#ifndef DAVIT_GATEWAY_JSON_SCAN_H
#define DAVIT_GATEWAY_JSON_SCAN_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>

#define JSON_SCAN_DEPTH_MAX 512
#define JSON_SCAN_MODEL_BYTES_MAX 1024

struct json_scan {
    char *model;        /* decoded, valid UTF-8 without NUL; NULL when the body has none (or null). Owned */
    size_t model_begin; /* the value with its quotes is bytes[model_begin, model_end) */
    size_t model_end;
    bool stream; /* "stream" is true; of several the last one counts */
};

/* ERROR_INVALID: not a JSON object (the message says at which byte), a second "model", or a "model" that is not a string of at most
 * JSON_SCAN_MODEL_BYTES_MAX bytes. The message speaks of the body: "the JSON is cut off: it ends at byte 10 (a value was
 * expected)". */
int json_scan_body(const char *bytes, size_t len, struct json_scan *ret_scan, struct error *err) DAVIT_MUST_USE;
void json_scan_release(struct json_scan *scan);

#endif
