/* Files: reading with a limit, replacing atomically, folders, locks. */
#ifndef DAVIT_BASE_FILE_H
#define DAVIT_BASE_FILE_H

#include "base/buffer.h"
#include "base/error.h"

#include <stdint.h>
#include <sys/types.h>

/* Appends the whole regular file to `out`. ERROR_LIMIT when it is larger than `limit_bytes`, ERROR_NOT_FOUND when missing. */
int file_read(const char *path, size_t limit_bytes, struct buffer *out, struct error *err) DAVIT_MUST_USE;
/* Writes a temporary file beside `path`, fsyncs it, renames it over `path` and fsyncs the folder. */
int file_replace(const char *path, const void *bytes, size_t len, mode_t mode, struct error *err) DAVIT_MUST_USE;
/* All of it, to the descriptor; -1 with errno. */
int file_write_all(int fd, const void *bytes, size_t len) DAVIT_MUST_USE;
/* Makes a folder and its parents; existing ones are fine. */
int file_make_dirs(const char *path, mode_t mode, struct error *err) DAVIT_MUST_USE;
/* Opens (creating it) and takes an exclusive lock that ends with the descriptor or the process. Returns the descriptor;
 * ERROR_BUSY when another process holds it. */
int file_lock(const char *path, struct error *err) DAVIT_MUST_USE;

/* "<a>/<b>" of the caller's. */
char *path_join(const char *folder, const char *name);

#endif
