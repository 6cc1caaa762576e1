/* Whose keys sign a request to S3.
 *
 * An adapter that brings keys is asked for with these alone; an incomplete set is an error that names what is missing, never a
 * reason to take the process's. An adapter that names the server it is asked from, and brings no keys, is asked for by nobody: the
 * process's keys do not go where an adapter's author says. Else the process's, in the order of Amazon's tools:
 *
 *   AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN
 *   AWS_WEB_IDENTITY_TOKEN_FILE with AWS_ROLE_ARN (a Kubernetes service account): STS gives keys for an hour
 *   the profile's keys, or its role_arn with web_identity_token_file
 *   AWS_CONTAINER_CREDENTIALS_RELATIVE_URI or _FULL_URI (ECS, EKS Pod Identity)
 *   the instance's role, by its metadata service (IMDSv2): on machines of EC2, or where AWS_EC2_METADATA_SERVICE_ENDPOINT names one
 *   nobody: requests are not signed, as public buckets want it
 */
#ifndef DAVIT_ARTIFACT_S3_AWS_CREDENTIALS_H
#define DAVIT_ARTIFACT_S3_AWS_CREDENTIALS_H

#include "artifact/artifact.h"
#include "artifact/http.h"
#include "artifact/s3/aws_profile.h"

struct aws_keys {
    char *access_key; /* NULL = nobody's */
    char *secret_key;
    char *session_token; /* NULL = none */
};
void aws_keys_release(struct aws_keys *keys);
void aws_keys_copy(const struct aws_keys *keys, struct aws_keys *ret);

enum aws_identity_kind { AWS_NOBODY, AWS_KEYS, AWS_WEB_IDENTITY, AWS_CONTAINER, AWS_MACHINE };

struct aws_identity {
    enum aws_identity_kind kind;
    char *origin; /* for messages: "the adapter's Secret", "profile \"dev\"" */
    struct aws_keys keys;
    char *url; /* of STS, of the container's or the machine's service */
    char *role_arn;
    char *session_name;
    char *token_file;    /* the web identity's, or what the container's service wants in Authorization; read each time */
    char *authorization; /* the container's, where it is in the environment */
};
void aws_identity_release(struct aws_identity *identity);

/* What the keys of a scheme are called. The environment's names are the same in capitals. */
struct aws_key_names {
    const char *access_key; /* "aws_access_key_id" */
    const char *secret_key;
    const char *session_token;
};
extern const struct aws_key_names aws_key_names_s3;
extern const struct aws_key_names aws_key_names_tos;

/* The adapter's own: 1 with *ret, 0 when it brings none, ERROR_UNAUTHORIZED when some are missing. Pure. */
int aws_identity_of_secrets(const struct artifact_secrets *secrets, const struct aws_key_names *names, struct aws_identity *ret,
                            struct error *err) DAVIT_MUST_USE;
/* The process's own. Asks nobody. profile NULL = the environment's keys only. `region` is where STS is asked. The caller releases
 * *ret on success. */
int aws_identity_of_process(const struct aws_key_names *names, const struct aws_profile *profile, const char *region,
                            struct aws_identity *ret, struct error *err) DAVIT_MUST_USE;

/* Keys that are good for a while: at once, of those that this process has, or new ones. The caller releases *ret.
 * ERROR_UNAUTHORIZED when the identity is refused, else as artifact_http_ask. Any thread. */
int aws_identity_keys(struct artifact_http *http, const struct aws_identity *identity, struct aws_keys *ret,
                      struct error *err) DAVIT_MUST_USE;
/* The store refused these keys. Whether there may be others: then the next call asks for them. */
bool aws_identity_drop(const struct aws_identity *identity, const struct aws_keys *keys);

/* What containers' and machines' services answer: AccessKeyId, SecretAccessKey, Token, Expiration. Pure. The caller releases *ret
 * on success. *ret_until_ms is wall time, INT64_MAX when nothing is said. */
int aws_keys_parse(const char *text, size_t len, struct aws_keys *ret, int64_t *ret_until_ms, struct error *err) DAVIT_MUST_USE;
/* Whether AWS_CONTAINER_CREDENTIALS_FULL_URI may be asked: https, or http to this machine or to the addresses that ECS and EKS use.
 * Pure. */
bool aws_container_url_is_allowed(const char *url);

#endif
