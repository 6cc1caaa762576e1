#include "cli/table.h"

#include "cli/printable.h"

#include <stdarg.h>
#include <string.h>

#define GAP 2

void table_init(struct table *table, const char *const *headings) {
    *table = (struct table){0};
    while (headings[table->column_count] != NULL) {
        table->column_count++;
    }
    for (size_t i = 0; i < table->column_count; i++) {
        table_add(table, headings[i]);
    }
}

void table_release(struct table *table) {
    for (size_t i = 0; i < table->cell_count; i++) {
        free(table->cells[i]);
    }
    free(table->cells);
    *table = (struct table){0};
}

void table_add(struct table *table, const char *cell) {
    cleanup_buffer struct buffer line = BUFFER_INIT;
    printable_append_line(&line, *cell != '\0' ? cell : "-");
    if (table->cell_count == table->capacity) {
        table->capacity = table->capacity != 0 ? 2 * table->capacity : 64;
        table->cells = xrealloc(table->cells, table->capacity * sizeof(*table->cells));
    }
    table->cells[table->cell_count++] = buffer_take(&line);
}

void table_addf(struct table *table, const char *format, ...) {
    char cell[256];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(cell, sizeof(cell), format, arguments);
    va_end(arguments);
    table_add(table, cell);
}

/* Code points, which is what a cell is wide as long as nobody names an adapter in Chinese. */
static size_t width_of(const char *text) {
    size_t width = 0;
    for (; *text != '\0'; text++) {
        width += ((unsigned char)*text & 0xC0) != 0x80;
    }
    return width;
}

void table_render(const struct table *table, struct buffer *out) {
    size_t widths[TABLE_COLUMNS_MAX] = {0};
    for (size_t i = 0; i < table->cell_count; i++) {
        size_t width = width_of(table->cells[i]);
        size_t column = i % table->column_count;
        widths[column] = width > widths[column] ? width : widths[column];
    }
    for (size_t i = 0; i < table->cell_count; i++) {
        size_t column = i % table->column_count;
        buffer_append_text(out, table->cells[i]);
        if (column + 1 == table->column_count) {
            buffer_append_char(out, '\n');
            continue;
        }
        for (size_t pad = widths[column] + GAP - width_of(table->cells[i]); pad > 0; pad--) {
            buffer_append_char(out, ' ');
        }
    }
}
