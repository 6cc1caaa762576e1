#include "runtime/model_foreign.h"

#include "artifact/folders.h"
#include "base/file.h"
#include "runtime/model_request.h"

#include <ctype.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define ENTRIES_MAX 10000
#define DEPTH_MAX 2  /* parts of a name */
#define DIGITS_MAX 7 /* of a file's number, and one */

static bool ends_with(const char *text, const char *end) {
    size_t len = strlen(text);
    size_t end_len = strlen(end);
    return len > end_len && strcmp(text + len - end_len, end) == 0;
}

static bool is_file(int at, const char *name) {
    struct stat status;
    return fstatat(at, name, &status, 0) == 0 && S_ISREG(status.st_mode);
}

/* ---- what was begun ---- */

struct looking {
    int model;
    int notes;
    size_t count;
    bool lacks_some;
    bool is_at_work;
};

/* filelock, which both use, takes flock. */
static bool is_locked(int at, const char *name) {
    cleanup_close int fd = openat(at, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    return fd >= 0 && flock(fd, LOCK_SH | LOCK_NB) < 0;
}

static int see_note(void *arg, const char *name) {
    struct looking *looking = arg;
    bool is_lock = ends_with(name, ".lock");
    if (++looking->count > ENTRIES_MAX) {
        return -1;
    }
    if (is_lock || ends_with(name, ".metadata")) {
        cleanup_free char *file = xstrndup(name, strlen(name) - (is_lock ? 5 : 9));
        cleanup_free char *metadata = xasprintf("%s.metadata", file);
        looking->lacks_some |= !is_file(looking->model, file) || !is_file(looking->notes, metadata);
        looking->is_at_work |= is_lock && is_locked(looking->notes, name);
    }
    return 0;
}

/* ---- what is there ---- */

struct weights {
    int model;
    int count; /* files of weights */
    bool lacks_some;
};

/* Of "model-00001-of-00004.safetensors" "model-00002-of-00004.safetensors", and of the last one the first; NULL = it has no number.
 */
static char *next_of(const char *name) {
    for (const char *of = strstr(name, "-of-"); of != NULL; of = strstr(of + 1, "-of-")) {
        const char *number = of;
        while (number > name && isdigit((unsigned char)number[-1])) {
            number--;
        }
        size_t digits = (size_t)(of - number);
        size_t digits_of_all = strspn(of + 4, "0123456789");
        long all = digits_of_all < DIGITS_MAX ? strtol(of + 4, NULL, 10) : 0;
        if (digits > 0 && digits < DIGITS_MAX && all > 0 && of[4 + digits_of_all] == '.') {
            return xasprintf("%.*s%0*ld%s", (int)(number - name), name, (int)digits, strtol(number, NULL, 10) % all + 1, of);
        }
    }
    return NULL;
}

/* Where each numbered file has its next, all are there; and a folder may hold several sets of them (.safetensors and .bin). */
static int see_file(void *arg, const char *name) {
    static const char *const endings[] = {".safetensors", ".gguf", ".bin"};
    struct weights *weights = arg;
    for (size_t i = 0; i < ARRAY_LEN(endings); i++) {
        if (ends_with(name, endings[i])) {
            cleanup_free char *next = next_of(name);
            weights->count++;
            weights->lacks_some |= next != NULL && !is_file(weights->model, next);
        }
    }
    return weights->count > ENTRIES_MAX ? -1 : 0;
}

static bool has_weights(int model) {
    struct weights weights = {.model = model};
    (void)folder_each(model, see_file, &weights);
    return weights.count > 0 && !weights.lacks_some;
}

enum model_state model_foreign_state(enum model_foreign found) {
    static const enum model_state states[] = {[MODEL_FOREIGN_NONE] = MODEL_NOT_EXIST,
                                              [MODEL_FOREIGN_HALF] = MODEL_NO_OPERATION,
                                              [MODEL_FOREIGN_COMING] = MODEL_DOWNLOADING,
                                              [MODEL_FOREIGN_WHOLE] = MODEL_DOWNLOADED};
    return states[found];
}

static enum model_foreign look_for(int model, const char *source) {
    cleanup_free char *path = xasprintf(".cache/%s/download", source);
    cleanup_close int notes = openat(model, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    struct looking looking = {.model = model, .notes = notes};
    if (notes < 0) {
        return MODEL_FOREIGN_NONE;
    }
    (void)folder_each(notes, see_note, &looking);
    if (looking.is_at_work) {
        return MODEL_FOREIGN_COMING;
    }
    return looking.count > 0 && looking.count <= ENTRIES_MAX && !looking.lacks_some && has_weights(model) ? MODEL_FOREIGN_WHOLE
                                                                                                          : MODEL_FOREIGN_HALF;
}

enum model_foreign model_foreign_look(const char *folder, const char *name, const char **ret_source) {
    static const char *const sources[] = {"huggingface", "s3", "tos"};
    cleanup_free char *path = path_join(folder, name);
    cleanup_close int model = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    enum model_foreign found = MODEL_FOREIGN_NONE;
    for (size_t i = 0; i < ARRAY_LEN(sources) && model >= 0 && found == MODEL_FOREIGN_NONE; i++) {
        *ret_source = sources[i];
        found = look_for(model, sources[i]);
    }
    return found;
}

/* ---- all of a folder ---- */

struct walk {
    const char *folder;
    const char *above; /* "org", "" */
    int depth;
    int count;
    void (*visit)(void *arg, const char *name, const char *source, enum model_foreign found);
    void *arg;
};

static int see_entry(void *arg, const char *entry) {
    struct walk *walk = arg;
    const char *source = NULL;
    cleanup_free char *name = xasprintf("%s%s%s", walk->above, walk->above[0] != '\0' ? "/" : "", entry);
    if (++walk->count > ENTRIES_MAX) {
        return -1;
    }
    if (!is_model_name(name)) {
        return 0;
    }
    enum model_foreign found = model_foreign_look(walk->folder, name, &source);
    if (found != MODEL_FOREIGN_NONE) {
        walk->visit(walk->arg, name, source, found);
        return 0;
    }
    cleanup_free char *path = path_join(walk->folder, name);
    cleanup_close int at = walk->depth < DEPTH_MAX ? open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) : -1;
    struct walk below = *walk;
    below.above = name;
    below.depth = walk->depth + 1;
    int result = at >= 0 ? folder_each(at, see_entry, &below) : 0;
    walk->count = below.count;
    return result;
}

void model_foreign_each(const char *folder,
                        void (*visit)(void *arg, const char *name, const char *source, enum model_foreign found), void *arg) {
    cleanup_close int at = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct walk walk = {.folder = folder, .above = "", .depth = 1, .visit = visit, .arg = arg};
    if (at >= 0) {
        (void)folder_each(at, see_entry, &walk);
    }
}
