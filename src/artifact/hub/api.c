#include "artifact/hub/api.h"

#include "base/json.h"

#include <ctype.h>
#include <string.h>

/* ---- one file ---- */

/* Copies a hash in lower case; "" when the text is not one of `digits` digits. */
static void take_hash(const char *text, size_t digits, char *out) {
    out[0] = '\0';
    if (strlen(text) != digits || strspn(text, "0123456789abcdefABCDEF") != digits) {
        return;
    }
    for (size_t i = 0; i <= digits; i++) {
        out[i] = (char)tolower((unsigned char)text[i]);
    }
}

/* What lies in the folder, "" when the path is not right in it. */
static const char *name_in_folder(const char *path, const char *folder) {
    size_t len = strlen(folder);
    if (len == 0) {
        return path;
    }
    return strncmp(path, folder, len) == 0 && path[len] == '/' ? path + len + 1 : "";
}

static void note_elsewhere(struct hub_reading *reading, const char *path) {
    static const char ending[] = "/adapter_config.json";
    size_t len = strlen(path);
    if (reading->elsewhere == NULL && *reading->place->folder == '\0' && len > sizeof(ending) - 1 && len < HUB_FOLDER_BYTES_MAX &&
        strcmp(path + len - (sizeof(ending) - 1), ending) == 0) {
        reading->elsewhere = xstrndup(path, len - (sizeof(ending) - 1));
    }
}

static int64_t size_of(const json_t *file, const json_t *lfs) {
    int64_t size = json_int_at(lfs, "size", -1);
    return size >= 0 ? size : json_int_at(file, "size", -1);
}

/* `path_key`: how the answer calls the path; `sha1_key`: git's name of the file; `sha256_key`: of the LFS object. */
static int add_file(struct hub_reading *reading, const json_t *file, const char *path_key, const char *sha1_key,
                    const char *sha256_key, struct error *err) {
    const char *path = json_string_at(file, path_key, "");
    const char *name = name_in_folder(path, reading->place->folder);
    note_elsewhere(reading, path);
    if (*name == '\0' || !source_is_needed(name, &reading->filter)) {
        return 0;
    }
    struct artifact_file *row = source_add_file(reading->listing, name, err);
    if (row == NULL) {
        return -1;
    }
    const json_t *lfs = json_object_get(file, "lfs");
    int64_t size = size_of(file, lfs);
    row->key = xstrdup(path);
    row->bytes = size >= 0 ? (uint64_t)size : UINT64_MAX;
    if (json_is_object(lfs)) { /* git's name is that of the pointer */
        take_hash(json_string_at(lfs, sha256_key, ""), HASH_HEX_BYTES - 1, row->sha256);
    } else {
        take_hash(json_string_at(file, sha1_key, ""), 40, row->git_sha1);
    }
    return 0;
}

/* ---- answers ---- */

static json_t *read_answer(struct hub_reading *reading, const char *text, size_t len, const char *what, struct error *err) {
    json_t *answer = json_parse_bounded(text, len, HUB_VALUES_MAX, err);
    if (answer == NULL) {
        (void)error_wrap(err, "the hub's answer about %s of \"%s\"", what, reading->place->repo);
    }
    return answer;
}

int hub_info_read(struct hub_reading *reading, const char *text, size_t len, bool with_files, struct error *err) {
    cleanup_json json_t *info = read_answer(reading, text, len, "the revision", err);
    if (info == NULL) {
        return -1;
    }
    take_hash(json_string_at(info, "sha", ""), HUB_COMMIT_LEN, reading->commit);
    if (*reading->commit == '\0') {
        return error_set(
            err, ERROR_INVALID,
            "the hub's answer about \"%s\": expected a commit of 40 hexadecimal digits in \"sha\", found none; is that server a "
            "Hugging Face Hub?",
            reading->place->repo);
    }
    const json_t *gated = json_object_get(info, "gated"); /* false, "auto" or "manual" */
    reading->is_gated = gated != NULL && !json_is_false(gated);
    const json_t *siblings = json_object_get(info, "siblings");
    for (size_t i = 0; with_files && i < json_array_size(siblings); i++) {
        if (add_file(reading, json_array_get(siblings, i), "rfilename", "blobId", "sha256", err) < 0) {
            return -1;
        }
    }
    return 0;
}

int hub_tree_read(struct hub_reading *reading, const char *text, size_t len, struct error *err) {
    cleanup_json json_t *page = read_answer(reading, text, len, "the files", err);
    if (page == NULL) {
        return -1;
    }
    if (!json_is_array(page)) {
        return error_set(err, ERROR_INVALID, "the hub's answer about the files of \"%s\": expected a list", reading->place->repo);
    }
    for (size_t i = 0; i < json_array_size(page); i++) {
        const json_t *entry = json_array_get(page, i);
        if (strcmp(json_string_at(entry, "type", ""), "file") == 0 && add_file(reading, entry, "path", "oid", "oid", err) < 0) {
            return -1;
        }
    }
    return 0;
}
