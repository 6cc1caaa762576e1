/* The output of a container on disk: bounded by moving its start aside, read from its end. */
#ifndef DAVIT_CLUSTER_NODE_LOG_FILE_H
#define DAVIT_CLUSTER_NODE_LOG_FILE_H

#include <stdint.h>

#define LOG_FILE_BYTES_MAX (10 * 1024 * 1024)

/* Larger than LOG_FILE_BYTES_MAX: copied to <path>.1 and cut to nothing. The process goes on writing to the same file (it appends),
 * so lines that it writes between the two steps are lost. */
void log_file_rotate(const char *path);
/* Where the last `lines` lines start. 0 when there are fewer; the end of the file for 0 lines. */
int64_t log_file_tail_offset(int fd, int64_t lines);
/* Where the line starts that the byte at `offset` belongs to. */
int64_t log_file_line_start(int fd, int64_t offset);

#endif
