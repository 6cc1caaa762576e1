#include "artifact/model_files.h"

#include "adapter/artifact_url.h"
#include "artifact/folders.h"

#include <string.h>
#include <strings.h>
#include <unistd.h>

#define SAFETENSORS_PREFIX_BYTES 8
#define SAFETENSORS_HEADER_BYTES_MAX (100u << 20) /* as the format's own library has it */

/* Weights, what says how they are to be read, tokenizers, chat templates, and the code of models that bring some. */
static const char *const usual[] = {".safetensors", ".gguf", ".json", ".model", ".tiktoken", ".txt", ".jinja", ".py"};
static const char *const pickles[] = {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"};
static const char *const weights[] = {".safetensors", ".gguf"};

static bool ends_with(const char *name, const char *end, size_t end_len) {
    size_t len = strlen(name);
    return len >= end_len && strncasecmp(name + len - end_len, end, end_len) == 0;
}

static bool ends_with_one(const char *name, const char *const *ends, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (ends_with(name, ends[i], strlen(ends[i]))) {
            return true;
        }
    }
    return false;
}

/* One of the comma-separated endings; "/model.gguf" is a whole name. */
static bool is_named(const char *name, const char *suffixes) {
    cleanup_free char *path = xasprintf("/%s", name);
    for (const char *at = suffixes; *at != '\0';) {
        at += strspn(at, " ");
        size_t len = strcspn(at, ",");
        if (len > 0 && ends_with(path, at, len)) {
            return true;
        }
        at += at[len] == ',' ? len + 1 : len;
    }
    return false;
}

bool model_file_is_needed(const char *name, const struct source_filter *filter) {
    bool is_pickle = ends_with_one(name, pickles, ARRAY_LEN(pickles));
    if (name[0] == '.' || strchr(name, '/') != NULL || strcmp(name, MANIFEST_FILE) == 0 ||
        (is_pickle && !filter->is_pickle_allowed)) {
        return false;
    }
    return filter->model_suffixes[0] != '\0' ? is_named(name, filter->model_suffixes)
                                             : ends_with_one(name, usual, ARRAY_LEN(usual));
}

/* What comes before a file's name at least: a bucket, an organisation and a repository, nothing. */
static int parts_before(const char *url) {
    switch (artifact_scheme_of(url)) {
    case ARTIFACT_HUGGINGFACE:
        return 2;
    case ARTIFACT_S3:
    case ARTIFACT_TOS:
    case ARTIFACT_GCS:
    case ARTIFACT_HTTP:
        return 1;
    case ARTIFACT_PATH:
    case ARTIFACT_UNKNOWN:
        break;
    }
    return -1;
}

bool model_url_split(const char *url, char **ret_folder, char **ret_suffixes) {
    int before = parts_before(url);
    bool has_query = artifact_scheme_of(url) == ARTIFACT_HTTP;
    const char *path = before >= 0 ? strstr(url, "://") + 3 : url;
    size_t len = strcspn(path, has_query ? "?#" : "");
    int parts = 0;
    size_t name = 0;
    for (size_t i = 0; i < len; i++) {
        parts += path[i] == '/';
        name = path[i] == '/' ? i + 1 : name;
    }
    cleanup_free char *file = xstrndup(path + name, len - name);
    if (before < 0 || parts < before || strchr(file, ',') != NULL || !ends_with_one(file, weights, ARRAY_LEN(weights))) {
        return false;
    }
    *ret_folder = xasprintf("%.*s%s", (int)(path + name - url), url, path + len);
    *ret_suffixes = xasprintf("/%s", file);
    return true;
}

int model_check_listing(const struct artifact_listing *listing, const struct source_filter *filter, const char *label,
                        struct error *err) {
    const char *pickle = filter->is_pickle_allowed ? "" : "; pickle (.bin, .pt) is not looked at without --allow-pickle";
    if (filter->model_suffixes[0] != '\0') {
        return listing->count > 0
                   ? 0
                   : error_set(err, ERROR_NOT_FOUND, "%s has no file that ends in %.256s%s", label, filter->model_suffixes, pickle);
    }
    for (size_t i = 0; i < listing->count; i++) {
        if (ends_with_one(listing->files[i].name, weights, ARRAY_LEN(weights))) {
            return 0;
        }
    }
    return error_set(err, ERROR_NOT_FOUND, "%s has no weights: expected files that end in .safetensors or .gguf%s", label, pickle);
}

/* ---- what came ---- */

static const char *wrong_with(const unsigned char *head, size_t len, const struct manifest_file *file) {
    uint64_t header = 0;
    if (ends_with(file->name, ".gguf", 5)) {
        return len >= 4 && memcmp(head, "GGUF", 4) == 0 ? NULL : "it does not begin with GGUF";
    }
    if (!ends_with(file->name, ".safetensors", 12)) {
        return NULL;
    }
    for (size_t i = 0; i < SAFETENSORS_PREFIX_BYTES && len > SAFETENSORS_PREFIX_BYTES; i++) {
        header |= (uint64_t)head[i] << (8 * i);
    }
    bool is_fine = len > SAFETENSORS_PREFIX_BYTES && header > 1 && header <= SAFETENSORS_HEADER_BYTES_MAX &&
                   header <= file->bytes - SAFETENSORS_PREFIX_BYTES && head[SAFETENSORS_PREFIX_BYTES] == '{';
    return is_fine ? NULL : "it does not begin with a safetensors header";
}

static int check_file(int folder, const struct manifest_file *file, const char *label, struct error *err) {
    unsigned char head[SAFETENSORS_PREFIX_BYTES + 1];
    uint64_t bytes = 0;
    cleanup_close int fd = folder_open_file(folder, file->name, &bytes, err);
    ssize_t got = fd >= 0 ? pread(fd, head, sizeof(head), 0) : -1;
    if (fd < 0 || got < 0) {
        return fd < 0 ? error_wrap(err, "%s", label) : error_set_errno(err, "%s: %s", label, file->name);
    }
    const char *wrong = wrong_with(head, (size_t)got, file);
    return wrong == NULL ? 0 : error_set(err, ERROR_INVALID, "%s: %s: %s", label, file->name, wrong);
}

int model_check_folder(int folder, const struct manifest *manifest, const char *label, struct error *err) {
    for (size_t i = 0; i < manifest->count; i++) {
        if (check_file(folder, &manifest->files[i], label, err) < 0) {
            return -1;
        }
    }
    return 0;
}
