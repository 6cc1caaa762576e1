#include "runtime/artifact_check.h"

#include "adapter/peft.h"
#include "adapter/safetensors.h"
#include "base/buffer.h"
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

static int check_config(const char *folder, struct error *err) {
    cleanup_free char *path = path_join(folder, PEFT_CONFIG_FILE);
    cleanup_buffer struct buffer text = BUFFER_INIT;
    struct peft_config config;
    if (file_read(path, PEFT_CONFIG_BYTES_MAX, &text, err) < 0) {
        return -1;
    }
    if (peft_config_parse(buffer_text(&text), text.len, 0, &config, err) < 0) {
        return err->code == ERROR_UNSUPPORTED ? 0 : error_wrap(err, "%s", path);
    }
    peft_config_release(&config);
    return 0;
}

static int read_fully(int fd, void *out, size_t len, off_t at) {
    for (size_t done = 0; done < len;) {
        ssize_t got = pread(fd, (char *)out + done, len - done, at + (off_t)done);
        if (got <= 0) {
            return -1;
        }
        done += (size_t)got;
    }
    return 0;
}

static int check_header(int fd, const char *path, uint64_t file_len, struct error *err) {
    unsigned char prefix[SAFETENSORS_PREFIX_BYTES];
    size_t len = 0;
    if (file_len < sizeof(prefix) || read_fully(fd, prefix, sizeof(prefix), 0) < 0) {
        return error_set(err, ERROR_INVALID, "%s is shorter than a safetensors header", path);
    }
    if (safetensors_header_len(prefix, sizeof(prefix), file_len, &len, err) < 0) {
        return error_wrap(err, "%s", path);
    }
    cleanup_free char *header = try_alloc(len + 1, 1);
    if (header == NULL || read_fully(fd, header, len, sizeof(prefix)) < 0) {
        return error_set(err, ERROR_IO, "%s cannot be read", path);
    }
    struct safetensors table;
    if (safetensors_parse(header, len, file_len - sizeof(prefix) - len, &table, err) < 0) {
        return error_wrap(err, "%s", path);
    }
    size_t count = table.count;
    safetensors_release(&table);
    return count > 0 ? 0 : error_set(err, ERROR_INVALID, "%s doesn't contain tensors", path);
}

static int check_weights(const char *folder, struct error *err) {
    cleanup_free char *path = path_join(folder, PEFT_WEIGHTS_FILE);
    cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO must not hold the thread */
    struct stat status;
    if (fd < 0 || fstat(fd, &status) < 0) {
        return error_set_errno(err, "%s", path);
    }
    if (!S_ISREG(status.st_mode)) {
        return error_set(err, ERROR_INVALID, "%s is not a regular file", path);
    }
    return check_header(fd, path, (uint64_t)status.st_size, err);
}

int artifact_check(const char *folder, struct error *err) {
    struct stat status;
    if (stat(folder, &status) < 0) {
        return 0;
    }
    if (!S_ISDIR(status.st_mode)) {
        return error_set(err, ERROR_INVALID, "%s is not a folder: expected one with %s and %s", folder, PEFT_CONFIG_FILE,
                         PEFT_WEIGHTS_FILE);
    }
    if (access(folder, R_OK | X_OK) < 0) {
        return 0; /* the engine may run as another user */
    }
    return check_config(folder, err) < 0 || check_weights(folder, err) < 0 ? -1 : 1;
}
