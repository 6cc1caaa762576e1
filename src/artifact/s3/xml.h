/* What S3 and STS answer: pages of a listing, refusals, temporary keys. Pure; everything is a stranger's word and bounded. */
#ifndef DAVIT_ARTIFACT_S3_XML_H
#define DAVIT_ARTIFACT_S3_XML_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define S3_KEY_BYTES_MAX 1024

struct s3_object {
    char *key;  /* decoded */
    char *etag; /* with its quotes, "" when absent */
    uint64_t bytes;
};

struct s3_page {
    char *next; /* NextContinuationToken; NULL on the last page */
};
/* ListBucketResult of ListObjectsV2. `on_object` borrows; -1 with *err ends the reading. The caller releases *ret on success. */
int s3_xml_page(const char *text, size_t len, int (*on_object)(void *arg, const struct s3_object *object, struct error *err),
                void *arg, struct s3_page *ret, struct error *err) DAVIT_MUST_USE;
void s3_page_release(struct s3_page *page);

/* Error, or ErrorResponse of STS. Fields are "" where it says nothing; printable ASCII in any case. */
struct s3_refusal {
    char code[64];
    char message[256];
    char region[64];
};
void s3_xml_refusal(const char *text, size_t len, struct s3_refusal *ret);

/* AssumeRoleWithWebIdentityResponse. The caller frees the four on success. */
int s3_xml_assumed_role(const char *text, size_t len, char **ret_access_key, char **ret_secret_key, char **ret_session_token,
                        char **ret_expiration, struct error *err) DAVIT_MUST_USE;

#endif
