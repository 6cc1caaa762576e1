/* AWS Signature Version 4 for requests whose path is signed as it is sent, as Amazon S3 and what speaks S3 have it (other services
 * of Amazon encode the path twice). Pure: a request, a time and a key go in, the value of Authorization comes out. */
#ifndef DAVIT_ARTIFACT_S3_SIGV4_H
#define DAVIT_ARTIFACT_S3_SIGV4_H

#include "base/buffer.h"
#include "base/hash.h"

#include <stdint.h>

#define SIGV4_FIELDS_MAX 16
#define SIGV4_DATE_BYTES 17 /* "20150830T123600Z" */
/* SHA-256 of nothing: x-amz-content-sha256 of a request without a body. */
#define SIGV4_EMPTY_SHA256 "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

struct sigv4_field {
    const char *name; /* in lower case */
    const char *value;
};

struct sigv4_request {
    const char *method;
    const char *path;                            /* percent-encoded, begins with "/" */
    const char *query;                           /* without "?", in any order; "" = none */
    struct sigv4_field fields[SIGV4_FIELDS_MAX]; /* what is signed: host, x-amz-date, every other x-amz-* that is sent */
    size_t field_count;
    const char *payload_sha256;
};

struct sigv4_scope {
    const char *access_key;
    const char *secret_key;
    const char *region;
    const char *service;
    char date[SIGV4_DATE_BYTES]; /* the same as x-amz-date */
};

void sigv4_date(int64_t wall_ms, char out[SIGV4_DATE_BYTES]);
/* Encodes all but unreserved characters (RFC 3986) and "/". */
void sigv4_append_path(struct buffer *out, const char *path);

/* The parts, for tests against Amazon's own examples; each is appended. */
void sigv4_canonical_query(struct buffer *out, const char *query);
void sigv4_canonical_request(struct buffer *out, const struct sigv4_request *request);
void sigv4_string_to_sign(struct buffer *out, const struct sigv4_request *request, const struct sigv4_scope *scope);

/* "AWS4-HMAC-SHA256 Credential=..., SignedHeaders=..., Signature=..." */
void sigv4_authorization(struct buffer *out, const struct sigv4_request *request, const struct sigv4_scope *scope);

#endif
