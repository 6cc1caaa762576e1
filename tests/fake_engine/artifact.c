#include "artifact.h"

#include <string.h>

static const char *const schemes[] = {"s3://", "gcs://", "gs://", "tos://", "huggingface://", "hf://", "http://", "https://"};

static bool has_known_scheme(const char *url) {
    for (size_t i = 0; i < ARRAY_LEN(schemes); i++) {
        if (strncmp(url, schemes[i], strlen(schemes[i])) == 0) {
            return true;
        }
    }
    return false;
}

/* additional_config is laid over the credentials. NULL = in neither. */
static const char *credential(const struct asked *asked, const char *name) {
    const char *own = json_string_value(json_object_get(json_object_get(asked->body, "credentials"), name));
    return json_string_at(json_object_get(asked->body, "additional_config"), name, own);
}

/* NULL = it may be read. A folder is listed first, which is refused otherwise than a single object. */
static char *s3_refusal(const struct settings *settings, const struct asked *asked) {
    const char *access_key = credential(asked, "aws_access_key_id"), *secret_key = credential(asked, "aws_secret_access_key");
    size_t len = strlen(asked->path);
    if (settings->s3_access_key == NULL) {
        return NULL;
    }
    if (access_key == NULL || secret_key == NULL) {
        return xstrdup("Failed to load adapter: AWS credentials not found. Please provide credentials in secret.");
    }
    bool is_known = strcmp(access_key, settings->s3_access_key) == 0;
    if (is_known && settings->s3_secret_key != NULL && strcmp(secret_key, settings->s3_secret_key) == 0) {
        return NULL;
    }
    if (len == 0 || asked->path[len - 1] != '/') {
        return xasprintf("Permission denied: Access denied to S3 object: %s", asked->path);
    }
    return xasprintf(
        "Failed to load adapter: S3 download error: An error occurred (%s) when calling the ListObjectsV2 operation: %s",
        is_known ? "SignatureDoesNotMatch" : "InvalidAccessKeyId",
        is_known ? "The request signature we calculated does not match the signature you provided."
                 : "The AWS Access Key Id you provided does not exist in our records.");
}

char *artifact_fetch(const struct engine *engine, const struct asked *asked, char **ret_message) {
    if (!asked->is_artifact || asked->path[0] == '/') {
        return xstrdup(asked->path);
    }
    if (!has_known_scheme(asked->path)) {
        *ret_message =
            xasprintf("Failed to load adapter: Unsupported URL scheme: %.*s. Supported schemes: s3, gcs, tos, huggingface, "
                      "http, https",
                      (int)strcspn(asked->path, ":"), asked->path);
        return NULL;
    }
    char *refusal = strncmp(asked->path, "s3://", 5) == 0 ? s3_refusal(&engine->settings, asked) : NULL;
    if (refusal != NULL) {
        *ret_message = refusal;
        return NULL;
    }
    return xasprintf("/tmp/aibrix/adapters/%s", asked->name);
}
