/* Which files are needed, and how they may be called. */
#include "artifact/source.h"

#include "adapter/peft.h"
#include "artifact/model_files.h"
#include "base/json.h"

#include <string.h>
#include <strings.h>

#define NAME_BYTES_MAX 255

static const char *const always[] = {PEFT_CONFIG_FILE, PEFT_WEIGHTS_FILE};

/* What a tokenizer with added tokens brings along. */
static const char *const tokenizer[] = {
    "added_tokens.json", "special_tokens_map.json", "tokenizer.json",
    "tokenizer.model",   "tokenizer_config.json",   "vocab.json",
    "merges.txt",        "chat_template.jinja",     "new_embeddings.safetensors",
};

static bool is_one_of(const char *name, const char *const *list, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (strcmp(name, list[i]) == 0) {
            return true;
        }
    }
    return false;
}

struct source_filter source_filter_of(const struct artifact_options *options, const struct artifact_wanted *wanted) {
    return (struct source_filter){.is_pickle_allowed = options->is_pickle_allowed, .model_suffixes = wanted->model_suffixes};
}

const char *source_needs(const struct source_filter *filter) {
    return filter->model_suffixes == NULL ? PEFT_CONFIG_FILE : "file of a model";
}

bool source_is_needed(const char *name, const struct source_filter *filter) {
    if (filter->model_suffixes != NULL) {
        return model_file_is_needed(name, filter);
    }
    return is_one_of(name, always, ARRAY_LEN(always)) || is_one_of(name, tokenizer, ARRAY_LEN(tokenizer)) ||
           (filter->is_pickle_allowed && strcmp(name, "adapter_model.bin") == 0);
}

/* One part of a path and nothing that a terminal, a log or a path would take for something else. */
static bool is_fine_name(const char *name) {
    size_t len = strlen(name);
    for (const char *at = name; *at != '\0'; at++) {
        if ((unsigned char)*at < 0x20 || *at == 0x7f || *at == '\\' || *at == '/') {
            return false;
        }
    }
    cleanup_json json_t *value = json_string(name); /* manifests are JSON: NULL for what is no UTF-8 */
    return value != NULL && len > 0 && len <= NAME_BYTES_MAX && strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

struct artifact_file *source_add_file(struct artifact_listing *listing, const char *name, struct error *err) {
    if (!is_fine_name(name)) {
        error_set(err, ERROR_INVALID, "the source names a file \"%.128s\": expected a plain file name", name);
        return NULL;
    }
    for (size_t i = 0; i < listing->count; i++) {
        if (strcmp(listing->files[i].name, name) == 0) {
            error_set(err, ERROR_INVALID, "the source names the file %s twice", name);
            return NULL;
        }
    }
    if (listing->count == ARTIFACT_FILES_MAX) {
        error_set(err, ERROR_LIMIT, "the source has more than %d files of an artifact", ARTIFACT_FILES_MAX);
        return NULL;
    }
    if ((listing->count & (listing->count - 1)) == 0) { /* grows by doubling */
        listing->files = xrealloc(listing->files, (listing->count == 0 ? 1 : 2 * listing->count) * sizeof(listing->files[0]));
    }
    struct artifact_file *file = &listing->files[listing->count++];
    *file = (struct artifact_file){.name = xstrdup(name)};
    return file;
}

void artifact_listing_release(struct artifact_listing *listing) {
    for (size_t i = 0; i < listing->count; i++) {
        free(listing->files[i].name);
        free(listing->files[i].etag);
        free(listing->files[i].key);
        free(listing->files[i].local);
    }
    free(listing->files);
    free(listing->version);
    *listing = (struct artifact_listing){0};
}

const char *artifact_secret(const struct artifact_secrets *secrets, const char *const *keys) {
    for (; secrets != NULL && *keys != NULL; keys++) {
        for (size_t i = 0; i < secrets->count; i++) {
            const struct artifact_secret *item = &secrets->items[i];
            if (strcasecmp(item->key, *keys) == 0 && item->value != NULL && item->value[0] != '\0') {
                return item->value;
            }
        }
    }
    return NULL;
}
