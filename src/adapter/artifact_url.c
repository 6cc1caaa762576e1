#include "adapter/artifact_url.h"

#include <string.h>

static const struct {
    const char *prefix;
    enum artifact_scheme scheme;
} schemes[] = {
    {"/", ARTIFACT_PATH},
    {"file:///", ARTIFACT_PATH},
    {"huggingface://", ARTIFACT_HUGGINGFACE},
    {"hf://", ARTIFACT_HUGGINGFACE},
    {"s3://", ARTIFACT_S3},
    {"gs://", ARTIFACT_GCS},
    {"gcs://", ARTIFACT_GCS},
    {"tos://", ARTIFACT_TOS},
    {"http://", ARTIFACT_HTTP},
    {"https://", ARTIFACT_HTTP},
};

static const char *prefix_of(const char *url, enum artifact_scheme *ret_scheme) {
    for (size_t i = 0; i < ARRAY_LEN(schemes); i++) {
        if (strncmp(url, schemes[i].prefix, strlen(schemes[i].prefix)) == 0) {
            *ret_scheme = schemes[i].scheme;
            return schemes[i].prefix;
        }
    }
    *ret_scheme = ARTIFACT_UNKNOWN;
    return "";
}

enum artifact_scheme artifact_scheme_of(const char *url) {
    enum artifact_scheme scheme;
    (void)prefix_of(url, &scheme);
    return scheme;
}

const char *artifact_schemes_text(void) {
    return "s3://, gs://, gcs://, tos://, huggingface://, hf://, http://, https://, file:///, or an absolute path";
}

const char *artifact_local_path(const char *url) {
    if (url[0] == '/') {
        return url;
    }
    return strncmp(url, "file:///", 8) == 0 ? url + 7 : NULL;
}

int artifact_engine_path(const char *url, const char **ret_path, struct error *err) {
    const char *path = artifact_local_path(url);
    enum artifact_scheme scheme;
    const char *prefix = prefix_of(url, &scheme);
    if (path == NULL && scheme == ARTIFACT_HUGGINGFACE && url[strlen(prefix)] != '\0') {
        path = url + strlen(prefix);
    }
    if (path == NULL) {
        return error_set(err, ERROR_UNSUPPORTED,
                         "an engine without the sidecar takes absolute paths and huggingface:// only; start the controller with "
                         "--enable-runtime-sidecar and add the container aibrix-runtime to the pods");
    }
    *ret_path = path;
    return 0;
}
