/* The settings that Amazon's tools keep in files: ~/.aws/credentials and ~/.aws/config, one profile of which is ours.
 *
 * AWS_SHARED_CREDENTIALS_FILE and AWS_CONFIG_FILE name other files, AWS_PROFILE (AWS_DEFAULT_PROFILE) another profile than
 * "default". What both files say is taken from the first. */
#ifndef DAVIT_ARTIFACT_S3_AWS_PROFILE_H
#define DAVIT_ARTIFACT_S3_AWS_PROFILE_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>

#define AWS_FILE_BYTES_MAX (1u << 20)
#define AWS_SETTINGS_MAX 4096 /* of both files */

struct aws_setting {
    char *section; /* "default", "dev"; "services dev" */
    char *key;     /* in lower case; "s3.addressing_style" for what is indented below "s3 =" */
    char *value;
};

struct aws_profile {
    char *name;
    bool is_named; /* by the environment: then it is an error that there is none of that name */
    bool is_there;
    struct aws_setting *settings; /* of all sections */
    size_t count;
};

/* Adds what a file's text says. In a configuration file a profile's section is [profile NAME], in the other [NAME]. Pure.
 * ERROR_INVALID names the line and none of its text; ERROR_LIMIT. */
int aws_profile_read(struct aws_profile *profile, const char *text, size_t len, bool is_config, struct error *err) DAVIT_MUST_USE;

/* Reads the files; those that are not there are none. The caller releases *ret on success. */
int aws_profile_load(struct aws_profile *ret, struct error *err) DAVIT_MUST_USE;
void aws_profile_release(struct aws_profile *profile);

/* A setting of the profile, or of another section; NULL when absent or empty. Borrowed. */
const char *aws_profile_get(const struct aws_profile *profile, const char *key);
const char *aws_profile_get_of(const struct aws_profile *profile, const char *section, const char *key);

#endif
