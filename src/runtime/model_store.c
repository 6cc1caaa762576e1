#include "runtime/model_store.h"

#include "artifact/folders.h"
#include "base/file.h"
#include "base/json.h"
#include "runtime/model_request.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#define OWN ".cache/davit"
#define OBJECTS OWN "/v1/objects"
#define RECORD_BYTES_MAX (16u << 10)

void model_record_release(struct model_record *record) {
    free(record->name);
    free(record->url);
    free(record->source);
    free(record->object);
    *record = (struct model_record){0};
}

char *model_store_cache(const char *folder) {
    return path_join(folder, OWN);
}

/* ---- records ---- */

static char *records_folder(const char *folder) {
    return path_join(folder, OWN "/models");
}

static int open_records(const char *folder, struct error *err) {
    cleanup_free char *path = records_folder(folder);
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return fd >= 0 ? fd : error_set_errno(err, "%s", path);
}

static char *key_of(const char *name, const char *ending) {
    char hex[HASH_HEX_BYTES];
    struct hash hash = hash_bytes(name, strlen(name));
    hash_hex(&hash, hex);
    return xasprintf("%.32s%s", hex, ending);
}

static char *file_of(const char *name) {
    return key_of(name, ".json");
}

int model_store_write(const char *folder, const struct model_record *record, struct error *err) {
    cleanup_free char *path = records_folder(folder);
    cleanup_free char *file = file_of(record->name);
    if (file_make_dirs(path, 0700, err) < 0) {
        return -1;
    }
    cleanup_close int at = open_records(folder, err);
    if (at < 0) {
        return -1;
    }
    cleanup_json json_t *root = json_pack("{s:s, s:s, s:s, s:s, s:s}", "name", record->name, "url", record->url, "source",
                                          record->source, "identity", record->identity, "object", record->object);
    cleanup_buffer struct buffer text = BUFFER_INIT;
    json_append(&text, root);
    return folder_replace(at, file, &text, 0600, false, err); /* one that is lost costs a look at the source */
}

static bool is_object(const char *text) {
    return strlen(text) == MODEL_OBJECT_BYTES - 1 && strspn(text, "0123456789abcdef") == MODEL_OBJECT_BYTES - 1;
}

static bool read_record(int at, const char *file, struct model_record *ret) {
    cleanup_buffer struct buffer text = BUFFER_INIT;
    if (folder_read(at, file, RECORD_BYTES_MAX, &text, NULL) < 0) {
        return false;
    }
    cleanup_json json_t *root = json_parse_bounded(buffer_text(&text), text.len, 64, NULL);
    const char *name = json_string_at(root, "name", "");
    const char *object = json_string_at(root, "object", "");
    cleanup_free char *expected = file_of(name);
    if (!is_model_name(name) || strcmp(expected, file) != 0) {
        return false;
    }
    *ret = (struct model_record){
        .name = xstrdup(name),
        .url = xstrdup(json_string_at(root, "url", "")),
        .source = xstrdup(json_string_at(root, "source", "unknown")),
        .object = xstrdup(is_object(object) ? object : ""),
    };
    (void)snprintf(ret->identity, sizeof(ret->identity), "%s", json_string_at(root, "identity", ""));
    return true;
}

bool model_store_read(const char *folder, const char *name, struct model_record *ret) {
    cleanup_free char *file = file_of(name);
    cleanup_close int at = open_records(folder, NULL);
    return at >= 0 && read_record(at, file, ret);
}

void model_store_forget(const char *folder, const char *name) {
    cleanup_free char *file = file_of(name);
    cleanup_close int at = open_records(folder, NULL);
    if (at >= 0) {
        (void)unlinkat(at, file, 0);
    }
}

struct visit {
    int at;
    int count;
    void (*visit)(void *arg, const struct model_record *record);
    void *arg;
};

static int visit_one(void *arg, const char *file) {
    struct visit *visit = arg;
    struct model_record record;
    size_t len = strlen(file);
    if (len < 5 || strcmp(file + len - 5, ".json") != 0) {
        return 0;
    }
    if (++visit->count > MODEL_RECORDS_MAX) {
        return -1;
    }
    if (read_record(visit->at, file, &record)) {
        visit->visit(visit->arg, &record);
        model_record_release(&record);
    }
    return 0;
}

