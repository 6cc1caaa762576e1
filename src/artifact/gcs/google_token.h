/* Access tokens: whose, and where from. */
#ifndef DAVIT_ARTIFACT_GCS_GOOGLE_TOKEN_H
#define DAVIT_ARTIFACT_GCS_GOOGLE_TOKEN_H

#include "artifact/gcs/google_credentials.h"
#include "artifact/http.h"

/* The adapter's own when its Secret has a key for Google (gcp_service_account_json, or gcp_access_token); one that is given and
 * broken is an error, never a reason to take another. Else the process's, in Google's order: the file that
 * GOOGLE_APPLICATION_CREDENTIALS names, gcloud's application_default_credentials.json, the machine's metadata server (on Google's
 * machines, and where GCE_METADATA_HOST names one; elsewhere nobody is asked), else nobody's. Asks nobody.
 *
 * is_emulated: STORAGE_EMULATOR_HOST is set, to which the process shows nothing. The caller releases *ret on success. */
int google_identity(const struct artifact_secrets *secrets, bool is_emulated, struct google_credentials *ret,
                    struct error *err) DAVIT_MUST_USE;

/* A token that is good for some minutes more: of those that this process has, or a new one. *ret_token is of the caller's, NULL for
 * nobody's. ERROR_UNAUTHORIZED when Google refuses the identity, else as artifact_http_ask. Any thread. */
int google_token(struct artifact_http *http, const struct google_credentials *credentials, char **ret_token,
                 struct error *err) DAVIT_MUST_USE;

#endif
