#include "artifact/manifest.h"

#include "adapter/peft.h"
#include "base/json.h"

#include <string.h>

#define VALUES_MAX (8 * ARTIFACT_FILES_MAX)

bool manifest_is_id(const char *text) {
    return strlen(text) == OBJECT_ID_BYTES - 1 && strspn(text, "0123456789abcdef") == OBJECT_ID_BYTES - 1;
}

static bool is_sha256(const char *text) {
    return strlen(text) == HASH_HEX_BYTES - 1 && strspn(text, "0123456789abcdef") == HASH_HEX_BYTES - 1;
}

static bool is_plain_name(const char *name) {
    return name[0] != '\0' && strlen(name) <= 255 && strchr(name, '/') == NULL && strcmp(name, ".") != 0 &&
           strcmp(name, "..") != 0 && strcmp(name, MANIFEST_FILE) != 0;
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const struct manifest_file *)a)->name, ((const struct manifest_file *)b)->name);
}

static const char *digest_of(const struct manifest *manifest) {
    static const char *const weights[] = {PEFT_WEIGHTS_FILE, "adapter_model.bin"};
    for (size_t w = 0; w < ARRAY_LEN(weights); w++) {
        for (size_t i = 0; i < manifest->count; i++) {
            if (strcmp(manifest->files[i].name, weights[w]) == 0) {
                return manifest->files[i].sha256;
            }
        }
    }
    return "";
}

void manifest_add(struct manifest *manifest, char *name, uint64_t bytes, const char *sha256) {
    if ((manifest->count & (manifest->count - 1)) == 0) { /* grows by doubling */
        manifest->files = xrealloc(manifest->files, (manifest->count == 0 ? 1 : 2 * manifest->count) * sizeof(manifest->files[0]));
    }
    struct manifest_file *file = &manifest->files[manifest->count++];
    *file = (struct manifest_file){.name = name, .bytes = bytes};
    (void)snprintf(file->sha256, sizeof(file->sha256), "%s", sha256);
}

void manifest_seal(struct manifest *manifest) {
    cleanup_buffer struct buffer text = BUFFER_INIT;
    char hex[HASH_HEX_BYTES];
    if (manifest->count > 0) {
        qsort(manifest->files, manifest->count, sizeof(manifest->files[0]), by_name);
    }
    manifest->bytes = 0;
    for (size_t i = 0; i < manifest->count; i++) {
        buffer_printf(&text, "%s/%s\n", manifest->files[i].name, manifest->files[i].sha256);
        manifest->bytes += manifest->files[i].bytes;
    }
    struct hash hash = hash_bytes(buffer_text(&text), text.len);
    hash_hex(&hash, hex);
    (void)snprintf(manifest->id, sizeof(manifest->id), "%.32s", hex);
    (void)snprintf(manifest->digest, sizeof(manifest->digest), "%s", digest_of(manifest));
}

/* URLs are what people write: not always UTF-8. */
static json_t *text_value(const char *text) {
    return json_string_lossy(text != NULL ? text : "");
}

void manifest_write(const struct manifest *manifest, struct buffer *out) {
    cleanup_json json_t *files = json_array();
    for (size_t i = 0; i < manifest->count; i++) {
        const struct manifest_file *file = &manifest->files[i];
        json_array_append_new(files, json_pack("{s:o, s:I, s:s}", "name", text_value(file->name), "bytes", (json_int_t)file->bytes,
                                               "sha256", file->sha256));
    }
    cleanup_json json_t *root = json_pack("{s:s, s:o, s:o, s:O}", "id", manifest->id, "url", text_value(manifest->url), "version",
                                          text_value(manifest->version), "files", files);
    json_append(out, root);
}

static int read_file_row(const json_t *row, struct manifest *ret, struct error *err) {
    const char *name = json_string_at(row, "name", "");
    const char *sha256 = json_string_at(row, "sha256", "");
    int64_t bytes = json_int_at(row, "bytes", -1);
    if (!is_plain_name(name) || !is_sha256(sha256) || bytes < 0 || ret->count == ARTIFACT_FILES_MAX) {
        return error_set(err, ERROR_INVALID, MANIFEST_FILE ": the row of file \"%.64s\" is not as it was written", name);
    }
    manifest_add(ret, xstrdup(name), (uint64_t)bytes, sha256);
    return 0;
}

int manifest_parse(const char *text, size_t len, struct manifest *ret, struct error *err) {
    cleanup_json json_t *root = json_parse_bounded(text, len, VALUES_MAX, err);
    struct manifest manifest = {0};
    size_t i = 0;
    const json_t *row = NULL;
    int result = 0;
    if (root == NULL) {
        return error_wrap(err, MANIFEST_FILE);
    }
    json_array_foreach(json_object_get(root, "files"), i, row) {
        result = result < 0 ? result : read_file_row(row, &manifest, err);
    }
    manifest_seal(&manifest);
    if (result == 0 && strcmp(manifest.id, json_string_at(root, "id", "")) != 0) {
        result = error_set(err, ERROR_INVALID, MANIFEST_FILE ": the id is not that of its files");
    }
    if (result < 0) {
        manifest_release(&manifest);
        return -1;
    }
    manifest.url = xstrdup(json_string_at(root, "url", ""));
    manifest.version = xstrdup(json_string_at(root, "version", ""));
    *ret = manifest;
    return 0;
}

void manifest_release(struct manifest *manifest) {
    for (size_t i = 0; i < manifest->count; i++) {
        free(manifest->files[i].name);
    }
    free(manifest->files);
    free(manifest->url);
    free(manifest->version);
    *manifest = (struct manifest){0};
}
