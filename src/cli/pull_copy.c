#include "cli/pull_copy.h"

#include "artifact/folders.h"
#include "artifact/manifest.h"
#include "base/file.h"
#include "base/map.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#define COPY_BYTES (1u << 20)
#define LIST ".davit-pull" /* names, one a line */
#define LIST_BYTES_MAX (4u << 20)
#define NEW_PREFIX LIST "."   /* of files that are not whole yet */
#define NEW_SECONDS_MAX 86400 /* that a copy may take; what is older was left by a kill */

struct copy {
    const char *from_path;
    const char *to_path;
    int from_fd;
    int to_fd;
    const struct artifact_progress *progress;
    struct map names; /* of `from` -> the name in `to` under which it was written */
    char *piece;
    struct error *err;
};

/* ---- writing ---- */

static int copy_bytes(const struct copy *copy, int from, int to) {
    ssize_t got = 0;
    while ((got = read(from, copy->piece, COPY_BYTES)) > 0) {
        if (artifact_progress_check(copy->progress, copy->err) < 0) {
            return -1;
        }
        if (file_write_all(to, copy->piece, (size_t)got) < 0) {
            return error_set_errno(copy->err, "%s", copy->to_path);
        }
    }
    if (got < 0) {
        return error_set_errno(copy->err, "%s", copy->from_path);
    }
    return fsync(to) == 0 ? 0 : error_set_errno(copy->err, "%s", copy->to_path);
}

static int copy_file(void *arg, const char *name) {
    struct copy *copy = arg;
    struct stat status;
    if (name[0] == '.' || strcmp(name, MANIFEST_FILE) == 0) {
        return 0;
    }
    cleanup_close int from = openat(copy->from_fd, name, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (from < 0 || fstat(from, &status) < 0) {
        return error_set_errno(copy->err, "%s/%s", copy->from_path, name);
    }
    if (!S_ISREG(status.st_mode)) {
        return 0;
    }
    char *written = folder_new_name(NEW_PREFIX);
    (void)map_set(&copy->names, name, written);
    cleanup_close int to = openat(copy->to_fd, written, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
    if (to < 0) {
        return error_set_errno(copy->err, "%s/%s", copy->to_path, name);
    }
    return copy_bytes(copy, from, to);
}

/* ---- appearing ---- */

static int rename_all(const struct copy *copy) {
    struct map_entry *entry = NULL;
    for (size_t at = 0; (entry = map_next(&copy->names, &at)) != NULL;) {
        if (renameat(copy->to_fd, entry->value, copy->to_fd, entry->key) < 0) {
            return error_set_errno(copy->err, "%s/%s", copy->to_path, entry->key);
        }
    }
    return 0;
}

/* ---- the list ---- */

static bool is_name(const char *name) {
    return name[0] != '\0' && name[0] != '.' && strchr(name, '/') == NULL;
}

static void append_name(struct buffer *out, const char *name) {
    if (strchr(name, '\n') == NULL) {
        buffer_printf(out, "%s\n", name);
    }
}

/* What earlier calls brought and this one does not. None when nobody can say. */
static void read_older(const struct copy *copy, struct map *older) {
    cleanup_buffer struct buffer text = BUFFER_INIT;
    if (folder_read(copy->to_fd, LIST, LIST_BYTES_MAX, &text, NULL) < 0) {
        return;
    }
    char *rest = text.data;
    for (char *name = strsep(&rest, "\n"); name != NULL; name = strsep(&rest, "\n")) {
        if (is_name(name) && map_get(&copy->names, name) == NULL) {
            (void)map_set(older, name, older);
        }
    }
}

static int write_list(const struct copy *copy, const struct map *older) {
    cleanup_buffer struct buffer text = BUFFER_INIT;
    const struct map *const maps[] = {&copy->names, older};
    struct map_entry *entry = NULL;
    for (size_t i = 0; i < ARRAY_LEN(maps); i++) {
        for (size_t at = 0; maps[i] != NULL && (entry = map_next(maps[i], &at)) != NULL;) {
            append_name(&text, entry->key);
        }
    }
    return folder_replace(copy->to_fd, LIST, &text, 0644, true, copy->err) == 0 ? 0 : error_wrap(copy->err, "%s", copy->to_path);
}

static int remove_older(const struct copy *copy, const struct map *older) {
    struct map_entry *entry = NULL;
    for (size_t at = 0; (entry = map_next(older, &at)) != NULL;) {
        if (unlinkat(copy->to_fd, entry->key, 0) < 0 && errno != ENOENT && errno != EISDIR) {
            return error_set_errno(copy->err, "%s/%s, of an earlier version", copy->to_path, entry->key);
        }
    }
    return 0;
}

static int sweep(void *arg, const char *name) {
    const struct copy *copy = arg;
    struct stat status;
    if (strncmp(name, NEW_PREFIX, strlen(NEW_PREFIX)) == 0 && fstatat(copy->to_fd, name, &status, AT_SYMLINK_NOFOLLOW) == 0 &&
        status.st_mtim.tv_sec < time(NULL) - NEW_SECONDS_MAX) {
        (void)unlinkat(copy->to_fd, name, 0);
    }
    return 0;
}

/* A kill in the middle leaves a list that has both versions' names. */
static int appear(struct copy *copy) {
    struct map older = MAP_INIT;
    read_older(copy, &older);
    int result = write_list(copy, &older) < 0 || rename_all(copy) < 0 || remove_older(copy, &older) < 0 ? -1 : 0;
    map_release(&older);
    (void)folder_each(copy->to_fd, sweep, copy);
    return result < 0 ? -1 : write_list(copy, NULL); /* which syncs the folder */
}

static void release(struct copy *copy, bool is_done) {
    struct map_entry *entry = NULL;
    for (size_t at = 0; (entry = map_next(&copy->names, &at)) != NULL;) {
        if (!is_done) {
            (void)unlinkat(copy->to_fd, entry->value, 0);
        }
        free(entry->value);
    }
    map_release(&copy->names);
    free(copy->piece);
}

int pull_copy(const char *from, const char *to, const struct artifact_progress *progress, struct error *err) {
    if (file_make_dirs(to, 0755, err) < 0) {
        return -1;
    }
    cleanup_close int from_fd = open(from, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    cleanup_close int to_fd = open(to, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (from_fd < 0 || to_fd < 0) {
        return error_set_errno(err, "%s", from_fd < 0 ? from : to);
    }
    struct copy copy = {.from_path = from,
                        .to_path = to,
                        .from_fd = from_fd,
                        .to_fd = to_fd,
                        .progress = progress,
                        .piece = xmalloc(COPY_BYTES),
                        .err = err};
    bool is_done = folder_each(from_fd, copy_file, &copy) == 0 && appear(&copy) == 0;
    release(&copy, is_done);
    return is_done ? 0 : -1;
}
