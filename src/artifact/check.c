#include "artifact/check.h"

#include "adapter/peft.h"
#include "adapter/safetensors.h"
#include "base/buffer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>

#define PICKLE_FILE "adapter_model.bin"

struct checked {
    int folder;
    const char *label;
    const struct artifact_check_args *args;
};

/* The descriptor of a regular file, or -1. */
static int open_file(const struct checked *checked, const char *name, uint64_t *ret_bytes, struct error *err) {
    struct stat status;
    int flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | (checked->args->follows_links ? 0 : O_NOFOLLOW); /* a FIFO must not hold us */
    cleanup_close int fd = openat(checked->folder, name, flags);
    if (fd < 0 || fstat(fd, &status) < 0) {
        return error_set_errno(err, "%s/%s", checked->label, name);
    }
    if (!S_ISREG(status.st_mode)) {
        return error_set(err, ERROR_INVALID, "%s/%s is not a regular file", checked->label, name);
    }
    *ret_bytes = (uint64_t)status.st_size;
    int taken = fd;
    fd = -1;
    return taken;
}

static int read_fully(int fd, void *out, size_t len, off_t at) {
    for (size_t done = 0; done < len;) {
        ssize_t got = pread(fd, (char *)out + done, len - done, at + (off_t)done);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            return -1;
        }
        done += (size_t)got;
    }
    return 0;
}

/* ---- adapter_config.json ---- */

static int judge_config(const struct checked *checked, const char *text, size_t len, struct error *err) {
    struct peft_config config;
    if (peft_config_parse(text, len, 0, &config, err) < 0) {
        return err->code == ERROR_UNSUPPORTED ? 0 : error_wrap(err, "%s/%s", checked->label, PEFT_CONFIG_FILE);
    }
    int rank = config.rank;
    int max_rank = checked->args->max_rank;
    peft_config_release(&config);
    if (max_rank > 0 && rank > max_rank) {
        return error_set(
            err, ERROR_INVALID,
            "%s: LoRA rank %d is greater than max_lora_rank %d. Start the engine with --max-lora-rank %d or more, or train "
            "the adapter with a smaller rank",
            checked->label, rank, max_rank, rank);
    }
    return 0;
}

static int check_config(const struct checked *checked, struct error *err) {
    uint64_t bytes = 0;
    cleanup_close int fd = open_file(checked, PEFT_CONFIG_FILE, &bytes, err);
    if (fd < 0) {
        return -1;
    }
    if (bytes > PEFT_CONFIG_BYTES_MAX) {
        return error_set(err, ERROR_INVALID, "%s/%s: %llu bytes exceed the limit of %u", checked->label, PEFT_CONFIG_FILE,
                         (unsigned long long)bytes, PEFT_CONFIG_BYTES_MAX);
    }
    cleanup_free char *text = xcalloc(1, (size_t)bytes + 1);
    if (read_fully(fd, text, (size_t)bytes, 0) < 0) {
        return error_set(err, ERROR_IO, "%s/%s cannot be read", checked->label, PEFT_CONFIG_FILE);
    }
    return judge_config(checked, text, (size_t)bytes, err);
}

/* ---- the weights ---- */

static int check_header(int fd, uint64_t bytes, struct error *err) {
    unsigned char prefix[SAFETENSORS_PREFIX_BYTES];
    size_t len = 0;
    if (bytes < sizeof(prefix) || read_fully(fd, prefix, sizeof(prefix), 0) < 0) {
        return error_set(err, ERROR_INVALID, "it is shorter than a safetensors header");
    }
    if (safetensors_header_len(prefix, sizeof(prefix), bytes, &len, err) < 0) {
        return -1;
    }
    cleanup_free char *header = try_alloc(len + 1, 1);
    if (header == NULL || read_fully(fd, header, len, sizeof(prefix)) < 0) {
        return error_set(err, ERROR_IO, "it cannot be read");
    }
    struct safetensors table;
    if (safetensors_parse(header, len, bytes - sizeof(prefix) - len, &table, err) < 0) {
        return -1;
    }
    size_t count = table.count;
    safetensors_release(&table);
    return count > 0 ? 0 : error_set(err, ERROR_INVALID, "it doesn't contain tensors");
}

/* There are no safetensors: is there pickle, and is it allowed? */
static int check_pickle(const struct checked *checked, struct error *err) {
    struct error other = {0};
    uint64_t bytes = 0;
    cleanup_close int fd = open_file(checked, PICKLE_FILE, &bytes, &other);
    if (fd < 0) {
        return -1;
    }
    if (!checked->args->is_pickle_allowed) {
        return error_set(err, ERROR_UNSUPPORTED,
                         "%s has %s and no %s: pickle can run code when it is read and is not allowed here; save the adapter with "
                         "safe_serialization=True, or give --allow-pickle",
                         checked->label, PICKLE_FILE, PEFT_WEIGHTS_FILE);
    }
    return 0;
}

static int check_weights(const struct checked *checked, struct error *err) {
    uint64_t bytes = 0;
    cleanup_close int fd = open_file(checked, PEFT_WEIGHTS_FILE, &bytes, err);
    if (fd < 0) {
        return err->code == ERROR_NOT_FOUND ? check_pickle(checked, err) : -1;
    }
    return check_header(fd, bytes, err) == 0 ? 0 : error_wrap(err, "%s/%s", checked->label, PEFT_WEIGHTS_FILE);
}

int artifact_check_folder(int folder, const char *label, const struct artifact_check_args *args, struct error *err) {
    const struct checked checked = {.folder = folder, .label = label, .args = args};
    return check_config(&checked, err) < 0 || check_weights(&checked, err) < 0 ? -1 : 0;
}
