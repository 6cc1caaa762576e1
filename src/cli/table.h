/* A table for people: a heading and rows of text, columns as wide as their widest cell, two spaces between them. Bytes that would
 * steer a terminal become U+FFFD. Pure. */
#ifndef DAVIT_CLI_TABLE_H
#define DAVIT_CLI_TABLE_H

#include "base/buffer.h"

#define TABLE_COLUMNS_MAX 12

struct table {
    size_t column_count;
    char **cells; /* row by row, the heading first; owned */
    size_t cell_count;
    size_t capacity;
};

/* `headings` ends with NULL. */
void table_init(struct table *table, const char *const *headings);
void table_release(struct table *table);
/* A row's cells from left to right; "" shows as "-". */
void table_add(struct table *table, const char *cell);
void table_addf(struct table *table, const char *format, ...) DAVIT_PRINTF(2, 3);
void table_render(const struct table *table, struct buffer *out);

#endif
