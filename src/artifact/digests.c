#include "artifact/digests.h"

#include "artifact/crc32c.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>

#define PIECE_BYTES (64u << 10) /* stays in the second cache between read and hash */
#define STACK_BYTES (128u << 10)
#define WRITE_BACK_BYTES (8u << 20) /* the kernel is told to begin writing so much at a time: less is left for fsync */

struct digests {
    const struct artifact_file *expected;
    const struct artifact_progress *progress;
    EVP_MD_CTX *sha256;
    EVP_MD_CTX *git_sha1;
    EVP_MD_CTX *md5;
    uint32_t crc32c;
};

static EVP_MD_CTX *begin_one(const EVP_MD *type) {
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    if (context == NULL || EVP_DigestInit_ex(context, type, NULL) != 1) {
        abort();
    }
    return context;
}

static void begin(struct digests *digests, const struct artifact_file *expected, const struct artifact_progress *progress,
                  uint64_t bytes) {
    *digests = (struct digests){.expected = expected, .progress = progress, .sha256 = begin_one(EVP_sha256())};
    bool knows_better = expected == NULL || expected->sha256[0] != '\0';
    if (!knows_better && expected->git_sha1[0] != '\0') {
        cleanup_free char *header = xasprintf("blob %llu", (unsigned long long)bytes);
        digests->git_sha1 = begin_one(EVP_sha1());
        (void)EVP_DigestUpdate(digests->git_sha1, header, strlen(header) + 1);
    }
    if (!knows_better && expected->md5[0] != '\0') {
        digests->md5 = begin_one(EVP_md5());
    }
}

static void update(struct digests *digests, const void *bytes, size_t len) {
    (void)EVP_DigestUpdate(digests->sha256, bytes, len);
    if (digests->git_sha1 != NULL) {
        (void)EVP_DigestUpdate(digests->git_sha1, bytes, len);
    }
    if (digests->md5 != NULL) {
        (void)EVP_DigestUpdate(digests->md5, bytes, len);
    }
    if (digests->expected != NULL && digests->expected->crc32c[0] != '\0') {
        digests->crc32c = crc32c_update(digests->crc32c, bytes, len);
    }
}

/* The digits of one hash, which is over; "" when it was not wanted. */
static void end_one(EVP_MD_CTX *context, char out[HASH_HEX_BYTES]) {
    unsigned char bytes[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    out[0] = '\0';
    if (context != NULL) {
        (void)EVP_DigestFinal_ex(context, bytes, &len);
        EVP_MD_CTX_free(context);
    }
    for (unsigned i = 0; i < len && i < HASH_BYTES; i++) {
        (void)snprintf(out + (size_t)2 * i, 3, "%02x", bytes[i]);
    }
}

static void abandon(struct digests *digests) {
    EVP_MD_CTX_free(digests->sha256);
    EVP_MD_CTX_free(digests->git_sha1);
    EVP_MD_CTX_free(digests->md5);
}

static int end(struct digests *digests, char ret_sha256[HASH_HEX_BYTES], struct error *err) {
    const struct artifact_file *expected = digests->expected;
    char git_sha1[HASH_HEX_BYTES], md5[HASH_HEX_BYTES], crc32c[9];
    end_one(digests->sha256, ret_sha256);
    end_one(digests->git_sha1, git_sha1);
    end_one(digests->md5, md5);
    (void)snprintf(crc32c, sizeof(crc32c), "%08x", digests->crc32c);
    if (expected == NULL) {
        return 0;
    }
    const struct {
        const char *name;
        const char *expected;
        const char *found;
    } rows[] = {{"SHA-256", expected->sha256, ret_sha256},
                {"git's SHA-1", expected->git_sha1, git_sha1},
                {"MD5", expected->md5, md5},
                {"CRC-32C", expected->crc32c, crc32c}};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if (rows[i].expected[0] != '\0' && rows[i].found[0] != '\0' && strcasecmp(rows[i].expected, rows[i].found) != 0) {
            return error_set(err, ERROR_INVALID, "%s: expected %s %s, found %s", expected->name, rows[i].name, rows[i].expected,
                             rows[i].found);
        }
    }
    return 0;
}

/* Hashes [*at, until) of the file. -1 with errno; ECANCELED when the fetch was cancelled. */
static int read_on(struct digests *digests, int fd, char *piece, uint64_t *at, uint64_t until) {
    while (*at < until) {
        if (artifact_progress_check(digests->progress, NULL) < 0) {
            errno = ECANCELED;
            return -1;
        }
        size_t len = until - *at < PIECE_BYTES ? (size_t)(until - *at) : PIECE_BYTES;
        ssize_t got = pread(fd, piece, len, (off_t)*at);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            errno = got < 0 ? errno : EIO;
            return -1;
        }
        update(digests, piece, (size_t)got);
        *at += (uint64_t)got;
    }
    return 0;
}

static int not_read(int error_number, const struct digests *digests, const char *name, struct error *err) {
    errno = error_number;
    return error_number == ECANCELED ? artifact_progress_check(digests->progress, err)
                                     : error_set_errno(err, "%s cannot be read", name);
}

