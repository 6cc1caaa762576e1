/* Files below an open folder, without ever following a symbolic link: what lies in a cache may have been put there by anybody who
 * can write to it. `name` is one part of a path. */
#ifndef DAVIT_ARTIFACT_FOLDERS_H
#define DAVIT_ARTIFACT_FOLDERS_H

#include "base/buffer.h"
#include "base/error.h"

#include <stdint.h>
#include <sys/types.h>

/* What is there and is something else (a link, a file where a folder is expected) is ERROR_INVALID; what cannot be opened or read,
 * though it may be as it should be, is ERROR_DENIED or ERROR_IO. */

/* Opens the folder `name`, making it when `mode` is not 0. The descriptor, or -1. */
int folder_open(int at, const char *name, mode_t mode, struct error *err) DAVIT_MUST_USE;
/* A regular file, to be read. The descriptor, or -1. */
int folder_open_file(int at, const char *name, uint64_t *ret_bytes, struct error *err) DAVIT_MUST_USE;
int folder_read(int at, const char *name, size_t limit_bytes, struct buffer *out, struct error *err) DAVIT_MUST_USE;
/* A name that nobody else has, whatever the machine or container: `prefix` and 16 digits. The caller frees it. */
char *folder_new_name(const char *prefix);
#define FOLDER_NEW_PREFIX ".new."
/* Makes or replaces a small file: written aside under a name of that prefix, which a kill leaves, then renamed. is_durable: file
 * and folder are synced; else the machine's going down may leave the old, the new, or an empty one. */
int folder_replace(int at, const char *name, const struct buffer *text, mode_t mode, bool is_durable,
                   struct error *err) DAVIT_MUST_USE;
/* Removes a file, or a folder and what is in it, at most 4 deep. What is not there is fine. */
int folder_remove(int at, const char *name, struct error *err);
/* Bytes of the regular files in the folder `name` and below. */
uint64_t folder_bytes(int at, const char *name);

/* Calls visit(arg, name) for what is in the folder but "." and "..", until one returns -1; that is returned. */
int folder_each(int at, int (*visit)(void *arg, const char *name), void *arg);

#endif
