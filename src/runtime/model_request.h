/* The bodies of POST /v1/model/download and GET /v1/model/list, as aibrix_runtime 0.8 takes them:
 *   {model_uri, local_dir?, model_name?, download_extra_config?}      and      {local_dir}
 *
 * model_uri is a URL as adapters have it, a URL of one file of weights, or a repository of the Hugging Face Hub ("org/repo").
 * download_extra_config says credentials (ak, sk, endpoint, region; hf_token, hf_endpoint), hf_revision, allow_file_suffix and
 * force_download; how a download is cut into parts (num_threads, part_chunksize, ...) is taken, and of no effect. Pure. */
#ifndef DAVIT_RUNTIME_MODEL_REQUEST_H
#define DAVIT_RUNTIME_MODEL_REQUEST_H

#include "artifact/artifact.h"
#include "base/json.h"

#define MODEL_NAME_RULE "^[A-Za-z0-9][A-Za-z0-9._-]{0,127}(/...){0,3}$"
#define MODEL_FOLDER_BYTES_MAX 1024

/* What a request that does not say is taken to say. "" = nothing. */
struct model_defaults {
    const char *folder;   /* absolute */
    const char *suffixes; /* as artifact_wanted has them */
    const char *revision; /* of the Hub's models */
};

struct model_request {
    char *name;   /* model_name; else "org/repo" of the Hub, the last part of other URLs */
    char *folder; /* local_dir, absolute, without slashes at its end */
    char *url;
    const char *source; /* "huggingface", "s3", "tos", "gcs", "http", "local" */
    char *revision;
    char *suffixes;
    bool is_forced;                  /* what is there is compared with its source */
    struct artifact_secrets secrets; /* what they point to is here */
    json_t *values;
};

/* -1: the body of a 422 answer, appended to `refusal`; no credential is repeated there. The caller releases *ret on success. */
int model_request_parse(const char *bytes, size_t len, const struct model_defaults *defaults, struct model_request *ret,
                        struct buffer *refusal) DAVIT_MUST_USE;
void model_request_release(struct model_request *request);

/* The folder that a list is wanted of; no body = the default. -1 as above. *ret_folder is of the caller's. */
int model_list_parse(const char *bytes, size_t len, const struct model_defaults *defaults, char **ret_folder,
                     struct buffer *refusal) DAVIT_MUST_USE;

/* One to four parts as adapters' names are, so nothing that leads elsewhere or is hidden. */
bool is_model_name(const char *name);

#endif