int digests_of_file(int fd, const struct artifact_file *expected, const struct artifact_progress *progress,
                    char ret_sha256[HASH_HEX_BYTES], struct error *err) {
    struct stat status;
    struct digests digests;
    uint64_t at = 0;
    if (fstat(fd, &status) < 0) {
        return error_set_errno(err, "a file of the cache");
    }
    cleanup_free char *piece = xmalloc(PIECE_BYTES);
    begin(&digests, expected, progress, (uint64_t)status.st_size);
    int result = read_on(&digests, fd, piece, &at, (uint64_t)status.st_size);
    int saved = errno;
    int compared = end(&digests, ret_sha256, err);
    return result < 0 ? not_read(saved, &digests, expected != NULL ? expected->name : "a file", err) : compared;
}

/* ---- of bytes on their way ---- */

struct digester {
    struct digests digests;
};

struct digester *digester_start(const struct artifact_file *expected) {
    struct digester *digester = xmalloc(sizeof(*digester));
    begin(&digester->digests, expected, NULL, expected->bytes);
    return digester;
}

void digester_add(struct digester *digester, const void *bytes, size_t len) {
    update(&digester->digests, bytes, len);
}

int digester_finish(struct digester *digester, char ret_sha256[HASH_HEX_BYTES], struct error *err) {
    int result = end(&digester->digests, ret_sha256, err);
    free(digester);
    return result;
}

void digester_abandon(struct digester *digester) {
    if (digester != NULL) {
        abandon(&digester->digests);
        free(digester);
    }
}

/* ---- on a thread of its own ---- */

struct follower {
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    uint64_t available; /* guarded by the mutex, as the next two */
    bool is_whole;
    bool is_abandoned;
    int fd;
    struct digests digests;
    char *piece;
    uint64_t at;
    uint64_t written_back;
    int saved_errno; /* the file could not be read */
};

static void begin_writing_back(struct follower *follower) {
    if (follower->at - follower->written_back >= WRITE_BACK_BYTES) {
        (void)sync_file_range(follower->fd, (off_t)follower->written_back, (off_t)(follower->at - follower->written_back),
                              SYNC_FILE_RANGE_WRITE);
        follower->written_back = follower->at;
    }
}

/* What there is to do next; false = nothing more. */
static bool wait_for_more(struct follower *follower, uint64_t *ret_until) {
    pthread_mutex_lock(&follower->mutex);
    while (follower->available <= follower->at && !follower->is_whole && !follower->is_abandoned) {
        pthread_cond_wait(&follower->changed, &follower->mutex);
    }
    bool goes_on = !follower->is_abandoned && follower->available > follower->at;
    *ret_until = follower->available;
    pthread_mutex_unlock(&follower->mutex);
    return goes_on;
}

static void *follow(void *arg) {
    struct follower *follower = arg;
    uint64_t until = 0;
    (void)pthread_setname_np(pthread_self(), "artifact-hash");
    while (wait_for_more(follower, &until)) {
        until = until - follower->at > WRITE_BACK_BYTES ? follower->at + WRITE_BACK_BYTES : until;
        if (read_on(&follower->digests, follower->fd, follower->piece, &follower->at, until) < 0) {
            follower->saved_errno = errno;
            break;
        }
        begin_writing_back(follower);
    }
    return NULL;
}

static void follower_free(struct follower *follower) {
    (void)pthread_mutex_destroy(&follower->mutex);
    (void)pthread_cond_destroy(&follower->changed);
    free(follower->piece);
    free(follower);
}

struct follower *follower_start(int fd, const struct artifact_file *expected, const struct artifact_progress *progress) {
    struct follower *follower = xcalloc(1, sizeof(*follower));
    pthread_attr_t attributes;
    follower->fd = fd;
    follower->piece = xmalloc(PIECE_BYTES);
    (void)pthread_mutex_init(&follower->mutex, NULL);
    (void)pthread_cond_init(&follower->changed, NULL);
    begin(&follower->digests, expected, progress, expected->bytes);
    (void)pthread_attr_init(&attributes);
    (void)pthread_attr_setstacksize(&attributes, STACK_BYTES);
    int result = pthread_create(&follower->thread, &attributes, follow, follower);
    (void)pthread_attr_destroy(&attributes);
    if (result != 0) {
        abandon(&follower->digests);
        follower_free(follower);
        return NULL;
    }
    return follower;
}

static void tell(struct follower *follower, uint64_t available, bool is_whole, bool is_abandoned) {
    pthread_mutex_lock(&follower->mutex);
    follower->available = available > follower->available ? available : follower->available;
    follower->is_whole |= is_whole;
    follower->is_abandoned |= is_abandoned;
    pthread_cond_signal(&follower->changed);
    pthread_mutex_unlock(&follower->mutex);
}

void follower_advance(struct follower *follower, uint64_t bytes) {
    tell(follower, bytes, false, false);
}

int follower_finish(struct follower *follower, char ret_sha256[HASH_HEX_BYTES], struct error *err) {
    tell(follower, 0, true, false);
    (void)pthread_join(follower->thread, NULL);
    int saved = follower->saved_errno;
    int result = end(&follower->digests, ret_sha256, err);
    const char *name = follower->digests.expected->name;
    result = saved != 0 ? not_read(saved, &follower->digests, name, err) : result;
    follower_free(follower);
    return result;
}

void follower_abandon(struct follower *follower) {
    if (follower != NULL) {
        tell(follower, 0, false, true);
        (void)pthread_join(follower->thread, NULL);
        abandon(&follower->digests);
        follower_free(follower);
    }
}
