#include "runtime/model_request.h"

#include "adapter/artifact_url.h"
#include "artifact/model_files.h"
#include "io/url.h"
#include "runtime/form.h"
#include "runtime/lora_answer.h"
#include "runtime/lora_request.h"

#include <string.h>

#define NAME_PARTS_MAX 4

/* Members of download_extra_config, and what the sources call those that are credentials. */
static const struct {
    const char *name;
    const char *keys[2];
} members[] = {
    {"ak", {"aws_access_key_id", "tos_access_key"}},
    {"sk", {"aws_secret_access_key", "tos_secret_key"}},
    {"endpoint", {"aws_endpoint_url", "tos_endpoint"}},
    {"region", {"aws_region", "tos_region"}},
    {"hf_endpoint", {"hf_endpoint"}},
    {"hf_token", {"huggingface_token"}},
    {"hf_revision", {NULL}},
    {"allow_file_suffix", {NULL}},
    {"force_download", {NULL}},
    {"num_threads", {NULL}},
    {"max_io_queue", {NULL}},
    {"io_chunksize", {NULL}},
    {"part_threshold", {NULL}},
    {"part_chunksize", {NULL}},
};

static int refuse(struct buffer *refusal, char *message) {
    lora_error_object(refusal, 422, "InvalidArgumentError", message);
    free(message);
    return -1;
}

/* ---- names and folders ---- */

bool is_model_name(const char *name) {
    int parts = 0;
    for (const char *at = name;; at++) {
        size_t len = strcspn(at, "/");
        cleanup_free char *part = xstrndup(at, len);
        if (++parts > NAME_PARTS_MAX || !is_lora_name(part)) {
            return false;
        }
        at += len;
        if (*at == '\0') {
            return true;
        }
    }
}

/* The last part of a URL's path; never what is secret in it. */
static char *last_part(const char *given) {
    cleanup_free char *url = artifact_scheme_of(given) == ARTIFACT_HTTP ? url_for_people(given) : xstrdup(given);
    size_t len = strlen(url);
    while (len > 0 && url[len - 1] == '/') {
        len--;
    }
    size_t begin = len;
    while (begin > 0 && url[begin - 1] != '/') {
        begin--;
    }
    return xstrndup(url + begin, len - begin);
}

/* "org/repo/folder" of "hf://org/repo@revision/folder" */
static char *name_on_hub(const char *url) {
    const char *path = strstr(url, "://") + 3;
    size_t before = strcspn(path, "@");
    const char *behind = path + before + strcspn(path + before, "/");
    size_t len = strlen(behind);
    while (len > 0 && behind[len - 1] == '/') {
        len--;
    }
    before -= before > 0 && *behind == '\0' && path[before - 1] == '/'; /* "org/repo/" */
    return xasprintf("%.*s%.*s", (int)before, path, (int)len, behind);
}

/* NULL and a refusal for what is no absolute path or has ".." in it. */
static char *clean_folder(const char *folder, struct buffer *refusal) {
    size_t len = strlen(folder);
    cleanup_free char *guarded = xasprintf("%s/", folder);
    if (folder[0] != '/' || len > MODEL_FOLDER_BYTES_MAX || strstr(guarded, "/../") != NULL) {
        (void)refuse(refusal,
                     xasprintf("local_dir: expected an absolute path without \"..\", of at most %d bytes, found \"%.128s\"",
                               MODEL_FOLDER_BYTES_MAX, folder));
        return NULL;
    }
    while (len > 1 && folder[len - 1] == '/') {
        len--;
    }
    return xstrndup(folder, len);
}

/* ---- download_extra_config ---- */

static void add_suffix(struct buffer *suffixes, const char *suffix) {
    if (suffix != NULL && *suffix != '\0') {
        buffer_printf(suffixes, "%s%s", suffixes->len > 0 ? "," : "", suffix);
    }
}

/* "a,b" or ["a", "b"]; `first`: what the URL names, NULL = nothing */
static char *read_suffixes(const json_t *value, const char *first, const char *fallback) {
    struct buffer suffixes = BUFFER_INIT;
    size_t i;
    json_t *item;
    add_suffix(&suffixes, first);
    add_suffix(&suffixes, json_c_string(value));
    json_array_foreach(value, i, item) {
        add_suffix(&suffixes, json_c_string(item));
    }
    if (suffixes.len == 0) {
        buffer_append_text(&suffixes, fallback);
    }
    return buffer_take(&suffixes);
}

static void read_secrets(const json_t *config, struct model_request *request) {
    const char *key;
    json_t *value;
    request->values = json_object();
    for (size_t i = 0; i < ARRAY_LEN(members); i++) {
        const char *text = json_c_string(json_object_get(config, members[i].name));
        for (size_t k = 0; k < 2 && members[i].keys[k] != NULL && text != NULL && *text != '\0'; k++) {
            json_object_set_new(request->values, members[i].keys[k], json_string(text));
        }
    }
    json_object_foreach(request->values, key, value) {
        request->secrets.items[request->secrets.count++] = (struct artifact_secret){key, json_string_value(value)};
    }
}

