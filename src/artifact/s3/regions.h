/* Which region a bucket turned out to be in: a bounded memory of the process, for all threads. */
#ifndef DAVIT_ARTIFACT_S3_REGIONS_H
#define DAVIT_ARTIFACT_S3_REGIONS_H

#define S3_REGIONS_MAX 64

/* `server` is an origin, "" for Amazon's. The caller frees the result; NULL = not known. */
char *s3_region_known(const char *server, const char *bucket);
void s3_region_learn(const char *server, const char *bucket, const char *region);

#endif
