/* The credentials that a load comes with, as its source is given them: `credentials` of the body, or else the files of the Secret
 * that `credentials_secret` names, mounted at <root>/<name>; then `additional_config` over them, key by key. */
#ifndef DAVIT_RUNTIME_LOAD_SECRETS_H
#define DAVIT_RUNTIME_LOAD_SECRETS_H

#include "artifact/artifact.h"
#include "base/json.h"

#define LOAD_SECRETS_ROOT "/var/run/secrets/aibrix"
#define LOAD_SECRET_BYTES_MAX (256 * 1024) /* of a value */

struct load_secrets {
    struct artifact_secrets list; /* what it points to is here */
    json_t *values;
};

/* `body`: a request of the delegated form that was found well-formed. ERROR_INVALID for the name of no Secret, ERROR_NOT_FOUND for
 * one that is not mounted, ERROR_LIMIT. No message holds a value. The caller releases *ret on success. */
int load_secrets_read(const json_t *body, const char *root, struct load_secrets *ret, struct error *err) DAVIT_MUST_USE;
void load_secrets_release(struct load_secrets *secrets);

#endif
