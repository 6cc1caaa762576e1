/* S3's interface: where a bucket's objects are asked for, in which region, and how a request is signed. Pure but for the process's
 * environment, which s3_server_find reads.
 *
 *   s3://bucket/folder     the objects right in a folder, with or without its slash; a file of the adapter stands for its folder
 *   tos://bucket/folder    the same of Volcengine TOS, by its S3 interface
 *
 * Keys are taken from the URL as they stand, as Amazon's tools do: no percent-decoding, "?" and "#" are characters of the key. */
#ifndef DAVIT_ARTIFACT_S3_API_H
#define DAVIT_ARTIFACT_S3_API_H

#include "artifact/s3/aws_credentials.h"

#define S3_PAGES_MAX 100
#define S3_REGION_BYTES_MAX 63

struct s3_place {
    bool is_tos;
    char *bucket;
    char *prefix; /* "" or ends with "/" */
};
/* ERROR_INVALID. The caller releases *ret on success. */
int s3_place_parse(const char *url, struct s3_place *ret, struct error *err) DAVIT_MUST_USE;
void s3_place_release(struct s3_place *place);

enum s3_style { S3_STYLE_AUTO, S3_STYLE_PATH, S3_STYLE_VIRTUAL };

struct s3_server {
    char *origin; /* "https://minio:9000", without a default port; NULL = Amazon's, by region */
    char *path;   /* "" or "/base" of the endpoint's URL */
    char *region; /* for a bucket whose region is not known better */
    enum s3_style style;
    bool is_adapters; /* the adapter says which server it is, not the process */
};
/* What the adapter says, else the environment, else the profile (NULL = none), else Amazon's. ERROR_INVALID names the setting. The
 * caller releases *ret on success. */
int s3_server_find(bool is_tos, const struct artifact_secrets *secrets, const struct aws_profile *profile, struct s3_server *ret,
                   struct error *err) DAVIT_MUST_USE;
void s3_server_release(struct s3_server *server);

/* Letters, digits and "-": it becomes part of a host's name. */
bool s3_region_is_valid(const char *region);

/* Where a bucket (key NULL) or an object is. */
struct s3_target {
    char *origin;
    char *host; /* as the Host field has it */
    char *path; /* encoded */
};
void s3_target_init(const struct s3_server *server, const char *bucket, const char *region, const char *key, struct s3_target *ret);
void s3_target_release(struct s3_target *target);

/* The query of a page; token NULL = the first. The caller frees it. */
char *s3_list_query(const char *prefix, const char *token);

/* Makes *ret a request of `method`, signed unless the keys are nobody's. query: "" = none. */
void s3_request_init(const char *method, const struct s3_target *target, const char *query, const char *region,
                     const struct aws_keys *keys, int64_t wall_ms, struct artifact_request *ret);

#endif
