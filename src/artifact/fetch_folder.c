#include "artifact/fetch_folder.h"

#include "adapter/peft.h"
#include "artifact/check.h"
#include "artifact/digests.h"
#include "artifact/folders.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

static void found_is(struct artifact_found *ret, const char *path, bool is_unseen) {
    *ret = (struct artifact_found){.folder = xstrdup(path), .version = xstrdup(""), .is_unseen = is_unseen};
}

/* -1 with ERROR_NOT_FOUND when there are no such weights. */
static int open_weights(int folder, const char *path, uint64_t *ret_bytes, struct error *err) {
    static const char *const names[] = {PEFT_WEIGHTS_FILE, "adapter_model.bin"};
    struct stat status;
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        int fd = openat(folder, names[i], O_RDONLY | O_NONBLOCK | O_CLOEXEC);
        if (fd >= 0 && fstat(fd, &status) == 0) {
            *ret_bytes = (uint64_t)status.st_size;
            return fd;
        }
        if (fd >= 0) {
            close(fd);
        }
    }
    return error_set_errno(err, "%s/%s", path, PEFT_WEIGHTS_FILE);
}

int fetch_folder(const struct artifact_options *options, const struct artifact_wanted *wanted, const char *path,
                 struct artifact_progress *progress, struct artifact_found *ret, struct error *err) {
    const struct artifact_check_args args = {
        .max_rank = wanted->max_rank, .is_pickle_allowed = options->is_pickle_allowed, .follows_links = true};
    struct stat status;
    struct artifact_found found = {0};
    if (wanted->revision != NULL && wanted->revision[0] != '\0') {
        return error_set(err, ERROR_UNSUPPORTED, "%s: a folder keeps no revisions: expected none, found \"%.64s\"", path,
                         wanted->revision);
    }
    if (stat(path, &status) == 0 && !S_ISDIR(status.st_mode)) {
        return error_set(err, ERROR_INVALID, "%s is not a folder: expected one with %s and %s", path, PEFT_CONFIG_FILE,
                         PEFT_WEIGHTS_FILE);
    }
    cleanup_close int folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0 || faccessat(folder, ".", X_OK, 0) < 0) {
        found_is(ret, path, true); /* the engine may see it, or run as somebody who may */
        return 0;
    }
    if (wanted->model_suffixes != NULL) { /* for whoever starts an engine with it to judge */
        found_is(ret, path, false);
        return 0;
    }
    if (artifact_check_folder(folder, path, &args, err) < 0) {
        if (err != NULL && err->code == ERROR_DENIED) {
            found_is(ret, path, true);
            return 0;
        }
        return -1;
    }
    cleanup_close int weights = open_weights(folder, path, &found.bytes, err);
    if (weights < 0) {
        return -1;
    }
    if (wanted->digest != NULL && wanted->digest[0] != '\0') {
        atomic_store(&progress->stage, ARTIFACT_CHECKING);
        if (digests_of_file(weights, NULL, progress, found.digest, err) < 0) {
            return error_wrap(err, "%s", path);
        }
        if (strcasecmp(found.digest, wanted->digest) != 0) {
            return error_set(err, ERROR_INVALID, "%s: expected weights with SHA-256 %s, found %s", path, wanted->digest,
                             found.digest);
        }
    }
    found_is(ret, path, false);
    ret->bytes = found.bytes;
    memcpy(ret->digest, found.digest, sizeof(ret->digest));
    return 0;
}