void model_store_each(const char *folder, void (*visit)(void *arg, const struct model_record *record), void *arg) {
    cleanup_close int at = open_records(folder, NULL);
    struct visit all = {.at = at, .visit = visit, .arg = arg};
    if (at >= 0) {
        (void)folder_each(at, visit_one, &all);
    }
}

/* ---- who is at it ---- */

static int open_lock(const char *folder, const char *name, int flags) {
    cleanup_free char *file = key_of(name, ".lock");
    cleanup_close int at = open_records(folder, NULL);
    return at >= 0 ? openat(at, file, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | flags, 0600) : -1;
}

int model_store_begin(const char *folder, const char *name) {
    cleanup_close int fd = open_lock(folder, name, O_CREAT);
    if (fd < 0 || flock(fd, LOCK_SH | LOCK_NB) < 0) { /* somebody may just be looking: it is only shown */
        return -1;
    }
    int taken = fd;
    fd = -1;
    return taken;
}

bool model_store_is_begun(const char *folder, const char *name) {
    cleanup_close int fd = open_lock(folder, name, 0);
    return fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK;
}

/* ---- links ---- */

/* "../.cache/davit/v1/objects/<id>" of "org/repo" */
static char *target_of(const char *name, const char *object) {
    cleanup_buffer struct buffer target = BUFFER_INIT;
    for (const char *at = strchr(name, '/'); at != NULL; at = strchr(at + 1, '/')) {
        buffer_append_text(&target, "../");
    }
    buffer_printf(&target, OBJECTS "/%s", object);
    return buffer_take(&target);
}

bool model_store_leads_to(const char *folder, const char *name, char ret_object[MODEL_OBJECT_BYTES]) {
    char found[PATH_MAX];
    struct stat status;
    cleanup_free char *path = path_join(folder, name);
    cleanup_free char *beginning = target_of(name, "");
    size_t begin = strlen(beginning);
    ssize_t len = readlink(path, found, sizeof(found) - 1);
    found[len > 0 ? len : 0] = '\0';
    if (strncmp(found, beginning, begin) != 0 || !is_object(found + begin) || stat(path, &status) < 0 || !S_ISDIR(status.st_mode)) {
        return false;
    }
    memcpy(ret_object, found + begin, MODEL_OBJECT_BYTES);
    return true;
}

bool model_store_is_there(const char *folder, const struct model_record *record) {
    char object[MODEL_OBJECT_BYTES];
    return model_store_leads_to(folder, record->name, object) && strcmp(object, record->object) == 0;
}

/* Opens the folder that the link is to be in, making what is missing. A model's own files are no folder for another's name. */
static int open_parent(const char *folder, const char *name, const char **ret_last, struct error *err) {
    int at = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (at < 0) {
        return error_set_errno(err, "%s", folder);
    }
    for (const char *slash; (slash = strchr(name, '/')) != NULL; name = slash + 1) {
        cleanup_free char *part = xstrndup(name, (size_t)(slash - name));
        int below = folder_open(at, part, 0755, err);
        close(at);
        if (below < 0) {
            return error_wrap(err, "%s", folder);
        }
        at = below;
    }
    *ret_last = name;
    return at;
}

int model_store_link(const char *folder, const char *name, const char *object, struct error *err) {
    const char *last = NULL;
    struct stat status;
    cleanup_free char *target = target_of(name, object);
    cleanup_close int at = open_parent(folder, name, &last, err);
    if (at < 0) {
        return -1;
    }
    if (fstatat(at, last, &status, AT_SYMLINK_NOFOLLOW) == 0 && !S_ISLNK(status.st_mode)) {
        return error_set(err, ERROR_EXISTS, "%s/%s is there and no link: expected nothing, or the link of an earlier download",
                         folder, name);
    }
    cleanup_free char *staged = folder_new_name(FOLDER_NEW_PREFIX); /* in their containers all sidecars of a volume are process 1 */
    if (symlinkat(target, at, staged) < 0 || renameat(at, staged, at, last) < 0) {
        error_set_errno(err, "%s/%s", folder, name);
        (void)unlinkat(at, staged, 0);
        return -1;
    }
    return 0;
}
