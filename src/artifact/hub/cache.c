#include "artifact/hub/cache.h"

#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#define ENTRIES_MAX 10000 /* of one folder */

/* "<root>/models--org--name" */
static char *repo_folder(const char *root, const struct hub_place *place) {
    cleanup_buffer struct buffer out = BUFFER_INIT;
    buffer_printf(&out, "%s/models--", root);
    for (const char *at = place->repo; *at != '\0'; at++) {
        buffer_append_text(&out, *at == '/' ? "--" : (char[]){*at, '\0'});
    }
    return buffer_take(&out);
}

static char *snapshot_folder(const char *root, const struct hub_place *place, const char *commit) {
    cleanup_free char *repo = repo_folder(root, place);
    return xasprintf("%s/snapshots/%s%s%s", repo, commit, *place->folder != '\0' ? "/" : "", place->folder);
}

int hub_cache_resolve(const char *root, const struct hub_place *place, char ret_commit[HUB_COMMIT_LEN + 1], struct error *err) {
    cleanup_free char *repo = repo_folder(root, place);
    cleanup_free char *path = xasprintf("%s/refs/%s", repo, place->revision);
    cleanup_buffer struct buffer text = BUFFER_INIT;
    struct error problem;
    bool is_read = file_read(path, HUB_COMMIT_LEN + 2, &text, &problem) == 0;
    cleanup_free char *commit = xstrndup(buffer_text(&text), HUB_COMMIT_LEN);
    if (!is_read || !hub_is_commit(commit)) {
        return error_set(err, ERROR_NOT_FOUND, "the local hub cache %s does not know revision \"%s\" of \"%s\"%s%s", root,
                         place->revision, place->repo, is_read || problem.code == ERROR_NOT_FOUND ? "" : ": ",
                         is_read || problem.code == ERROR_NOT_FOUND ? "" : problem.message);
    }
    memcpy(ret_commit, commit, HUB_COMMIT_LEN + 1);
    return 0;
}

/* The regular file that a path leads to, of the caller's; NULL when there is none inside of the cache. */
static char *resolve_inside(const char *root, const char *path, struct stat *ret_status) {
    cleanup_free char *real_root = realpath(root, NULL);
    cleanup_free char *real = realpath(path, NULL);
    if (real_root == NULL || real == NULL) {
        return NULL;
    }
    size_t len = strlen(real_root);
    bool is_inside = strncmp(real, real_root, len) == 0 && real[len] == '/';
    return is_inside && stat(real, ret_status) == 0 && S_ISREG(ret_status->st_mode) ? take_pointer(real) : NULL;
}

/* What a blob's name says of its content; "" in both where it is no hash. */
static void read_blob_name(const char *path, struct artifact_file *file) {
    const char *name = strrchr(path, '/') + 1;
    size_t len = strlen(name);
    if (strspn(name, "0123456789abcdef") != len) {
        return;
    }
    if (len == sizeof(file->sha256) - 1) {
        memcpy(file->sha256, name, len + 1);
    } else if (len == sizeof(file->git_sha1) - 1) {
        memcpy(file->git_sha1, name, len + 1);
    }
}

static int add_local(const char *root, const char *folder, const char *prefix, const char *name, struct artifact_listing *listing,
                     struct error *err) {
    cleanup_free char *path = path_join(folder, name);
    struct stat status;
    char *real = resolve_inside(root, path, &status);
    if (real == NULL) {
        return 0;
    }
    struct artifact_file *row = source_add_file(listing, name, err);
    if (row == NULL) {
        free(real);
        return -1;
    }
    row->local = real;
    row->bytes = (uint64_t)status.st_size;
    row->key = *prefix != '\0' ? path_join(prefix, name) : xstrdup(name);
    read_blob_name(real, row);
    return 0;
}

static int add_entries(const char *root, const char *folder, const struct hub_place *place, DIR *dir,
                       const struct source_filter *filter, struct artifact_listing *listing, struct error *err) {
    struct dirent *entry;
    for (int count = 0; (entry = readdir(dir)) != NULL; count++) {
        if (count >= ENTRIES_MAX) {
            return error_set(err, ERROR_LIMIT, "%s holds more than %d files", folder, ENTRIES_MAX);
        }
        if (source_is_needed(entry->d_name, filter) && add_local(root, folder, place->folder, entry->d_name, listing, err) < 0) {
            return -1;
        }
    }
    return 0;
}

int hub_cache_list(const char *root, const struct hub_place *place, const char *commit, const struct source_filter *filter,
                   struct artifact_listing *listing, struct error *err) {
    cleanup_free char *folder = snapshot_folder(root, place, commit);
    DIR *dir = opendir(folder);
    if (dir == NULL) {
        return error_set(err, ERROR_NOT_FOUND, "the local hub cache %s does not have \"%s\" at commit %s%s%s%s", root, place->repo,
                         commit, *place->folder != '\0' ? ", folder " : "", place->folder,
                         errno == ENOENT ? "" : " (it cannot be read)");
    }
    int result = add_entries(root, folder, place, dir, filter, listing, err);
    (void)closedir(dir);
    return result;
}

void hub_cache_use(const char *root, const struct hub_place *place, const char *commit, struct artifact_listing *listing) {
    cleanup_free char *folder = snapshot_folder(root, place, commit);
    for (size_t i = 0; i < listing->count; i++) {
        struct artifact_file *file = &listing->files[i];
        cleanup_free char *path = path_join(folder, file->name);
        struct stat status;
        char *real = resolve_inside(root, path, &status);
        struct artifact_file promised = {0};
        if (real != NULL) {
            read_blob_name(real, &promised);
        }
        bool is_same = real != NULL && file->bytes == (uint64_t)status.st_size &&
                       ((*file->sha256 != '\0' && strcmp(file->sha256, promised.sha256) == 0) ||
                        (*file->git_sha1 != '\0' && strcmp(file->git_sha1, promised.git_sha1) == 0));
        file->local = is_same ? real : NULL;
        if (!is_same) {
            free(real);
        }
    }
}
