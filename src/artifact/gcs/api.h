/* Google Cloud Storage's JSON API (https://cloud.google.com/storage/docs/json_api): URLs, pages of a listing, refusals. Pure. */
#ifndef DAVIT_ARTIFACT_GCS_API_H
#define DAVIT_ARTIFACT_GCS_API_H

#include "artifact/source.h"

#define GCS_OBJECT_BYTES_MAX 1024 /* of a name, as the service has it */
#define GCS_PAGES_MAX 64
#define GCS_PAGE_BYTES_MAX (8u << 20)

/* Where an adapter lies: gs://bucket/folder, with or without a slash at the end, or one of its files. Names are as they are, not
 * percent-encoded. */
struct gcs_place {
    char *bucket;
    char *prefix; /* "" or ends with "/" */
};
/* ERROR_INVALID. The caller releases *ret on success. */
int gcs_place_parse(const char *url, struct gcs_place *ret, struct error *err) DAVIT_MUST_USE;
void gcs_place_release(struct gcs_place *place);

/* The base URL of the API out of STORAGE_EMULATOR_HOST ("host:port" or a URL); NULL = the service's. Of the caller's. */
char *gcs_endpoint(const char *emulator_host);
/* A page of what lies right in the folder; page_token: NULL = the first one. */
char *gcs_list_url(const char *endpoint, const struct gcs_place *place, const char *page_token);
/* The bytes of one generation of an object. */
char *gcs_object_url(const char *endpoint, const char *bucket, const char *object, const char *generation);

/* Adds the files of a page that are needed; key = the object's name, etag = its generation. *ret_next: the token of the next page,
 * of the caller's, NULL after the last. ERROR_INVALID for what is no page, ERROR_LIMIT. */
int gcs_page_read(const char *text, size_t len, const struct gcs_place *place, const struct source_filter *filter,
                  struct artifact_listing *listing, char **ret_next, struct error *err) DAVIT_MUST_USE;

/* What a status of the service means. `text`: the body, JSON or words. `shown`: what was asked for. `who`: whose identity was
 * shown, NULL = nobody's. */
void gcs_explain(int status, const char *text, size_t len, const char *shown, const char *who, struct error *err);

#endif