static bool is_known(const char *name) {
    for (size_t i = 0; i < ARRAY_LEN(members); i++) {
        if (strcmp(members[i].name, name) == 0) {
            return true;
        }
    }
    return false;
}

static int check_config(const json_t *config, struct buffer *refusal) {
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)config, name, value) {
        if (!is_known(name)) {
            return refuse(refusal, xasprintf("download_extra_config: \"%.64s\" is not known", name));
        }
    }
    return 0;
}

/* ---- the whole of it ---- */

static const char *source_of(enum artifact_scheme scheme) {
    static const char *const names[] = {[ARTIFACT_PATH] = "local", [ARTIFACT_HUGGINGFACE] = "huggingface",
                                        [ARTIFACT_S3] = "s3",      [ARTIFACT_GCS] = "gcs",
                                        [ARTIFACT_TOS] = "tos",    [ARTIFACT_HTTP] = "http"};
    return (size_t)scheme < ARRAY_LEN(names) ? names[scheme] : NULL;
}

static const char *revision_of(const json_t *config, const char *url, const char *fallback) {
    bool is_hub = artifact_scheme_of(url) == ARTIFACT_HUGGINGFACE;
    bool says_it_itself = strchr(url, '@') != NULL;
    return !is_hub ? "" : json_string_at(config, "hf_revision", says_it_itself ? "" : fallback);
}

static int read_request(const json_t *body, const struct model_defaults *defaults, struct model_request *ret,
                        struct buffer *refusal) {
    const json_t *config = json_object_get(body, "download_extra_config");
    const char *uri = json_string_at(body, "model_uri", "");
    const char *folder = json_string_at(body, "local_dir", "");
    const char *name = json_string_at(body, "model_name", "");
    cleanup_free char *given = xasprintf("%s%s", strstr(uri, "://") != NULL || uri[0] == '/' ? "" : "hf://", uri);
    cleanup_free char *file = NULL;
    enum artifact_scheme scheme = artifact_scheme_of(given);
    ret->source = source_of(scheme);
    if (ret->source == NULL || *uri == '\0') {
        return refuse(refusal, xasprintf("model_uri: expected org/repo, %s", artifact_schemes_text()));
    }
    if (!model_url_split(given, &ret->url, &file)) {
        ret->url = xstrdup(given);
    }
    ret->name = *name != '\0' ? xstrdup(name) : scheme == ARTIFACT_HUGGINGFACE ? name_on_hub(ret->url) : last_part(given);
    if (!is_model_name(ret->name)) {
        return refuse(refusal, xasprintf("model_name: must match %s, found \"%.256s\"", MODEL_NAME_RULE, ret->name));
    }
    ret->folder = clean_folder(*folder != '\0' ? folder : defaults->folder, refusal);
    if (ret->folder == NULL || check_config(config, refusal) < 0) {
        return -1;
    }
    read_secrets(config, ret);
    ret->revision = xstrdup(revision_of(config, given, defaults->revision));
    ret->suffixes = read_suffixes(json_object_get(config, "allow_file_suffix"), file, defaults->suffixes);
    ret->is_forced = json_bool_at(config, "force_download", false);
    return 0;
}

int model_request_parse(const char *bytes, size_t len, const struct model_defaults *defaults, struct model_request *ret,
                        struct buffer *refusal) {
    static const struct form form = {NULL,
                                     {{"model_uri", FORM_STRING, true},
                                      {"local_dir", FORM_STRING, false},
                                      {"model_name", FORM_STRING, false},
                                      {"download_extra_config", FORM_OBJECT, false}}};
    cleanup_json json_t *body = NULL;
    struct model_request request = {0};
    if (form_parse(&form, 1, bytes, len, &body, refusal) < 0) {
        return -1;
    }
    if (read_request(body, defaults, &request, refusal) < 0) {
        model_request_release(&request);
        return -1;
    }
    *ret = request;
    return 0;
}

void model_request_release(struct model_request *request) {
    free(request->name);
    free(request->folder);
    free(request->url);
    free(request->revision);
    free(request->suffixes);
    json_decref(request->values);
    *request = (struct model_request){0};
}

int model_list_parse(const char *bytes, size_t len, const struct model_defaults *defaults, char **ret_folder,
                     struct buffer *refusal) {
    static const struct form form = {NULL, {{"local_dir", FORM_STRING, true}}};
    cleanup_json json_t *body = NULL;
    if (len > 0 && form_parse(&form, 1, bytes, len, &body, refusal) < 0) {
        return -1;
    }
    char *folder = clean_folder(json_string_at(body, "local_dir", defaults->folder), refusal);
    if (folder == NULL) {
        return -1;
    }
    *ret_folder = folder;
    return 0;
}
